"""Records skipped tests for `scripts/run_tests.py`, as lines `SKIPPED test: reason` in the file MERCURY_SKIPS."""

import os


def pytest_runtest_logreport(report):
    record(report)


def pytest_collectreport(report):
    record(report)


def record(report):
    path = os.environ.get("MERCURY_SKIPS")
    if path and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"SKIPPED {report.nodeid}: {reason}\n")
