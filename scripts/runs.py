"""Functions shared by the scripts that run programs and write reports."""

import json
import os
import subprocess
from pathlib import Path

from places import BINARIES, REPOSITORY


class Failed(SystemExit):
    """A program failed. If it is not caught, it ends the script with its message."""


def run(program: str, *arguments: object, threads: int | None = None) -> str:
    """Runs a program and returns its standard output; raises `Failed` with its messages if it fails."""
    line = [str(BINARIES / program), *map(str, arguments)]
    environment = dict(os.environ)
    if threads:
        environment |= {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(line)}\n{done.stderr}")
    return done.stdout


def read_commit() -> str:
    """Returns the commit that is checked out, with the suffix `-dirty` if files were changed."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def format_toml(configuration: dict) -> str:
    lines = []
    for section, keys in configuration.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def put_between(page: Path, begin: str, end: str, text: str) -> None:
    """Replaces the text between two marks of a page."""
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")
