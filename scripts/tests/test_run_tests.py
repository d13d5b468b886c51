"""Tests how `make test` reports skipped tests and failed groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS))
import run_tests  # noqa: E402
from run_tests import Skip  # noqa: E402


@pytest.fixture
def allowed(tmp_path, monkeypatch):
    path = tmp_path / "allowed"
    monkeypatch.setattr(run_tests, "ALLOWED", path)
    monkeypatch.setattr(run_tests, "REPOSITORY", tmp_path)
    path.write_text("# a comment\n\ninstructions::*: the processor decides\n")
    return path


@pytest.mark.parametrize(
    ("passed", "name", "strict", "code"),
    [
        (True, "instructions::avx512", True, 0),
        (True, "tests/test_report.py::test_page", True, 1),
        (True, "tests/test_report.py::test_page", False, 0),
        (False, "instructions::avx512", False, 1),
    ],
)
def test_a_failed_group_or_a_skip_that_is_not_allowed_fails(allowed, capsys, passed, name, strict, code):
    skips = [Skip(name, "no browser: none found")]
    assert run_tests.print_report({"cargo test": passed}, ["scalar", "avx2"], skips, strict) == code
    printed = capsys.readouterr().out
    assert f"{name}: no browser: none found" in printed
    assert "instruction sets tested: scalar, avx2" in printed
    assert f"groups: {int(passed)} passed, {int(not passed)} failed" in printed
    assert ("NOT ALLOWED" in printed) == (strict and not name.startswith("instructions"))


def test_an_allowed_skip_needs_a_reason(allowed):
    allowed.write_text("instructions::*\n")
    with pytest.raises(SystemExit, match="line 1: has no reason"):
        run_tests.parse_allowed_skips(allowed.read_text())


def test_ignored_tests_are_skips(tmp_path, capfd):
    lines = "test a::b ... ok\\ntest slow ... ignored, takes an hour\\ntest old ... ignored\\n"
    passed, ignored = run_tests.run([sys.executable, "-c", f"print('{lines}'); exit(3)"], dict(os.environ))
    assert (passed, ignored) == (False, [("slow", "takes an hour"), ("old", "marked as ignored")])
    assert "test a::b ... ok" in capfd.readouterr().out


def test_skips_of_pytest_are_recorded(tmp_path):
    record = tmp_path / "skips"
    test = tmp_path / "test_it.py"
    test.write_text(
        "import pytest\n"
        "@pytest.mark.skipif(True, reason='no disk')\ndef test_marked(): pass\n"
        "def test_called(): pytest.skip('no: browser')\n"
        "@pytest.mark.xfail\ndef test_known(): assert False\n"
    )
    environment = os.environ | {"MERCURY_SKIPS": str(record)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "--rootdir", str(tmp_path), str(test)]
    subprocess.run(command, cwd=SCRIPTS.parent, env=environment | {"PYTHONPATH": str(SCRIPTS.parent)}, check=True)
    skips = run_tests.parse_skips(record.read_text())
    assert skips == [Skip("test_it.py::test_marked", "no disk"), Skip("test_it.py::test_called", "no: browser")]
