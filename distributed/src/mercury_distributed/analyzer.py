"""The program `mercury-analyzer`, as the client runs it."""

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Refused

# The most partitions that the program splits into.
MOST_PARTITIONS = 1 << 20
PARTITION_FILE = "partition.json"


@dataclass(frozen=True)
class Plan:
    """What would be replayed."""

    # Layers of captured steps: partitions are made of these.
    units: int
    # SHA-256 of what the program says that the results depend on: trace, configuration, selection.
    digest: str


def find(command: str) -> str:
    """The program's path; `command` is a path, or a name to look for on the PATH."""
    path = shutil.which(command)
    if path is None:
        raise Refused(f"{command}: there is no such program; name it with --analyzer")
    return str(Path(path).absolute())


def version(path: str) -> str:
    """What the program says that it is, such as `mercury-analyzer 0.1.0`."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
    except OSError as error:
        raise Refused(f"{path}: cannot be run ({error.strerror})") from error
    if done.returncode != 0 or not done.stdout.startswith("mercury-analyzer "):
        raise Refused(f"{path}: is not mercury-analyzer; name it with --analyzer")
    return done.stdout.strip()


def partition_command(path: str, trace: str, number: int, of: int, out: Path, threads: int, flags: Sequence[str]):
    """The command that replays one partition."""
    part = ["--partition", f"{number}/{of}", "--out", str(out), "--threads", str(threads)]
    return [path, "replay", trace, *part, *flags]


def plan(path: str, trace: str, flags: Sequence[str]) -> Plan:
    """Checks trace, configuration and flags, and says how much there is to do.

    The last of as many partitions as there can be is empty, unless the trace has more units than that: the program
    opens the trace, says what the partition is one of, and is done.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "empty"
        command = partition_command(path, trace, MOST_PARTITIONS, MOST_PARTITIONS, out, 1, flags)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(message_of(done.stderr) or f"{path}: {ending_of(done.returncode)}")
        return Plan(*identity(out))


def identity(partition: Path) -> tuple[int, str]:
    """What a partition's folder is one of: how many units there are in all, and the digest of the run."""
    text = json.loads((partition / PARTITION_FILE).read_text())
    return text["units_in_all"], hashlib.sha256(text["run"].encode()).hexdigest()


def merge(path: str, folder: Path, out: Path, format: str, quiet: bool) -> int:
    """Puts the partitions in a folder together; what the program prints goes through. Returns its exit code."""
    command = [path, "merge", ".", "--out", str(out), "--format", format, *(["--quiet"] if quiet else [])]
    sys.stdout.flush()
    return subprocess.run(command, cwd=folder).returncode


def message_of(stderr: str) -> str:
    """The program's message, without the word that the command puts before it, too."""
    return stderr.strip().removeprefix("error: ")


def ending_of(code: int) -> str:
    """How a process ended, for people."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
