"""Tests that Ctrl-C stops long work within a second, and that nothing half-written stays behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mercury_lab as mercury
import pytest

# The call takes seconds. The first one is interrupted at its first progress, the second one runs to its end.
PROGRAM = """
import os, sys
import mercury_lab as mercury

trace = sys.argv[1]
def show(*progress):
    print("begun", flush=True)
try:
    {call}
except KeyboardInterrupt:
    print("interrupted", flush=True)
sys.stdin.readline()
show = False
{call}
print("done", flush=True)
"""
CALLS = {
    "replay": 'mercury.replay(trace, "out", errors="all", bounds=True, seeds=32, progress=show)',
    "replay_partition": 'mercury.replay_partition(trace, "out", "1/1", errors="all", seeds=100, progress=show)',
    "sweep": 'mercury.sweep(trace, "out", rpq={"bits": range(1, 61)}, errors="all", progress=show)',
    "search": 'mercury.search(trace, "out", folds=0, preset="mercury", seeds=4, progress=show)',
}


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_stops_within_a_second(name, workplace, vgg13):
    command = [sys.executable, "-c", PROGRAM.format(call=CALLS[name]), str(vgg13)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=workplace) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        line = process.stdout.readline()
        while line == "begun\n":
            line = process.stdout.readline()
        seconds = time.monotonic() - sent
        assert line == "interrupted\n"
        assert seconds < 1
        # On a busy machine, the command's thread ends later than the call.
        time.sleep(2)
        if name == "replay":
            assert os.listdir(workplace) == []
        else:
            # The finished part, from which the same call continues.
            assert os.listdir(workplace) == ["out"]
            assert not (workplace / "out" / "SHA256SUMS").exists()
        process.stdin.write("\n")
        process.stdin.close()
        assert process.stdout.readline() == "done\n"
    assert process.returncode == 0
    assert os.listdir(workplace) == ["out"]
    assert mercury.verify("out").endswith("as they were written")
    if name == "sweep":
        whole = mercury.sweep(vgg13, rpq={"bits": range(1, 61)}, errors="all")
        for path in Path("out").glob("*.parquet"):
            assert path.read_bytes() == (whole.folder / path.name).read_bytes()
