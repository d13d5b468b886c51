"""Tests the page, the README's answer and the charts of `make paper` on made tables.

If MERCURY_PAPER is set to the folder of a run, its page is tested, too.
"""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from made_run import KINDS, MODERN, QUICK, make_tables, write_run
from polars.testing import assert_frame_equal

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS.parents[1] / "notebooks")]
import charts  # noqa: E402
from answer import compare_classes, count_gains, describe_exceeding, describe_start, summarise_answer  # noqa: E402
from kept import add_kept, list_commits, read_kept, read_tables, write_kept  # noqa: E402
from page import tabulate_design, write_page  # noqa: E402
from report import check_commits  # noqa: E402
from wanted import describe_hardware, summarise_hardware  # noqa: E402
from words import (  # noqa: E402
    BUILDABLE,
    average_designs,
    compare_with_paper,
    describe_widths,
    judge_readings,
    locate_paper,
)

ALL = [name for name in KINDS if name not in MODERN]
ACCEPTED = {"bound": "accuracy-loss<=1", "step_error": 0.043}
RUN = {"command": "make paper", "wall": 3600, "cpu": 7000}


def mark_own(tables: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name: frame.with_columns(kept=False) for name, frame in tables.items()}


@pytest.fixture(scope="module")
def tables() -> dict[str, pl.DataFrame]:
    return mark_own(make_tables(list(KINDS)))


def run_report(out: Path, folder: Path, *flags: str) -> tuple[subprocess.CompletedProcess, Path, Path]:
    """Runs the report on a page and a README with marks."""
    page, readme = folder / "page.md", folder / "readme.md"
    page.write_text("before\n<!-- paper: begin -->\nold\n<!-- paper: end -->\nafter\n")
    readme.write_text("before\n<!-- paper -->\nold\n<!-- /paper -->\nafter\n")
    line = [sys.executable, SCRIPTS / "report.py", "--out", out, "--docs", page, "--readme", readme, *flags]
    return subprocess.run(line, capture_output=True, text=True), page, readme


def check_pages(page: Path, readme: Path) -> None:
    for text in (page.read_text(), readme.read_text()):
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text and "1.97x" in text
        assert "None" not in text and "nan" not in text
    for picture in ("frontier", "chain", "sizes", "hardware"):
        path = page.with_name(f"page-{picture}.svg")
        assert path.exists() == (f"({path.name})" in page.read_text())


def test_the_report_changes_only_the_text_between_marks(tmp_path):
    out = write_run(tmp_path / "run")
    done, page, readme = run_report(out, tmp_path)
    assert done.returncode == 0, done.stderr
    check_pages(page, readme)
    assert "(page-frontier.svg)" in readme.read_text()
    plain = tmp_path / "plain.md"
    plain.write_text("old\n")
    line = [sys.executable, SCRIPTS / "report.py", "--out", out, "--readme", plain]
    assert subprocess.run(line, capture_output=True).returncode == 0 and plain.read_text() == "old\n"


def test_validations_are_shown_in_their_unit(tables):
    page = write_page(RUN, tables, ACCEPTED, "page")
    assert "| BLEU 19.9 |" in page and "| top-1 40.0 % |" in page


def test_the_reasons_are_those_of_the_papers_models(tmp_path):
    _, page, _ = run_report(write_run(tmp_path / "run"), tmp_path)
    reasons = page.read_text().split("## Why")[1].split("\n## ")[0]
    assert "of 12 models stay below" in reasons and "vgg16" in reasons and "vit_b_16" not in reasons


def test_a_small_run_has_a_page(tmp_path):
    if "MERCURY_PAPER" not in os.environ:
        pytest.skip("MERCURY_PAPER is not set")
    done, page, readme = run_report(Path(os.environ["MERCURY_PAPER"]), tmp_path, "--allow-dirty")
    assert done.returncode == 0, done.stderr
    check_pages(page, readme)


def test_a_folder_without_a_run_is_refused(tmp_path):
    done, page, _ = run_report(tmp_path / "none", tmp_path)
    assert done.returncode == 1 and "has no training, speed_ups, chain" in done.stderr and "old" in page.read_text()


@pytest.mark.parametrize("commits", [["abc-dirty"], ["abc", "def"], ["unknown"]])
def test_figures_of_no_clean_commit_are_refused(commits):
    with pytest.raises(SystemExit, match="not of one clean commit.*--allow-dirty"):
        check_commits(commits)


def test_one_clean_commit_is_accepted():
    check_commits(["abc"])


def test_no_page_is_written_from_changed_files(tmp_path):
    done, page, readme = run_report(write_run(tmp_path / "run", commit="abc-dirty"), tmp_path)
    assert done.returncode == 1 and "abc-dirty" in done.stderr
    assert "old" in page.read_text() and "old" in readme.read_text() and not list(tmp_path.glob("*.svg"))


def test_kept_tables_are_those_of_the_run(tmp_path):
    tables = read_tables(write_run(tmp_path / "run"))
    write_kept(tables, tmp_path / "kept")
    kept = read_kept(tmp_path / "kept")
    assert kept.keys() == tables.keys()
    for name, frame in kept.items():
        assert_frame_equal(frame.drop("kept"), tables[name].drop("kept"), check_dtypes=False, abs_tol=1e-6)


def test_a_quick_run_takes_other_models_from_the_full_run(tmp_path):
    run_report(write_run(tmp_path / "full", commit="1234567"), tmp_path)
    quick = write_run(tmp_path / "quick", QUICK, commit="def", command="make paper QUICK=1")
    tables = add_kept(read_tables(quick), read_kept(tmp_path / "page"))
    assert list_commits(tables) == ["def"] and list_commits(tables, kept=True) == ["1234567"]
    assert tables["training"]["model"].to_list() == list(KINDS)
    for name, frame in tables.items():
        assert set(frame.filter(kept=False)["model"]) == set(read_tables(quick)[name]["model"]), name
        assert frame["model"].n_unique() == read_tables(tmp_path / "full")[name]["model"].n_unique(), name
    done, page, readme = run_report(quick, tmp_path)
    assert done.returncode == 0, done.stderr
    check_pages(page, readme)
    text = page.read_text()
    assert "| vgg13\\* |" in text and "| vgg16 |" in text and "vgg16\\*" not in text
    assert "at commit def" in text and "from the full run at commit 1234567" in text
    assert "12 models" in readme.read_text()
    assert pl.read_csv(tmp_path / "page" / "training.csv").height == len(KINDS), "a quick run keeps no tables"


def test_a_quick_run_alone_has_three_models(tmp_path):
    quick = write_run(tmp_path / "quick", QUICK, command="make paper QUICK=1")
    done, page, readme = run_report(quick, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 models" in readme.read_text() and "says little" in page.read_text()
    assert "3 of the paper's 12 models" in page.read_text() and "\\*" not in page.read_text()


def test_means_are_those_of_the_papers_models(tables):
    found = average_designs(tables["speed_ups"])["preset", "mercury"]
    rows = tables["speed_ups"].filter(design="preset", reading="mercury")
    values = [row["speed_up"] for row in rows.to_dicts() if row["model"] in ALL]
    product = 1.0
    for value in values:
        product *= value
    assert len(values) == 12 and found[0] == pytest.approx(product ** (1 / 12))
    assert min(values) < found[1] < found[0] < found[2] < max(values)


def test_one_model_has_an_interval_without_width():
    assert charts.average_models(pl.Series([1.5])) == pytest.approx((1.5, 1.5, 1.5))


def test_curves_draw_the_same_models():
    """A curve that is another one's multiple has the same relative band."""
    values = pl.Series([1.0, 1.2, 1.7, 2.2])
    one, twice = charts.average_models(values), charts.average_models(2 * values)
    assert twice == pytest.approx([2 * value for value in one])


def test_sentences_say_which_intervals_contain_the_papers_mean():
    means = {
        ("preset", "mercury"): (1.2, 1.1, 1.3),
        ("preset", "mercury-skip"): (1.8, 1.5, 2.1),
        ("preset", "the bound"): (3.0, 2.5, 3.5),
        ("within 10 %", "mercury"): (1.1, 1.0, 1.2),
        ("within 10 %", "mercury-skip"): (1.3, 1.2, 1.4),
        ("within 10 %", "the bound"): (1.9, 1.5, 2.5),
    }
    assert compare_with_paper(means) == (
        "Intervals contain the paper's 1.97x only under `mercury-skip`. "
        "The interval of `mercury-skip` contains it with the preset's settings. "
        "The interval of the bound contains it with every layer's error within 10 %. "
        "The interval of `mercury` excludes it with all settings: it is below it. "
        "The interval of `mercury-skip` excludes it with every layer's error within 10 %: it is below it. "
        "The interval of the bound excludes it with the preset's settings: it is above it."
    )
    del means["preset", "mercury-skip"]
    assert locate_paper(means) == "No reading's interval contains the paper's 1.97x."


def test_readings_are_judged_by_their_intervals():
    names = ["mercury", "mercury-skip", "mercury-ahead", "mercury-ahead, equal MACs"]
    intervals = [(1.0, 1.0, 1.0), (1.02, 0.99, 1.05), (1.2, 1.1, 1.3), (0.7, 0.6, 0.8)]
    means = {("preset", name): mean for name, mean in zip(names, intervals, strict=True)}
    assert judge_readings(means, "preset") == (
        "pays under `mercury-ahead`, is not shown to pay under `mercury` and `mercury-skip`, "
        "and costs time at equal MACs"
    )


@pytest.mark.parametrize("values", [(1.1, 0.9, 1.3), (1.9, 1.8, 2.1), (0.9, 0.8, 0.97), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_readmes_answer_is_short(tables, monkeypatch, values, mixed):
    sides = [values, (0.7, 0.6, 0.8), (1.2, 1.1, 1.3), values]
    means = {
        (design, name): sides[place] if mixed else values
        for design in ("preset", "within 10 %", "accepted error")
        for place, name in enumerate(BUILDABLE)
    }
    monkeypatch.setattr("answer.average_designs", lambda _: means)
    text = summarise_answer(tables, ACCEPTED)
    assert len(text.split()) <= 220, text
    assert "images of 224 or 299 pixels" in text and "4.3 %" in text and "mercury-analyzer search" in text


def test_the_answer_tells_classes_weights_and_exceeded_bounds_apart():
    speed_ups = pl.DataFrame(
        [
            {"model": model, "group": "paper", "kind": kind, "design": "within 10 %", "reading": reading}
            | {"speed_up": speed_up, "speed_up_low": speed_up - 0.02}
            | {"exceeding": exceeding, "passes": 50, "largest_error": 0.1 + exceeding / 100}
            for model, kind, speed_up, exceeding in [
                ("vgg16", "3 x 3", 1.44, 8), ("vgg19", "3 x 3", 1.0, 2), ("resnet50", "1 x 1", 1.0, 0),
            ]
            for reading in ("mercury", "mercury-skip", "mercury-ahead, equal MACs")
        ]
    )  # fmt: skip
    assert compare_classes(speed_ups).endswith("under `mercury-skip`: 1.20x for 3 x 3 and 1.00x for 1 x 1.")
    assert count_gains(speed_ups).startswith("1 and 1 of the models gain")
    assert "6.7 % of the errors exceed 10 %; the largest is 18.0 %" in describe_exceeding(speed_ups)
    training = pl.DataFrame(
        {"model": ["vgg16", "vgg19", "resnet50"], "group": "paper", "weights": ["w", "none", "none"]}
    ).with_columns(steps=pl.Series([40, 40, 100]))
    text = describe_start({"training": training, "speed_ups": speed_ups})
    assert "40 to 100 steps on 18 photos, 2 of 3 from random weights" in text
    assert "those with trained weights average 1.44x, the others 1.00x" in text


def test_wide_intervals_are_named(tables):
    text = describe_widths(tables)
    assert text.startswith("5 of ") and text.endswith("over its settings, bounds and readings: `squeezenet1_0` ±9 %.")
    unknown = tables["speed_ups"].with_columns(speed_up_low=None, speed_up_high=None)
    found = describe_widths(tables | {"speed_ups": unknown})
    assert f"{unknown.height} speed-ups have no interval" in found and found.startswith("0 of ")


def test_hardware_is_judged_at_equal_macs():
    rows = [("unit", "none", 1.1, 1.1), ("unit", "168", 1.5, 0.9)]
    rows += [("entries", "256", 1.2, 1.2), ("entries", "1024", 1.21, None), ("entries", "unlimited", 2.0, 2.0)]
    # The least of the values that are as good as the best.
    rows += [("ports", "1", 1.1, 1.1), ("ports", "4", 1.49, 1.49), ("ports", "16", 1.5, 1.5)]
    frame = pl.DataFrame(
        [
            {"model": "vgg16", "kind": "3 x 3", "axis": axis, "value": value, "speed_up": speed_up}
            | {"speed_up_low": speed_up - 0.02, "speed_up_high": speed_up + 0.02, "speed_up_equal_macs": equal}
            | {"is_bound": value == "unlimited"}
            for axis, value, speed_up, equal in rows
        ]
    )
    assert describe_hardware(frame) == (
        "- **3 x 3** (`vgg16`). The best design within 10 % wants unit: none (1.10x; 0.90x with 168); "
        "ports: 4 (1.49x; 1.10x with 1). The largest factor, 1.35, is that of ports. "
        "No gain, or no difference beyond the intervals, by entries."
    )
    text = summarise_hardware(frame)
    assert text.endswith("- **3 x 3** (`vgg16`): 1.49x with unit: none; ports: 4.")
    entries = frame.filter(axis="entries")
    assert summarise_hardware(entries).endswith("1.21x, with no difference beyond the intervals.")
    slow = entries.with_columns(pl.col("speed_up", "speed_up_equal_macs") / 1.2)
    assert summarise_hardware(slow).endswith("at most 1.01x, whatever the hardware.")


def test_the_accepted_error_lies_between_bounds(tables):
    """The made step error is half of the bound."""
    for step_error, limit in ((0.03, 0.06), (0.01, 0.02), (0.5, 0.4)):
        marks = charts.place_accepted(tables["frontier"], tables["speed_ups"], step_error)
        assert marks["limit"].to_list() == pytest.approx([limit] * 4)


def test_figures_of_readings_are_joined_in_their_order(tables):
    rows = tables["speed_ups"].filter(model="vgg16", design="within 10 %")
    assert tabulate_design(rows, "within 10 %").count(" 8.0 % |") == 1
    ahead = pl.col("reading") == "mercury-ahead"
    rows = rows.with_columns(output_error=pl.when(ahead).then(0.07).otherwise("output_error"))
    assert "| 8.0 / 8.0 / 7.0 / 8.0 % |" in tabulate_design(rows, "within 10 %")


@pytest.mark.parametrize("missing", ["frontier", "sizes", "hardware", "stages"])
def test_a_page_lacks_the_sections_of_missing_tables(tables, missing):
    rest = {name: frame for name, frame in tables.items() if name != missing}
    assert f"-{missing}.svg" not in write_page(RUN, rest, None, "page")


def test_a_run_without_an_accepted_error_has_a_page(tmp_path):
    out = write_run(tmp_path / "run")
    (out / "accepted.json").unlink()
    speed_ups = pl.read_parquet(out / "speed_ups.parquet").filter(pl.col("design") == "preset")
    speed_ups.write_parquet(out / "speed_ups.parquet")
    done, page, readme = run_report(out, tmp_path)
    assert done.returncode == 0, done.stderr
    check_pages(page, readme)
