"""Tests the state of partitions."""

from random import Random

from mercury_lab.distributed.board import Board


def test_each_worker_has_one_partition_at_a_time():
    board = Board(partitions=3, retries=0)
    assert board.assign(["a", "b"], now=0) == [("a", 1), ("b", 2)]
    assert board.assign(["a", "b"], now=0) == []
    board.finish("b")
    assert board.assign(["a", "b"], now=0) == [("b", 3)]
    board.finish("a")
    assert board.assign(["a"], now=0) == [] and not board.is_done
    board.finish("b")
    assert board.is_done


def test_failed_partitions_come_next():
    board = Board(partitions=3, retries=1)
    board.assign(["a"], now=0)
    assert board.fail("a", units_done=0)
    assert board.assign(["b"], now=0) == [("b", 1)]


def test_failures_without_progress_are_counted():
    board = Board(partitions=1, retries=2)
    # At the third failure units were completed, so the count starts again.
    for units_done, is_retried in [(0, True), (0, True), (3, True), (3, True), (3, False)]:
        board.assign(["a"], now=0)
        assert board.fail("a", units_done) is is_retried


def test_postponed_partitions_wait_without_their_worker():
    board = Board(partitions=1, retries=0)
    board.assign(["a"], now=0)
    board.postpone("a", until=5)
    assert not board.is_done
    assert board.assign(["a"], now=4) == []
    assert board.assign(["a"], now=5) == [("a", 1)]


def test_each_partition_is_completed_once_after_any_events():
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
                        done.append(board.finish(worker))
                    case 1:
                        board.fail(worker, random.randrange(3))
                    case 2:
                        board.postpone(worker, now + random.randrange(4))
        assert sorted(done) == sorted(expected)
