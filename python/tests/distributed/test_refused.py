"""Tests that invalid input and unsuitable workers are refused with one message and exit code 2."""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, find_free_port, wait_until
from distributed import Client
from mercury_lab.distributed import Options, Refused
from mercury_lab.distributed import replay as replay_on


@pytest.fixture(scope="module")
def client(cluster) -> Iterator[Client]:
    with Client(cluster.address, set_as_default=False) as client:
        yield client


@pytest.fixture
def refusal(client, trace, analyzer, tmp_path) -> Callable[..., str]:
    """Returns the message of a refused replay. It is called from Python, because a command takes longer to start."""

    def message(out: str = "out", program: object = analyzer, **options: object) -> str:
        with pytest.raises(Refused) as refused:
            replay_on(client, Options(str(trace), str(tmp_path / out), analyzer=str(program), **options))
        return str(refused.value)

    return message


def is_untouched(folder: Path, *names: str) -> bool:
    return not any((folder / name).exists() for name in names)


def test_a_wrong_configuration(cluster, replay, program, tmp_path):
    error = replay(cluster, "--", "--rpq.bits", "99", program=program("echo x >> calls")).check_refusal()
    assert error.startswith("error: configuration (") and error.count("rpq.bits: is 99, but") == 1
    assert is_untouched(tmp_path, "calls", "out", "out.partitions")


@pytest.mark.parametrize("flag", ["--threads", "--out", "--partition"])
def test_reserved_flags(refusal, flag, tmp_path):
    assert f"'{flag} " in refusal(flags=(flag, "1/1"))
    assert is_untouched(tmp_path, "out", "out.partitions")


def test_refusals_of_the_program_are_not_retried(cluster, replay, program, tmp_path):
    stand_in = program("echo x >> calls; echo 'error: no room on the disk' >&2; exit 2")
    error = replay(cluster, program=stand_in).check_refusal()
    assert error.count("no room on the disk") == 1
    # At most one per worker.
    assert len((tmp_path / "calls").read_text().splitlines()) <= 2
    assert is_untouched(tmp_path, "out")


def test_another_version_on_the_workers(cluster, refusal, analyzer, tmp_path, monkeypatch):
    stale = cluster.bin / "mercury-analyzer"
    stale.write_text("#!/bin/sh\necho mercury-analyzer 0.0.1\n")
    stale.chmod(0o755)
    current = tmp_path / "bin" / "mercury-analyzer"
    current.parent.mkdir()
    current.symlink_to(analyzer)
    monkeypatch.setenv("PATH", f"{current.parent}:{os.environ['PATH']}")
    error = refusal(program="mercury-analyzer")
    assert error.count("is mercury-analyzer 0.0.1, but the client's is mercury-analyzer ") == 2
    stale.unlink()
    assert refusal(program="mercury-analyzer").count("there is no such program") == 2


def test_another_folder_on_the_workers(refusal, analyzer, program, tmp_path):
    # Simulates a folder that only the client sees. A worker asks for the program's version before it reads the plan,
    # so the stand-in removes the plan when it is asked for its version.
    plan = tmp_path / "out.partitions" / "plan.json"
    stand_in = program("")
    prelude = f'#!/bin/sh\n[ "$1" = --version ] && rm -f {plan}\n'
    stand_in.write_text(stand_in.read_text().replace("#!/bin/sh\n", prelude))
    assert refusal(program=stand_in).count("is not the folder that the client sees") == 2


def test_another_trace_on_the_workers(refusal, program, trace, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(trace, other)
    manifest = (other / "manifest.json").read_text()
    (other / "manifest.json").write_text(manifest.replace('"seed": ', '"seed": 1', 1))
    error = refusal(program=program(f'shift 2; set -- replay {other} "$@"'))
    assert f"{trace}: is not the trace that the client reads" in error


def test_no_program(refusal, tmp_path):
    assert "there is no such program" in refusal(program=tmp_path / "nonesuch")
    assert "is not mercury-analyzer" in refusal(program="/bin/true")


@pytest.mark.parametrize("address", [f"tcp://127.0.0.1:{find_free_port()}", "carrier://pigeon", "nonesuch"])
def test_no_scheduler(replay, tmp_path, address):
    begun = time.monotonic()
    error = replay(address).check_refusal()
    assert f"error: {address}: no scheduler answers there" in error
    assert "Traceback" not in error
    # The timeout is five seconds; the rest allows for a busy machine.
    assert time.monotonic() - begun < 20
    assert is_untouched(tmp_path, "out", "out.partitions")


def test_no_scheduler_file(replay, tmp_path):
    assert "there is no such file" in replay(tmp_path / "nonesuch").check_refusal()


def test_the_scheduler_is_killed(replay, program, tmp_path):
    stand_in = program("touch begun; exec sleep 600")
    with Cluster(tmp_path, workers=1) as cluster:
        run = replay(cluster, program=stand_in)
        wait_until((tmp_path / "begun").exists, "a partition is begun")
        cluster.scheduler.kill()
        assert "the scheduler is gone" in run.check_refusal()


def test_folders(client, refusal, trace, analyzer, tmp_path, capfd):
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    assert "full: not an empty folder" in refusal(out="full")
    assert "is not empty, and holds no partitions" in refusal(work=str(full))
    assert "is not a folder" in refusal(work="s3://bucket/work")

    options = Options(str(trace), str(tmp_path / "before"), partitions=2, analyzer=str(analyzer), quiet=True)
    assert replay_on(client, options) == 0
    assert capfd.readouterr() == ("", "")
    work = tmp_path / "before.partitions"
    error = refusal(work=str(work), flags=("--rpq.bits", "8"))
    assert "holds partitions of another trace, configuration or label" in error
    assert "was split into 2 partitions" in refusal(work=str(work), partitions=3)
    folder = os.open(work, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "another mercury-distributed works here" in refusal(work=str(work))
    os.close(folder)
    (work / "plan.json").write_text("{")
    assert "is not a plan of mercury-distributed" in refusal(work=str(work))
    assert is_untouched(tmp_path, "out")
