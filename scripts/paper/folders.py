"""Reads the results in a model's folder that `run.py` wrote, over the captured steps after the trial."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
from settings import BOUND, EVERY_LAYER, TRIAL

ALL_ON, BY_MODEL, BY_LAYER = "mercury, all layers on", "model's error <= 1 %", "each layer's error <= 1 %"
SETTINGS = ["mercury", ALL_ON, BY_MODEL, BY_LAYER]
# The error that each choice of a sweep's configuration bounds.
CRITERIA = {BY_MODEL: "output_error", BY_LAYER: "worst_layer_error"}

EQUAL_MACS, NO_HARDWARE = "mercury-ahead, equal MACs", "the bound"
READINGS = ["mercury", "mercury-skip", "mercury-ahead", EQUAL_MACS, NO_HARDWARE]
# Columns of a ladder that tables take.
FIGURES = ["hit_rate", "output_error", "gradient_error", "computations_saved", "speed_up", "speed_up_low"]
FIGURES += ["speed_up_high", "is_bound", "mcache_results_mean", "mcache_results_peak", "mcache_kb"]

# Aggregations of rows by pass, layer and step.
SPEED_UP = pl.col("baseline_cycles").sum() / pl.col("mercury_cycles").sum()
ERROR = (pl.col("error_square").sum() / pl.col("exact_square").sum()).sqrt().fill_nan(0)


@dataclass
class Results:
    """Results of a configuration: layers and models after the trial, and models over all captured steps."""

    layers: pl.DataFrame
    models: pl.DataFrame
    all_steps: pl.DataFrame

    @classmethod
    def read(cls, folder: Path, configuration: int = 0) -> "Results":
        read = lambda name: pl.read_parquet(folder / name).filter(configuration=configuration)  # noqa: E731
        layers, models = read("layers.parquet"), read("models.parquet")
        return cls(select_steady(layers), select_steady(models), models)


def select_steady(frame: pl.DataFrame) -> pl.DataFrame:
    """Selects the rows of the captured steps after the trial."""
    return frame.filter(pl.col("step").is_in(frame["step"].unique().sort()[TRIAL:].implode()))


def read_sweep(sweep: Path) -> pl.DataFrame:
    """Reads a sweep: keys, speed-up and errors of each configuration after the trial."""
    layers = select_steady(pl.read_parquet(sweep / "layers.parquet"))
    forward = layers.filter(pl.col("pass") == "forward")
    worst = forward.group_by("configuration", "layer").agg(worst_layer_error=ERROR)
    configurations = pl.read_parquet(sweep / "configurations.parquet")
    keys = [column for column in configurations.columns if "." in column]
    return (
        configurations.select("configuration", *keys)
        .join(layers.group_by("configuration").agg(speed_up=SPEED_UP), on="configuration")
        .join(forward.group_by("configuration").agg(output_error=ERROR), on="configuration")
        .join(worst.group_by("configuration").agg(pl.col("worst_layer_error").max()), on="configuration")
        .sort("configuration")
    )


def choose_settings(sweep: Path) -> dict[str, dict]:
    """Returns the number and the keys of the fastest configuration within the bound, by criterion.

    A criterion is missing if no configuration within its bound is faster than no reuse.
    """
    found, chosen = read_sweep(sweep), {}
    for name, error in CRITERIA.items():
        within = found.filter(pl.col(error) <= BOUND, pl.col("speed_up") > 1)
        if within.height:
            row = within.sort("speed_up", descending=True, maintain_order=True).row(0, named=True)
            chosen[name] = {key: value for key, value in row.items() if key == "configuration" or "." in key}
    return chosen


def read_settings(folder: Path) -> dict[str, tuple[dict, Results]]:
    """Reads the swept keys and results of each setting.

    A setting is missing if no configuration within its bound is faster than no reuse.
    """
    found = {"mercury": ({}, Results.read(folder / "mercury")), ALL_ON: ({}, Results.read(folder / EVERY_LAYER))}
    if (folder / "sweep").exists():
        for name, choice in choose_settings(folder / "sweep").items():
            found[name] = (choice, Results.read(folder / "sweep", choice["configuration"]))
    return found


def read_ladder(folder: Path) -> pl.DataFrame:
    """Reads the ladder of assumptions, from the preset `mercury` to the bound."""
    ladder = pl.read_csv(folder / "ladder.csv", infer_schema_length=None)
    return ladder.select("assumption", "flags", "preset", *FIGURES)


def read_readings(folder: Path) -> pl.DataFrame:
    """Reads the readings of the hardware that presets name, and the bound.

    `mercury-ahead` has a second row, its speed-up over a baseline with as many multiply-accumulates.
    """
    found = pl.read_csv(folder / "readings.csv", infer_schema_length=None)
    found = found.with_columns(setting=pl.col("preset").fill_null(NO_HARDWARE))
    # The larger baseline is exact, so it divides the interval like the speed-up.
    smaller = pl.col("speed_up_equal_macs") / pl.col("speed_up")
    speed_ups = [pl.col(name) * smaller for name in ("speed_up", "speed_up_low", "speed_up_high")]
    equal = found.filter(setting="mercury-ahead").with_columns(*speed_ups, setting=pl.lit(EQUAL_MACS))
    order = pl.DataFrame({"setting": READINGS})
    return order.join(pl.concat([found, equal]), on="setting", maintain_order="left").select("setting", *FIGURES)
