"""Schedulers, workers and runs of the command, each as a separate process."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed import Client

# Seconds; far longer than any step takes.
PATIENCE = 120


class Cluster:
    """A scheduler and workers on 127.0.0.1, without nannies: a killed worker is not restarted."""

    def __init__(self, folder: Path, workers: int, threads: int = 1):
        self.address = f"tcp://127.0.0.1:{find_free_port()}"
        # First on the workers' PATH, so that tests can put a program of another version there.
        self.bin = folder / "bin"
        self.bin.mkdir()
        path = f"{self.bin}:{os.environ['PATH']}"
        self._environment = os.environ | {"PATH": path}
        self._folder = folder
        self.file = folder / "scheduler.json"
        self._log = (folder / "log").open("w")
        self._size = (workers, threads)
        self.processes: list[subprocess.Popen] = []

    def __enter__(self) -> "Cluster":
        workers, _ = self._size
        host, port = self.address.removeprefix("tcp://").split(":")
        flags = ["--host", host, "--port", port, "--dashboard-address", f"{host}:0", "--scheduler-file", str(self.file)]
        self.scheduler = self._start("scheduler", *flags)
        for _ in range(workers):
            self.start_worker()
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=PATIENCE)
        return self

    def start_worker(self) -> None:
        _, threads = self._size
        flags = ["--nworkers", "1", "--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        local = self._folder / f"process-{len(self.processes)}"
        self._start("worker", self.address, *flags, "--local-directory", str(local))

    def __exit__(self, *_: object) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        self._log.close()

    def _start(self, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "dask", *arguments]
        # In another folder than the tests, so that nothing depends on the working directory.
        process = subprocess.Popen(command, env=self._environment, cwd=self._folder, stdout=self._log, stderr=self._log)
        self.processes.append(process)
        return process


class Run:
    """A running `mercury-distributed replay`."""

    def __init__(self, arguments: Sequence[object], cwd: Path):
        command = [sys.executable, "-m", "mercury_lab.distributed", "replay", *map(str, arguments)]
        self._out, self._err = cwd / "stdout", cwd / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=err)

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def wait(self) -> int:
        """Waits for the end; returns the exit code."""
        return self.process.wait(PATIENCE)

    def check_success(self) -> None:
        assert self.wait() == 0, self.stderr

    def check_refusal(self) -> str:
        """Checks that it ends with exit code 2; returns its error."""
        assert self.wait() == 2, self.stderr
        assert self.stdout == ""
        return self.stderr


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"timed out after {PATIENCE} s: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
