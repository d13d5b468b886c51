"""Reads the tables of a run; keeps those of the last full run as CSV files, for the models that a quick run lacks."""

from pathlib import Path

import polars as pl

TABLES = ["training", "speed_ups", "frontier", "chain", "sizes", "hardware", "stages"]
# Lists, which CSV files have as words.
LISTS = {"captured": pl.Int64, "commits": pl.String}
# Columns that look like numbers and are text.
TEXTS = {"training": ["captured", "commits"], "hardware": ["value"]}


def read_tables(place: Path) -> dict[str, pl.DataFrame]:
    """Reads the tables of a run; empty if there are none. No row is from another run (`kept`)."""
    paths = {name: place / f"{name}.parquet" for name in TABLES}
    found = {name: pl.read_parquet(path) for name, path in paths.items() if path.exists()}
    return {name: frame.with_columns(kept=False) for name, frame in found.items() if frame.height}


def write_kept(tables: dict[str, pl.DataFrame], folder: Path) -> None:
    """Writes the tables of a full run as CSV files."""
    folder.mkdir(exist_ok=True)
    for name, frame in tables.items():
        lists = [pl.col(column).cast(pl.List(pl.String)).list.join(" ") for column in LISTS if column in frame.columns]
        frame.drop("kept").with_columns(lists).write_csv(folder / f"{name}.csv", float_precision=6)


def read_kept(folder: Path) -> dict[str, pl.DataFrame]:
    """Reads the tables of the last full run; empty if there are none."""
    return {name: read_csv(folder, name) for name in TABLES if (folder / f"{name}.csv").exists()}


def read_csv(folder: Path, name: str) -> pl.DataFrame:
    texts = dict.fromkeys(TEXTS.get(name, []), pl.String)
    frame = pl.read_csv(folder / f"{name}.csv", schema_overrides=texts, infer_schema_length=None)
    lists = [
        pl.col(column).str.split(" ").cast(pl.List(kind)) for column, kind in LISTS.items() if column in frame.columns
    ]
    return frame.with_columns(*lists, kept=True)


def add_kept(tables: dict[str, pl.DataFrame], kept: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """Adds the rows of models that a table of the run lacks, in the order of the models of the full run."""
    if not kept:
        return tables
    order = kept["training"]["model"].to_list()
    order += [model for model in tables["training"]["model"] if model not in order]
    names = [name for name in TABLES if name in tables or name in kept]
    return {name: add_rows(tables.get(name), kept.get(name), order) for name in names}


def add_rows(own: pl.DataFrame | None, kept: pl.DataFrame | None, order: list[str]) -> pl.DataFrame:
    if own is None or kept is None:
        return kept if own is None else own
    missing = kept.filter(~pl.col("model").is_in(own["model"].implode()))
    # A column without values has another type in a CSV file.
    shared = [pl.col(name).cast(own.schema[name]) for name in missing.columns if name in own.columns]
    rows = pl.concat([own, missing.with_columns(shared)], how="diagonal_relaxed")
    ranks = pl.DataFrame({"model": order, "rank_of_model": range(len(order))})
    rows = rows.join(ranks, on="model", how="left", maintain_order="left")
    return rows.sort("rank_of_model", nulls_last=True, maintain_order=True).drop("rank_of_model")


def list_commits(tables: dict[str, pl.DataFrame], kept: bool = False) -> list[str]:
    """Lists the commits of the run, or of the rows that it takes from the last full run."""
    rows = tables["training"].filter(kept=kept)
    return sorted(set(rows["commits"].explode())) if rows.height else []
