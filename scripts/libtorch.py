#!/usr/bin/env python3
"""Installs a CPU libtorch for the tracer and configures cargo to use it.

The PyTorch wheel contains libtorch. Of its gigabyte, only the headers and the CPU libraries are kept, in
$XDG_CACHE_HOME/mercury (default ~/.cache/mercury), which all checkouts share. The path is written to .cargo/config.toml
of this checkout. Cargo passes it to the build script of torch-sys, and the build script of the tracer sets it as the
run path of the binary.

If LIBTORCH is set already, that installation is used and nothing is downloaded.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "2.13.0"  # The version that tch 0.26 was generated for.

# The libraries in the wheel do not depend on the Python version, so one version is fixed for all.
REQUIREMENTS = """\
torch==2.13.0 --hash=sha256:796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cupti==13.0.85 --hash=sha256:4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8
"""
PLATFORMS = ["manylinux_2_28_x86_64", "manylinux_2_25_x86_64", "manylinux2014_x86_64"]

# libtorch_cpu.so of this wheel is linked against the last two libraries, even if no GPU is used.
LIBRARIES = ["libtorch.so", "libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.13", "libcupti.so.13"]

REPOSITORY = Path(__file__).resolve().parent.parent


def fail(message: str) -> None:
    sys.exit(f"libtorch: {message}")


def read_version(libtorch: Path) -> str:
    try:
        return (libtorch / "build-version").read_text().strip()
    except OSError:
        return "unknown"


def install(target: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        fail(
            f"there is no wheel for {platform.system()} {platform.machine()}; "
            f"install libtorch {VERSION} yourself and set LIBTORCH to its folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="libtorch-") as scratch:
        wheels = Path(scratch) / "wheels"
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(REQUIREMENTS)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
        command += ["--python-version", "3.12", "--implementation", "cp", "--dest", str(wheels)]
        command += [argument for tag in PLATFORMS for argument in ("--platform", tag)]
        if subprocess.run([*command, "-r", str(requirements)]).returncode != 0:
            fail("pip could not fetch the wheels; run this again, or set LIBTORCH to an existing libtorch")

        tree = Path(scratch) / "libtorch"
        (tree / "lib").mkdir(parents=True)
        for wheel in sorted(wheels.glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for member in archive.namelist():
                    path = Path(member)
                    if member.startswith("torch/include/") and not member.endswith("/"):
                        place = tree / "include" / path.relative_to("torch/include")
                    elif path.parent.name == "lib" and path.name in LIBRARIES:
                        place = tree / "lib" / path.name
                    elif path.name == "LICENSE" and path.parent.name == "licenses":
                        place = tree / f"LICENSE-{path.parts[0]}"
                    else:
                        continue
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, place.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
        missing = [name for name in LIBRARIES if not (tree / "lib" / name).exists()]
        if missing:
            fail(f"the wheels lack {', '.join(missing)}")
        (tree / "build-version").write_text(VERSION + "\n")
        try:
            tree.rename(target)
        except OSError:
            if read_version(target) != VERSION:  # Otherwise another checkout installed it meanwhile.
                raise


def write_cargo_config(libtorch: Path) -> None:
    """Passes the path to cargo. LIBTORCH in the environment takes precedence."""
    path = REPOSITORY / ".cargo" / "config.toml"
    text = f'# Written by scripts/libtorch.py.\n[env]\nLIBTORCH = "{libtorch}"\n'
    if path.exists():
        if path.read_text() == text:
            return
        if not path.read_text().startswith(text.splitlines()[0]):
            fail(f"{path} was not written by this script; put `LIBTORCH = \"{libtorch}\"` under [env] there yourself")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def main() -> None:
    if given := os.environ.get("LIBTORCH"):
        found = read_version(Path(given))
        if not (Path(given) / "lib").is_dir():
            fail(f"LIBTORCH={given} has no lib folder; set it to a libtorch {VERSION}, or unset it to download one")
        if found.split("+")[0] != VERSION:
            print(f"libtorch: LIBTORCH={given} is version {found}; tch needs {VERSION}", file=sys.stderr)
        libtorch = Path(given).resolve()
    else:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        libtorch = cache / "mercury" / f"libtorch-{VERSION}-cpu"
        if read_version(libtorch) != VERSION:
            install(libtorch)
    write_cargo_config(libtorch)
    print(f"libtorch: {libtorch}", file=sys.stderr)


if __name__ == "__main__":
    main()
