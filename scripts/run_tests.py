#!/usr/bin/env python3
"""Runs all groups of tests, even if an earlier one fails, and finally lists the skipped tests: `make test`.

A skipped test has not passed. With `--strict` (continuous integration), a skip fails the run unless
.ci/allowed-skips.txt allows it with a reason. The exit code is 1 if a group failed or a skip is not allowed.
"""

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ALLOWED = REPOSITORY / ".ci" / "allowed-skips.txt"
MAKE_GROUPS = ["test-notebooks", "test-report", "test-python", "test-torch"]
# Always the whole workspace: a subset of packages would select other features and recompile all dependencies.
CARGO = ["cargo", "test", "--release", "--workspace", "--no-fail-fast"]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target")
IGNORED = re.compile(r"^test (?P<name>.+) \.\.\. ignored(?:, (?P<reason>.*))?$")


@dataclass(frozen=True)
class Skip:
    """A test that did not run."""

    name: str
    reason: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--strict", action="store_true", help="fail on skips that .ci/allowed-skips.txt does not allow")
    strict = parser.parse_args().strict

    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "skips"
        record.touch()
        environment = os.environ | {"MERCURY_SKIPS": str(record)}
        results = {"cargo test": run(CARGO, environment)}
        present = list_instructions()
        for name in present[:-1]:
            restricted = environment | {"MERCURY_INSTRUCTIONS": name}
            results[f"cargo test, {name} instructions"] = run([*CARGO, "--lib", *list_test_flags("reuse")], restricted)
        for group in MAKE_GROUPS:
            results[f"make {group}"] = run(["make", group], environment)
        skips = parse_skips(record.read_text(encoding="utf-8"))
    skips += [Skip(test, reason) for _, ignored in results.values() for test, reason in ignored]
    skips += [
        Skip(f"instructions::{name}", "this processor lacks them")
        for name in ["scalar", "avx2", "avx512"]
        if name not in present
    ]
    return print_report({group: passed for group, (passed, _) in results.items()}, present, skips, strict)


def run(command: list[str], environment: dict[str, str]) -> tuple[bool, list[tuple[str, str]]]:
    """Runs a command and prints its output; returns whether it passed, and the tests that cargo ignored."""
    print(f"== {' '.join(command)}", flush=True)
    ignored = []
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        print(line, end="", flush=True)
        if match := IGNORED.match(line.rstrip()):
            ignored.append((match["name"], match["reason"] or "marked as ignored"))
    return process.wait() == 0, ignored


def list_instructions() -> list[str]:
    """Lists the instruction sets of this processor, the smallest first; empty if the tests did not compile."""
    program = TARGET / "release" / "examples" / "instructions"
    return subprocess.run([program], capture_output=True, text=True).stdout.split() if program.exists() else []


def list_test_flags(crate: str) -> list[str]:
    """Lists the flags that select the integration tests of a crate."""
    return [f"--test={path.stem}" for path in sorted((REPOSITORY / crate / "tests").glob("*.rs"))]


def parse_skips(text: str) -> list[Skip]:
    """Parses lines `SKIPPED test: reason`, which `mercury-testing` and conftest.py write."""
    skips = []
    for line in text.splitlines():
        name, _, reason = line.removeprefix("SKIPPED ").partition(": ")
        skips.append(Skip(name, reason))
    return skips


def parse_allowed_skips(text: str) -> list[str]:
    """Parses lines `pattern: reason`; returns the patterns of the names of tests that may be skipped."""
    patterns = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        pattern, colon, reason = line.partition(": ")
        if not colon or not reason.strip():
            sys.exit(f"{ALLOWED}: line {number}: has no reason; write `name: reason`")
        patterns.append(pattern.strip())
    return patterns


def print_report(results: dict[str, bool], present: list[str], skips: list[Skip], strict: bool) -> int:
    """Prints instruction sets, skips and groups; returns the exit code."""
    patterns = parse_allowed_skips(ALLOWED.read_text(encoding="utf-8"))
    unexpected = [skip for skip in skips if not any(fnmatch.fnmatchcase(skip.name, pattern) for pattern in patterns)]
    print(f"\ninstruction sets tested: {', '.join(present) or 'unknown'}")
    print(f"skipped tests: {len(skips)}")
    for skip in skips:
        note = "NOT ALLOWED " if strict and skip in unexpected else ""
        print(f"  {note}{skip.name}: {skip.reason}")
    for group, passed in results.items():
        print(f"{'ok    ' if passed else 'FAILED'}  {group}")
    failed = sum(not passed for passed in results.values())
    print(f"groups: {len(results) - failed} passed, {failed} failed")
    if strict and unexpected:
        print(f"{len(unexpected)} skipped tests are not in {ALLOWED.relative_to(REPOSITORY)}")
    return 1 if failed or not present or (strict and unexpected) else 0


if __name__ == "__main__":
    sys.exit(main())
