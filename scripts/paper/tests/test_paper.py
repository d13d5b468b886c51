"""Tests the choices and sums of `make paper`; test_report.py tests its page.

MERCURY_PAPER is the folder of a small run, which `make test-trace` creates; without it some tests are skipped.
"""

import os
import sys
from pathlib import Path

import polars as pl
import pytest

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS))
from commits import read_commits  # noqa: E402
from folders import ALL_ON, BY_LAYER, BY_MODEL, EQUAL_MACS, NO_HARDWARE, READINGS, choose_settings  # noqa: E402
from run import Run  # noqa: E402


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
    configurations = [(50, [0.5, 0.5]), (60, [0.012, 0.0]), (70, [0.009, 0.001]), (80, [0.0, 0.0])]
    found = choose_settings(write_sweep(tmp_path, configurations))
    assert found == {BY_MODEL: {"configuration": 1, "rpq.bits": 1}, BY_LAYER: {"configuration": 2, "rpq.bits": 2}}


def test_configurations_that_are_no_faster_are_not_chosen(tmp_path):
    assert choose_settings(write_sweep(tmp_path, [(50, [0.5]), (100, [0.0]), (120, [0.001])])) == {}


def start(out: Path, commit: str = "abc", any_commit: bool = False) -> Run:
    return Run(out, commit, any_commit)


def test_a_stage_is_done_once(tmp_path):
    made = []
    for what in (["a"], ["a"], ["b"]):
        start(tmp_path).run_stage(tmp_path / "place", what, lambda what=what: made.append(what))
    assert made == [["a"], ["b"]]


def test_a_failed_stage_continues(tmp_path):
    place, run_stage = tmp_path / "place", start(tmp_path).run_stage

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


def make_stage(out: Path, model: str, commit: str) -> None:
    place = out / model / "trace"
    place.parent.mkdir(parents=True)
    start(out, commit).run_stage(place, ["a"], place.mkdir)


def test_a_run_is_of_one_clean_commit(tmp_path):
    start(tmp_path).check_commit()
    for commit in ("abc-dirty", "unknown"):
        with pytest.raises(SystemExit, match="commit the changed files"):
            start(tmp_path, commit).check_commit()
        start(tmp_path, commit, any_commit=True).check_commit()


def test_a_run_continues_at_its_commit_only(tmp_path):
    make_stage(tmp_path, "vgg13", "abc")
    make_stage(tmp_path, "larger/vgg13", "abc")
    start(tmp_path).check_commit()
    with pytest.raises(SystemExit, match="has stages of abc, and the checkout is def"):
        start(tmp_path, "def").check_commit()
    start(tmp_path, "def", any_commit=True).check_commit()
    make_stage(tmp_path, "larger/vgg16", "def")
    assert read_commits(tmp_path) == {"abc", "def"}


def read_table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(out / f"{name}.parquet")


def test_the_ladder_starts_with_the_preset(out):
    chain = read_table(out, "chain")
    for rung, setting in enumerate(["mercury", ALL_ON]):
        rungs = chain.group_by("model", maintain_order=True).agg(pl.all().get(rung))
        models = read_table(out, "models").filter(setting=setting).join(rungs, on="model", suffix="_of_rung")
        assert models.height
        for name, of_rung in (
            ("step", "speed_up"),
            ("hit_rate", "hit_rate_of_rung"),
            ("output_error", "output_error_of_rung"),
            ("gradient_error", "gradient_error_of_rung"),
            ("saved", "computations_saved"),
        ):
            assert models[name].to_list() == pytest.approx(models[of_rung].to_list()), (setting, name)


def test_readings_lead_from_the_preset_to_the_bound(out):
    readings = read_table(out, "readings")
    ladder = read_table(out, "chain").group_by("model", maintain_order=True)
    for setting, rungs in (("mercury", ladder.first()), (NO_HARDWARE, ladder.last())):
        found = readings.filter(setting=setting)
        assert found["model"].to_list() == rungs["model"].to_list()
        for name in ("speed_up", "hit_rate", "output_error"):
            assert found[name].to_list() == pytest.approx(rungs[name].to_list()), (setting, name)
    assert readings["is_bound"].to_list() == [name == NO_HARDWARE for name in readings["setting"]]
    for _, model in readings.group_by("model"):
        assert model["setting"].to_list() == READINGS
        of = {row["setting"]: row for row in model.to_dicts()}
        assert of[EQUAL_MACS]["speed_up"] < of["mercury-ahead"]["speed_up"]
        assert of[EQUAL_MACS]["output_error"] == of["mercury-ahead"]["output_error"]
