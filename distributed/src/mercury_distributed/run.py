"""A run from end to end: plan, workers, partitions, merge."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from distributed import Client

from . import analyzer, workdir
from .dispatch import Dispatch
from .errors import Refused
from .progress import Progress
from .worker import Replay, unfit

# Partitions for each worker: with more, workers wait less for the last one, and open the trace more often.
PARTITIONS_PER_WORKER = 4
# Workers named in one message.
NAMED = 3


@dataclass(frozen=True)
class Options:
    """What is replayed, and how; the command's flags."""

    trace: str
    out: str
    # Of `mercury-analyzer replay`.
    flags: tuple[str, ...] = ()
    partitions: int | None = None
    min_workers: int = 1
    analyzer: str = "mercury-analyzer"
    retries: int = 3
    work: str | None = None
    format: str = "table"
    quiet: bool = False


def replay(client: Client, options: Options) -> int:
    """Replays a trace on the client's cluster and merges; returns the exit code of the merge.

    Raises `Refused` with a message for people where that cannot be.
    """
    out = folder("--out", options.out)
    work = folder("--work", options.work or f"{out}.partitions")
    check_empty(out)
    trace = options.trace if "://" in options.trace else os.path.abspath(options.trace)
    # A path is the same everywhere; a name is looked for on each worker's PATH.
    name = os.path.abspath(options.analyzer) if os.sep in options.analyzer else options.analyzer
    program = analyzer.find(name)
    version = analyzer.version(program)
    plan = analyzer.plan(program, trace, options.flags)

    progress = Progress(options.quiet)
    with workdir.claim(work):
        count = wait_for_workers(client, options.min_workers, progress)
        partitions = workdir.settle(work, plan, options.partitions, lambda: PARTITIONS_PER_WORKER * count)
        run = Replay(
            name=f"partition-{uuid4().hex}",
            trace=trace,
            flags=workdir.keep_config(work, options.flags),
            analyzer=name,
            version=version,
            work=work,
            partitions=partitions,
            digest=plan.digest,
        )
        check_workers(client, run)
        progress.note(f"{partitions} partitions of {plan.units} layers of captured steps; workers: {count}")
        progress.note(f"dashboard: {client.dashboard_link}")
        replay_partitions(client, run, options.retries, progress)
        return analyzer.merge(program, work, out, options.format, options.quiet)


def replay_partitions(client: Client, run: Replay, retries: int, progress: Progress) -> None:
    """Has all partitions replayed, and says how long it took."""
    begun = time.monotonic()
    dispatch = Dispatch(client, run, retries, progress)
    progress.begin(run.partitions)
    try:
        dispatch.run()
    finally:
        progress.end()
    seconds = f"{time.monotonic() - begun:.1f} s, {dispatch.seconds:.1f} s of workers"
    progress.note(f"{run.partitions} partitions in {seconds}; they are kept in {run.work}")


def folder(flag: str, text: str) -> Path:
    """An absolute path to a folder, which must be on a file system."""
    if "://" in text:
        raise Refused(f"{flag}: {text} is no folder; results are written to shared storage, traces alone come by URL")
    return Path(text).absolute()


def check_empty(out: Path) -> None:
    """Refuses a folder with something in it now rather than when all is done."""
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise Refused(f"{out}: not an empty folder; choose another with --out")


def wait_for_workers(client: Client, least: int, progress: Progress) -> int:
    """Returns how many workers there are, once there are as many as asked for."""
    count = len(client.nthreads())
    if count < least:
        progress.note(f"waiting for workers: {count} of {least} are there; dashboard: {client.dashboard_link}")
        client.wait_for_workers(least)
        count = len(client.nthreads())
    return count


def check_workers(client: Client, run: Replay) -> None:
    """Refuses workers that cannot do it, before anything is replayed; each task checks those that come later."""
    answers = client.run(unfit, run, on_error="return")
    problems = [f"{worker}: {answer}" for worker, answer in sorted(answers.items()) if answer is not None]
    if problems:
        more = f"\n... and {len(problems) - NAMED} more workers" if len(problems) > NAMED else ""
        raise Refused("\n".join(problems[:NAMED]) + more)
