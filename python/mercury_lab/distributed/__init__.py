"""Replays MERCURY traces on a Dask cluster: each worker runs `mercury-analyzer` on partitions of the trace.

Call `replay` from Python or run `mercury-distributed replay` in a shell. The modules, in the order of a run:

    cli        the command
    run        the run from end to end: plan, workers, partitions, merge
    analyzer   runs the program on the client
    workdir    the folder of the partitions
    dispatch   assigns partitions to workers, one at a time
    board      the state of all partitions, without Dask and files
    worker     replays a partition on a worker
    watch      ends a worker's processes together with their tasks
    tether     ends a process together with its worker
"""

try:
    from .errors import Refused
    from .run import Options, replay
except ModuleNotFoundError as error:
    if error.name not in ("dask", "distributed"):
        raise
    raise ModuleNotFoundError("Dask is not installed; run `pip install 'mercury-lab[dask]'`", name=error.name) from None

__all__ = ["Options", "Refused", "replay"]
