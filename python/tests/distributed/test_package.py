"""Tests the installed command, its default program, and its message without Dask."""

import subprocess
import sys
import sysconfig
from pathlib import Path

from cluster import Run, read_files


def test_the_command_is_installed():
    command = Path(sysconfig.get_path("scripts"), "mercury-distributed")
    done = subprocess.run([command, "replay", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--scheduler" in done.stdout, done.stderr


def test_the_default_program_comes_with_the_package(cluster, trace, single, tmp_path, monkeypatch):
    # The client finds its program without the PATH; workers do unless their virtual environment is activated.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    Run([trace, "--scheduler", cluster.address, "--out", tmp_path / "out"], tmp_path).check_success()
    assert read_files(tmp_path / "out") == single()


def test_a_missing_dask_is_named():
    # An entry `None` makes the import fail as if Dask were not installed.
    program = "import sys; sys.modules['distributed'] = None; import mercury_lab.distributed"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run `pip install 'mercury-lab[dask]'`")
