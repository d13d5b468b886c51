"""A trace, a program, and clusters on loopback.

`make test-distributed` names a small real trace in MERCURY_TRACE and the program in MERCURY_ANALYZER.
"""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import Cluster, Run


def path_of(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} IS NOT SET: nothing is replayed on a cluster; run `make test-distributed`")
    if not Path(path).exists():
        pytest.fail(f"{variable}: {path} does not exist", pytrace=False)
    return Path(path).absolute()


@pytest.fixture(scope="session")
def trace() -> Path:
    return path_of("MERCURY_TRACE")


@pytest.fixture(scope="session")
def analyzer() -> Path:
    return path_of("MERCURY_ANALYZER")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory, analyzer) -> Iterator[Cluster]:
    """A scheduler and two workers, for tests that leave them alive."""
    with Cluster(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def single(tmp_path_factory, trace, analyzer) -> Callable[..., dict[str, bytes]]:
    """The files of a run by a single process, with these flags."""
    known: dict[tuple[str, ...], dict[str, bytes]] = {}

    def results(*flags: str) -> dict[str, bytes]:
        if flags not in known:
            out = tmp_path_factory.mktemp("single") / "results"
            subprocess.run([analyzer, "replay", trace, "--out", out, *flags], check=True, capture_output=True)
            known[flags] = files(out)
        return known[flags]

    return results


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def replay(trace, analyzer, tmp_path) -> Callable[..., Run]:
    """Starts `mercury-distributed replay` on a cluster, or on that of an address or file."""

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
    """Makes a stand-in for the program, of shell commands that meet each partition before the program does.

    `once NAME` holds for the first that asks. A partition that only asks how much there is to do is let through.
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
