"""Tests that replays and sweeps stay below `--memory-limit`, and that their results do not depend on it.

MERCURY_ANALYZER is the program; without it the tests are skipped (`pytest -rs`).
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
import write_trace  # noqa: E402

# Run in a separate process, whose only child is the measured program.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)
sys.exit(done.returncode)
"""
# Limits in MB, and flags. Errors of weight gradients need a sketch of every sample, regardless of the number evaluated
# at a time. The sweep has several caches for each number of sets.
ENTRIES = ["--set", "mcache.entries=64,128,256,512,1024"]
COMMANDS = {
    "replay, all errors and bounds": (90, ["--errors", "all", "--with", "bounds"]),
    "replay, without errors and bounds": (75, ["--errors", "none"]),
    "sweep": (75, [*"--set rpq.bits=4..=20:4 --set mcache.ways=1,2,4,8,16 --errors none".split(), *ENTRIES]),
}


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A trace with small samples, of which many are evaluated at a time by default."""
    folder = tmp_path_factory.mktemp("memory") / "trace"
    write_trace.train(str(folder), steps=1, every=1, batch=96, kept=96)
    return folder


@pytest.mark.parametrize("what", COMMANDS)
def test_memory_stays_below_the_limit(trace, tmp_path, what):
    analyzer = os.environ.get("MERCURY_ANALYZER")
    if not analyzer:
        pytest.skip("MERCURY_ANALYZER is not set")

    megabytes, flags = COMMANDS[what]

    def measure_peak(out, *limit):
        command = [analyzer, "--quiet", what.split(",")[0], trace, *flags, "--threads", "2", "--out", out, *limit]
        done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    free = measure_peak(tmp_path / "free")
    limited = measure_peak(tmp_path / "limited", "--memory-limit", f"{megabytes}MB")
    assert limited <= 1e6 * megabytes, f"{limited} bytes of {megabytes} MB; without a limit {free}"
    for path in (tmp_path / "free").glob("*.parquet"):
        assert path.read_bytes() == (tmp_path / "limited" / path.name).read_bytes(), path.name
    print(f"figures: memory limit: {what}: {limited / 1e6:.0f} of {megabytes} MB, {free / 1e6:.0f} MB without a limit")
