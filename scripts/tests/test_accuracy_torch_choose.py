"""Tests of the calibration's searches: a real capture and search on a small network."""

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pl = pytest.importorskip("polars")
mercury = pytest.importorskip("mercury_lab")
pytest.importorskip("mercury_lab.torch")

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
import choose  # noqa: E402
import train  # noqa: E402
from designs import CIFARNET, Run, find_config  # noqa: E402
from training import Schedule, Task  # noqa: E402

STEPS = 4


def make_conv_task(name, seed, epochs=None, quick=False):
    """Classifies noise, whose pixels take few values so that vectors repeat."""
    torch.manual_seed(seed)
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 64, 3), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(64 * 36, 3))

    def make_batches(epoch):
        random = torch.Generator().manual_seed(seed * 100 + epoch)
        for _ in range(STEPS):
            coarse = torch.randint(2, (8, 1, 5, 5), generator=random).float()
            yield coarse.repeat_interleave(2, 2).repeat_interleave(2, 3), torch.randint(3, (8,), generator=random)

    def compute_loss(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    return Task(model, Schedule(2, STEPS, 0.05, 0.0), make_batches, compute_loss, lambda model: 0.5, "top1", seed, 8)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory):
    """The folder of runs after an exact run and its search, and what the search returned."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "make_task", make_conv_task)
        patch.setattr(choose, "make_task", make_conv_task)
        train.train_run(Run("resnet20", "exact", 1), out)
        half = (out / "resnet20-exact-1" / "half.pt").read_bytes()
        found = choose.choose_designs("resnet20", 1, None, out, quick=True)
        assert (out / "resnet20-exact-1" / "half.pt").read_bytes() == half
    return out, found


def test_designs_are_those_of_the_bounds(chosen):
    out, found = chosen
    assert found == json.loads((out / "resnet20-search-1" / "designs.json").read_text())
    # Three layers; the first has no input gradient.
    assert found["passes"] == 8
    assert set(found["designs"]) == {"mercury", "rescale", "bound-5", "bound-10", "bound-20", "bound-40"}
    for name, figures in found["designs"].items():
        assert figures["speed_up_ahead_equal_macs"] <= figures["speed_up_ahead"]
        if name.startswith("bound"):
            assert figures["speed_up_skip"] >= 1
            config = find_config(Run("resnet20", name, 1), out)
            assert config["array.hit_cycles"] == "column" and config["stop.window"] == 0
    errors = [found["designs"][f"bound-{limit}"]["step_error_search"] for limit in (5, 10, 20, 40)]
    assert errors == sorted(errors) and errors[-1] > 0


def test_presets_keep_all_layers_on(chosen):
    config = find_config(Run("resnet20", "mercury", 1), chosen[0])
    assert config["bits.patience"] == 200 and config["stop.window"] == 0
    assert find_config(Run("resnet20", "rescale", 1), chosen[0])["rpq.variant"] == "sign+rescale"


@pytest.mark.parametrize(
    "design, bits, representative, scope",
    [
        ("random-6", 6, "centroid", "batch"),
        ("random-15", 15, "centroid", "batch"),
        ("learned-10", 10, "centroid", "batch"),
        ("first-10", 10, "first", "batch"),
        ("sample-10", 10, "centroid", "sample"),
    ],
)
def test_cifarnet_reuses_in_its_second_convolution_alone(design, bits, representative, scope, tmp_path):
    assert design in CIFARNET
    config = find_config(Run("cifarnet", design, 1), tmp_path)
    assert (config["rpq.bits"], config["mcache.representative"], config["mcache.scope"]) == (
        bits,
        representative,
        scope,
    )
    layers = {layer["name"]: layer["reuse"]["passes"] for layer in config["layer"]}
    assert layers == {"*": [], "conv2": ["forward", "weight-grad"]}
    assert config["rpq.granularity"] == "sub-vector(10)" and config["array.dataflow"] == "ws"


def test_step_error_by_hand():
    layers = pl.DataFrame({
        "layer": ["a", "a", "a", "b"], "pass": ["forward", "forward", "weight-grad", "forward"],
        "error_square": [1.0, 3.0, 9.0, None], "exact_square": [40.0, 60.0, 100.0, None],
    })  # fmt: skip
    # Steps of a pass add up: 4 / 100; a pass without reuse has no error.
    assert choose.compute_step_error(layers) == pytest.approx(((0.04 + 0.09 + 0) / 3) ** 0.5)
