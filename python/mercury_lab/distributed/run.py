"""Runs a replay from end to end: plan, workers, partitions, merge."""

import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from distributed import Client

from . import analyzer, workdir
from .dispatch import Dispatch
from .errors import Refused
from .progress import Progress
from .worker import Replay, find_problem

# Partitions per worker. With more partitions, workers wait less for the last one, but open the trace more often.
PARTITIONS_PER_WORKER = 4
# Maximum number of workers in one message.
NAMED = 3


@dataclass(frozen=True)
class Options:
    """The arguments of a replay, which are also the flags of the command."""

    trace: str
    out: str
    # Flags of `mercury-analyzer replay`.
    flags: tuple[str, ...] = ()
    partitions: int | None = None
    min_workers: int = 1
    # The program `mercury-analyzer`: a path, a name on each PATH, or `None` for the one installed with this package.
    analyzer: str | None = None
    retries: int = 3
    work: str | None = None
    format: str = "table"
    quiet: bool = False


def replay(client: Client, options: Options) -> int:
    """Replays a trace on the client's cluster and merges; returns the exit code of the merge.

    Raises `Refused`, with a message for the user, if the replay is impossible.
    """
    out = resolve_folder("--out", options.out)
    work = resolve_folder("--work", options.work or f"{out}.partitions")
    check_empty(out)
    trace = options.trace if "://" in options.trace else os.path.abspath(options.trace)
    # A path is valid on all machines; a name is searched on each worker's PATH.
    name = options.analyzer
    if name is not None and os.sep in name:
        name = os.path.abspath(name)
    program = analyzer.find_program(name)
    version = analyzer.read_version(program)
    plan = analyzer.plan_replay(program, trace, options.flags)

    progress = Progress(options.quiet)
    with workdir.claim(work):
        count = wait_for_workers(client, options.min_workers, progress)
        partitions = workdir.settle_partitions(work, plan, options.partitions, lambda: PARTITIONS_PER_WORKER * count)
        run = Replay(
            name=f"partition-{uuid4().hex}",
            trace=trace,
            flags=workdir.copy_config(work, options.flags, partial(analyzer.show_config, program)),
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
        return analyzer.merge_partitions(program, work, out, options.format, options.quiet)


def replay_partitions(client: Client, run: Replay, retries: int, progress: Progress) -> None:
    """Replays all partitions, and reports the time."""
    begun = time.monotonic()
    dispatch = Dispatch(client, run, retries, progress)
    progress.begin(run.partitions)
    try:
        dispatch.run()
    finally:
        progress.end()
    seconds = f"{time.monotonic() - begun:.1f} s, {dispatch.seconds:.1f} s of workers"
    progress.note(f"{run.partitions} partitions in {seconds}; they are kept in {run.work}")


def resolve_folder(flag: str, text: str) -> Path:
    """Returns the absolute path of a folder, which must not be a URL."""
    if "://" in text:
        raise Refused(f"{flag}: {text} is not a folder; only traces can be URLs, results are written to shared storage")
    return Path(text).absolute()


def check_empty(out: Path) -> None:
    """Refuses a folder that is not empty, before any work is done."""
    if out.exists() and not (out.is_dir() and next(out.iterdir(), None) is None):
        raise Refused(f"{out}: not an empty folder; choose another with --out")


def wait_for_workers(client: Client, least: int, progress: Progress) -> int:
    """Waits for at least `least` workers, and returns their number."""
    count = len(client.nthreads())
    if count < least:
        progress.note(f"waiting for workers: {count} of {least}; dashboard: {client.dashboard_link}")
        client.wait_for_workers(least)
        count = len(client.nthreads())
    return count


def check_workers(client: Client, run: Replay) -> None:
    """Refuses unsuitable workers before anything is replayed; tasks check workers that join later."""
    answers = client.run(find_problem, run, on_error="return")
    problems = [f"{worker}: {answer}" for worker, answer in sorted(answers.items()) if answer is not None]
    if problems:
        more = f"\n... and {len(problems) - NAMED} more workers" if len(problems) > NAMED else ""
        raise Refused("\n".join(problems[:NAMED]) + more)
