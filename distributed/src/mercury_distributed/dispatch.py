"""Partitions given to workers, one at a time each.

The client gives a worker its next partition when it has none, and names the worker. Left to the scheduler, a worker of
several threads would be given several partitions, and where `resources` forbid to run them at once they would wait for
it while others are idle: the scheduler assigns all of them at the start, by threads, not by resources.
"""

import time
from collections.abc import Collection
from queue import Empty, SimpleQueue

from distributed import Client, Future

from . import workdir
from .board import Board
from .errors import Refused
from .progress import Progress
from .watch import Watch
from .worker import Ending, Outcome, Replay, replay_partition

# Between looks at which workers there are.
LOOK_SECONDS = 1.0
# Until a partition that another process is at is tried again.
LOCKED_SECONDS = 2.0


class Dispatch:
    """The partitions of a run on their way to workers and back."""

    def __init__(self, client: Client, replay: Replay, retries: int, progress: Progress):
        self.client, self.replay, self.progress = client, replay, progress
        self.board = Board(replay.partitions, retries)
        # As of the last look.
        self.workers: Collection[str] = ()
        self.looked = -LOOK_SECONDS
        self.futures: dict[str, Future] = {}
        # Futures that have ended, and where.
        self.ended: SimpleQueue[tuple[str, Future]] = SimpleQueue()
        self.tasks = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Returns when all partitions are done."""
        self.client.register_plugin(Watch(self.replay.name))
        try:
            while not self.board.is_done:
                self.look()
                self.give()
                self.take()
        except OSError as error:
            # Nothing else here raises one: folders are read without, and workers' errors are taken from futures.
            raise Refused(f"the scheduler is gone ({error}); {self.kept()}") from error
        finally:
            self.stop()

    def look(self) -> None:
        """Learns once in a while which workers there are, and takes their partitions from lost ones."""
        if time.monotonic() < self.looked + LOOK_SECONDS:
            return
        self.workers = self.client.nthreads().keys()
        self.looked = time.monotonic()
        self.progress.workers(len(self.workers))
        for worker in self.board.running.keys() - self.workers:
            self.client.cancel(self.futures.pop(worker))
            self.died(worker, f"{worker} was lost")

    def give(self) -> None:
        """Gives partitions to idle workers."""
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

    def take(self) -> None:
        """Waits for a task to end, but not for long, and takes what came of it and of others that have ended, too."""
        try:
            worker, future = self.ended.get(timeout=LOOK_SECONDS)
            while True:
                # Else it was given up.
                if self.futures.get(worker) is future:
                    del self.futures[worker]
                    self.settle(worker, future)
                worker, future = self.ended.get_nowait()
        except Empty:
            pass

    def settle(self, worker: str, future: Future) -> None:
        """Deals with a task that has ended."""
        if future.status == "cancelled" or future.status == "lost":
            raise Refused(f"the scheduler is gone, or has cancelled the replay; {self.kept()}")
        if future.status == "error":
            self.died(worker, f"{worker}: {future.exception()!r}")
            return
        outcome: Outcome = future.result()
        match outcome.ending:
            case Ending.DONE:
                self.board.finished(worker)
                self.seconds += outcome.seconds
                self.progress.advance()
            case Ending.LOCKED:
                number = self.board.postponed(worker, time.monotonic() + LOCKED_SECONDS)
                self.progress.note_once(f"partition {self.label(number)} waits: {outcome.message}")
            case Ending.CRASHED:
                self.died(worker, f"{self.replay.analyzer} on {worker}: {outcome.message}")
            case Ending.REFUSED:
                raise Refused(outcome.message)
            case Ending.UNFIT:
                raise Refused(f"{worker}: {outcome.message}")

    def died(self, worker: str, what: str) -> None:
        """Has the worker's partition tried again, unless that happened too often."""
        number = self.board.running[worker]
        done = workdir.units_done(self.replay.folder(number))
        if not self.board.failed(worker, done):
            times = f"{self.board.retries + 1} times without getting on"
            raise Refused(f"partition {self.label(number)} failed {times}, at last: {what}; {self.kept()}")
        self.progress.note(f"partition {self.label(number)} is tried again: {what}")

    def stop(self) -> None:
        """Has workers end what they are at."""
        try:
            if self.futures:
                self.client.cancel(list(self.futures.values()))
            self.client.unregister_worker_plugin(self.replay.name)
        except OSError:
            # Without a scheduler workers close by themselves.
            pass

    def label(self, number: int) -> str:
        return f"{number}/{self.replay.partitions}"

    def kept(self) -> str:
        return f"what is done is kept in {self.replay.work}, and the same command goes on from there"
