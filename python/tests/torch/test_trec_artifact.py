"""TREC's published network, evaluated with the package: the first outside check of reuse in the loop."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "accuracy" / "evaluate_trec.py"


def test_the_published_network_classifies_as_published():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True)
    if "SKIPPED" in done.stdout:
        pytest.skip(done.stdout.strip().removeprefix("SKIPPED: "))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("correct, expected") == 4
