"""Tests that a replay on a cluster equals the single run byte for byte, whichever process dies."""

import fcntl
import json
import os
import signal
import struct
import time
from pathlib import Path

import pytest
from cluster import Cluster, is_alive, read_files, wait_until

# Shell commands of a program that does not end. It records its process id and its worker's.
STAYS = "echo $$ > first.part; echo $PPID >> first.part; mv first.part first; exec sleep 600"

# Convolutions of 3 x 3 with a projection from a file.
OWN_PROJECTION = """
[reuse]
passes = []

[[layer]]
name = "features.*"
rpq.bits = 6
rpq.projection = "file:R.safetensors"
reuse.passes = ["forward"]
"""


def write_projection(path: Path) -> None:
    """Writes a projection of vectors of 9 elements in the safetensors format."""
    values = [(index * 37 % 101) / 50 - 1 for index in range(9 * 6)]
    header = json.dumps({"R": {"dtype": "F32", "shape": [9, 6], "data_offsets": [0, 4 * len(values)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack(f"<{len(values)}f", *values))


def wait_for_first(folder: Path) -> tuple[int, int]:
    """Waits for the program that does not end; returns its process id and its worker's."""
    wait_until((folder / "first").exists, "the first partition is begun")
    program, worker = map(int, (folder / "first").read_text().split())
    return program, worker


def list_partitions(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*"))


def list_complete(folder: Path) -> list[Path]:
    return [path for path in list_partitions(folder) if (path / "SHA256SUMS").exists()]


def read_versions(folders: list[Path]) -> dict[Path, tuple[int, int]]:
    """Returns inode and modification time of each unit's file: they change if it is written again."""
    found = [path for folder in folders for path in folder.rglob("*.json")]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def test_equals_the_single_run(cluster, replay, single, tmp_path):
    replay(cluster).check_success()
    assert read_files(tmp_path / "out") == single()
    # Four per worker.
    assert len(list_complete(tmp_path / "out.partitions")) == 8


def test_flags_go_to_the_program_and_rows_to_standard_output(cluster, replay, single, tmp_path):
    (tmp_path / "my.toml").write_text("[rpq]\nbits = 6\n\n[stop]\nwindow = 1\n")
    run = replay(cluster, "--partitions", 3, "--format", "json", "--", "--config", "my.toml", "--layers", "features.*")
    run.check_success()
    flags = ("--config", str(tmp_path / "my.toml"), "--layers", "features.*")
    assert read_files(tmp_path / "out") == single(*flags)
    assert {row["signature_bits"] for row in json.loads(run.stdout)} == {6}


def test_workers_find_the_projection_of_a_file(cluster, replay, single, tmp_path):
    folder = tmp_path / "settings"
    folder.mkdir()
    write_projection(folder / "R.safetensors")
    (folder / "my.toml").write_text(OWN_PROJECTION)
    flags = ("--config", "settings/my.toml", "--layers", "features.*")
    replay(cluster, "--partitions", 3, "--", *flags).check_success()
    absolute = ("--config", str(folder / "my.toml"), "--layers", "features.*")
    assert read_files(tmp_path / "out") == single(*absolute)


def test_partitions_are_at_most_the_units(cluster, replay, single, tmp_path):
    flags = ("--steps", "0", "--layers", "classifier.*")
    replay(cluster.file, "--", *flags).check_success()
    assert len(list_partitions(tmp_path / "out.partitions")) == 3
    assert read_files(tmp_path / "out") == single(*flags)


def test_the_program_gets_the_threads_of_its_worker(replay, program, single, tmp_path):
    stand_in = program('echo "$*" >> calls')
    with Cluster(tmp_path, workers=1, threads=2) as cluster:
        replay(cluster, program=stand_in).check_success()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 4 and all(" --threads 2" in call for call in calls)
    assert read_files(tmp_path / "out") == single()


def test_a_worker_is_killed(replay, program, single, tmp_path):
    stand_in = program(f"if once first-mark; then {STAYS}; fi")
    with Cluster(tmp_path, workers=2) as cluster:
        run = replay(cluster, program=stand_in)
        process, worker = wait_for_first(tmp_path)
        os.kill(worker, signal.SIGKILL)
        run.check_success()
        assert not is_alive(process), "the killed worker's program still runs"
    assert "is retried: tcp://127.0.0.1:" in run.stderr and "was lost" in run.stderr
    assert read_files(tmp_path / "out") == single()


def test_a_worker_is_killed_and_another_joins(replay, program, single, tmp_path):
    stand_in = program(f"if once first-mark; then {STAYS}; fi")
    with Cluster(tmp_path, workers=1) as cluster:
        run = replay(cluster, program=stand_in)
        _, worker = wait_for_first(tmp_path)
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: "there are no workers" in run.stderr, "the loss is noticed")
        cluster.start_worker()
        run.check_success()
    assert read_files(tmp_path / "out") == single()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_interrupted_client_continues(cluster, replay, program, single, tmp_path, number):
    stand_in = program(f"if once first-mark; then {STAYS}; fi")
    run = replay(cluster, "--partitions", 5, program=stand_in)
    process, _ = wait_for_first(tmp_path)
    work = tmp_path / "out.partitions"
    wait_until(lambda: len(list_complete(work)) == 4, "the other partitions are done")
    run.process.send_signal(number)
    assert run.wait() == (-9 if number == signal.SIGKILL else 130), run.stderr
    wait_until(lambda: not is_alive(process), "its program is ended")
    assert not (tmp_path / "out").exists()

    done = read_versions(list_complete(work))
    assert len(done) > 20
    # The number of partitions is that of the interrupted run.
    replay(cluster, program=stand_in).check_success()
    assert read_versions(list_partitions(work)).items() >= done.items()
    assert read_files(tmp_path / "out") == single()


def test_a_program_that_dies_is_retried(cluster, replay, program, single, tmp_path):
    replay(cluster, program=program("if once died; then kill -9 $$; fi")).check_success()
    assert read_files(tmp_path / "out") == single()


def test_a_partition_that_kills_the_program_is_given_up(cluster, replay, program, tmp_path):
    stand_in = program('case "$*" in *2/4*) echo x >> tries; kill -9 $$;; esac')
    error = replay(cluster, "--partitions", 4, "--retries", 1, program=stand_in).check_refusal()
    assert "partition 2/4 failed 2 times" in error and "was killed by signal 9" in error
    assert (tmp_path / "tries").read_text() == "x\nx\n"


def test_another_process_has_locked_a_partition(cluster, replay, single, tmp_path):
    replay(cluster, "--partitions", 2, out="before").check_success()
    work = tmp_path / "before.partitions"
    folder = work / "part-0002-of-0002"
    (folder / "SHA256SUMS").unlink()
    lock = os.open(folder, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    run = replay(cluster, "--work", work)
    wait_until(lambda: "partition 2/2 waits: " in run.stderr, "the lock is met")
    time.sleep(0.2)
    os.close(lock)
    run.check_success()
    assert read_files(tmp_path / "out") == single()
