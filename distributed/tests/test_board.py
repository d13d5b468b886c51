"""Which partition is where."""

from random import Random

from mercury_distributed.board import Board


def test_each_worker_has_one_partition_at_a_time():
    board = Board(partitions=3, retries=0)
    assert board.assign(["a", "b"], now=0) == [("a", 1), ("b", 2)]
    assert board.assign(["a", "b"], now=0) == []
    board.finished("b")
    assert board.assign(["a", "b"], now=0) == [("b", 3)]
    board.finished("a")
    assert board.assign(["a"], now=0) == [] and not board.is_done
    board.finished("b")
    assert board.is_done


def test_what_failed_comes_next():
    board = Board(partitions=3, retries=1)
    board.assign(["a"], now=0)
    assert board.failed("a", units_done=0)
    assert board.assign(["b"], now=0) == [("b", 1)]


def test_failures_without_progress_are_counted():
    board = Board(partitions=1, retries=2)
    # By the fourth failure a unit was done, and the count begins anew.
    for units_done, goes_on in [(0, True), (0, True), (3, True), (3, True), (3, False)]:
        board.assign(["a"], now=0)
        assert board.failed("a", units_done) is goes_on


def test_what_is_postponed_waits_without_its_worker():
    board = Board(partitions=1, retries=0)
    board.assign(["a"], now=0)
    board.postponed("a", until=5)
    assert not board.is_done
    assert board.assign(["a"], now=4) == []
    assert board.assign(["a"], now=5) == [("a", 1)]


def test_whatever_happens_each_partition_is_done_once():
    for seed in range(200):
        random = Random(seed)
        board = Board(partitions=random.randrange(1, 12), retries=10_000)
        expected, done, now = set(board.waiting), [], 0
        while not board.is_done:
            now += 1
            workers = random.sample("abcdef", random.randrange(7))
            board.assign(workers, now)
            held = list(board.running.values())
            assert len(held) == len(set(held))
            for worker in list(board.running):
                match random.randrange(5):
                    case 0:
                        done.append(board.finished(worker))
                    case 1:
                        board.failed(worker, random.randrange(3))
                    case 2:
                        board.postponed(worker, now + random.randrange(4))
        assert sorted(done) == sorted(expected)
