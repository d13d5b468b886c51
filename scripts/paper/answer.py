"""Answers the question of docs/paper.md, there and in the README: does reuse pay, where, and how sure is it?"""

import polars as pl
from charts import ACCEPTED, EQUAL_MACS, average_models, in_order
from words import (
    BUILDABLE,
    PRESET,
    WIDE,
    WITHIN,
    average_designs,
    count,
    count_gaining,
    find_wide,
    join_words,
    judge_readings,
    list_intervals,
    list_means,
    locate_paper,
    select_paper,
    show_percent,
    show_range,
    show_times,
)

# The reading by which classes of networks, weights and sizes are compared.
COMPARED = "mercury-skip"


def describe_inputs(training: pl.DataFrame) -> str:
    """Describes the inputs of the paper's models: `images of 224 or 299 pixels, a small Transformer on …`."""
    inputs = select_paper(training)["input"].unique(maintain_order=True).to_list()
    sides = sorted({int(text.split(" x ")[1]) for text in inputs if " x " in text})
    parts = [f"images of {' or '.join(map(str, sides))} pixels"] if sides else []
    # The base Transformer learns too slowly for two cores.
    parts += [f"a small Transformer on sentences of {text}" for text in inputs if text.endswith("tokens")]
    return ", ".join(parts)


def select_hardware(speed_ups: pl.DataFrame, design: str) -> pl.DataFrame:
    """Selects a design's rows of the paper's models under the readings of hardware."""
    readings = pl.col("reading").is_in([name for name in BUILDABLE if name != EQUAL_MACS])
    return select_paper(speed_ups).filter(readings, design=design)


def compare_classes(speed_ups: pl.DataFrame) -> str:
    """Compares the classes of networks within 10 %."""
    found = select_hardware(speed_ups, WITHIN).filter(reading=COMPARED)
    means = [
        f"{show_times(average_models(found.filter(kind=kind)['speed_up'])[0])} for {kind}"
        for kind in in_order(found, "kind")
    ]
    return f"By class of networks, under `{COMPARED}`: {join_words(means)}."


def count_gains(speed_ups: pl.DataFrame) -> str:
    """Counts the models that gain within 10 %, by reading of hardware."""
    found = select_hardware(speed_ups, WITHIN)
    gains = [count_gaining(found.filter(reading=name)) for name in in_order(found, "reading")]
    return f"{join_words([str(gain) for gain in gains])} of the models gain under these readings of hardware."


def describe_exceeding(speed_ups: pl.DataFrame) -> str:
    """Says how many errors exceed the bound where the designs are judged."""
    found = select_hardware(speed_ups, WITHIN)
    exceeding, passes = found["exceeding"].sum(), found["passes"].sum()
    return (
        f"Judged on other steps, {show_percent(exceeding / passes)} of the errors exceed 10 %; "
        f"the largest is {show_percent(found['largest_error'].max())}."
    )


def describe_predicted(accepted: dict, page: str) -> str:
    """Says which error the calibration predicts to be accepted."""
    points = accepted["bound"].split("<=")[1]
    unit = "point" if points == "1" else "points"
    return (
        f"Step error at most {show_percent(accepted['step_error'])}, where a [calibration of small networks]({page}) "
        f"predicts at most {points} {unit} of accuracy lost"
    )


def describe_start(tables: dict[str, pl.DataFrame]) -> str:
    """Says how the models trained, and how much trained weights matter."""
    training = select_paper(tables["training"])
    images = training.filter(pl.col("model") != "transformer")
    trained = images.filter(pl.col("weights") != "none")["model"]
    sentence = ""
    if images.height:
        steps = sorted({images["steps"].min(), images["steps"].max()})
        sentence = f"The image models train {' to '.join(map(str, steps))} steps on 18 photos"
        sentence += f", {images.height - len(trained)} of {images.height} from random weights."
    found = select_hardware(tables["speed_ups"], WITHIN).filter(reading=COMPARED)
    fresh = images.filter(weights="none")["model"]
    groups = [found.filter(pl.col("model").is_in(names.implode())) for names in (trained, fresh)]
    if all(group.height for group in groups):
        one, other = (show_times(average_models(group["speed_up"])[0]) for group in groups)
        sentence += f" Within 10 % under `{COMPARED}`, those with trained weights average {one}, the others {other}."
    return sentence


def answer_question(tables: dict[str, pl.DataFrame], accepted: dict | None) -> str:
    """Answers the page's question."""
    speed_ups = tables["speed_ups"]
    means, models = average_designs(speed_ups), select_paper(speed_ups)["model"].n_unique()
    opening = f"{count(models, 'model')} of the paper: {describe_inputs(tables['training'])}."
    opening += " Means are geometric, with 95 % intervals over models."
    points = []
    if (WITHIN, BUILDABLE[0]) in means:
        points.append(
            f"**Every layer's error at most 10 %**: {list_means(means, WITHIN)}. On average reuse "
            f"{judge_readings(means, WITHIN)}. {count_gains(speed_ups)} {compare_classes(speed_ups)} "
            + describe_exceeding(speed_ups)
        )
    if accepted and (ACCEPTED, BUILDABLE[0]) in means:
        found = select_hardware(speed_ups, ACCEPTED)
        points.append(
            f"**{describe_predicted(accepted, 'accuracy.md')}**: {list_means(means, ACCEPTED)}. "
            "The prediction lies between designs that were trained, and no network of these sizes was. "
            "Single layers are off by up to "
            f"{show_percent(found['largest_error'].max())}; where judged, step errors reach "
            f"{show_percent(found['step_error'].max())}."
        )
    errors = select_hardware(speed_ups, PRESET)["output_error"]
    if len(errors):
        points.append(
            f"**The preset's settings**, at output errors of {show_range(errors)}: {list_means(means, PRESET)}."
        )
    points += [f"**The paper's mean**: {locate_paper(means)}", " ".join(describe_certainty(tables, models))]
    return "\n".join([f"{opening}\n", *(f"- {point}" for point in points)])


def describe_certainty(tables: dict[str, pl.DataFrame], models: int) -> list[str]:
    """Says what was trained and what the intervals cover."""
    sentences = [
        f"**How sure**: {describe_start(tables)}",
        "Errors are those of each layer's own reuse on exact operands; in a training they add up.",
        "Intervals of means cover the choice of models; those of a model cover its training steps and projections, not "
        "other photos.",
    ]
    if models < 6:
        sentences.append(f"An interval over {count(models, 'model')} says little.")
    intervals = list_intervals(tables)
    wide = find_wide(intervals)
    if wide.height:
        sentences.append(
            f"{wide.height} of {intervals['half'].count()} intervals of models are wider than ±{100 * WIDE:g} % "
            "([widths](#how-sure-are-the-speed-ups))."
        )
    return sentences


def summarise_answer(tables: dict[str, pl.DataFrame], accepted: dict | None) -> str:
    """Answers the question in at most 220 words, for the README."""
    speed_ups = tables["speed_ups"]
    means, models = average_designs(speed_ups), select_paper(speed_ups)["model"].n_unique()
    opening = f"{count(models, 'model')} ({describe_inputs(tables['training'])}); geometric means, with 95 % intervals "
    opening += "over models."
    points = []
    if (WITHIN, BUILDABLE[0]) in means:
        gains = f"{list_means(means, WITHIN)}. {compare_classes(speed_ups)}"
        points.append(f"**Every layer's error at most 10 %**: {gains} {describe_exceeding(speed_ups)}")
    if accepted and (ACCEPTED, BUILDABLE[0]) in means:
        shown = [show_times(means[ACCEPTED, name][0]) for name in BUILDABLE if (ACCEPTED, name) in means]
        predicted = describe_predicted(accepted, "docs/accuracy.md")
        points.append(f"**{predicted}**: {join_words(shown)} in the same order.")
    points += [compare_sides(tables["sizes"])] if "sizes" in tables else []
    points.append(locate_paper(means))
    points.append(describe_start(tables))
    points.append(
        "**Your own model**: [capture it in PyTorch](#your-own-pytorch-model); from a trace, "
        "`mercury-analyzer search TRACE --bound 'layer-error<=0.1'`."
    )
    return "\n".join([f"{opening}\n", *(f"- {point}" for point in points if point)])


def compare_sides(sizes: pl.DataFrame) -> str:
    """Compares the speed-up on the smallest and the largest images, with the preset's settings, model by model."""
    parts = []
    for model in in_order(sizes, "model"):
        rows = sizes.filter(model=model, reading=COMPARED).sort("size").to_dicts()
        if len(rows) > 1:
            parts.append(f"`{model}` {show_times(rows[0]['speed_up'])} to {show_times(rows[-1]['speed_up'])}")
    if not parts:
        return ""
    small, large = sizes["size"].min(), sizes["size"].max()
    return f"**Input size**, preset `{COMPARED}` without a bound, from {small} to {large} pixels: {join_words(parts)}."
