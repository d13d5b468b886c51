"""Which partition is where, and which is given up. Knows neither Dask nor files."""

from collections import Counter, deque
from collections.abc import Iterable


class Board:
    """Partitions 1 to `partitions`, each of which may fail `retries` times without having got on."""

    def __init__(self, partitions: int, retries: int):
        self.retries = retries
        self.waiting = deque(range(1, partitions + 1))
        # Not before a time.
        self.later: list[tuple[float, int]] = []
        # By worker.
        self.running: dict[str, int] = {}
        self._failures: Counter[int] = Counter()
        self._progress: Counter[int] = Counter()

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self.later or self.running)

    def assign(self, workers: Iterable[str], now: float) -> list[tuple[str, int]]:
        """Gives each worker that has nothing to do a partition, and says which."""
        self.waiting.extend(number for time, number in self.later if time <= now)
        self.later = [(time, number) for time, number in self.later if time > now]
        idle = [worker for worker in workers if worker not in self.running]
        given = [(worker, self.waiting.popleft()) for worker in idle[: len(self.waiting)]]
        self.running.update(given)
        return given

    def finished(self, worker: str) -> int:
        """The worker's partition is done."""
        return self.running.pop(worker)

    def postponed(self, worker: str, until: float) -> int:
        """The worker's partition cannot be begun now."""
        number = self.running.pop(worker)
        self.later.append((until, number))
        return number

    def failed(self, worker: str, units_done: int) -> bool:
        """The worker, or the program, died. Returns whether the partition is tried again.

        Only failures since the last unit that was done are counted: where jobs are shorter than a partition takes,
        it goes on from job to job.
        """
        number = self.running.pop(worker)
        if units_done > self._progress[number]:
            self._progress[number] = units_done
            self._failures[number] = 0
        self._failures[number] += 1
        # Before the others: it is the one that is late.
        self.waiting.appendleft(number)
        return self._failures[number] <= self.retries
