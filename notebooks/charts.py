"""The charts of `mercury-analyzer report`, from the same files, on rows of a notebook's choice."""

import json
from pathlib import Path

import altair as alt
import polars as pl

FOLDER = Path(__file__).parent.parent / "analyzer" / "assets" / "charts"


def chart(name: str, frame: pl.DataFrame, title: str = "", width: int = 420, **parameters) -> alt.TopLevelMixin:
    """The chart of a name; its file says which columns it reads and which parameters it has."""
    specification = json.loads((FOLDER / f"{name}.vl.json").read_text())
    specification["datasets"] = {specification["data"]["name"]: frame.to_dicts()}
    # Pictures have no container to fill.
    specification["width"] = width
    specification.pop("autosize", None)
    specification["title"] = title
    for parameter in specification.get("params", []):
        parameter["value"] = parameters.pop(parameter["name"], parameter["value"])
    if parameters:
        raise TypeError(f"{name} has no parameters {', '.join(parameters)}")
    return alt.Chart.from_dict(specification)
