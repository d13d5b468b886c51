"""Replays of MERCURY traces on a Dask cluster: each worker runs `mercury-analyzer` on partitions of the trace.

`replay` does it from Python, `mercury-distributed replay` from a shell. The modules, in the order in which a run
meets them:

    cli        the command
    run        the run from end to end: plan, workers, partitions, merge
    analyzer   the program, as the client runs it
    workdir    the folder that partitions are kept in
    dispatch   partitions given to workers, one at a time each
    board      which partition is where, and which is given up: no Dask, no files
    worker     what a worker does with a partition
    watch      the worker's processes, ended when their task is
    tether     a process that dies with its worker
"""

from .errors import Refused
from .run import Options, replay

__all__ = ["Options", "Refused", "replay"]
