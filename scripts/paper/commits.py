"""The commits at which the stages of a run were made. Figures in docs/ come from one clean commit."""

import json
from pathlib import Path


def is_clean(commit: str) -> bool:
    """Returns whether a commit is known and had no changed files."""
    return commit != "unknown" and not commit.endswith("-dirty")


def read_model_commits(folder: Path) -> set[str]:
    """Returns the commits of a model's complete stages."""
    records = [json.loads(path.read_text()) for path in folder.glob("*.json") if path.with_suffix("").exists()]
    return {record["commit"] for record in records if record["commit"]}


def read_commits(out: Path) -> set[str]:
    """Returns the commits of all complete stages of a run."""
    folders = [folder for place in (out, out / "sizes") for folder in place.glob("*") if folder.is_dir()]
    return set().union(*map(read_model_commits, folders))
