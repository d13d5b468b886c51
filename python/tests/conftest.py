"""Fixtures of the tests of the analysis functions: traces of real training, and the program to compare with.

`make test-python` sets MERCURY_ANALYZER to the program.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "analyzer" / "tests" / "golden"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def vgg13() -> Path:
    """Three captured steps of two layers of VGG-13, three samples each."""
    return GOLDEN / "vgg13"


@pytest.fixture(scope="session")
def mobilenet() -> Path:
    """Three captured steps of two layers of MobileNet-v2, two samples each."""
    return GOLDEN / "mobilenet"


@pytest.fixture
def program(tmp_path: Path) -> Command:
    """Runs `mercury-analyzer` in the folder `cli`."""
    path = os.environ.get("MERCURY_ANALYZER")
    if not path:
        pytest.skip("MERCURY_ANALYZER IS NOT SET: nothing is compared with the program; run `make test-python`")
    folder = tmp_path / "cli"
    folder.mkdir()

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(Path(path).absolute()), *map(str, arguments)]
        return subprocess.run(words, cwd=folder, capture_output=True, text=True)

    return run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that both sides can use the same relative paths."""
    folder = tmp_path / "python"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder
