"""Fixtures: a trace, the program, and clusters on loopback.

`make test-python` sets MERCURY_TRACE to a small real trace and MERCURY_ANALYZER to the program.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Run, read_files


def get_path(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} IS NOT SET: nothing is replayed on a cluster; run `make test-python`")
    if not Path(path).exists():
        pytest.fail(f"{variable}: {path} does not exist", pytrace=False)
    return Path(path).absolute()


@pytest.fixture(scope="session")
def trace() -> Path:
    return get_path("MERCURY_TRACE")


@pytest.fixture(scope="session")
def analyzer() -> Path:
    return get_path("MERCURY_ANALYZER")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, analyzer) -> Iterator[Cluster]:
    """A scheduler and two workers, for tests that do not kill them."""
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def single(tmp_path_factory, trace, analyzer) -> Callable[..., dict[str, bytes]]:
    """Returns the files of a run by a single process, for given flags."""
    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def results(*flags: str) -> dict[str, bytes]:
        if flags not in known:
            out = tmp_path_factory.mktemp("single") / "results"
            subprocess.run([analyzer, "replay", trace, "--out", out, *flags], check=True, capture_output=True)
            known[flags] = read_files(out)
        return known[flags]

    return results


@pytest.fixture
def replay(trace, analyzer, tmp_path) -> Callable[..., Run]:
    """Starts `mercury-distributed replay` on a cluster, a scheduler's address or a scheduler file."""

    def start(
        cluster: Cluster | Path | str,
        *arguments: object,
        trace: object = trace,
        out: str = "out",
        program: object = analyzer,
    ) -> Run:
        where = cluster.address if isinstance(cluster, Cluster) else cluster
        flag = "--scheduler-file" if isinstance(where, Path) else "--scheduler"
        return Run([trace, flag, where, "--analyzer", program, "--out", tmp_path / out, *arguments], tmp_path)

    return start


@pytest.fixture
def program(analyzer, tmp_path) -> Callable[[str], Path]:
    """Creates a stand-in for the program that runs shell commands before the program, for each partition.

    The shell function `once NAME` succeeds only on its first call. The empty partition of the plan is not affected.
    """

    def make(commands: str) -> Path:
        path = tmp_path / "stand-in"
        path.write_text(
            '#!/bin/sh\nonce() { mkdir "$1" 2> /dev/null; }\n'
            f'case "$*" in *1048576/1048576*) ;; *--partition*)\ncd {tmp_path}\n{commands}\n;; esac\n'
            f'exec {analyzer} "$@"\n'
        )
        path.chmod(0o755)
        return path

    return make
