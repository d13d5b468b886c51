#!/usr/bin/env python3
"""Runs all reliability tests, with more rounds than `make test`, and writes the table of docs/reliability.md.

    scripts/reliability.py [--kills 20] [--fuzz-seconds 60 | --no-fuzz]

Tests print their figures as lines `figures: TOPIC: …`, which the table quotes. Nothing is written if a test fails.
"""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from runs import read_commit

REPOSITORY = Path(__file__).resolve().parent.parent
REPORT = REPOSITORY / "docs" / "reliability.md"
BEGIN, END = "<!-- table: scripts/reliability.py -->\n", "<!-- end of table -->\n"
# Fuzz targets that need no tables of results.
QUICK = ["manifest", "tensor", "topology", "configuration"]
TARGETS = [*QUICK, "results"]
TESTS = ["killed", "resume", "disk_full", "small_disk", "two_at_once", "partitions", "bad_input", "corpus", "verify", "atomicity"]

# Guarantee, test, command, and topics of the figures.
ROWS = [
    (
        "A capture, training run with reuse, replay, sweep, partition or merge that is killed resumes or restarts. Its "
        "results are byte-identical to an uninterrupted run. Corrupt data is never accepted, and finished work is not "
        "repeated",
        "SIGKILL at random moments of the run; then verify, resume or rerun, and compare",
        "MERCURY_KILLS=20 cargo test --release --workspace --test killed",
        ["capture", "training with reuse", "replay", "replay --partition", "sweep", "merge"],
    ),
    (
        "If the disk is full, the error says so and earlier files stay intact. Once there is space again, the command "
        "resumes",
        "a separate disk (tmpfs) that is too small or read-only; file sizes limited from zero to just too small "
        "(`ulimit -f`)",
        "cargo test --release --workspace --test disk_full --test small_disk --test resume",
        ["replay, sweep, merge on a full disk", "capture on a full disk"],
    ),
    (
        "A folder has one writer. A second writer is refused; a killed writer does not block the folder",
        "two processes, one of them stopped or killed while it holds the lock; pairs that start simultaneously",
        "cargo test --release --workspace --test two_at_once --test small_disk --test resume",
        ["two at once"],
    ),
    (
        "Partitions merged in any order equal the single run, byte for byte. A missing, duplicate, damaged or foreign "
        "partition is refused by name",
        "1, 2, 3 and 7 partitions of four configurations; random orders",
        "cargo test --release --workspace --test partitions",
        ["partitions"],
    ),
    (
        "`verify` finds every change of every file",
        "for each file of a trace: change bytes, add bytes, remove the file",
        "cargo test --release --workspace --test verify",
        ["changes"],
    ),
    (
        "Broken input is refused with exit code 2 and an error that names the file. There is no panic and no leftover output, and "
        "address space stays within 3 GB",
        "a set of broken traces, tables, tensors, topologies, configurations, results and partitions; the errors are "
        "snapshots",
        "cargo test --release --workspace --test bad_input",
        ["broken inputs"],
    ),
    (
        "No input makes a program panic",
        "replay of the seeds and of inputs that fuzzing found; seeds truncated and changed at many places",
        "cargo test --release --workspace --test corpus",
        ["seeds and corpus", "damaged seeds"],
    ),
    ("", "libFuzzer with AddressSanitizer on five kinds of input", "make fuzz", ["fuzzing"]),
    (
        "Workers, client or scheduler of a cluster may be killed: the results equal the single run, byte for byte. A "
        "trace in an object store gives the same results",
        "Dask and an S3 server (moto) on 127.0.0.1",
        "make test-python TESTS=python/tests/distributed",
        ["cluster"],
    ),
    (
        "A replay or sweep stays below `--memory-limit` and gives the same results",
        "peak memory of the process, on many small samples, which would be evaluated together without the limit",
        "make test-notebooks",
        ["memory limit"],
    ),
    (
        "The vector kernels and the code that reads trace files access only their own memory",
        "tests of `reuse` and `trace` under AddressSanitizer",
        "make sanitize",
        ["sanitizer"],
    ),
    ("Licences and sources of all dependencies are known", "cargo-deny", "make deny", ["dependencies"]),
    (
        "Checksums cost little",
        "write a tensor file with 134 MB of values, and compute its SHA-256",
        "cargo build --release --workspace --examples && target/release/examples/checksums",
        ["checksums"],
    ),
]


def run(command: list[str], **environment: str) -> str:
    """Runs a command and returns its output; exits if it fails."""
    print("+", " ".join(command), flush=True)
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def read_figures(output: str) -> dict[str, list[str]]:
    """Reads the figures in the output of tests, by topic."""
    found: dict[str, list[str]] = {}
    for topic, text in re.findall(r"figures: (.+?): (.+)", output):
        found.setdefault(topic, []).append(text)
    return found


def fuzz(seconds: int, targets: list[str]) -> str:
    """Fuzzes each target and returns the numbers of inputs."""
    counts = []
    # Compiling without the analyzer takes a tenth of the time.
    features = ["--no-default-features"] if set(targets) <= set(QUICK) else []
    for target in targets:
        corpus = REPOSITORY / "fuzz" / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        options = [f"-max_total_time={seconds}", "-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=20"]
        # RUSTC_BOOTSTRAP allows the stable compiler to instrument code.
        output = run(
            ["cargo", "fuzz", "run", *features, target, str(corpus), f"fuzz/seeds/{target}", "--", *options],
            RUSTC_BOOTSTRAP="1",
            RUSTC_WRAPPER=str(REPOSITORY / "fuzz" / "rustc.py"),
            RUST_BACKTRACE="0",
            # Instrumented builds share nothing with other builds.
            CARGO_TARGET_DIR=os.environ.get("FUZZ_TARGET_DIR", str(REPOSITORY / "fuzz" / "target")),
        )
        executed = re.findall(r"number_of_executed_units: *(\d+)", output)[-1]
        counts.append(f"{target} {int(executed):,}")
    return f"{seconds} s each, inputs: {', '.join(counts)}; 0 crashes"


def run_make_targets() -> dict[str, list[str]]:
    """Runs other targets of the Makefile and returns their figures by topic."""
    found = {"cluster": [f"{count_passed(run(['make', 'test-python', 'TESTS=python/tests/distributed']))} tests passed"]}
    output = run(["make", "test-notebooks", "PYTEST=-s"])
    found["memory limit"] = ["; ".join(read_figures(output).get("memory limit", []))]
    found["sanitizer"] = [f"{count_passed(run(['make', 'sanitize']))} tests passed"]
    found["dependencies"] = [", ".join(re.findall(r"\w+ ok", run(["make", "deny"]))) or "not understood"]
    return found


def count_passed(output: str) -> int:
    return sum(map(int, re.findall(r"(\d+) passed", output)))


def sum_numbers(texts: list[str]) -> str:
    """Returns a single text unchanged, else the text with its numbers summed; texts may differ only in numbers."""
    words = [re.split(r"(\d+)", text) for text in texts]
    assert all(word[::2] == words[0][::2] for word in words), texts
    return "".join(str(sum(map(int, parts))) if place % 2 and len(parts) > 1 else parts[0] for place, parts in enumerate(zip(*words, strict=True)))


def format_table(found: dict[str, list[str]]) -> str:
    lines = ["| guarantee | test | command | latest figures |\n", "| --- | --- | --- | --- |\n"]
    for guarantee, test, command, topics in ROWS:
        texts = []
        for topic in topics:
            if topic not in found:
                sys.exit(f"no figures of {topic}: was its test skipped?")
            texts.append((f"{topic}: " if len(topics) > 1 else "") + sum_numbers(found[topic]))
        lines.append(f"| {guarantee} | {test} | `{command}` | {'; '.join(texts)} |\n")
    return "".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="number of kills per command")
    parser.add_argument("--fuzz-seconds", type=int, default=60, help="seconds per fuzz target")
    parser.add_argument("--fuzz-targets", default=",".join(TARGETS), help="fuzz targets, separated by commas")
    parser.add_argument("--fuzz-only", action="store_true", help="only fuzz, and write no table")
    parser.add_argument("--no-fuzz", action="store_true", help="skip fuzzing, as the table then states")
    arguments = parser.parse_args()
    targets = arguments.fuzz_targets.split(",")
    if unknown := set(targets) - set(TARGETS):
        sys.exit(f"--fuzz-targets: {', '.join(sorted(unknown))}: choose from {', '.join(TARGETS)}")
    if arguments.fuzz_only:
        print(fuzz(arguments.fuzz_seconds, targets))
        return
    tests = [argument for test in TESTS for argument in ("--test", test)]
    command = ["cargo", "test", "--release", "--workspace", *tests, "--", "--nocapture", "--test-threads=1"]
    found = read_figures(run(command, MERCURY_KILLS=str(arguments.kills)))
    run(["cargo", "build", "--release", "--workspace", "--examples"])
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    found |= read_figures(run([str(target / "release" / "examples" / "checksums")]))
    found |= run_make_targets()
    found["fuzzing"] = ["not run" if arguments.no_fuzz else fuzz(arguments.fuzz_seconds, targets)]
    text = REPORT.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    machine = f"{os.cpu_count()} CPUs, {platform.system()}, {platform.machine()}"
    when = f"\nMeasured with `make reliability` on {datetime.date.today()} at commit {read_commit()} ({machine}).\n"
    REPORT.write_text(before + BEGIN + format_table(found) + when + END + after)
    print(format_table(found))


if __name__ == "__main__":
    main()
