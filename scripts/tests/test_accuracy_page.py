"""Tests of the calibration's BLEU, table of runs and report, against values computed by hand."""

import math
import sys
from pathlib import Path

import pytest

pl = pytest.importorskip("polars")
pytest.importorskip("altair")
pytest.importorskip("mercury_lab")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import calibration  # noqa: E402
import write_page  # noqa: E402
from bleu import compute_bleu  # noqa: E402
from rows import COLUMNS, append_row, read_rows  # noqa: E402

SPEED = {"speed_up_skip": 1.2}


def make_row(design, seed, value, **more):
    row = {"task": "resnet20", "design": design, "seed": seed, "metric": "top1", "value": value, "epochs": 6}
    return (
        row
        | {"value_exact_evaluation": value, "schedule": "one-cycle to 0.3, batch 128", "hours": 0.5, "commit": "abc"}
        | more
    )


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "accuracy.csv"
    for seed, (exact, small, large) in enumerate([(0.85, 0.848, 0.80), (0.86, 0.859, 0.84), (0.84, 0.837, 0.79)], 1):
        append_row(path, make_row("exact", seed, exact))
        append_row(path, make_row("bound-5", seed, small, step_error=0.02 + seed / 1000, **SPEED))
        append_row(path, make_row("bound-40", seed, large, step_error=0.3, **SPEED))
    return path


def test_bleu_by_hand():
    # Matches of 1 to 4 words: 5/6, 3/5, 2/4, 1/3; as long as the reference.
    hypothesis, reference = "a b c d x e".split(), "a b c d y e".split()
    expected = 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert compute_bleu([hypothesis], [reference]) == pytest.approx(expected)
    # Repeated words match as often as the reference has them: 4/5, 3/4, 2/3, 1/2, and 7 words instead of 5.
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25 * math.exp(1 - 7 / 5)
    assert compute_bleu(["a b c d d".split()], ["a b c d e f g".split()]) == pytest.approx(expected)
    # A corpus sums counts; it is no mean of sentences.
    both = compute_bleu([hypothesis, "a b c d".split()], [reference, "a b c d".split()])
    assert both == pytest.approx(100 * (9 / 10 * 6 / 8 * 4 / 6 * 2 / 4) ** 0.25)
    assert compute_bleu(["a b".split()], ["a b".split()]) == 0.0


def test_a_row_is_appended_once(table):
    rows = read_rows(table)
    assert not append_row(table, make_row("exact", 1, 0.9)) and read_rows(table) == rows
    assert append_row(table, make_row("exact", 1, 0.9, epochs=10)) and len(read_rows(table)) == len(rows) + 1


def test_a_table_of_other_columns_is_refused(tmp_path):
    (tmp_path / "old.csv").write_text("model,seed\nvgg13,1\n")
    with pytest.raises(SystemExit, match="old.csv: has other columns than task, design, seed"):
        read_rows(tmp_path / "old.csv")


def test_losses_are_paired_by_seed(table):
    designs = {row["design"]: row for row in calibration.summarise_designs(calibration.read_frame(table)).rows(named=True)}
    small = designs["bound-5"]
    # Differences of 0.2, 0.1 and 0.3 points have a standard deviation of 0.1.
    assert small["lost"] == pytest.approx(0.2) and small["half"] == pytest.approx(4.303 * 0.1 / 3**0.5)
    assert small["step_error"] == pytest.approx(0.022) and small["seeds"] == 3
    assert designs["exact"]["lost"] == pytest.approx(0)


def test_the_verdict_takes_the_upper_limit(table):
    designs = calibration.summarise_designs(calibration.read_frame(table))
    verdict = calibration.format_verdict(designs, "resnet20")
    assert "2.2 % (`bound-5`: 0.20 ± 0.25 points lost). " in verdict
    assert "trains at - under `mercury`, 1.20x under `mercury-skip`" in verdict
    # Losses of 5, 2 and 5 points: the interval begins below 1 point.
    assert "all lose more" not in verdict
    rejected = designs.with_columns(low=pl.when(pl.col("design") == "bound-40").then(2.0).otherwise(pl.col("low")))
    assert "From 30 % on (`bound-40`), all lose more than 1 point." in calibration.format_verdict(rejected, "resnet20")
    wide = designs.with_columns(high=pl.col("high") + 1)
    assert "no design is shown to lose at most 1 point" in calibration.format_verdict(wide, "resnet20")
    assert "no design has two seeds" in calibration.format_verdict(designs, "transformer")


def test_the_summary_has_designs_and_verdicts(table):
    row = {"task": "cifarnet", "schedule": "other"}
    for design, value, left in [("exact", 0.77, None), ("random-6", 0.7, 0.01), ("sample-10", 0.76, 0.4)]:
        append_row(table, make_row(design, 1, value, remaining_vectors=left, **row))
    summary = calibration.format_summary(calibration.summarise_designs(calibration.read_frame(table)))
    assert "| ResNet-20 (85.0 %) | 5 % bound | 3 | 2 % | 0.2 ± 0.2 points | - | 1.20x | - (-) |" in summary
    assert "loses 7.00 points with 1.0 % of that layer's vectors (`random-6`, seeds: 1), and 1.00 points with 40.0 %" in summary
    assert summary.index("5 % bound") < summary.index("40 % bound") and "exact" not in summary


def test_runs_of_other_settings_are_not_paired(table):
    append_row(table, make_row("bound-10", 1, 0.5, epochs=10))
    paired = calibration.pair_with_exact(calibration.read_frame(table)).filter(pl.col("design") == "bound-10")
    assert paired["lost"].to_list() == [None]


def test_a_diverged_run_is_counted(table):
    append_row(table, make_row("mercury", 1, None, loss=float("nan")))
    designs = calibration.summarise_designs(calibration.read_frame(table))
    assert "| `mercury` | 1, 1 diverged | - | - |" in calibration.format_branches(designs, "resnet20")


def test_the_page_gets_tables_and_charts(table, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    names = ["verdict", "resnet20", "transformer", "cifarnet", "commits"]
    page.write_text("".join(f"<!-- {name}: begin -->\nold\n<!-- {name}: end -->\n" for name in names))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- calibration -->\nold\n<!-- /calibration -->\nafter\n")
    row = {"task": "cifarnet", "schedule": "other"}
    for seed in (1, 2):
        append_row(table, make_row("exact", seed, 0.77, **row))
        append_row(table, make_row("random-10", seed, 0.75 + seed / 1000, remaining_vectors=0.02, **row))
    command = ["write_page.py", "--table", str(table), "--docs", str(page), "--readme", str(readme)]
    monkeypatch.setattr(sys, "argv", command)
    write_page.main()
    text = page.read_text()
    assert "old" not in text and "| `random-10` | 2 | 75.15 |" in text
    assert readme.read_text().startswith("before\n<!-- calibration -->\n| network |")
    assert readme.read_text().endswith("<!-- /calibration -->\nafter\n") and "old" not in readme.read_text()
    for name in ("page.svg", "page-trained.svg"):
        assert f"]({name})" in text
        assert (tmp_path / name).read_text().startswith("<svg")
    assert all(name in COLUMNS for name in calibration.SPEED_UPS)
    assert "Trained at commits abc" in capsys.readouterr().out


def test_the_shipped_pages_have_the_marks_of_the_report():
    repository = Path(__file__).resolve().parents[2]
    begin, end = write_page.README_MARKS
    readme = (repository / "README.md").read_text()
    assert readme.index(begin) < readme.index(end)
    text = (repository / "docs" / "accuracy.md").read_text()
    for name in ("verdict", "resnet20", "transformer", "cifarnet", "commits"):
        assert text.index(f"<!-- {name}: begin -->") < text.index(f"<!-- {name}: end -->")


def test_the_shipped_pages_show_the_shipped_rows():
    repository = Path(__file__).resolve().parents[2]
    designs = calibration.summarise_designs(calibration.read_frame(repository / "docs" / "accuracy.csv"))
    assert calibration.format_summary(designs) in (repository / "README.md").read_text()
    text = (repository / "docs" / "accuracy.md").read_text()
    assert calibration.format_verdicts(designs) in text and calibration.format_trained(designs) in text
    assert all(calibration.format_branches(designs, task) in text for task in calibration.BRANCHED)
