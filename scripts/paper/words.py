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
    ACCEPTED: "within the accepted step error",
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


def order_readings(means: dict) -> list[str]:
    return list(dict.fromkeys(design for design, _ in means))


def capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def describe_inputs(training: pl.DataFrame, square: bool = True) -> str:
    """Describes the inputs of the paper's models, such as `images of 224 x 224 pixels and sentences of 32 tokens`.

    Unless `square`, images have one side: `images of 224 pixels`.
    """
    inputs = select_paper(training)["input"].unique(maintain_order=True).to_list()
    sides = sorted({int(text.split(" x ")[1]) for text in inputs if " x " in text})
    images = " or ".join(f"{side} x {side}" if square else f"{side}" for side in sides)
    parts = [f"images of {images} pixels"] if images else []
    parts += [f"sentences of {text}" for text in inputs if text.endswith("tokens")]
    return " and ".join(parts)


def describe_accepted(accepted: dict | None) -> str | None:
    """Describes the error that the calibration accepts."""
    if not accepted:
        return None
    points = accepted["bound"].split("<=")[1]
    unit = "point" if points == "1" else "points"
    return f"the step error of {show_percent(accepted['step_error'])}, up to which they lose at most {points} {unit}"


def answer_question(tables: dict[str, pl.DataFrame], accepted: dict | None) -> str:
    """Answers the page's question in a paragraph."""
    speed_ups = tables["speed_ups"]
    means, models = average_designs(speed_ups), select_paper(speed_ups)["model"].n_unique()
    sentences = [
        f"{count(models, 'model')} of the paper, on {describe_inputs(tables['training'])}; means are geometric, with "
        "95 % intervals over models."
    ]
    if (WITHIN, BUILDABLE[0]) in means:
        sentences.append(
            "If every layer may be off by at most 10 %, the speed-up of a training step is "
            f"{list_means(means, WITHIN)}. So reuse {judge_readings(means, WITHIN)}."
        )
    small = describe_accepted(accepted)
    if small and (ACCEPTED, BUILDABLE[0]) in means:
        sentences.append(
            f"The error that training accepts is known for [small networks](accuracy.md) only. Within {small}, the "
            f"speed-up is {list_means(means, ACCEPTED)}. There reuse {judge_readings(means, ACCEPTED)}."
        )
    errors = select_paper(speed_ups).filter(design=PRESET)["output_error"]
    if len(errors):
        sentences.append(
            f"The preset's settings, at output errors of {show_range(errors)}, give {list_means(means, PRESET)}."
        )
    return " ".join([*sentences, locate_paper(means), *describe_certainty(tables, models)])


def describe_certainty(tables: dict[str, pl.DataFrame], models: int) -> list[str]:
    """Says what the intervals cover."""
    sentences = [
        "Errors are those of each layer's own reuse on exact operands; in a training they add up.",
        "Intervals of means cover the choice of models; those of a model cover training steps and projections.",
    ]
    if models < 6:
        sentences.append(f"An interval over {count(models, 'model')} says little.")
    wide = find_wide(list_intervals(tables))
    if wide.height:
        place = "[widths](#how-sure-are-the-speed-ups)"
        sentences.append(f"Some of the latter are wider than ±{100 * WIDE:g} % ({place}).")
    return sentences


def summarise_answer(tables: dict[str, pl.DataFrame], accepted: dict | None) -> str:
    """Answers the question in at most 120 words, for the README."""
    speed_ups = tables["speed_ups"]
    means, models = average_designs(speed_ups), select_paper(speed_ups)["model"].n_unique()
    inputs = describe_inputs(tables["training"], square=False).replace(" and ", ", ")
    sentences = [f"{count(models, 'model')} ({inputs}), geometric means with 95 % intervals over models."]
    if (WITHIN, BUILDABLE[0]) in means:
        sentences.append(f"With every layer's error at most 10 %: {list_means(means, WITHIN)}.")
    if accepted and (ACCEPTED, BUILDABLE[0]) in means:
        judged = judge_readings(means, ACCEPTED)
        shown = join_words([show_times(means[ACCEPTED, name][0]) for name in BUILDABLE if (ACCEPTED, name) in means])
        sentences.append(
            f"At the step error of {show_percent(accepted['step_error'])} "
            "that [small networks accepted](docs/accuracy.md): "
            f"{shown}; there reuse {judged}."
        )
    sentences.append(locate_paper(means))
    sentences += [compare_sides(tables["sizes"])] if "sizes" in tables else []
    return " ".join([*sentences, "Your own model: `mercury-analyzer search TRACE --bound 'layer-error<=0.1'`."])


def compare_sides(sizes: pl.DataFrame, reading: str = "mercury-skip") -> str:
    """Compares the speed-up on the smallest and the largest images, with the preset's settings."""
    found = sizes.filter(reading=reading).sort("size", maintain_order=True)
    means = average_by(found, "size").rows()
    if len(means) < 2:
        return ""
    (small, first, *_), (large, last, *_) = means[0], means[-1]
    return (
        f"Preset `{reading}` gives {show_times(first)} at {small} pixels, {show_times(last)} at {large} "
        f"({count(found['model'].n_unique(), 'model')})."
    )


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
    widest = wide.filter(table="speed_ups").group_by("model", maintain_order=True).agg(pl.col("half").max())
    if widest.height:
        rows = widest.sort("half", descending=True, maintain_order=True).rows()
        listed = "; ".join(f"`{model}` ±{100 * half:.0f} %" for model, half in rows)
        sentences.append(f"The widest of each model, over its settings and readings: {listed}.")
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
        "The assumptions that change most, with their factors (of units for signatures the widest): "
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


def judge_at_equal_macs(hardware: pl.DataFrame) -> pl.DataFrame:
    """Adds the speed-up at equal MACs and its interval, where the hardware has more MACs."""
    worth = pl.coalesce("speed_up_equal_macs", "speed_up")
    shares = worth / pl.col("speed_up")
    return hardware.with_columns(
        worth=worth, low=pl.col("speed_up_low") * shares, high=pl.col("speed_up_high") * shares
    )


def describe_hardware(hardware: pl.DataFrame) -> str:
    """Says for each class of networks what hardware the best design wants."""
    frame = judge_at_equal_macs(hardware)
    return "\n".join(describe_class(frame.filter(kind=kind)) for kind in in_order(frame, "kind"))


def find_wanted(rows: pl.DataFrame) -> tuple[dict[str, tuple[dict, dict]], list[str]]:
    """Finds the least hardware that is as good as the best, beside the worst, by axis; and axes without difference."""
    wanted, equal = {}, []
    for axis in in_order(rows, "axis"):
        found = rows.filter(~pl.col("is_bound"), axis=axis).drop_nulls("worth")
        values = found.sort("worth", descending=True, maintain_order=True).to_dicts()
        if len(values) < 2:
            continue
        best, worst = values[0], values[-1]
        if best["worth"] <= GAIN or (best["low"] or best["worth"]) <= (worst["high"] or worst["worth"]):
            equal.append(axis)
            continue
        # The first of the values that are as good, in the order of the axis: the least hardware.
        least = next(row for row in found.to_dicts() if row["worth"] >= (best["low"] or best["worth"]))
        wanted[axis] = least, worst
    return wanted, equal


def describe_class(rows: pl.DataFrame) -> str:
    """Says which value of each axis is best at equal MACs, of hardware that can be built."""
    wanted, equal = find_wanted(rows)
    sentences = [f"- **{rows['kind'][0]}** (`{rows['model'][0]}`)."]
    if wanted:
        listed = "; ".join(
            f"{axis}: {least['value']} "
            f"({show_times(least['worth'])}; {show_times(worst['worth'])} with {worst['value']})"
            for axis, (least, worst) in wanted.items()
        )
        factors = {axis: least["worth"] / worst["worth"] for axis, (least, worst) in wanted.items()}
        most = max(factors, key=factors.get)
        sentences.append(f"The best design within 10 % wants {listed}.")
        sentences.append(f"The largest factor, {factors[most]:.2f}, is that of {most}.")
    if equal:
        sentences.append(f"No gain, or no difference beyond the intervals, by {join_words(equal)}.")
    return " ".join(sentences)


def summarise_hardware(hardware: pl.DataFrame) -> str:
    """Says in a line per class what hardware the best design wants, for the README."""
    frame, parts = judge_at_equal_macs(hardware), []
    for kind in in_order(frame, "kind"):
        rows = frame.filter(kind=kind)
        wanted, _ = find_wanted(rows)
        best = max((least["worth"] for least, _ in wanted.values()), default=1)
        listed = "; ".join(f"{axis}: {least['value']}" for axis, (least, _) in wanted.items())
        gain = f"{show_times(best)} with {listed}" if wanted else "no gain"
        parts.append(f"- **{kind}** (`{rows['model'][0]}`): {gain}.")
    place = "docs/paper.md#hardware-by-class-of-networks"
    return "\n".join([f"The hardware that the best design within 10 % wants, [by class of networks]({place}):\n", *parts])


def describe_training(training: pl.DataFrame) -> str:
    """Says which models start from trained weights."""
    trained = training.filter(pl.col("weights") != "none")["model"].to_list()
    rest = training.filter(pl.col("weights") == "none")["model"].to_list()
    text = "All models start from random weights."
    if trained:
        text = f"These start from trained weights: {join_words([f'`{name}`' for name in trained])}."
        text += f" The other {len(rest)} start from random weights." if rest else ""
    fewest = training["different"].min()
    return f"{text} The captured steps after the trial have at least {fewest} different images or sentences."
