"""The state of all partitions: waiting, running or complete. Independent of Dask and files."""

from collections import Counter, deque
from collections.abc import Iterable


class Board:
    """Partitions 1 to `partitions`; each may fail `retries` times without progress."""

    def __init__(self, partitions: int, retries: int):
        self.retries = retries
        self.waiting = deque(range(1, partitions + 1))
        # Partitions that wait until a time.
        self.later: list[tuple[float, int]] = []
        # Partitions by their worker.
        self.running: dict[str, int] = {}
        self._failures: Counter[int] = Counter()
        self._progress: Counter[int] = Counter()

    @property
    def is_done(self) -> bool:
        return not (self.waiting or self.later or self.running)

    def assign(self, workers: Iterable[str], now: float) -> list[tuple[str, int]]:
        """Assigns a partition to each idle worker, and returns the assignments."""
        self.waiting.extend(number for time, number in self.later if time <= now)
        self.later = [(time, number) for time, number in self.later if time > now]
        idle = [worker for worker in workers if worker not in self.running]
        given = [(worker, self.waiting.popleft()) for worker in idle[: len(self.waiting)]]
        self.running.update(given)
        return given

    def finish(self, worker: str) -> int:
        """Marks the worker's partition as complete; returns its number."""
        return self.running.pop(worker)

    def postpone(self, worker: str, until: float) -> int:
        """Postpones the worker's partition until a time; returns its number."""
        number = self.running.pop(worker)
        self.later.append((until, number))
        return number

    def fail(self, worker: str, units_done: int) -> bool:
        """Handles the death of the worker or of its program; returns whether the partition is retried.

        Only failures since the last completed unit count, so a partition may continue over several jobs that are
        shorter than it.
        """
        number = self.running.pop(worker)
        if units_done > self._progress[number]:
            self._progress[number] = units_done
            self._failures[number] = 0
        self._failures[number] += 1
        # It comes before the others, because it is late.
        self.waiting.appendleft(number)
        return self._failures[number] <= self.retries
