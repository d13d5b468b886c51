"""Replays one partition at a time on a worker, with all of its threads."""

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

from distributed import get_worker

from . import analyzer, workdir
from .errors import Refused
from .watch import Watch

# Part of the program's message if another process has locked the partition.
LOCKED = "another partition is writing to"


@dataclass(frozen=True)
class Replay:
    """The description of a replay, which all partitions share."""

    # A unique name of this run.
    name: str
    trace: str
    flags: tuple[str, ...]
    # The program: a path, a name on each worker's PATH, or `None` for the one installed with this package.
    analyzer: str | None
    version: str
    work: Path
    partitions: int
    digest: str

    def folder(self, number: int) -> Path:
        return workdir.locate_partition(self.work, number, self.partitions)


class Ending(StrEnum):
    """How the replay of a partition ended."""

    DONE = "done"
    # The program refused its input (exit code 2).
    REFUSED = "refused"
    # Another process has locked the partition.
    LOCKED = "locked"
    # The program died.
    CRASHED = "crashed"
    # The worker is not suitable.
    UNFIT = "unfit"


@dataclass(frozen=True)
class Outcome:
    """The outcome of a partition, and the seconds that it took."""

    ending: Ending
    message: str = ""
    seconds: float = 0.0


def replay_partition(replay: Replay, number: int) -> Outcome:
    """The task of a worker: begins or continues a partition. For a complete partition it only opens the trace."""
    begun = time.monotonic()
    worker = get_worker()
    problem = find_problem(replay)
    if problem is not None:
        return Outcome(Ending.UNFIT, problem)
    command = analyzer.build_command(
        analyzer.find_program(replay.analyzer),
        replay.trace,
        number,
        replay.partitions,
        replay.folder(number),
        worker.state.nthreads,
        replay.flags,
    )
    watch = cast(Watch, worker.plugins[replay.name])
    code, stderr = watch.run(str(worker.get_current_task()), command)
    ending = classify_ending(code, stderr)
    if ending is Ending.DONE and analyzer.read_identity(replay.folder(number))[1] != replay.digest:
        reason = f"is not the trace that the client reads; remove {replay.folder(number)}"
        return Outcome(Ending.UNFIT, f"{replay.trace}: {reason}")
    message = analyzer.read_message(stderr) or analyzer.describe_ending(code)
    return Outcome(ending, message, time.monotonic() - begun)


def classify_ending(code: int, stderr: str) -> Ending:
    """Classifies the end of the program by its exit code and standard error."""
    if code == 0:
        return Ending.DONE
    if code != 2:
        return Ending.CRASHED
    return Ending.LOCKED if LOCKED in stderr else Ending.REFUSED


def find_problem(replay: Replay) -> str | None:
    """Returns the reason why this worker is not suitable; `None` if it is."""
    try:
        program = analyzer.find_program(replay.analyzer)
        version = analyzer.read_version(program)
        plan = workdir.read_plan(replay.work)
    except Refused as refused:
        return str(refused)
    if version != replay.version:
        return f"{program}: is {version}, but the client's is {replay.version}; install one version everywhere"
    if plan is None or plan["run_sha256"] != replay.digest:
        return f"{replay.work}: is not the folder that the client sees; choose one on shared storage with --work"
    return None
