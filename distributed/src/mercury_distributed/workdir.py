"""The folder that partitions are kept in, so that a run that was stopped goes on.

    plan.json             what is replayed and in how many partitions
    config.toml           the configuration file, if one was given
    part-0001-of-0008/    what `mercury-analyzer replay --partition 1/8` wrote

It is on storage that client and workers share.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .analyzer import Plan
from .errors import Refused

PLAN, CONFIG = "plan.json", "config.toml"


@contextmanager
def claim(work: Path) -> Iterator[None]:
    """Makes the folder, and keeps other clients on this machine out of it."""
    try:
        work.mkdir(parents=True, exist_ok=True)
        folder = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"{work}: cannot keep partitions here ({error.strerror}); choose another with --work") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        reason = "another mercury-distributed works here; wait for it or choose another with --work"
        raise Refused(f"{work}: {reason}") from error
    else:
        yield
    finally:
        os.close(folder)


def settle(work: Path, plan: Plan, asked: int | None, usual: Callable[[], int]) -> int:
    """In how many partitions the replay is split: as before where it goes on, else as asked for, or as is usual."""
    known = read_plan(work)
    if known is None:
        return begin(work, plan, asked or usual())
    if known["run_sha256"] != plan.digest:
        reason = "holds partitions of another trace, configuration or label"
        raise Refused(f"{work}: {reason}; remove it or choose another with --work")
    if asked is not None and min(asked, plan.units) != known["partitions"]:
        raise Refused(
            f"{work}: was split into {known['partitions']} partitions; leave out --partitions to go on with them, or "
            "choose another folder with --work"
        )
    return known["partitions"]


def begin(work: Path, plan: Plan, partitions: int) -> int:
    """Writes down the plan, in a folder that is empty."""
    if any(path.name != f".{PLAN}" for path in work.iterdir()):
        raise Refused(f"{work}: is not empty, and holds no partitions; choose another with --work")
    # Partitions are made of units; more of them would be empty.
    partitions = min(partitions, plan.units)
    known = {"run_sha256": plan.digest, "partitions": partitions, "units": plan.units}
    write(work / PLAN, (json.dumps(known, indent=2) + "\n").encode())
    return partitions


def read_plan(work: Path) -> dict | None:
    """What `begin` wrote, `None` where it did not."""
    try:
        return json.loads((work / PLAN).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Refused(f"{work / PLAN}: is not what mercury-distributed wrote ({error}); remove {work}") from error


def keep_config(work: Path, flags: Sequence[str]) -> tuple[str, ...]:
    """The flags, with a copy of the configuration file, which workers need not have where the client has it."""
    kept = list(flags)
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name == "--config":
            copy = work / CONFIG
            write(copy, Path(value if equals else flags[place + 1]).read_bytes())
            kept[place if equals else place + 1] = f"{name}={copy}" if equals else str(copy)
    return tuple(kept)


def partition(work: Path, number: int, of: int) -> Path:
    """The folder of a partition."""
    return work / f"part-{number:04}-of-{of:04}"


def units_done(partition: Path) -> int:
    """How many of a partition's units are done so far; none where that cannot be seen."""
    try:
        return sum(name.endswith(".json") for name in os.listdir(partition / "parts"))
    except OSError:
        return 0


def write(path: Path, content: bytes) -> None:
    """Writes a file that is there whole or not at all."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_bytes(content)
    scratch.rename(path)
