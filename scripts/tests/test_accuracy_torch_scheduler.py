"""Tests of the calibration's scheduler: order, prerequisites, rows at once, failures."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mercury_lab")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import run as script  # noqa: E402
from designs import Run, list_runs  # noqa: E402
from rows import append_row, read_rows  # noqa: E402


def name_jobs(names, out):
    options = script.Options(out, {}, quick=False)
    return [job.name for job in script.plan_jobs([Run.from_name(name) for name in names], options)]


def make_job(name, out, code="", needs=()):
    """A job whose process writes a file, and the names of the finished ones before."""
    path = out / name
    text = f"import pathlib; {code or 'pass'}; pathlib.Path({str(path)!r}).write_text('')"
    return script.Job(name, [sys.executable, "-c", text], path, [out / need for need in needs])


def run_jobs(jobs, out, slots=2):
    finished = []
    failed = script.Scheduler(jobs, slots, out, lambda job: finished.append(job.name)).run()
    return finished, failed


def test_runs_are_in_the_order_that_answers_early():
    runs = list(list_runs())
    assert len(set(runs)) == len(runs) == 3 * (7 + 7 + 3)
    assert [run.design for run in runs[:9]] == ["exact"] * 9
    designs = ["mercury", "bound-10", "bound-40", "bound-20", "bound-5", "rescale"]
    assert [(run.task, run.seed, run.design) for run in runs[9:15]] == [("resnet20", 1, design) for design in designs]
    assert list(dict.fromkeys(run.task for run in runs[9:])) == ["resnet20", "cifarnet", "transformer"]


def test_prerequisites_come_first(tmp_path):
    names = ["resnet20-exact-1", "resnet20-search-1", "resnet20-bound-10-1"]
    assert name_jobs(["resnet20-bound-10-1"], tmp_path) == names
    assert name_jobs(["cifarnet-random-6-2"], tmp_path) == ["cifarnet-random-6-2"]
    (tmp_path / "resnet20-exact-1").mkdir()
    (tmp_path / "resnet20-exact-1" / "half.pt").write_text("")
    assert name_jobs(["resnet20-bound-10-1"], tmp_path) == names[1:]
    (tmp_path / "resnet20-search-1").mkdir()
    (tmp_path / "resnet20-search-1" / "designs.json").write_text("")
    assert name_jobs(["resnet20-bound-10-1"], tmp_path) == names[2:]


@pytest.mark.parametrize(
    "only, count", [([], 51), (["resnet20"], 21), (["resnet20-bound-10"], 3), (["cifarnet-exact-2"], 1)]
)
def test_only_selects(only, count):
    assert len(script.select_runs(only)) == count


@pytest.mark.parametrize("only", ["resnet", "resnet20-bound-1", "resnet20-exact-4"])
def test_an_unknown_name_is_refused(only, capsys):
    with pytest.raises(SystemExit) as error:
        script.select_runs([only])
    assert error.value.code == 2 and f"--only {only}: is no TASK" in capsys.readouterr().err


def test_jobs_wait_for_their_files(tmp_path):
    jobs = [make_job("c", tmp_path, needs=["b"]), make_job("b", tmp_path, needs=["a"]), make_job("a", tmp_path)]
    assert run_jobs(jobs, tmp_path) == (["a", "b", "c"], [])


def test_a_failure_stops_only_what_needs_it(tmp_path):
    jobs = [
        make_job("a", tmp_path, "raise SystemExit('no disk')"),
        make_job("b", tmp_path, needs=["a"]),
        make_job("c", tmp_path),
    ]
    finished, failed = run_jobs(jobs, tmp_path)
    assert finished == ["c"]
    assert failed[0].startswith("a: exit code 1\nno disk")
    assert failed[1] == f"b: not started, because {tmp_path / 'a'} is missing"


def test_one_thread_per_process(tmp_path):
    path = tmp_path / "seen"
    threads = "os.environ['OMP_NUM_THREADS'] + os.environ['RAYON_NUM_THREADS']"
    code = f"import os; pathlib.Path({str(path)!r}).write_text({threads})"
    run_jobs([make_job("a", tmp_path, code)], tmp_path)
    assert path.read_text() == "11"


def test_finished_runs_without_row_are_appended_and_known_ones_skipped(tmp_path, monkeypatch, capsys):
    """A script that was killed between a run's end and its row must append the row, without training again."""
    out, table = tmp_path / "runs", tmp_path / "accuracy.csv"
    row = {"task": "cifarnet", "design": "exact", "metric": "top1", "value": 0.7, "epochs": 15}
    row["schedule"] = "one-cycle to 0.05, batch 100, 500 steps"
    append_row(table, row | {"seed": 1})
    for seed in (2, 3):
        (out / f"cifarnet-exact-{seed}").mkdir(parents=True)
        (out / f"cifarnet-exact-{seed}" / "row.json").write_text(json.dumps(row | {"seed": seed}))
    monkeypatch.setattr(
        script,
        "make_task",
        lambda *_: type("T", (), {"schedule": type("S", (), {"epochs": 15}), "settings": row["schedule"]}),
    )
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "cifarnet-exact", "--out", str(out), "--table", str(table)])
    script.main()
    assert [kept["seed"] for kept in read_rows(table)] == ["1", "2", "3"]
    script.main()
    assert len(read_rows(table)) == 3 and "started" not in capsys.readouterr().out


def test_a_stopped_script_stops_its_runs(tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    program = (
        f"import sys, signal; sys.path.insert(0, {str(Path(script.__file__).parent)!r}); import run, pathlib\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"out = pathlib.Path({str(tmp_path)!r})\n"
        f"job = run.Job('a', [sys.executable, '-c', {f'import pathlib; {code}'!r}], out / 'a')\n"
        "run.Scheduler([job], 1, out, print).run()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    for _ in range(100):
        if not is_running(int(pid.read_text())):
            return
        time.sleep(0.05)
    pytest.fail("the run goes on")


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
