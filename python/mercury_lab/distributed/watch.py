"""Ends a worker's processes when their task is cancelled or the worker closes.

Dask cannot stop a thread: a cancelled task continues to run, and so would its process. A worker plugin is notified of
the cancellation and ends the process. If a client is killed, the scheduler cancels its tasks, with the same effect. If
a worker is killed, it cannot run code; `tether.py` covers this case.
"""

import os
import subprocess
import sys
from pathlib import Path
from threading import Lock

from distributed import Worker, WorkerPlugin

TETHER = Path(__file__).with_name("tether.py")


class Watch(WorkerPlugin):
    """A worker plugin that runs the programs of one run's tasks, whose keys start with the run's name."""

    def __init__(self, run: str):
        self.name = run

    def setup(self, worker: Worker) -> None:
        self._lock = Lock()
        # Processes by the key of their task; `None` if the task was cancelled before its process started.
        self._processes: dict[str, subprocess.Popen | None] = {}

    def transition(self, key, start, finish, **kwargs) -> None:
        """Ends the process of a cancelled task. Other tasks go from `executing` to `memory` or `error`."""
        if start == "executing" and finish == "released" and str(key).startswith(self.name):
            self._end(key)

    def teardown(self, worker: Worker) -> None:
        for key in list(self._processes):
            self._end(key)

    def run(self, key: str, command: list[str]) -> tuple[int, str]:
        """Runs a program to its end; returns its exit code and standard error."""
        with self._lock:
            if key in self._processes:
                return -1, "cancelled before it began"
            process = self._processes[key] = start_tethered(command)
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
            # Completed units stay intact when the program is killed.
            process.kill()


def start_tethered(command: list[str]) -> subprocess.Popen:
    """Starts a program that is killed when this thread ends."""
    # -I and -S skip the environment and site packages, so that Python starts faster.
    return subprocess.Popen(
        [sys.executable, "-I", "-S", TETHER, str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
