"""What a worker does: one partition at a time, on all of its threads."""

import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

from distributed import get_worker

from . import analyzer, workdir
from .errors import Refused
from .watch import Watch

# What the program says of a partition that another process is at.
LOCKED = "another partition is writing to"


@dataclass(frozen=True)
class Replay:
    """What is replayed: the same for all partitions."""

    # Of this run alone.
    name: str
    trace: str
    flags: tuple[str, ...]
    # The program: a path, or a name to look for on each worker's PATH.
    analyzer: str
    version: str
    work: Path
    partitions: int
    digest: str

    def folder(self, number: int) -> Path:
        return workdir.partition(self.work, number, self.partitions)


class Ending(StrEnum):
    """How a partition ended."""

    DONE = "done"
    # The program explained why it cannot be done: exit code 2.
    REFUSED = "refused"
    # Another process is at it.
    LOCKED = "locked"
    # The program died.
    CRASHED = "crashed"
    # Nothing can be done on this worker.
    UNFIT = "unfit"


@dataclass(frozen=True)
class Outcome:
    """What became of a partition, and how long it took."""

    ending: Ending
    message: str = ""
    seconds: float = 0.0


def replay_partition(replay: Replay, number: int) -> Outcome:
    """The task: replays a partition, or goes on with it. One that is complete takes as long as to open the trace."""
    begun = time.monotonic()
    worker = get_worker()
    problem = unfit(replay)
    if problem is not None:
        return Outcome(Ending.UNFIT, problem)
    command = analyzer.partition_command(
        analyzer.find(replay.analyzer),
        replay.trace,
        number,
        replay.partitions,
        replay.folder(number),
        worker.state.nthreads,
        replay.flags,
    )
    watch = cast(Watch, worker.plugins[replay.name])
    code, stderr = watch.run(str(worker.get_current_task()), command)
    ending = ending_of(code, stderr)
    if ending is Ending.DONE and analyzer.identity(replay.folder(number))[1] != replay.digest:
        reason = f"is another trace here than where the client is; remove {replay.folder(number)}"
        return Outcome(Ending.UNFIT, f"{replay.trace}: {reason}")
    message = analyzer.message_of(stderr) or analyzer.ending_of(code)
    return Outcome(ending, message, time.monotonic() - begun)


def ending_of(code: int, stderr: str) -> Ending:
    """How a partition ended, by the program's exit code and standard error."""
    if code == 0:
        return Ending.DONE
    if code != 2:
        return Ending.CRASHED
    return Ending.LOCKED if LOCKED in stderr else Ending.REFUSED


def unfit(replay: Replay) -> str | None:
    """Why this worker cannot do it, `None` where it can."""
    try:
        version = analyzer.version(analyzer.find(replay.analyzer))
        plan = workdir.read_plan(replay.work)
    except Refused as refused:
        return str(refused)
    if version != replay.version:
        return f"{replay.analyzer}: is {version}, but the client's is {replay.version}; install one everywhere"
    if plan is None or plan["run_sha256"] != replay.digest:
        return f"{replay.work}: is not the folder that the client sees; choose one on shared storage with --work"
    return None
