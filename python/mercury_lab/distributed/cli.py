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
# As for shells, 128 plus the number of the signal.
INTERRUPTED = 128 + signal.SIGINT

EXAMPLES = """\
examples:
  mercury-distributed replay /shared/trace --scheduler tcp://10.0.0.1:8786 --out /shared/results
  mercury-distributed replay s3://bucket/trace --scheduler-file /shared/scheduler.json --out /shared/results \\
    --min-workers 100 -- --preset patch-os --with bounds

exit codes:
  0    done
  2    invalid input, or a failure that the message explains
  130  interrupted; the same command continues
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command and exits with its exit code."""
    options, address, file = parse_arguments(sys.argv[1:] if arguments is None else list(arguments))
    # Our messages explain lost connections better than Dask's log.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with connect(address, file) as client:
            code = replay(client, options)
    except Refused as refused:
        print(f"error: {refused}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted; finished work is kept, and the same command continues from there", file=sys.stderr)
        code = INTERRUPTED
    sys.exit(code)


def connect(address: str | None, file: str | None) -> Client:
    """Connects to the scheduler at an address or in a scheduler file."""
    # Dask would wait for the file to appear.
    if file is not None and not os.path.isfile(file):
        raise Refused(f"{file}: there is no such file; start a scheduler with `dask scheduler --scheduler-file {file}`")
    try:
        if address is not None:
            # Checked before the client is created, which would print a traceback for an invalid address.
            get_address_host_port(address)
        return Client(address, scheduler_file=file, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = f"no scheduler answers there ({error}); start one with `dask scheduler`"
        raise Refused(f"{address or file}: {reason}") from error


def parse_arguments(arguments: Sequence[str]) -> tuple[Options, str | None, str | None]:
    """Returns the options, and the scheduler's address or file.

    Arguments after `--` are flags of `mercury-analyzer replay`.
    """
    own, flags = split_arguments(arguments)
    given = vars(build_parser().parse_args(own))
    del given["command"]
    address, file = given.pop("scheduler"), given.pop("scheduler_file")
    return Options(**given, flags=tuple(flags)), address, file


def split_arguments(arguments: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Returns the arguments before and after `--`."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:place], arguments[place + 1 :]


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("mercury-distributed", description="Replays MERCURY traces on a Dask cluster.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "replay",
        help="replay the partitions of a trace on workers, and merge them",
        description="Replays the partitions of a trace on workers, and merges them. The results equal those of "
        "`mercury-analyzer replay` byte for byte. Arguments after `--` are flags of `mercury-analyzer replay`.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s TRACE (--scheduler ADDRESS | --scheduler-file FILE) --out DIR [OPTIONS] [-- FLAGS]",
    )
    add_arguments(command)
    return top


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the flags of `replay`."""
    add = command.add_argument
    add("trace", metavar="TRACE", help="trace: a folder that all workers see at this path, or an s3:// URL")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--scheduler", metavar="ADDRESS", help="address of the scheduler, such as tcp://10.0.0.1:8786")
    where.add_argument("--scheduler-file", metavar="FILE", help="file that `dask scheduler --scheduler-file` wrote")
    add("--out", required=True, metavar="DIR", help="folder for the results; must be empty or missing")
    add("--work", metavar="DIR", help="folder for the partitions, on shared storage [default: OUT.partitions]")
    add(
        "--partitions",
        type=parse_positive,
        metavar="N",
        help="number of partitions; at most the number of layers of captured steps [default: 4 per worker, or the "
        "number in --work]",
    )
    add("--min-workers", type=parse_positive, default=1, metavar="N", help="wait for at least N workers [default: 1]")
    add(
        "--retries",
        type=parse_natural,
        default=3,
        metavar="N",
        help="retries of a partition whose worker or program died without finishing a layer [default: 3]",
    )
    add(
        "--analyzer",
        metavar="PATH",
        help="program: one path for all machines, or a name on each PATH [default: the one installed with this package]",
    )
    add("--format", choices=["table", "json", "csv"], default="table", help="output format of `merge` [default: table]")
    add("-q", "--quiet", action="store_true", help="print only data and errors: no notes, no progress")


def parse_positive(text: str) -> int:
    if (number := parse_natural(text)) == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def parse_natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number")
    return int(text)
