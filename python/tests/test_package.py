"""Tests what the wheel installs, and what its import needs."""

import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

NAME = "mercury-lab"
# Packages that only some modules or the caller import.
OPTIONAL = {"torch", "torchvision", "dask", "distributed", "polars", "pyarrow", "pandas", "duckdb"}


def test_the_import_needs_no_optional_package():
    program = f"import sys, mercury_lab; print(sorted({OPTIONAL} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_wheel_holds_the_package_alone():
    files = {str(path) for path in metadata.files(NAME)}
    installed = {name for name in files if not name.startswith("../")}
    folders = {name.partition("/")[0] for name in installed}
    assert folders == {"mercury_lab", f"mercury_lab-{metadata.version(NAME)}.dist-info"}
    assert {"mercury_lab/py.typed", "mercury_lab/_native.pyi", "mercury_lab/distributed/tether.py"} <= installed
    assert "mercury_lab/_native.abi3.so" in installed


def test_the_analyzer_is_installed():
    command = Path(sysconfig.get_path("scripts"), "mercury-analyzer")
    done = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert done.stdout == f"mercury-analyzer {metadata.version(NAME)}\n", done.stderr
