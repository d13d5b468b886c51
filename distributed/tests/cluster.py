"""Schedulers, workers and runs of the command, each a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed import Client

SOURCE = Path(__file__).resolve().parent.parent / "src"
# Far longer than anything takes.
PATIENCE = 120


class Cluster:
    """A scheduler and workers on 127.0.0.1, without nannies: a worker that is killed stays away."""

    def __init__(self, folder: Path, workers: int, threads: int = 1):
        self.address = f"tcp://127.0.0.1:{free_port()}"
        # Where a program that is of another version would be found by name.
        self.bin = folder / "bin"
        self.bin.mkdir()
        path = f"{self.bin}:{os.environ['PATH']}"
        self._environment = python_environment() | {"PATH": path}
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
        # Not where the tests run: nobody can rely on that.
        process = subprocess.Popen(command, env=self._environment, cwd=self._folder, stdout=self._log, stderr=self._log)
        self.processes.append(process)
        return process


class Run:
    """The command, running."""

    def __init__(self, arguments: Sequence[object], cwd: Path):
        command = [sys.executable, "-m", "mercury_distributed", "replay", *map(str, arguments)]
        self._out, self._err = cwd / "stdout", cwd / "stderr"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(command, env=python_environment(), cwd=cwd, stdout=out, stderr=err)

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def end(self) -> int:
        """Waits for it to end; its exit code."""
        return self.process.wait(PATIENCE)

    def succeeds(self) -> None:
        assert self.end() == 0, self.stderr

    def refuses(self) -> str:
        """Its error, once it has ended with exit code 2."""
        assert self.end() == 2, self.stderr
        assert self.stdout == ""
        return self.stderr


def python_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(SOURCE)}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain: {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and not what is left of one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
