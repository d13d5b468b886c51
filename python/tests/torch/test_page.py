"""Runs the examples of reuse in docs/python.md."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).resolve().parents[3] / "docs" / "python.md"


@pytest.fixture
def run_example(tmp_path, monkeypatch):
    """Runs the only example with a word, in an empty folder; returns its names."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

    def run(word: str) -> dict:
        (example,) = [example for example in examples if word in example]
        names: dict = {}
        exec(compile(example, str(PAGE), "exec"), names)
        return names

    return run


def test_training_with_reuse(run_example, capsys):
    names = run_example("reuse.paused()")
    assert not torch.equal(names["scores"], names["exact_scores"])
    assert names["reuse"].step_number == len(names["loader"]) == 4
    assert {row["step"] for row in names["reuse"].measurements.rows()} == {0, 2}
    assert "mercury_cycles" in capsys.readouterr().out


def test_learned_projections(run_example):
    names = run_example("learn=True")
    shapes = {layer: tuple(value.shape) for layer, value in names["reuse"].projections.items()}
    assert shapes == {"0": (10, 4), "3": (10, 4)}
    assert set(names["files"]) == {"0", "3"}
