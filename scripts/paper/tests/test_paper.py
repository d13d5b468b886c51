"""Tests the stages and tables of `make paper`; test_report.py tests its page.

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
from folders import EQUAL_MACS, LIMITS, PE_OPERATION, PRESET, READINGS, WITHIN, list_axes, name_value  # noqa: E402
from settings import CHANNELS, ENTRIES, FORMS, HARDWARE, HIT, MODELS, MODERN, TRIAL, UNIT  # noqa: E402
from stages import Run, Task, list_captured, list_tasks, read_record  # noqa: E402


@pytest.fixture(scope="module")
def out() -> Path:
    if "MERCURY_PAPER" not in os.environ:
        pytest.skip("MERCURY_PAPER is not set")
    return Path(os.environ["MERCURY_PAPER"])


def start(out: Path, commit: str = "abc", any_commit: bool = False) -> Run:
    return Run(out, FORMS["full"], commit, any_commit)


def test_a_run_has_all_models_and_sizes_once():
    sized = list(FORMS["full"].sizes)
    tasks = list_tasks([*MODELS.values(), *MODERN.values()], FORMS["full"], sized)
    assert len({task.folder for task in tasks}) == len(tasks)
    assert {task.model.name for task in tasks if task.is_own} == {*MODELS, *MODERN}
    assert {(task.model.name, task.size) for task in tasks if not task.is_own} == {
        (name, size) for name in ("vgg16", "resnet50", "mobilenet_v2") for size in (32, 64, 128)
    }
    # In the quick form ResNet-50 has no task of its own, so its own size is among the others.
    quick = list_tasks([MODELS[name] for name in FORMS["quick"].models], FORMS["quick"], sized)
    assert sum(task.is_own for task in quick) == 3
    assert [task.size for task in quick if task.model.name == "resnet50"] == [32, 64, 128, 224]
    assert len(list_tasks([MODELS["alexnet"]], FORMS["full"], ["alexnet"])) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [*MODELS, *MODERN])
def test_captured_steps_are_distinct_and_end_with_the_training(name, form):
    model = (MODELS | MODERN)[name]
    captured = list_captured(Task(model, model.size, is_own=True), FORMS[form])
    assert len(set(captured)) == len(captured) == TRIAL + FORMS[form].captured
    assert captured == sorted(captured) and captured[-1] == (FORMS[form].steps or model.steps) - 1
    # A search divides the steps after the trial into two folds of at least four samples.
    assert FORMS[form].captured // 2 * FORMS[form].samples >= 4


def test_only_models_with_weights_start_from_them(tmp_path):
    flags = start(tmp_path).list_flags(Task(MODELS["resnet50"], 224, is_own=True))
    assert flags[flags.index("--input-size") + 1] == "224" and "--weights" not in flags
    flags = start(tmp_path).list_flags(Task(MODELS["transformer"], 32, is_own=True))
    assert "--samples" not in flags and flags[flags.index("--max-length") + 1] == "32"


def test_a_stage_is_done_once(tmp_path):
    made, place = [], tmp_path / "place"
    for what in (["a"], ["a"], ["b"]):
        start(tmp_path).run_stage(place, what, lambda what=what: (made.append(what), place.touch()))
    assert made == [["a"], ["b"]]
    assert read_record(tmp_path / "place")["seconds"] >= 0


def test_a_stage_whose_result_is_gone_is_done_again(tmp_path):
    place, made = tmp_path / "place", []
    for _ in range(2):
        start(tmp_path).run_stage(place, ["a"], lambda: (made.append(1), place.touch()))
        place.unlink()
    assert len(made) == 2


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
    assert not (place / "done").exists()


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
    make_stage(tmp_path, "sizes/vgg16-32", "abc")
    start(tmp_path).check_commit()
    with pytest.raises(SystemExit, match="has stages of abc, and the checkout is def"):
        start(tmp_path, "def").check_commit()
    start(tmp_path, "def", any_commit=True).check_commit()
    make_stage(tmp_path, "sizes/vgg16-64", "def")
    assert read_commits(tmp_path) == {"abc", "def"}


def test_values_are_found_in_the_names_of_readings():
    assert name_value("mercury-skip and flags, mcache.entries=64", (64, 1024, 0)) == 64
    assert name_value("mercury-skip and flags, array.hit_cycles=0 (a bound)", ("1", "0")) == "0"


def read_table(out: Path, name: str) -> pl.DataFrame:
    return pl.read_parquet(out / f"{name}.parquet")


def test_each_design_has_all_readings_within_their_intervals(out):
    found = read_table(out, "speed_ups")
    for _, design in found.group_by("model", "design"):
        assert design["reading"].to_list() == READINGS
        rows = {row["reading"]: row for row in design.to_dicts()}
        assert rows[EQUAL_MACS]["speed_up"] < rows["mercury-ahead"]["speed_up"]
        assert rows[EQUAL_MACS]["output_error"] == rows["mercury-ahead"]["output_error"]
        assert [row["is_bound"] for row in rows.values()] == [False] * 4 + [True]
    outside = (pl.col("speed_up_low") > pl.col("speed_up")) | (pl.col("speed_up_high") < pl.col("speed_up"))
    assert found.filter(outside).is_empty()
    assert found["speed_up_low"].null_count() == 0


def test_the_frontier_holds_the_design_within_ten_percent(out):
    frontier = read_table(out, "frontier").filter(limit=LIMITS[WITHIN])
    designs = read_table(out, "speed_ups").filter(pl.col("reading") != EQUAL_MACS, design=WITHIN)
    columns = ["model", "reading", "speed_up", "output_error", "step_error"]
    assert frontier.select(columns).equals(designs.select(columns))


def test_the_own_size_is_the_preset_of_the_model(out):
    form = FORMS["tiny"]
    (name, sizes), sized = next(iter(form.sizes.items())), read_table(out, "sizes")
    assert sized["size"].unique(maintain_order=True).to_list() == list(sizes)
    own = read_table(out, "speed_ups").filter(model=name, design=PRESET)
    columns = ["reading", "hit_rate", "speed_up", "speed_up_low", "speed_up_high"]
    assert sized.filter(size=sizes[-1]).select(columns).equals(own.select(columns))


def test_networks_without_convolutions_have_no_axis_of_channels(tmp_path):
    assert CHANNELS in list_axes(tmp_path, MODELS["vgg16"].kind)
    assert CHANNELS not in list_axes(tmp_path, MODELS["transformer"].kind)


def test_axes_of_the_hardware_meet_where_it_is_the_same(out):
    hardware = read_table(out, "hardware")
    assert hardware["axis"].unique(maintain_order=True).to_list() == list(HARDWARE)
    for axis, found in hardware.group_by("axis"):
        values = len(HARDWARE[axis[0]].values) + (axis[0] == UNIT)
        assert found["place"].to_list() == list(range(values))
    # The base has 1,024 entries, HITs of a PE's operation, signatures on the array, and patches of one channel.
    same = [(ENTRIES, "1024"), (HIT, PE_OPERATION), (UNIT, "on the array"), (CHANNELS, "1")]
    bounds = set(hardware.filter("is_bound").select("axis", "value").iter_rows())
    assert {(ENTRIES, "unlimited"), (HIT, "0")} <= bounds and not bounds & set(same)
    speed_ups = {hardware.filter(axis=axis, value=value)["speed_up"].item() for axis, value in same}
    assert len(speed_ups) == 1


def test_traces_keep_all_but_their_tensors(out):
    for name in FORMS["tiny"].models:
        kept = {path.name for path in (out / name / "trace").iterdir()}
        assert "manifest.json" in kept and "tensors" not in kept
