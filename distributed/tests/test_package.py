"""Tests that the package installs with its command."""

import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def test_installs_with_its_command(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    # Dependencies and build tools are installed, so no network is needed.
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", tmp_path, PACKAGE], check=True)
    command = tmp_path / "bin" / "mercury-distributed"
    paths = {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([command, "replay", "--help"], env=paths, capture_output=True, text=True)
    assert done.returncode == 0 and "--scheduler" in done.stdout, done.stderr
    assert (tmp_path / "mercury_distributed" / "tether.py").exists()
