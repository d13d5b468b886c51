"""The command `mercury-distributed`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from distributed import Client
from distributed.comm import get_address_host_port

from .errors import Refused
from .run import Options, replay

CONNECT_SECONDS = 5
# As after a signal: 128 and its number.
INTERRUPTED = 128 + signal.SIGINT

EXAMPLES = """\
examples:
  mercury-distributed replay /shared/trace --scheduler tcp://10.0.0.1:8786 --out /shared/results
  mercury-distributed replay s3://bucket/trace --scheduler-file /shared/scheduler.json --out /shared/results \\
    --min-workers 100 -- --preset patch-os --without bounds

exit codes:
  0    done
  2    wrong input, or a failure that the message explains
  130  interrupted; the same command goes on
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command, and ends the process with its exit code."""
    options, address, file = parse(sys.argv[1:] if arguments is None else list(arguments))
    # Its messages about lost connections say less than ours.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with connect(address, file) as client:
            code = replay(client, options)
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, and the same command goes on from there", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def connect(address: str | None, file: str | None) -> Client:
    """A client of the scheduler at an address, or of the one that a file tells of."""
    # Dask would wait for the file.
    if file is not None and not os.path.isfile(file):
        raise Refused(f"{file}: there is no such file; start a scheduler with `dask scheduler --scheduler-file {file}`")
    try:
        if address is not None:
            # Before the client, which leaves a trace of its own where this fails.
            get_address_host_port(address)
        return Client(address, scheduler_file=file, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = f"no scheduler answers there ({error}); start one with `dask scheduler`"
        raise Refused(f"{address or file}: {reason}") from error


def parse(arguments: Sequence[str]) -> tuple[Options, str | None, str | None]:
    """The options, and the scheduler's address or file. All after `--` is for `mercury-analyzer replay`."""
    own, flags = split(arguments)
    given = vars(parser().parse_args(own))
    del given["command"]
    address, file = given.pop("scheduler"), given.pop("scheduler_file")
    return Options(**given, flags=tuple(flags)), address, file


def split(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """What is before and after `--`."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("mercury-distributed", description="Replays of MERCURY traces on a Dask cluster.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "replay",
        help="replay a trace in partitions, each on a worker, and merge them",
        description="Replays a trace in partitions, each on a worker, and merges them: the same results, byte for "
        "byte, as of `mercury-analyzer replay`. All after `--` are flags of that.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s TRACE (--scheduler ADDRESS | --scheduler-file FILE) --out DIR [OPTIONS] [-- FLAGS]",
    )
    add_arguments(command)
    return top


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The flags of `replay`."""
    add = command.add_argument
    add("trace", metavar="TRACE", help="the trace: a folder that all workers see at this path, or an s3:// URL")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--scheduler", metavar="ADDRESS", help="the scheduler, such as tcp://10.0.0.1:8786")
    where.add_argument("--scheduler-file", metavar="FILE", help="the file that `dask scheduler --scheduler-file` wrote")
    add("--out", required=True, metavar="DIR", help="folder for the results; must be empty or missing")
    add("--work", metavar="DIR", help="folder on shared storage that partitions are kept in [default: OUT.partitions]")
    add(
        "--partitions",
        type=positive,
        metavar="N",
        help="how many partitions; at most the trace's layers of captured steps [default: 4 for each worker, or as "
        "many as there are in --work]",
    )
    add("--min-workers", type=positive, default=1, metavar="N", help="wait for so many workers [default: 1]")
    add(
        "--retries",
        type=natural,
        default=3,
        metavar="N",
        help="how often a partition is tried again whose worker or program died without finishing a layer [default: 3]",
    )
    add(
        "--analyzer",
        default="mercury-analyzer",
        metavar="PATH",
        help="the program: a path that is the same everywhere, or a name on each PATH [default: mercury-analyzer]",
    )
    add("--format", choices=["table", "json", "csv"], default="table", help="what `merge` prints [default: table]")
    add("-q", "--quiet", action="store_true", help="print data and errors alone: no notes, no progress")


def positive(text: str) -> int:
    if (number := natural(text)) == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number")
    return int(text)
