"""A worker's processes, and their end when the task that waits for them is cancelled or the worker closes.

Dask cannot stop a thread: a cancelled task runs on, and so would its process. So a plugin hears of it. This also ends
what a client leaves that was killed, as the scheduler then cancels its tasks. A worker that is killed cannot run
anything; its processes are tethered.
"""

import os
import subprocess
import sys
from pathlib import Path
from threading import Lock

from distributed import Worker, WorkerPlugin

TETHER = Path(__file__).with_name("tether.py")


class Watch(WorkerPlugin):
    """Runs programs for the tasks of one run, whose name their keys begin with; on each worker, present and to come."""

    def __init__(self, run: str):
        self.name = run

    def setup(self, worker: Worker) -> None:
        self._lock = Lock()
        # By the task's key; `None` where it is to be ended before it has begun.
        self._processes: dict[str, subprocess.Popen | None] = {}

    def transition(self, key, start, finish, **kwargs) -> None:
        """Called on each change of a task's state. One that ends by itself goes to `memory` or `error`."""
        if start == "executing" and finish == "released" and str(key).startswith(self.name):
            self._end(key)

    def teardown(self, worker: Worker) -> None:
        for key in list(self._processes):
            self._end(key)

    def run(self, key: str, command: list[str]) -> tuple[int, str]:
        """Runs a program to its end, and returns its exit code and what it wrote to standard error."""
        with self._lock:
            if key in self._processes:
                return -1, "cancelled before it began"
            process = self._processes[key] = tethered(command)
        try:
            _, stderr = process.communicate()
            return process.returncode, stderr
        finally:
            with self._lock:
                del self._processes[key]

    def _end(self, key: str) -> None:
        with self._lock:
            process = self._processes.setdefault(key, None)
        if process is not None:
            # What it has done is kept, however it ends.
            process.kill()


def tethered(command: list[str]) -> subprocess.Popen:
    """Starts a program that is killed when this thread ends."""
    # -I and -S: nothing of the environment's Python is needed, and it starts faster without.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", TETHER, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
