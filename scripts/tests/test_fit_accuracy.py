"""Tests the fit of the accuracy loss over the step error with rows whose curve is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SCRIPTS / "accuracy"))
import fit  # noqa: E402

HEADER = "task,design,seed,metric,value,step_error_search,commit"


def write_rows(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


@pytest.mark.parametrize(("freedom", "expected"), [(1, 6.3138), (2, 2.9200), (12, 1.7823), (30, 1.6973), (1000, 1.6464)])
def test_quantiles_are_those_of_tables(freedom, expected):
    assert fit.find_t_quantile(0.95, freedom) == pytest.approx(expected, abs=2e-4)


def test_isotonic_regression_is_the_min_max_formula():
    random = np.random.default_rng(1)
    for count in (1, 2, 7, 12):
        values, weights = random.normal(size=count), random.integers(1, 4, size=count)
        average = lambda a, b: np.average(values[a : b + 1], weights=weights[a : b + 1])  # noqa: E731
        expected = [
            max(min(average(a, b) for b in range(place, count)) for a in range(place + 1)) for place in range(count)
        ]
        assert fit.fit_isotonic(list(values), list(weights)) == pytest.approx(expected)


def test_a_curve_by_hand(tmp_path):
    # Losses of task a: 0.4 and 0.6 points at 5 %, 2 and 2.4 at 20 %; of task b: 0.1 and -0.1 at 10 %.
    rows = write_rows(
        tmp_path / "rows.csv",
        [
            "a,exact,1,top1,0.900,,c1",
            "a,exact,2,top1,0.910,,c1",
            "a,small,1,top1,0.896,0.049,c2",
            "a,small,2,top1,0.904,0.051,c2",
            "a,large,2,top1,0.886,0.2,c2",
            "a,large,1,top1,0.880,0.2,c2",
            "b,exact,1,bleu,30,,c1",
            "b,exact,2,bleu,31,,c1",
            "b,small,1,bleu,29.9,0.1,c1",
            "b,small,2,bleu,31.1,0.1,c1",
        ],
    )
    points = fit.pair_rows(fit.read_rows(rows))
    assert [(point.task, point.design, round(point.step_error, 9)) for point in points] == [
        ("a", "small", 0.05),
        ("b", "small", 0.1),
        ("a", "large", 0.2),
    ]
    assert sorted(points[2].losses) == pytest.approx([2.0, 2.4])
    # Deviations of 0.1, 0.1 and 0.2 times the square root of 2, and t of one degree of freedom.
    near, far = 6.3138 * 0.1, 6.3138 * 0.2
    assert [fit.find_margin(point) for point in points] == pytest.approx([near, near, far], abs=1e-4)
    knots = fit.fit_curve(points)
    # Means 0.5, 0 and 2.2: the first two are pooled. Limits never fall, so that of task a holds for task b's error.
    assert [knot.step_error for knot in knots] == [0, 0.05, 0.1, 0.2]
    assert [knot.loss for knot in knots] == pytest.approx([0, 0.25, 0.25, 2.2])
    assert [knot.upper for knot in knots] == pytest.approx([near, 0.5 + near, 0.5 + near, 2.2 + far], abs=1e-4)


def test_the_written_curve_never_falls_and_covers_a_true_one(tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(2)
    rows = []
    for task in ("resnet", "vgg"):
        for seed in (1, 2, 3):
            base = 0.9 + 0.001 * random.normal()
            rows.append(f"{task},exact,{seed},top1,{base},,abc")
            for step_error in (0.0, 0.02, 0.05, 0.1, 0.3):
                value = base - step_error**2 + 0.001 * random.normal()
                rows.append(f"{task},at-{step_error},{seed},top1,{value},{step_error},abc")
    # A design with one seed, and a network that is trained for reuse, do not count.
    rows += ["vgg,at-0.01,1,top1,0.1,0.01,abc", "cifarnet,exact,1,top1,0.7,,abc", "cifarnet,random-6,1,top1,0.6,,abc"]
    out = tmp_path / "curve.csv"
    monkeypatch.setattr(sys, "argv", ["fit.py", "--rows", str(write_rows(tmp_path / "rows.csv", rows)), "--out", str(out)])
    fit.main()
    assert "5 knots from 10 points" in capsys.readouterr().out
    lines = out.read_text().splitlines()
    assert "# networks: resnet, vgg; seeds: 3" in lines and "# commit: abc" in lines
    assert lines[4] == "step_error,accuracy_loss,upper"
    knots = np.array([[float(cell) for cell in line.split(",")] for line in lines[5:]])
    assert (np.diff(knots[:, 0]) > 0).all() and (np.diff(knots[:, 1:], axis=0) >= 0).all()
    assert (knots[:, 2] >= knots[:, 1]).all() and knots[0, 0] == knots[0, 1] == 0
    assert (knots[:, 2] >= 100 * knots[:, 0] ** 2).all()
    assert knots[-1, 1] == pytest.approx(9, abs=0.3)


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        (["a,x,1,top1,0.9,0.1,c"], "seed 1 has no row of design exact"),
        (["a,exact,1,top1,0.9,,c", "a,x,1,top1,nan,0.1,c"], "a, x, seed 1: value is 'nan'"),
        (["a,exact,1,top1,0.9,,c", "a,x,1,top1,0.8,,c"], "step_error_search is ''"),
        (["a,exact,1,loss,0.9,,c"], "metric 'loss' is unknown"),
    ],
)
def test_wrong_rows_are_refused(tmp_path, rows, part):
    with pytest.raises(SystemExit, match=part):
        fit.pair_rows(fit.read_rows(write_rows(tmp_path / "rows.csv", rows)))


def test_too_few_rows_are_refused(tmp_path, monkeypatch):
    single = write_rows(tmp_path / "rows.csv", ["a,exact,1,top1,0.9,,c", "a,x,1,top1,0.8,0.1,c"])
    monkeypatch.setattr(sys, "argv", ["fit.py", "--rows", str(single), "--out", str(tmp_path / "curve.csv")])
    with pytest.raises(SystemExit, match="train more seeds"):
        fit.main()
    assert not (tmp_path / "curve.csv").exists()
    with pytest.raises(SystemExit, match="columns value, step_error_search are missing"):
        path = tmp_path / "short.csv"
        path.write_text("task,design,seed,metric\na,exact,1,top1\n")
        fit.read_rows(path)


def test_the_shipped_curve_is_that_of_the_shipped_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fit.py", "--out", str(tmp_path / "curve.csv")])
    fit.main()
    assert (tmp_path / "curve.csv").read_text() == fit.CURVE.read_text()
