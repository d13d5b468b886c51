"""Assigns partitions to workers, one at a time.

The client submits the next partition to a named worker when that worker is idle. The scheduler would assign all
partitions at the start, several to a worker with several threads. If `resources` forbid to run these at the same time,
they would wait for their worker while others are idle.
"""

import time
from collections.abc import Collection
from queue import Empty, SimpleQueue

from distributed import Client, Future

from . import workdir
from .analyzer import PROGRAM
from .board import Board
from .errors import Refused
from .progress import Progress
from .watch import Watch
from .worker import Ending, Outcome, Replay, replay_partition

# Seconds between checks of the workers.
LOOK_SECONDS = 1.0
# Seconds until a partition that another process has locked is retried.
LOCKED_SECONDS = 2.0


class Dispatch:
    """Assigns the partitions of a run to workers, and handles the results."""

    def __init__(self, client: Client, replay: Replay, retries: int, progress: Progress):
        self.client, self.replay, self.progress = client, replay, progress
        self.board = Board(replay.partitions, retries)
        # The workers at the last check.
        self.workers: Collection[str] = ()
        self.looked = -LOOK_SECONDS
        self.futures: dict[str, Future] = {}
        # Ended futures with their workers.
        self.ended: SimpleQueue[tuple[str, Future]] = SimpleQueue()
        self.tasks = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Replays all partitions; returns when they are complete."""
        self.client.register_plugin(Watch(self.replay.name))
        try:
            while not self.board.is_done:
                self.update_workers()
                self.assign_partitions()
                self.collect_results()
        except OSError as error:
            # Only the connection raises it: errors of folders are handled, and errors of workers are in futures.
            raise Refused(f"the scheduler is gone ({error}); {self.explain_resume()}") from error
        finally:
            self.cancel_tasks()

    def update_workers(self) -> None:
        """Updates the list of workers at intervals, and retries the partitions of lost workers."""
        if time.monotonic() < self.looked + LOOK_SECONDS:
            return
        self.workers = self.client.nthreads().keys()
        self.looked = time.monotonic()
        self.progress.show_workers(len(self.workers))
        for worker in self.board.running.keys() - self.workers:
            self.client.cancel(self.futures.pop(worker))
            self.retry(worker, f"{worker} was lost")

    def assign_partitions(self) -> None:
        """Submits partitions to idle workers."""
        for worker, number in self.board.assign(self.workers, time.monotonic()):
            self.submit(worker, number)

    def submit(self, worker: str, number: int) -> None:
        self.tasks += 1
        future = self.client.submit(
            replay_partition,
            self.replay,
            number,
            key=f"{self.replay.name}-{self.tasks}",
            workers=[worker],
            pure=False,
        )
        self.futures[worker] = future
        future.add_done_callback(lambda future: self.ended.put((worker, future)))

    def collect_results(self) -> None:
        """Waits a short time for a task to end, and handles the results of all ended tasks."""
        try:
            worker, future = self.ended.get(timeout=LOOK_SECONDS)
            while True:
                # Otherwise the task was cancelled before.
                if self.futures.get(worker) is future:
                    del self.futures[worker]
                    self.handle_result(worker, future)
                worker, future = self.ended.get_nowait()
        except Empty:
            pass

    def handle_result(self, worker: str, future: Future) -> None:
        """Handles an ended task."""
        if future.status == "cancelled" or future.status == "lost":
            raise Refused(f"the scheduler is gone, or has cancelled the replay; {self.explain_resume()}")
        if future.status == "error":
            self.retry(worker, f"{worker}: {future.exception()!r}")
            return
        outcome: Outcome = future.result()
        match outcome.ending:
            case Ending.DONE:
                self.board.finish(worker)
                self.seconds += outcome.seconds
                self.progress.advance()
            case Ending.LOCKED:
                number = self.board.postpone(worker, time.monotonic() + LOCKED_SECONDS)
                self.progress.note_once(f"partition {self.label(number)} waits: {outcome.message}")
            case Ending.CRASHED:
                self.retry(worker, f"{self.replay.analyzer or PROGRAM} on {worker}: {outcome.message}")
            case Ending.REFUSED:
                raise Refused(outcome.message)
            case Ending.UNFIT:
                raise Refused(f"{worker}: {outcome.message}")

    def retry(self, worker: str, reason: str) -> None:
        """Queues the worker's partition again, unless it failed too often."""
        number = self.board.running[worker]
        done = workdir.count_units(self.replay.folder(number))
        if not self.board.fail(worker, done):
            times = f"{self.board.retries + 1} times without progress"
            raise Refused(f"partition {self.label(number)} failed {times}, finally: {reason}; {self.explain_resume()}")
        self.progress.note(f"partition {self.label(number)} is retried: {reason}")

    def cancel_tasks(self) -> None:
        """Cancels all tasks, so that the workers end their programs."""
        try:
            if self.futures:
                self.client.cancel(list(self.futures.values()))
            self.client.unregister_worker_plugin(self.replay.name)
        except OSError:
            # Workers without a scheduler close by themselves.
            pass

    def label(self, number: int) -> str:
        return f"{number}/{self.replay.partitions}"

    def explain_resume(self) -> str:
        return f"finished work is kept in {self.replay.work}, and the same command continues from there"
