"""Tests of the progress: a function of the caller, and a bar on terminals alone."""

import os
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import mercury_lab as mercury
import pytest

CALLS: dict[str, Callable] = {
    "replay": lambda trace, **more: mercury.replay(trace, **more),
    "replay_partition": lambda trace, **more: mercury.replay_partition(trace, "part", "1/1", **more),
    "sweep": lambda trace, **more: mercury.sweep(trace, rpq={"bits": [8, 16]}, **more),
    "search": lambda trace, **more: mercury.search(trace, folds=0, preset="mercury", **more),
    "ladder": lambda trace, **more: mercury.ladder(trace, **more),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_is_called_until_all_is_done(name, workplace, vgg13):
    calls = []
    CALLS[name](vgg13, progress=lambda *call: calls.append(call))
    # Three steps of two layers.
    assert {call[:2] + call[3:4] for call in calls} == {("replaying", "layers", 6)}
    done = [call[2] for call in calls]
    assert done == sorted(done) and done[-1] == 6
    assert {call[4] for call in calls} <= {
        f"step {step}, {layer}" for step in range(3) for layer in ("features.12", "classifier.6")
    }


def test_the_error_of_a_function_is_raised(vgg13):
    def fail(*progress):
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        mercury.replay(vgg13, progress=fail)


def test_the_error_of_a_function_stops_the_command(workplace, vgg13):
    def fail(*progress):
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        mercury.replay(vgg13, "out", errors="all", bounds=True, seeds=4, progress=fail)
    time.sleep(4)
    assert os.listdir(workplace) == []


def test_other_threads_of_python_run_meanwhile(vgg13):
    ticks = []
    ended = threading.Event()

    def tick():
        while not ended.wait(0.005):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    begun = time.monotonic()
    mercury.replay(vgg13, errors="all", seeds=8)
    seconds = time.monotonic() - begun
    ended.set()
    thread.join()
    # A call that held the interpreter would leave a gap of its whole time.
    gaps = [after - before for before, after in pairwise(ticks)]
    assert max(gaps) < seconds / 2


def read_stderr(arguments: str, trace: Path, terminal: bool) -> str:
    """Replays with these further arguments; returns what a terminal or a pipe as stderr receives."""
    program = f"import mercury_lab as mercury; mercury.replay({str(trace)!r}{arguments})"
    command = [sys.executable, "-c", program]
    if not terminal:
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True).stderr
    ours, theirs = os.openpty()
    # A terminal of no size would show no bar.
    termios.tcsetwinsize(theirs, (24, 120))
    subprocess.run(command, stderr=theirs, check=True)
    os.write(theirs, b"end")
    os.close(theirs)
    text = b""
    while not text.endswith(b"end"):
        text += os.read(ours, 1 << 16)
    os.close(ours)
    return text.decode().removesuffix("end")


@pytest.mark.parametrize(
    ("arguments", "terminal", "shown"),
    [
        ("", True, True),
        ("", False, False),
        (", progress=True", False, True),
        (", progress=False", True, False),
        (", progress=None", True, True),
    ],
)
def test_the_bar_appears_on_a_terminal(arguments, terminal, shown, vgg13):
    text = read_stderr(arguments, vgg13, terminal)
    assert ("replaying" in text and "/6" in text and "layers/s" in text) if shown else text == ""


def test_the_bar_appears_in_jupyter(vgg13):
    program = (
        "import sys, types; sys.modules['ipykernel'] = types.ModuleType('ipykernel'); import mercury_lab as mercury"
    )
    command = [sys.executable, "-W", "ignore", "-c", f"{program}; mercury.replay({str(vgg13)!r})"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=True)
    assert "replaying" in done.stderr
