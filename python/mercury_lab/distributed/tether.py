"""Executes a program that the kernel kills when the thread that started it ends.

    python tether.py PARENT PROGRAM ARGUMENT...

PARENT is the id of the process that waits for the program. A worker that is killed cannot end its processes, so the
kernel must. This is a separate program, because code between fork and exec is unsafe in a process with threads, such as
a worker.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: str, *command: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # The parent may have ended before the line above took effect.
    if os.getppid() != int(parent):
        sys.exit("the worker has ended")
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(*sys.argv[1:])
