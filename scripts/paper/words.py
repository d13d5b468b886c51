"""Writes the sentences of docs/paper.md and of the README: what the tables of a run say."""

import numpy as np
import polars as pl
from charts import ACCEPTED, BOUND, EQUAL_MACS, HUES, PAPER, average_by, average_models, in_order

READINGS = list(HUES)
# Readings of hardware; the bound is none.
BUILDABLE = READINGS[:-1]
PRESET, WITHIN = "preset", "within 10 %"
DESIGNS = {
    PRESET: "with the preset's settings",
    WITHIN: "with every layer's error within 10 %",
    ACCEPTED: "within the step error of an accepted loss",
}
# A mean below 1 / GAIN costs time, one above GAIN gains; between them tables show 1.00x.
GAIN = 1.005
# Half of an interval's width, as a share of the speed-up, above which the page names the interval.
WIDE = 0.05


def show_percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def show_range(shares: pl.Series) -> str:
    """Formats the smallest and the largest share."""
    low, high = show_percent(shares.min()), show_percent(shares.max())
    return low if low == high else f"{low} to {high}"


def show_times(speed_up: float | None) -> str:
    return "-" if speed_up is None else f"{speed_up:.2f}x"


def show_interval(speed_up: float | None, low: float | None, high: float | None) -> str:
    return show_times(speed_up) if low is None or high is None else f"{show_times(speed_up)} ({low:.2f} to {high:.2f})"


def show_speed_up(row: dict) -> str:
    """Formats a row's speed-up with its interval over steps and projections."""
    return show_interval(row["speed_up"], row["speed_up_low"], row["speed_up_high"])


def join_words(words: list[str]) -> str:
    """Joins words as a sentence does: `a, b and c`."""
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def name_reading(reading: str) -> str:
    """Names a reading within a sentence."""
    return {EQUAL_MACS: "`mercury-ahead` at equal MACs", BOUND: BOUND}.get(reading, f"`{reading}`")


def select_paper(frame: pl.DataFrame) -> pl.DataFrame:
    """Selects the models of the paper."""
    return frame.filter(group="paper")


def average_designs(speed_ups: pl.DataFrame) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Averages the paper's models by design and reading: geometric mean and 95 % interval over models."""
    groups = select_paper(speed_ups).group_by("design", "reading", maintain_order=True)
    return {key: average_models(group["speed_up"]) for key, group in groups}


def place_readings(readings: list[str]) -> str:
    """Places something in readings: `under A and B`, or `at equal MACs`."""
    presets = [f"`{name}`" for name in readings if name != EQUAL_MACS]
    parts = [f"under {join_words(presets)}"] if presets else []
    return join_words(parts + (["at equal MACs"] if EQUAL_MACS in readings else []))


def judge_readings(means: dict, design: str) -> str:
    """Says under which readings a design pays: those whose interval is above 1x."""
    found = {reading: means[design, reading] for reading in BUILDABLE if (design, reading) in means}
    gains = [name for name, (_, low, _) in found.items() if low > GAIN]
    losses = [name for name, (_, _, high) in found.items() if high < 1 / GAIN]
    neither = [name for name in found if name not in gains + losses]
    parts = [f"pays {place_readings(gains)}"] if gains else ["pays under no reading"]
    parts += [f"is not shown to pay {place_readings(neither)}"] if neither and gains else []
    parts += [f"costs time {place_readings(losses)}"] if losses else []
    return ", and ".join(parts) if len(parts) < 3 else f"{parts[0]}, {parts[1]}, and {parts[2]}"


def list_means(means: dict, design: str) -> str:
    """Lists a design's means and intervals by reading of hardware."""
    found = [(reading, means[design, reading]) for reading in BUILDABLE if (design, reading) in means]
    return join_words([f"{show_interval(*mean)} {place_readings([reading])}" for reading, mean in found])


def compare_with_paper(means: dict) -> str:
    """Says which readings' intervals contain the paper's mean and which exclude it, by design."""
    sides = {
        "contain": lambda mean: mean[1] <= PAPER <= mean[2],
        "below": lambda mean: mean[2] < PAPER,
        "above": lambda mean: mean[1] > PAPER,
    }
    sentences = [locate_paper(means)]
    for side, is_there in sides.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for reading in READINGS:
            designs = tuple(design for (design, name), mean in means.items() if name == reading and is_there(mean))
            if designs:
                groups.setdefault(designs, []).append(reading)
        sentences += [describe_side(side, designs, readings, means) for designs, readings in groups.items()]
    return " ".join(sentences)


def locate_paper(means: dict) -> str:
    """Says in short which readings of hardware have an interval that contains the paper's mean."""
    inside = [name for (_, name), (_, low, high) in means.items() if low <= PAPER <= high and name != BOUND]
    if not inside:
        return f"No reading's interval contains the paper's {show_times(PAPER)}."
    readings = [name for name in BUILDABLE if name in inside]
    return f"Intervals contain the paper's {show_times(PAPER)} only {place_readings(readings)}."


def describe_side(side: str, designs: tuple[str, ...], readings: list[str], means: dict) -> str:
    """Says on which side of the paper's mean the intervals of some readings are."""
    every = designs == tuple(order_readings(means))
    where = "with all settings" if every else join_words([DESIGNS[name] for name in designs])
    whose = join_words([name_reading(name) for name in readings])
    subject = f"The interval of {whose}" if len(readings) == 1 else f"The intervals of {whose}"
    one = len(readings) == 1
    if side == "contain":
        return f"{subject} {'contains' if one else 'contain'} it {where}."
    return f"{subject} {'excludes' if one else 'exclude'} it {where}: {'it is' if one else 'they are'} {side} it."


def count_gaining(speed_ups: pl.DataFrame) -> int:
    """Counts the rows whose interval is above 1x."""
    return (speed_ups["speed_up_low"].fill_null(speed_ups["speed_up"]) > GAIN).sum()


def order_readings(means: dict) -> list[str]:
    return list(dict.fromkeys(design for design, _ in means))


def capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def list_intervals(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """Lists all speed-ups with intervals over steps and projections: table, model, and half of the width as a share."""
    half = (pl.col("speed_up_high") - pl.col("speed_up_low")) / 2 / pl.col("speed_up")
    frames = [
        tables[table].select("model", table=pl.lit(table), half=half.cast(pl.Float64))
        for table in ("speed_ups", "frontier", "sizes", "hardware")
        if table in tables
    ]
    return pl.concat(frames)


def find_wide(intervals: pl.DataFrame) -> pl.DataFrame:
    """Selects the intervals wider than `WIDE`."""
    return intervals.filter(pl.col("half") > WIDE)


def describe_widths(tables: dict[str, pl.DataFrame]) -> str:
    """Counts the wide intervals, and names the widest of each model at its own size."""
    intervals = list_intervals(tables)
    wide, known = find_wide(intervals), intervals["half"].count()
    sentences = [f"{wide.height} of {known} intervals are wider than ±{100 * WIDE:g} % of their speed-up."]
    if known < intervals.height:
        sentences.append(f"{intervals.height - known} speed-ups have no interval.")
    own = wide.filter(pl.col("table").is_in(["speed_ups", "frontier"]))
    widest = own.group_by("model", maintain_order=True).agg(pl.col("half").max())
    if widest.height:
        rows = widest.sort("half", descending=True, maintain_order=True).rows()
        listed = "; ".join(f"`{model}` ±{100 * half:.0f} %" for model, half in rows)
        sentences.append(f"The widest of each model, over its settings, bounds and readings: {listed}.")
    return " ".join(sentences)


def explain_chain(chain: pl.DataFrame) -> str:
    """Says what the ladder shows, as means over models."""
    # Narrow units for signatures lose what the next ones gain; only the widest one, which is a preset, counts here.
    narrow = pl.col("assumption").str.starts_with("a unit of") & pl.col("preset").is_null()
    rungs = average_by(chain.filter(~narrow), "assumption")
    names, means = rungs["assumption"].to_list(), rungs["speed_up"].to_list()
    factors = {name: mean / before for name, mean, before in zip(names[1:], means[1:], means, strict=False)}
    most = sorted(factors, key=lambda name: -abs(np.log(factors[name])))[:3]
    last = chain.filter(assumption=names[-1])
    below = last.filter(pl.col("speed_up") < PAPER)
    sentences = [
        f"The ladder leads from {show_times(means[0])} with the preset to {show_times(means[-1])} "
        "at the bound; each rung makes "
        "one assumption more than the rung before.",
        "The assumptions that change most, with their factors (a unit of 168 MACs over no unit): "
        + "; ".join(f"{name} ({factors[name]:.2f})" for name in most) + ".",
        f"At the bound, {below.height} of {count(last.height, 'model')} stay below {show_times(PAPER)}.",
    ]  # fmt: skip
    return " ".join(sentences)


def describe_sizes(sizes: pl.DataFrame) -> str:
    """Says how the speed-up changes from the smallest to the largest images, by model."""
    changes = []
    for model in in_order(sizes, "model"):
        rows = sizes.filter(model=model, reading="mercury-skip").sort("size").to_dicts()
        if len(rows) > 1:
            first, last = rows[0]["speed_up"], rows[-1]["speed_up"]
            changes.append(f"from {show_times(first)} to {show_times(last)} for `{model}`")
    if not changes:
        return ""
    small, large = sizes["size"].min(), sizes["size"].max()
    return f"From {small} to {large} pixels, the speed-up under `mercury-skip` changes {join_words(changes)}."


def describe_training(training: pl.DataFrame) -> str:
    """Says which models start from trained weights, and how many inputs the figures are of."""
    trained = training.filter(pl.col("weights") != "none")["model"].to_list()
    rest = training.filter(pl.col("weights") == "none")["model"].to_list()
    text = "All models start from random weights."
    if trained:
        text = f"These start from trained weights: {join_words([f'`{name}`' for name in trained])}."
        text += f" The other {len(rest)}, modern models included, start from random weights." if rest else ""
    groups = {"the paper's": select_paper(training), "modern": training.filter(group="modern")}
    fewest = [f"{group['different'].min()} ({name} models)" for name, group in groups.items() if group.height]
    listed = join_words(fewest)
    return f"{text} The captured steps after the trial have at least {listed} different images or sentences."
