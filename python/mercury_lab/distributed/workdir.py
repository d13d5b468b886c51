"""The folder of the partitions, from which an interrupted run continues.

    plan.json             identity of the run and number of partitions
    config.toml           resolved copy of the configuration file, if one was given
    part-0001-of-0008/    output of `mercury-analyzer replay --partition 1/8`

The folder is on storage that the client and all workers share.
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
# How a projection from a file begins.
FILE = "file:"


@contextmanager
def claim(work: Path) -> Iterator[None]:
    """Creates the folder and locks it against other clients on this machine."""
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


def settle_partitions(work: Path, plan: Plan, asked: int | None, default: Callable[[], int]) -> int:
    """Returns the number of partitions: that of an interrupted run, else `asked`, else the default."""
    known = read_plan(work)
    if known is None:
        return write_plan(work, plan, asked or default())
    if known["run_sha256"] != plan.digest:
        reason = "holds partitions of another trace, configuration or label"
        raise Refused(f"{work}: {reason}; remove it or choose another with --work")
    if asked is not None and min(asked, plan.units) != known["partitions"]:
        raise Refused(
            f"{work}: was split into {known['partitions']} partitions; leave out --partitions to continue with "
            "them, or choose another folder with --work"
        )
    return known["partitions"]


def write_plan(work: Path, plan: Plan, partitions: int) -> int:
    """Writes the plan into the empty folder; returns the number of partitions."""
    if any(path.name != f".{PLAN}" for path in work.iterdir()):
        raise Refused(f"{work}: is not empty, and holds no partitions; choose another with --work")
    # With more partitions than units, some would be empty.
    partitions = min(partitions, plan.units)
    known = {"run_sha256": plan.digest, "partitions": partitions, "units": plan.units}
    write_file(work / PLAN, (json.dumps(known, indent=2) + "\n").encode())
    return partitions


def read_plan(work: Path) -> dict | None:
    """Reads the plan; `None` if there is none."""
    try:
        return json.loads((work / PLAN).read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Refused(f"{work / PLAN}: is not a plan of mercury-distributed ({error}); remove {work}") from error


def copy_config(work: Path, flags: Sequence[str], show: Callable[[str], str]) -> tuple[str, ...]:
    """Copies the configuration file into the folder, so that workers need no access to the original.

    `show` resolves a configuration file, so that the copy does not depend on its folder. Returns the flags with the path of
    the copy, and with absolute paths of projections.
    """
    changed = list(flags)
    for place, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name not in ("--config", "--rpq.projection"):
            continue
        value = value if equals else flags[place + 1]
        if name == "--config":
            write_file(work / CONFIG, show(value).encode())
            value = str(work / CONFIG)
        elif value.startswith(FILE):
            value = FILE + os.path.abspath(value.removeprefix(FILE))
        changed[place if equals else place + 1] = f"{name}={value}" if equals else value
    return tuple(changed)


def locate_partition(work: Path, number: int, partitions: int) -> Path:
    """Returns the folder of a partition."""
    return work / f"part-{number:04}-of-{partitions:04}"


def count_units(partition: Path) -> int:
    """Counts the completed units of a partition; 0 if its folder cannot be read."""
    try:
        return sum(name.endswith(".json") for name in os.listdir(partition / "parts"))
    except OSError:
        return 0


def write_file(path: Path, content: bytes) -> None:
    """Writes a file atomically."""
    scratch = path.with_name(f".{path.name}")
    scratch.write_bytes(content)
    scratch.rename(path)
