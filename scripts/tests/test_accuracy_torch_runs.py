"""Tests of the calibration's trainings, with a stub in place of reuse: checkpoints, branches, rows."""

import contextlib
import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("polars")
mt = pytest.importorskip("mercury_lab.torch")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import tasks  # noqa: E402
import train  # noqa: E402
from designs import Run, list_runs  # noqa: E402
from training import Diverged, Schedule, Task, Training  # noqa: E402

STEPS, EPOCHS = 5, 4


class Stub:
    """Reuse that changes nothing, and measures a constant error in two of three passes."""

    def __init__(self, model, config=None, *, measure_every=None, name=None, learn=None):
        self.rows, self.steps, self.paused_now = [], 0, False
        self.projections = torch.nn.ParameterDict({"conv2": torch.nn.Parameter(torch.ones(2, 2))}) if learn else None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def log(self, loss):
        for place, error in (("forward", 0.3), ("weight-grad", 0.4)):
            self.rows.append(
                {"step": self.steps, "layer": "a", "pass": place, "output_error": error, "hit": 3, "mau": 1, "mnu": 0}
            )
        self.steps += 1

    @property
    def measurements(self):
        schema = ["step", "layer", "pass", "output_error", "hit", "mau", "mnu"]
        return pl.DataFrame(self.rows) if self.rows else pl.DataFrame({name: [] for name in schema})

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    @contextlib.contextmanager
    def paused(self):
        self.paused_now = True
        yield
        self.paused_now = False

    def save_projections(self, path):
        Path(path).write_bytes(b"")


def make_toy_task(name, seed, epochs=None, quick=False):
    """Fits a line; dropout makes steps depend on random numbers."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))

    def make_batches(epoch):
        random = torch.Generator().manual_seed(seed * 1000 + epoch)
        for _ in range(STEPS):
            x = torch.randn(16, 4, generator=random)
            yield x, x.sum(1, keepdim=True)

    def compute_loss(model, batch):
        return torch.nn.functional.mse_loss(model(batch[0]), batch[1])

    schedule = Schedule(epochs or EPOCHS, STEPS, 0.05, 0.0)
    evaluate = lambda model: model[0].weight.sum().item()
    return Task(model, schedule, make_batches, compute_loss, evaluate, "top1", seed, 16)


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setattr(train, "make_task", make_toy_task)
    monkeypatch.setattr(train, "find_config", lambda run, out: None)
    monkeypatch.setattr(mt, "reuse", Stub, raising=False)


def read_weights(folder):
    return torch.load(folder / "last.pt", weights_only=True)["model"]


def stop_after(monkeypatch, epochs):
    """Makes a training stop, as a kill would, in the epoch after some."""
    run_epoch = Training.run_epoch

    def run(self):
        if self.epoch == epochs:
            raise KeyboardInterrupt
        run_epoch(self)

    monkeypatch.setattr(Training, "run_epoch", run)


@pytest.mark.parametrize("name", ["cifarnet-exact-1", "cifarnet-random-10-1", "cifarnet-learned-10-1"])
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_that_was_stopped_ends_as_if_it_had_not(toy, tmp_path, name, epochs):
    run = Run.from_name(name)
    expected = train.train_run(run, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, epochs)
        with pytest.raises(KeyboardInterrupt):
            train.train_run(run, tmp_path / "stopped")
    resumed = train.train_run(run, tmp_path / "stopped")
    assert resumed | {"hours": 0} == expected | {"hours": 0}
    whole, stopped = (read_weights(tmp_path / place / name) for place in ("whole", "stopped"))
    assert all(torch.equal(whole[key], stopped[key]) for key in whole)
    if "exact" not in name:
        figures = [train.summarise_measurements(tmp_path / place / name, 3) for place in ("whole", "stopped")]
        assert figures[0] == figures[1]


def test_a_branch_without_errors_ends_as_the_exact_run(toy, tmp_path):
    exact = train.train_run(Run("resnet20", "exact", 2), tmp_path)
    branch = train.train_run(Run("resnet20", "mercury", 2), tmp_path)
    assert branch["value"] == exact["value"] and branch["loss"] == exact["loss"]
    assert len(list((tmp_path / "resnet20-mercury-2").glob("measurements-*"))) == EPOCHS // 2


def test_step_error_counts_passes_without_reuse_as_exact(toy, tmp_path):
    train.train_run(Run("cifarnet", "random-6", 1), tmp_path)
    found = train.summarise_measurements(tmp_path / "cifarnet-random-6-1", passes=4)
    assert found["step_error"] == pytest.approx(((0.3**2 + 0.4**2) / 4) ** 0.5)
    assert found["hit_rate"] == 0.75 and found["remaining_vectors"] == 0.25


def test_a_training_that_diverges_has_a_row_without_value(toy, tmp_path, monkeypatch):
    def diverge(self):
        raise Diverged

    monkeypatch.setattr(Training, "run_epoch", diverge)
    row = train.train_run(Run("cifarnet", "exact", 1), tmp_path)
    assert "value" not in row and row["loss"] != row["loss"]


def test_a_checkpoint_of_another_schedule_is_refused(toy, tmp_path):
    train.train_run(Run("cifarnet", "exact", 1), tmp_path)
    with pytest.raises(SystemExit, match="schedule of 20 steps, but this run has 30; give the epochs of that run"):
        train.train_run(Run("cifarnet", "exact", 1), tmp_path, epochs=6)


def test_a_locked_run_is_refused(tmp_path):
    lock = train.lock_folder(tmp_path / "run")
    with pytest.raises(SystemExit, match="another process trains this run"):
        train.lock_folder(tmp_path / "run")
    lock.close()
    train.lock_folder(tmp_path / "run").close()


def test_main_writes_the_row(toy, tmp_path, monkeypatch):
    (tmp_path / "resnet20-search-1").mkdir()
    found = {"passes": 3, "designs": {"mercury": {"step_error_search": 0.5, "speed_up_skip": 1.5}}}
    (tmp_path / "resnet20-search-1" / "designs.json").write_text(json.dumps(found))
    for name in ("resnet20-exact-1", "resnet20-mercury-1"):
        monkeypatch.setattr(sys, "argv", ["train.py", name, "--out", str(tmp_path)])
        train.main()
    row = json.loads((tmp_path / "resnet20-mercury-1" / "row.json").read_text())
    assert row["speed_up_skip"] == 1.5 and row["step_error"] == pytest.approx((0.25 / 3) ** 0.5)
    assert row["schedule"] == "one-cycle to 0.05, batch 16, 5 steps"


@pytest.mark.parametrize("run", list(list_runs()), ids=lambda run: run.name)
def test_names_of_runs_read_back(run):
    assert Run.from_name(run.name) == run


def test_a_transformer_hides_later_words_and_padding():
    """A target word must not see itself: untrained scores of a place may depend on earlier words alone."""
    from multi30k import LENGTH
    from transformer import Transformer, translate

    torch.manual_seed(1)
    model = Transformer(9, 9, width=16, layers=2, heads=2, dropout=0.0).eval()
    sources, targets = torch.randint(4, 9, (2, LENGTH)), torch.randint(4, 9, (2, LENGTH))
    changed = targets.clone()
    changed[:, 7] = (changed[:, 7] - 3) % 5 + 4
    assert (changed[:, 7] != targets[:, 7]).all()
    before, after = model(sources, targets), model(sources, changed)
    assert torch.equal(before[:, :8], after[:, :8]) and not torch.equal(before[:, 8], after[:, 8])
    # Padding of a source is hidden.
    padded = sources.clone()
    padded[:, 12:] = 0
    hidden = model.encode(padded)[0][:, :12]
    model.source.weight.data[0] += 1
    torch.testing.assert_close(model.encode(padded)[0][:, :12], hidden)
    # Greedy words are the most likely after those before them.
    words = translate(model, sources)
    assert torch.equal(model(sources, words).argmax(2), words)


def test_quick_tasks_are_small():
    try:
        task = tasks.make_task("transformer", 1, quick=True)
    except SystemExit:
        pytest.skip("Multi30K could not be fetched")
    assert len(list(task.batches(0))) == tasks.QUICK and task.schedule.steps == 2 * tasks.QUICK
