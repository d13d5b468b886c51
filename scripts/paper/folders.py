"""Reads the results of a model that `stages.py` wrote."""

from pathlib import Path

import polars as pl
from settings import CHANNELS, ENTRIES, HARDWARE, HIT, UNIT, Axis

PRESET, WITHIN, ACCEPTED = "preset", "within 10 %", "accepted error"
EQUAL_MACS, NO_HARDWARE = "mercury-ahead, equal MACs", "the bound"
READINGS = ["mercury", "mercury-skip", "mercury-ahead", EQUAL_MACS, NO_HARDWARE]
# The limits on the errors of layers that tables show.
FRONTIER = [0.05, 0.1, 0.2, 0.4]
# The limits of the designs, in the units of their bounds.
LIMITS = {WITHIN: 0.1, ACCEPTED: 1.0}

UNLIMITED, PE_OPERATION = "unlimited", "PE operation"
INTERVAL = {"speed_up_low": "speed_up_steps_low", "speed_up_high": "speed_up_steps_high"}
FIGURES = ["hit_rate", "output_error", "gradient_error", "computations_saved", "is_bound"]
DEMAND = ["mcache_results_mean", "mcache_results_peak", "mcache_kb"]
JUDGED = ["largest_error", "step_error", "passes", "exceeding", "accuracy_loss", "accuracy_loss_upper"]
SPEED_UP = ["speed_up", *INTERVAL]


def take_interval_over_steps(frame: pl.DataFrame) -> pl.DataFrame:
    """Replaces the interval over samples by that over training steps and projections."""
    return frame.drop(list(INTERVAL)).rename({source: name for name, source in INTERVAL.items()})


def add_equal_macs(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Adds rows of `mercury-ahead` over a baseline with as many multiply-accumulates, in the order of `READINGS`.

    The larger baseline is exact, so it divides the interval like the speed-up.
    """
    smaller = pl.col("speed_up_equal_macs") / pl.col("speed_up")
    equal = frame.filter(pl.col(column) == "mercury-ahead")
    equal = equal.with_columns(*(pl.col(name) * smaller for name in SPEED_UP), pl.lit(EQUAL_MACS).alias(column))
    order = pl.DataFrame({column: READINGS})
    return order.join(pl.concat([frame, equal]), on=column, maintain_order="left")


def read_readings(folder: Path) -> pl.DataFrame:
    """Reads the preset's settings under each reading of the hardware."""
    found = take_interval_over_steps(pl.read_csv(folder / "readings.csv", infer_schema_length=None))
    found = found.with_columns(reading=pl.col("preset").fill_null(NO_HARDWARE))
    return add_equal_macs(found, "reading").select("reading", *FIGURES, *DEMAND, *SPEED_UP)


def read_designs(path: Path) -> pl.DataFrame:
    """Reads the designs with settings per layer of a search, by reading and limit."""
    found = take_interval_over_steps(pl.read_parquet(path)).filter(method="per layer")
    return found.with_columns(reading=pl.col("reading").replace({"bound": NO_HARDWARE}))


def read_speed_ups(folder: Path) -> pl.DataFrame:
    """Reads the preset and both designs under each reading."""
    frames = [read_readings(folder).with_columns(design=pl.lit(PRESET))]
    for design, file in ((WITHIN, "frontier.parquet"), (ACCEPTED, "accepted.parquet")):
        found = read_designs(folder / "search" / file).filter(pl.col("limit") == LIMITS[design])
        columns = ["reading", *FIGURES, *JUDGED, *SPEED_UP]
        frames.append(add_equal_macs(found, "reading").select(*columns, design=pl.lit(design)))
    return pl.concat(frames, how="diagonal_relaxed")


def read_frontier(folder: Path) -> pl.DataFrame:
    """Reads the designs within each bound on the errors of layers."""
    columns = ["speed_up_equal_macs", "output_error", "step_error", "exceeding", "passes", "is_bound"]
    found = read_designs(folder / "search" / "frontier.parquet").filter(pl.col("limit").is_in(FRONTIER))
    return found.select("reading", "limit", *SPEED_UP, *columns)


def read_ladder(folder: Path) -> pl.DataFrame:
    """Reads the ladder of assumptions, from the preset `mercury` to the bound."""
    ladder = pl.read_csv(folder / "ladder.csv", infer_schema_length=None)
    return ladder.select("assumption", "flags", "preset", *FIGURES, *DEMAND, "speed_up")


def list_axes(folder: Path, kind: str) -> dict[str, tuple[Path, Axis]]:
    """Lists the axes of the hardware that a kind of network has, with the folders of their searches."""
    axes = enumerate(HARDWARE.items())
    return {name: (folder / f"hardware-{number}", axis) for number, (name, axis) in axes if kind in axis.kinds}


def read_hardware(folder: Path, kind: str) -> pl.DataFrame:
    """Reads the best design within 10 % for each value of each axis of the hardware."""
    frames = {}
    for name, (place, axis) in list_axes(folder, kind).items():
        found = read_designs(place / "frontier.parquet").filter(limit=LIMITS[WITHIN])
        if found.height != len(axis.values):
            raise ValueError(f"{place} has {found.height} designs for {len(axis.values)} values")
        places = [axis.values.index(name_value(reading, axis.values)) for reading in found["reading"]]
        texts = [show_value(name, axis.values[place]) for place in places]
        columns = found.select(*SPEED_UP, "speed_up_equal_macs", "hit_rate", "output_error", "is_bound")
        columns = columns.with_columns(axis=pl.lit(name), value=pl.Series(texts), place=pl.Series(places))
        frames[name] = columns.sort("place")
    # An MCACHE without a limit is no hardware either.
    unlimited = pl.col("is_bound") | (pl.col("value") == UNLIMITED)
    frames[ENTRIES] = frames[ENTRIES].with_columns(is_bound=unlimited)
    # The base signs on the array. It is the same hardware as that of HITs that take one operation of a PE.
    base = frames[HIT].filter(value=PE_OPERATION)
    array = base.with_columns(axis=pl.lit(UNIT), value=pl.lit("on the array"), place=-1)
    frames[UNIT] = pl.concat([array.cast({"place": frames[UNIT].schema["place"]}), frames[UNIT]])
    return pl.concat([frame.with_columns(pl.col("place") - pl.col("place").min()) for frame in frames.values()])


def show_value(axis: str, value: object) -> str:
    if axis == CHANNELS:
        # `channel-patch(4)` has vectors over 4 channels, `channel-patch` over one.
        return str(value).removeprefix("channel-patch").strip("()") or "1"
    if axis == HIT and value == "column":
        return PE_OPERATION
    return UNLIMITED if axis == ENTRIES and value == 0 else str(value)


def name_value(reading: str, values: tuple) -> object:
    """Finds the value in the name of a reading, such as `mercury-skip and flags, mcache.entries=64`."""
    text = reading.rsplit("=", 1)[1].removesuffix(" (a bound)")
    return next(value for value in values if str(value) == text)
