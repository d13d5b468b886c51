"""Tests the choices, sums and pages of `make paper`.

MERCURY_PAPER is the folder of a small run, which `make test-trace` creates; without it some tests are skipped.
"""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS))
from folders import BY_LAYER, BY_MODEL, choose_settings  # noqa: E402
from run import run_stage  # noqa: E402


@pytest.fixture(scope="module")
def out() -> Path:
    if "MERCURY_PAPER" not in os.environ:
        pytest.skip("MERCURY_PAPER is not set")
    return Path(os.environ["MERCURY_PAPER"])


def write_sweep(folder: Path, configurations: list[tuple[int, list[float]]]) -> Path:
    """Writes a sweep whose configurations have these cycles (100 is the baseline) and errors by layer.

    In the trial's steps, every configuration takes one cycle, which must not count.
    """
    rows = [
        {"configuration": number, "step": step, "layer": str(layer), "pass": "forward", "baseline_cycles": 100}
        | {"mercury_cycles": cycles if step == 3 else 1, "error_square": error**2, "exact_square": 1.0}
        for number, (cycles, errors) in enumerate(configurations)
        for step in (0, 1, 3)
        for layer, error in enumerate(errors)
    ]
    pl.DataFrame(rows).write_parquet(folder / "layers.parquet")
    numbers = range(len(configurations))
    pl.DataFrame({"configuration": numbers, "rpq.bits": numbers}).write_parquet(folder / "configurations.parquet")
    return folder


def test_the_fastest_within_the_bound_is_chosen(tmp_path):
    found = choose_settings(write_sweep(tmp_path, [(50, [0.5, 0.5]), (60, [0.012, 0.0]), (70, [0.009, 0.001]), (80, [0.0, 0.0])]))
    assert found == {BY_MODEL: {"configuration": 1, "rpq.bits": 1}, BY_LAYER: {"configuration": 2, "rpq.bits": 2}}


def test_configurations_that_are_no_faster_are_not_chosen(tmp_path):
    assert choose_settings(write_sweep(tmp_path, [(50, [0.5]), (100, [0.0]), (120, [0.001])])) == {}


def test_a_stage_is_done_once(tmp_path):
    made = []
    for what in (["a"], ["a"], ["b"]):
        run_stage(tmp_path / "place", what, lambda what=what: made.append(what))
    assert made == [["a"], ["b"]]


def test_a_failed_stage_continues(tmp_path):
    place = tmp_path / "place"

    def fail() -> None:
        place.mkdir()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        run_stage(place, ["a"], fail)
    run_stage(place, ["a"], lambda: (place / "done").touch())
    assert (place / "done").exists()
    run_stage(place, ["b"], lambda: None)
    assert not place.exists()


def test_parts_sum_to_all_cycles(out):
    cycles, models = pl.read_parquet(out / "cycles.parquet"), pl.read_parquet(out / "models.parquet")
    sums = cycles.group_by("model", "setting").agg(pl.col("share").sum()).join(models, on=["model", "setting"])
    assert sums.height and (sums["share"] * sums["step"]).to_list() == pytest.approx([1.0] * sums.height)


def test_the_chain_ends_with_the_preset(out):
    last = pl.read_parquet(out / "chain.parquet").group_by("model", maintain_order=True).last()
    models = pl.read_parquet(out / "models.parquet").filter(setting="mercury").join(last, on="model")
    assert models.height and models["step"].to_list() == pytest.approx(models["speed_up"].to_list())


def test_the_report_changes_only_the_text_between_marks(out, tmp_path):
    page, readme, plain = tmp_path / "page.md", tmp_path / "readme.md", tmp_path / "plain.md"
    page.write_text("before\n<!-- paper: begin -->\nold\n<!-- paper: end -->\nafter\n")
    readme.write_text("before\n<!-- paper -->\nold\n<!-- /paper -->\nafter\n")
    plain.write_text("old\n")
    for name in (readme, plain):
        line = [sys.executable, SCRIPTS / "report.py", "--out", out, "--docs", page, "--readme", name]
        subprocess.run(line, check=True, capture_output=True)
    for text in (page.read_text(), readme.read_text()):
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "1.97x" in text
    assert plain.read_text() == "old\n" and page.with_suffix(".svg").exists()
