#!/usr/bin/env python3
"""Writes the results of `run.py` to docs/paper.md, with a chart next to it, and the answer to the README.

Prints a table with one row per model, and the answer. `--docs` and `--readme` name the pages; the text goes between
their marks.
"""

import argparse
import json
import sys
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from folders import ALL_ON, BY_LAYER, BY_MODEL, SETTINGS
from reasons import EVERY, ZEROS
from settings import BOUND, MODELS

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks")]
from charts import PAPER, in_order, paper_chain, paper_cycles, paper_speed_ups  # noqa: E402
from runs import put_between  # noqa: E402

TABLES = ["training", "models", "cycles", "chain", "bounds"]
MARKS = ("<!-- paper -->", "<!-- /paper -->")


def read(place: Path) -> dict[str, pl.DataFrame]:
    """Reads the tables of a run; empty if there are none."""
    paths = {name: place / f"{name}.parquet" for name in TABLES}
    return {name: pl.read_parquet(path) for name, path in paths.items() if path.exists()}


def markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def times(speed_up: float) -> str:
    return f"{speed_up:.2f}x"


def geometric(values: pl.Series) -> float:
    return float(np.exp(np.log(values.to_numpy()).mean()))


def interval(values: pl.Series) -> str:
    """Formats the 95 % bootstrap interval of the geometric mean over models."""
    logs = np.log(values.to_numpy())
    drawn = np.random.default_rng(1).choice(logs, (10_000, len(logs))).mean(axis=1)
    low, high = np.exp(np.quantile(drawn, [0.025, 0.975]))
    return f"{low:.2f} to {high:.2f}"


def tabulate_setting(models: pl.DataFrame, setting: str) -> str:
    """Tabulates a setting, one row per model."""
    chosen = setting in (BY_MODEL, BY_LAYER)
    header = ["model", *(["setting"] if chosen else []), "hit rate", "output error", "worst layer", "gradient error"]
    header += ["computations saved", "forward", "backward", "step (95 % interval)", "layers off"]
    shares = ["hit_rate", "output_error", "worst_layer_error", "gradient_error", "saved"]
    rows = []
    for row in models.filter(setting=setting).to_dicts():
        cells = [row["model"], *([row["keys"] or "none"] if chosen else [])]
        if row["layers_off"] is None:
            rows.append([*cells, *["-"] * 7, times(1), "all"])
            continue
        step = f"{times(row['step'])} ({row['step_low']:.2f} to {row['step_high']:.2f})"
        cells += [percent(row[name]) for name in shares] + [times(row["forward"]), times(row["backward"]), step]
        rows.append([*cells, f"{row['layers_off']} of {row['layers']}"])
    return markdown(header, rows)


def tabulate_training(training: pl.DataFrame) -> str:
    header = ["model", "data", "input", "batch", "steps", "captured", "loss, first and last five steps", "validation"]
    rows = [
        [
            *(str(row[name]) for name in ("model", "data", "input", "batch", "steps")),
            ", ".join(map(str, row["captured"])),
            f"{row['first_loss']:.2f}, {row['last_loss']:.2f}",
            f"{row['metric']} {percent(row['value'])}",
        ]
        for row in training.to_dicts()
    ]
    return markdown(header, rows)


def tabulate_passes(cycles: pl.DataFrame) -> str:
    """Tabulates the parts of the cycles with every layer on, as shares of the baseline's step averaged over models."""
    parts = in_order(cycles, "part")
    groups = cycles.filter(setting=ALL_ON).group_by("pass", "part", maintain_order=True)
    wide = groups.agg(pl.col("baseline", "share").mean()).pivot(
        "part", index=["pass", "baseline"], values="share", maintain_order=True
    )
    wide = wide.with_columns(total=pl.sum_horizontal(parts))
    columns = ["baseline", "total", *parts]
    rows = [[row["pass"], *(percent(row[name]) for name in columns)] for row in wide.to_dicts()]
    rows.append(["step", *(percent(wide[name].sum()) for name in columns)])
    return markdown(["pass", "baseline", "with reuse", *parts], rows)


def means(models: pl.DataFrame) -> str:
    header = ["", "geometric mean", "95 % interval over models", "arithmetic mean", "models that gain"]
    rows = [["the paper", "", "", times(PAPER), ""]]
    for setting in SETTINGS:
        step = models.filter(setting=setting)["step"]
        gaining = f"{(step > 1.005).sum()} of {len(step)}"
        rows.append([setting, times(geometric(step)), interval(step), times(step.mean()), gaining])
    return markdown(header, rows)


def tabulate_speed_ups(frame: pl.DataFrame, column: str) -> str:
    """Tabulates speed-ups, one row per model and a last row with their geometric mean."""
    names = in_order(frame, column)
    wide = frame.pivot(column, index="model", values="speed_up", maintain_order=True)
    rows = [[row["model"], *(times(row[name]) for name in names)] for row in wide.to_dicts()]
    rows.append(["geometric mean", *(times(geometric(wide[name])) for name in names)])
    return markdown(["model", *names], rows)


def list_sizes(training: pl.DataFrame) -> list[str]:
    """The sizes of the images of a run, such as 32 x 32, the smallest first; texts have none."""
    sizes = {text.split(" x ", 1)[1] for text in training["input"] if " x " in text}
    return sorted(sizes, key=lambda size: int(size.split(" x ")[0]))


def name_range(values: list) -> str:
    return f"{values[0]}" if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def describe_scope(tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> list[str]:
    """The length of the training and the sizes of images behind the answer, and the mean on larger images."""
    steps, sizes = name_range(sorted(tables["training"]["steps"])), list_sizes(tables["training"])
    images = f", the image models on {name_range(sizes)} pixels" if sizes else ""
    text = [f"The models train for {steps} steps{images}."]
    if not larger:
        return text
    means = compare_sizes(tables, larger)
    last = list(means["large"])[-1]
    sizes, steps = name_range(list_sizes(larger["training"])), name_range(sorted(larger["training"]["steps"]))
    return [
        *text,
        f"On photos of {sizes} pixels, after {steps} steps, the preset gives {means['large'][last]} for",
        f"{larger['training'].height} of the models, and {means['small'][last]} for the same models on small images.",
    ]


def answer(tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    """The answer to the page's question."""
    models = tables["models"]
    step = {name: models.filter(setting=name)["step"] for name in SETTINGS}
    mean = {name: times(geometric(speed_ups)) for name, speed_ups in step.items()}
    mercury, error = step["mercury"], models.filter(setting=ALL_ON)["output_error"]
    none = models.filter(setting=BY_LAYER)["layers_off"].null_count()
    return " ".join(
        [
            f"The paper's abstract reports {times(PAPER)}. Here the preset gives {mean['mercury']} (geometric mean",
            f"of {len(mercury)} models; 95 % interval over models {interval(mercury)}; arithmetic mean",
            f"{times(mercury.mean())}). With reuse in every layer the speed-up is {mean[ALL_ON]}, at output errors of",
            f"{percent(error.min())} to {percent(error.max())}. If the model's error is bounded by {100 * BOUND:g} %,",
            f"the best settings give {mean[BY_MODEL]}. If each layer's error is bounded by {100 * BOUND:g} %, they",
            f"give {mean[BY_LAYER]}, and for {none} of the models no swept setting is faster than no reuse.",
            *describe_scope(tables, larger),
        ]
    )


def why(chain: pl.DataFrame, bounds: pl.DataFrame) -> str:
    """The reasons why the speed-up shrinks, as means over models."""
    names = in_order(chain, "assumption")
    mean = [geometric(chain.filter(assumption=name)["speed_up"]) for name in names]
    links = zip(names[1:], mean, mean[1:], strict=False)
    zeros = geometric(bounds.filter(bound=ZEROS)["speed_up"])
    ceiling = bounds.filter(bound=EVERY)
    below = ceiling.filter(pl.col("speed_up") < PAPER).select("model", "speed_up")
    listed = ", ".join(f"{model} {times(most)}" for model, most in below.iter_rows()) or "none"
    first = [
        f"If cycles were proportional to the computations left after hits, the speed-up would be {times(mean[0])},",
        f"{'no less' if mean[0] >= PAPER else 'less'} than the paper's mean. Each further assumption changes it:",
    ]
    last = [
        f"If every vector hit and signatures cost nothing, {below.height} of {ceiling.height} models would still stay",
        f"below {times(PAPER)} on this array: {listed}. The reason is that a HIT takes as long as one position of a",
        "kernel of width one.",
        "Skipping every multiplication by zero, without signatures, cache or error, would give",
        f"{times(zeros)} if cycles were proportional to computations.",
    ]
    bullets = [f"- {name}: factor {after / before:.2f}, leaving {times(after)}" for name, before, after in links]
    return "\n\n".join([" ".join(first), "\n".join(bullets), " ".join(last)])


def chart(tables: dict[str, pl.DataFrame]) -> alt.TopLevelMixin:
    reasons = alt.vconcat(paper_cycles(tables["cycles"].filter(setting=ALL_ON)), paper_chain(tables["chain"]))
    whole = alt.hconcat(paper_speed_ups(tables["models"]), reasons.resolve_scale(color="independent"))
    return whole.resolve_scale(color="independent").configure(background="white")


def origin(out: Path, tables: dict[str, pl.DataFrame]) -> str:
    """The command, the commit and the time of a run."""
    run, training = json.loads((out / "run.json").read_text()), tables["training"]
    commits = ", ".join(sorted(set(training["commits"].explode())))
    wall, busy = (f"{run[name] / 60:.0f} minutes" for name in ("wall", "cpu"))
    missing = [model for model in MODELS if model not in set(training["model"])]
    text = f"Measured with `{run['command']}` at commit {commits}, in {wall} ({busy} of CPU time)."
    return text + (f" Missing: {', '.join(missing)}." if missing else "")


def compare_sizes(small: dict[str, pl.DataFrame], large: dict[str, pl.DataFrame]) -> dict[str, dict[str, str]]:
    """Mean speed-ups of the same models on small images and on photos, by assumption."""
    names = in_order(large["chain"], "assumption")
    of = {}
    for size, tables in (("small", small), ("large", large)):
        chained = tables["chain"].filter(pl.col("model").is_in(large["training"]["model"].implode()))
        of[size] = {name: times(geometric(chained.filter(assumption=name)["speed_up"])) for name in names}
    return of


def describe_larger(small: dict[str, pl.DataFrame], large: dict[str, pl.DataFrame]) -> list[str]:
    """Describes the results of the same models on photos."""
    of = compare_sizes(small, large)
    names = list(of["large"])
    first, every, last = names[0], names[-2], names[-1]
    text = [
        f"{large['training'].height} of the models also run on photos of the size they were made for, after a few",
        "training steps. Geometric means of their speed-ups on the small images above and on photos:",
        f"{of['small'][first]} and {of['large'][first]} if cycles were proportional to computations,",
        f"{of['small'][every]} and {of['large'][every]} with every layer on,",
        f"{of['small'][last]} and {of['large'][last]} with the preset.",
    ]
    tables = [tabulate_speed_ups(large["chain"], "assumption"), tabulate_setting(large["models"], ALL_ON)]
    return ["### Larger inputs", " ".join(text), *tables, tabulate_training(large["training"])]


def page(out: Path, tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    models, chained = tables["models"], tables["chain"]
    parts = [
        answer(tables, larger),
        origin(out, tables),
        "### Means",
        means(models),
        "### Why",
        why(chained, tables["bounds"]),
        tabulate_speed_ups(chained, "assumption"),
        "Cycles with every layer on (means over models, in % of the baseline's step):",
        tabulate_passes(tables["cycles"]),
        "### Bounds",
        "Speed-up of a step if its cycles were proportional to the computations that each bound leaves. The last "
        "column is the bound of the array itself:",
        tabulate_speed_ups(tables["bounds"], "bound"),
        *(describe_larger(tables, larger) if larger else []),
        "### Model by model",
        *(text for name in SETTINGS for text in (f"{name}:", tabulate_setting(models, name))),
        "### What was trained",
        tabulate_training(tables["training"]),
    ]
    return "\n\n".join(parts)


def short(out: Path, tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    """A table with one row per model, and the answer."""
    models = tables["models"].join(tables["training"], on="model", maintain_order="left")
    of = {name: models.filter(setting=name) for name in SETTINGS}
    header = ["model", "input", "hit rate", "output error", "computations saved", "step, all layers on"]
    header += ["layers off", "step", "best, model's error <= 1 %", "best, each layer's <= 1 %"]
    order = [ALL_ON, "mercury", BY_MODEL, BY_LAYER]
    rows = []
    for every, mercury, by_model, by_layer in zip(*(of[name].to_dicts() for name in order), strict=True):
        shares = [percent(every[name]) for name in ("hit_rate", "output_error", "saved")]
        off = f"{mercury['layers_off']} of {mercury['layers']}"
        speeds = [times(row["step"]) for row in (mercury, by_model, by_layer)]
        rows.append([every["model"], every["input"], *shares, times(every["step"]), off, *speeds])
    steps = [times(geometric(of[name]["step"])) for name in order]
    rows.append(["geometric mean", "", "", "", "", steps[0], "", *steps[1:]])
    return "\n\n".join([markdown(header, rows), f"{answer(tables, larger)} {origin(out, tables)}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "paper", help="folder of the run")
    parser.add_argument("--docs", type=Path, help="a page; the chart is written next to it")
    parser.add_argument("--readme", type=Path, help="a page for the answer, if it has the marks")
    arguments = parser.parse_args()
    tables, larger = read(arguments.out), read(arguments.out / "larger")
    print(short(arguments.out, tables, larger))
    if arguments.docs:
        chart(tables).save(arguments.docs.with_suffix(".svg"))
        put_between(arguments.docs, "<!-- paper: begin -->", "<!-- paper: end -->", page(arguments.out, tables, larger))
    if arguments.readme and MARKS[0] in arguments.readme.read_text():
        put_between(arguments.readme, *MARKS, answer(tables, larger))


if __name__ == "__main__":
    main()
