"""Runs the examples of docs/python.md and of docstrings, and checks the annotations."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import mercury_lab
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "python.md"
# The sources: mypy takes the neighbours of an installed package for part of it.
PACKAGE = Path(__file__).resolve().parents[1] / "mercury_lab"


@pytest.fixture
def trace(workplace, vgg13) -> Path:
    """The folder `trace` of the examples."""
    link = workplace / "trace"
    link.symlink_to(vgg13)
    return link


def test_the_examples_of_the_page_run(trace, capsys):
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for_torch = [snippet for snippet in snippets if "mercury_lab.torch" in snippet]
    # Two of them, and the rest of the first, are run by the tests of mercury_lab.torch.
    assert (len(for_torch), len(snippets)) == (3, 8)
    names: dict[str, object] = {}
    for snippet in snippets:
        code = compile(snippet, str(PAGE), "exec")
        if snippet not in for_torch:
            exec(code, names)
    printed = capsys.readouterr().out
    # What comments of the page promise.
    for line in re.findall(r"print\(error\)  # (.*)|progress=show\)  # (.*)", PAGE.read_text()):
        assert "".join(line) in printed
    assert Path("report.html").stat().st_size > 100_000
    assert mercury_lab.Config("best.toml")["stop.window"] == 0
    assert 0 < names["hit_rate"] < 1 < names["speed_up"]
    assert names["frame"].height == names["table"].num_rows == 18
    assert names["slowest"].fetchall()[0][0] == "features.12"
    assert names["longer"]["rpq.bits"] == 40


def test_the_page_names_all_functions():
    page = PAGE.read_text()
    functions = [name for name in mercury_lab.__all__ if name.islower()]
    assert len(functions) > 10
    assert [name for name in functions if f"`{name}" not in page] == []


@pytest.mark.parametrize("name", ["mercury_lab", "mercury_lab._analysis", "mercury_lab._config"])
def test_the_examples_of_docstrings_run(name, trace):
    result = doctest.testmod(sys.modules[name])
    assert (result.failed, result.attempted > 0) == (0, True)


def test_public_names_have_docstrings():
    missing = []
    for name in mercury_lab.__all__:
        thing = getattr(mercury_lab, name)
        members = vars(thing).items() if isinstance(thing, type) else []
        found = [(name, thing), *((f"{name}.{key}", value) for key, value in members if not key.startswith("_"))]
        documented = (property, type(mercury_lab.replay))
        missing += [
            key for key, value in found if (value is thing or isinstance(value, documented)) and not value.__doc__
        ]
    assert missing == []


def test_annotations_are_complete_and_consistent(tmp_path):
    excluded = r"mercury_lab/(distributed|torch)/"
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--cache-dir",
        str(tmp_path),
        "--exclude",
        excluded,
        str(PACKAGE),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_stubs_agree_with_the_extension(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "mercury_lab._native"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
