"""Runs the program `mercury-analyzer` on the client."""

import hashlib
import json
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import Refused

PROGRAM = "mercury-analyzer"
# Maximum number of partitions of the program.
MOST_PARTITIONS = 1 << 20
PARTITION_FILE = "partition.json"


@dataclass(frozen=True)
class Plan:
    """The size and the identity of a replay."""

    # Number of units: a unit is one layer of one captured step.
    units: int
    # SHA-256 of the program's description of the run: trace, configuration, selection.
    digest: str


def find_program(command: str | None) -> str:
    """Returns the path of the program; `command` is a path, a name on the PATH, or `None` for the package's program."""
    command = command or find_own_program()
    path = shutil.which(command)
    if path is None:
        raise Refused(f"{command}: there is no such program; name it with --analyzer")
    return str(Path(path).absolute())


def find_own_program() -> str:
    """Returns the program that was installed with this package, or else its name, for the PATH."""
    installed = Path(sysconfig.get_path("scripts"), PROGRAM)
    return str(installed) if installed.exists() else PROGRAM


def read_version(path: str) -> str:
    """Returns the name and version of the program, such as `mercury-analyzer 0.2.0`."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
    except OSError as error:
        raise Refused(f"{path}: cannot be run ({error.strerror})") from error
    if done.returncode != 0 or not done.stdout.startswith(f"{PROGRAM} "):
        raise Refused(f"{path}: is not {PROGRAM}; name it with --analyzer")
    return done.stdout.strip()


def build_command(path: str, trace: str, number: int, partitions: int, out: Path, threads: int, flags: Sequence[str]):
    """Returns the command that replays one partition."""
    part = ["--partition", f"{number}/{partitions}", "--out", str(out), "--threads", str(threads)]
    return [path, "replay", trace, *part, *flags]


def plan_replay(path: str, trace: str, flags: Sequence[str]) -> Plan:
    """Checks trace, configuration and flags, and returns the plan.

    It replays the last of the maximum number of partitions, which is empty unless the trace has more units than that.
    So the program only opens the trace and writes the description of the run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "empty"
        command = build_command(path, trace, MOST_PARTITIONS, MOST_PARTITIONS, out, 1, flags)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Refused(read_message(done.stderr) or f"{path}: {describe_ending(done.returncode)}")
        return Plan(*read_identity(out))


def show_config(path: str, config: str) -> str:
    """Returns a configuration file with all keys and with absolute paths."""
    done = subprocess.run([path, "config", "show", "--config", config], capture_output=True, text=True)
    if done.returncode != 0:
        raise Refused(read_message(done.stderr) or f"{path}: {describe_ending(done.returncode)}")
    return done.stdout


def read_identity(partition: Path) -> tuple[int, str]:
    """Returns the number of units of the whole replay, and the digest of the run, from a partition's folder."""
    text = json.loads((partition / PARTITION_FILE).read_text())
    return text["units_in_all"], hashlib.sha256(text["run"].encode()).hexdigest()


def merge_partitions(path: str, folder: Path, out: Path, format: str, quiet: bool) -> int:
    """Merges the partitions in a folder, with the program's output passed through; returns its exit code."""
    command = [path, "merge", ".", "--out", str(out), "--format", format, *(["--quiet"] if quiet else [])]
    sys.stdout.flush()
    return subprocess.run(command, cwd=folder).returncode


def read_message(stderr: str) -> str:
    """Returns the program's message without its prefix `error: `, which our command adds itself."""
    return stderr.strip().removeprefix("error: ")


def describe_ending(code: int) -> str:
    """Describes how a process ended."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
