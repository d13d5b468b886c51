"""Where binaries and data sets are."""

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "data"))
from fetch import FASHION_MNIST, IMAGENET_20_FILES  # noqa: E402

BINARIES = Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target") / "release"
DATA = [REPOSITORY / "data", REPOSITORY.parent / "shared" / "data"]
# Of CIFAR-10 one of the five files of training images will do.
FILES = {
    "cifar10": ["data_batch_1.bin", "test_batch.bin"],
    "fashion-mnist": [*FASHION_MNIST],
    "imagenet-20": [*IMAGENET_20_FILES],
    "multi30k": ["train.en", "train.de", "val.en", "val.de"],
}


def folder_of(dataset: str) -> Path | None:
    """The first folder that has the data set, fetched if need be."""

    def has(folder: Path) -> bool:
        place = folder / dataset
        return all((place / name).exists() or (place / f"{name}.gz").exists() for name in FILES[dataset])

    for folder in DATA:
        if has(folder):
            return folder
    subprocess.run([sys.executable, REPOSITORY / "data" / "fetch.py", dataset])
    return DATA[0] if has(DATA[0]) else None


def same_data(dataset: str, out: Path) -> Path | None:
    """A folder with just the files that are used, linked, so that runs are the same wherever the set comes from."""
    found = folder_of(dataset)
    if found is None:
        return None
    place = out / "data" / dataset
    place.mkdir(parents=True, exist_ok=True)
    for name in FILES[dataset]:
        source = next(path for path in (found / dataset / name, found / dataset / f"{name}.gz") if path.exists())
        if not (place / source.name).exists():
            (place / source.name).symlink_to(source.resolve())
    return place.parent
