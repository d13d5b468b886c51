#!/usr/bin/env python3
"""Writes the results of `run.py` to docs/paper.md, with a chart next to it, and the answer to the README.

Prints a table with one row per model, and the answer. `--docs` and `--readme` name the pages; the text goes between
their marks. Pages are written from runs of one clean commit only, except with `--allow-dirty`.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl
from commits import is_clean
from folders import ALL_ON, BY_LAYER, BY_MODEL, EQUAL_MACS, NO_HARDWARE, READINGS, SETTINGS
from reasons import ZEROS
from settings import BOUND, MODELS

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "notebooks")]
from charts import PAPER, in_order, paper_chain, paper_cycles, paper_readings, paper_speed_ups  # noqa: E402
from runs import put_between  # noqa: E402

TABLES = ["training", "models", "readings", "cycles", "chain", "bounds"]
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


def error_range(frame: pl.DataFrame) -> str:
    """Formats the smallest and the largest output error."""
    low, high = percent(frame["output_error"].min()), percent(frame["output_error"].max())
    return low if low == high else f"{low} to {high}"


def demand(frame: pl.DataFrame) -> list[str]:
    """Formats what MCACHE needs: KB, and results per cycle as the mean over models and the peak; `-` without limit."""
    size, peak = frame["mcache_kb"].max(), frame["mcache_results_peak"].max()
    mean = f"{frame['mcache_results_mean'].mean():.1f}"
    return ["-" if size is None else f"{size:.1f}", mean, "-" if peak is None else f"{peak:.0f}"]


def means(models: pl.DataFrame, readings: pl.DataFrame) -> str:
    """Tabulates means over models: the readings and the bound, then the other settings of the preset `mercury`."""
    header = ["", "geometric mean", "95 % interval over models", "arithmetic mean", "models that gain", "output error"]
    header += ["MCACHE, KB", "results per cycle, mean", "results per cycle, peak"]
    rows = [["the paper", "", "", times(PAPER), "", "", "", "", ""]]
    found = [(name, readings.filter(setting=name).rename({"speed_up": "step"})) for name in READINGS]
    found += [(name, models.filter(setting=name)) for name in SETTINGS[1:]]
    for name, frame in found:
        step = frame["step"]
        gaining = f"{(step > 1.005).sum()} of {len(step)}"
        cells = [name, times(geometric(step)), interval(step), times(step.mean()), gaining, error_range(frame)]
        rows.append(cells + (demand(frame) if name in READINGS else ["", "", ""]))
    return markdown(header, rows)


def tabulate_readings(readings: pl.DataFrame) -> str:
    """Tabulates the readings, one row per model: speed-ups with their intervals, each followed by its output error."""
    header = ["model"]
    for name in READINGS:
        header += [name] if name == EQUAL_MACS else [name, "output error"]
    rows = []
    for model in in_order(readings, "model"):
        cells = [model]
        for row in readings.filter(model=model).to_dicts():
            cells.append(f"{times(row['speed_up'])} ({row['speed_up_low']:.2f} to {row['speed_up_high']:.2f})")
            cells += [] if row["setting"] == EQUAL_MACS else [percent(row["output_error"])]
        rows.append(cells)
    return markdown(header, [*rows, mean_of_readings(readings)])


def mean_of_readings(readings: pl.DataFrame) -> list[str]:
    cells = ["geometric mean"]
    for name in READINGS:
        cells.append(times(geometric(readings.filter(setting=name)["speed_up"])))
        cells += [] if name == EQUAL_MACS else [""]
    return cells


def tabulate_chain(chain: pl.DataFrame) -> str:
    """Tabulates the ladder as means over models."""
    header = ["assumption", "speed-up", "factor", "output error", "computations saved", "MCACHE, KB"]
    header += ["results per cycle, mean", "results per cycle, peak"]
    rows, before = [], None
    for name in in_order(chain, "assumption"):
        rung = chain.filter(assumption=name)
        speed_up = geometric(rung["speed_up"])
        factor = "" if before is None else f"{speed_up / before:.2f}"
        saved = percent(rung["computations_saved"].mean())
        rows.append([name_rung(rung), times(speed_up), factor, error_range(rung), saved, *demand(rung)])
        before = speed_up
    return markdown(header, rows)


def name_rung(rung: pl.DataFrame) -> str:
    """Names a rung, with its preset and whether it is a bound."""
    row = rung.row(0, named=True)
    preset = f" (preset {row['preset']})" if row["preset"] else ""
    return f"{row['assumption']}{preset}{' (a bound)' if rung['is_bound'].any() else ''}"


def tabulate_rungs(chain: pl.DataFrame) -> str:
    """Tabulates the ladder's speed-ups, one row per rung and one column per model."""
    models = in_order(chain, "model")
    wide = chain.pivot("model", index="assumption", values="speed_up", maintain_order=True)
    rows = [[row["assumption"], *(times(row[name]) for name in models)] for row in wide.to_dicts()]
    return markdown(["assumption", *models], rows)


def tabulate_bounds(bounds: pl.DataFrame) -> str:
    """Tabulates bounds, one row per model and a last row with their geometric mean."""
    names = in_order(bounds, "bound")
    wide = bounds.pivot("bound", index="model", values="speed_up", maintain_order=True)
    rows = [[row["model"], *(times(row[name]) for name in names)] for row in wide.to_dicts()]
    rows.append(["geometric mean", *(times(geometric(wide[name])) for name in names)])
    return markdown(["model", *names], rows)


def list_sizes(training: pl.DataFrame) -> list[str]:
    """The sizes of the images of a run, such as 32 x 32, the smallest first; texts have none."""
    sizes = {text.split(" x ", 1)[1] for text in training["input"] if " x " in text}
    return sorted(sizes, key=lambda size: int(size.split(" x ")[0]))


def name_range(values: list) -> str:
    return f"{values[0]}" if values[0] == values[-1] else f"{values[0]} to {values[-1]}"


def compare_sizes(small: dict[str, pl.DataFrame], large: dict[str, pl.DataFrame]) -> dict[str, tuple[str, str]]:
    """Mean speed-ups of the same models on small images and on photos, by reading."""
    models = pl.col("model").is_in(large["training"]["model"].implode())
    means = {}
    for name in READINGS:
        speed_ups = [tables["readings"].filter(models, setting=name)["speed_up"] for tables in (small, large)]
        means[name] = tuple(times(geometric(values)) for values in speed_ups)
    return means


def describe_scope(tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> list[str]:
    """The length of the training and the sizes of images behind the answer, and the means on larger images."""
    steps, sizes = name_range(sorted(tables["training"]["steps"])), list_sizes(tables["training"])
    images = f", the image models on {name_range(sizes)} pixels" if sizes else ""
    text = [f"The models train for {steps} steps{images}."]
    if not larger:
        return text
    means, count = compare_sizes(tables, larger), larger["training"].height
    sizes, steps = name_range(list_sizes(larger["training"])), name_range(sorted(larger["training"]["steps"]))
    errors = {name: error_range(larger["readings"].filter(setting=name)) for name in READINGS}
    large = "; ".join(f"{name} {means[name][1]} at output errors of {errors[name]}" for name in READINGS)
    return [
        *text,
        f"On photos of {sizes} pixels, after {steps} steps, {count} of the models give: {large}. On small images the",
        f"preset mercury gives the same models {means['mercury'][0]}.",
    ]


def answer(tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    """The answer to the page's question."""
    models, readings = tables["models"], tables["readings"]
    found = {name: readings.filter(setting=name) for name in READINGS}
    mean = {name: times(geometric(frame["speed_up"])) for name, frame in found.items()}
    best = {name: times(geometric(models.filter(setting=name)["step"])) for name in SETTINGS}
    error = {name: error_range(frame) for name, frame in found.items()}
    mercury, every = found["mercury"]["speed_up"], models.filter(setting=ALL_ON)
    none = models.filter(setting=BY_LAYER)["layers_off"].null_count()
    return " ".join(
        [
            f"The paper's abstract reports {times(PAPER)}. Here the answer depends on what a HIT and a signature cost.",
            f"The preset mercury gives {mean['mercury']} at output errors of {error['mercury']} (geometric mean of",
            f"{len(mercury)} models; 95 % interval over models {interval(mercury)}; arithmetic mean",
            f"{times(mercury.mean())}). With HITs as fast as the processing elements allow (mercury-skip) it is",
            f"{mean['mercury-skip']} at {error['mercury-skip']}. With a unit beside the array that computes",
            f"signatures ahead (mercury-ahead) it is {mean['mercury-ahead']} at {error['mercury-ahead']}, and",
            f"{mean[EQUAL_MACS]} if the baseline gets the unit's multiply-accumulates. The bound, which no hardware",
            f"reaches, is {mean[NO_HARDWARE]} at {error[NO_HARDWARE]}.",
            f"With the preset mercury and reuse in every layer the speed-up is {best[ALL_ON]}, at output errors of",
            f"{error_range(every)}. If the model's error is bounded by {100 * BOUND:g} %,",
            f"the best settings of its array give {best[BY_MODEL]}. If each layer's error is bounded by",
            f"{100 * BOUND:g} %, they give {best[BY_LAYER]}, and for {none} of the models no swept setting is faster",
            "than no reuse.",
            *describe_scope(tables, larger),
        ]
    )


def why(chain: pl.DataFrame, bounds: pl.DataFrame) -> str:
    """What the ladder shows, as means over models."""
    # Narrow units for signatures lose what the next ones gain; only the widest one, which is a preset, counts here.
    narrow = pl.col("assumption").str.starts_with("a unit of") & pl.col("preset").is_null()
    names = in_order(chain.filter(~narrow), "assumption")
    mean = {name: geometric(chain.filter(assumption=name)["speed_up"]) for name in names}
    factors = {name: mean[name] / mean[before] for before, name in zip(names, names[1:], strict=False)}
    most = sorted(factors, key=lambda name: -abs(np.log(factors[name])))[:3]
    listed = "; ".join(f"{name} ({factors[name]:.2f})" for name in most)
    last = chain.filter(assumption=names[-1])
    below = last.filter(pl.col("speed_up") < PAPER).select("model", "speed_up")
    models = ", ".join(f"{model} {times(speed_up)}" for model, speed_up in below.iter_rows()) or "none"
    zeros = geometric(bounds.filter(bound=ZEROS)["speed_up"])
    return " ".join(
        [
            f"The ladder leads from the preset, {times(mean[names[0]])}, to the bound, {times(mean[names[-1]])};",
            "each rung makes one assumption more than the rung before.",
            f"The assumptions that change most, with their factors (of units for signatures the widest): {listed}.",
            f"Even at the bound, {below.height} of {last.height} models stay below {times(PAPER)}: {models}.",
            "Skipping every multiplication by zero, without signatures, cache or error, would give",
            f"{times(zeros)} if cycles were proportional to computations.",
        ]
    )


def chart(tables: dict[str, pl.DataFrame]) -> alt.TopLevelMixin:
    reasons = alt.vconcat(paper_chain(tables["chain"]), paper_cycles(tables["cycles"].filter(setting=ALL_ON)))
    speed_ups = paper_speed_ups(tables["readings"])
    whole = alt.hconcat(speed_ups, reasons.resolve_scale(color="independent"))
    return whole.resolve_scale(color="independent").configure(background="white")


def list_commits(tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> set[str]:
    found = [frames["training"]["commits"].explode() for frames in (tables, larger) if frames]
    return set(pl.concat(found))


def origin(out: Path, tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    """The command, the commit and the time of a run."""
    run, training = json.loads((out / "run.json").read_text()), tables["training"]
    commits = ", ".join(sorted(list_commits(tables, larger)))
    wall, busy = (f"{run[name] / 60:.0f} minutes" for name in ("wall", "cpu"))
    missing = [model for model in MODELS if model not in set(training["model"])]
    text = f"Measured with `{run['command']}` at commit {commits}, in {wall} ({busy} of CPU time)."
    return text + (f" Missing: {', '.join(missing)}." if missing else "")


def describe_larger(small: dict[str, pl.DataFrame], large: dict[str, pl.DataFrame]) -> list[str]:
    """Describes the results of the same models on photos."""
    means = "; ".join(f"{name} {one} and {other}" for name, (one, other) in compare_sizes(small, large).items())
    text = (
        f"{large['training'].height} of the models also run on photos of the size they were made for, after a few "
        "training steps. Geometric means of their speed-ups on the small images above and on photos: " + means + "."
    )
    tables = [tabulate_readings(large["readings"]), tabulate_chain(large["chain"]), tabulate_rungs(large["chain"])]
    every = ["The preset mercury with every layer on:", tabulate_setting(large["models"], ALL_ON)]
    return ["### Larger inputs", text, *tables, *every, tabulate_training(large["training"])]


def page(out: Path, tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    models, chained = tables["models"], tables["chain"]
    parts = [
        answer(tables, larger),
        origin(out, tables, larger),
        "### Means",
        means(models, tables["readings"]),
        "Speed-ups of each model with their 95 % intervals, each followed by its output error:",
        tabulate_readings(tables["readings"]),
        "### Why",
        why(chained, tables["bounds"]),
        "Means over the models (speed-ups geometric, peaks and KB the largest), then each model's speed-ups:",
        tabulate_chain(chained),
        tabulate_rungs(chained),
        "Cycles of the preset mercury with every layer on (means over models, in % of the baseline's step):",
        tabulate_passes(tables["cycles"]),
        "### Bounds",
        "Speed-up of a step if its cycles were proportional to the computations that each bound leaves. No hardware "
        "reaches these:",
        tabulate_bounds(tables["bounds"]),
        *(describe_larger(tables, larger) if larger else []),
        "### Model by model",
        *(text for name in SETTINGS for text in (f"{name}:", tabulate_setting(models, name))),
        "### What was trained",
        tabulate_training(tables["training"]),
    ]
    return "\n\n".join(parts)


def short(out: Path, tables: dict[str, pl.DataFrame], larger: dict[str, pl.DataFrame]) -> str:
    """The readings with one row per model, and the answer."""
    text = f"{answer(tables, larger)} {origin(out, tables, larger)}"
    return "\n\n".join([tabulate_readings(tables["readings"]), means(tables["models"], tables["readings"]), text])


def check_commits(commits: set[str]) -> None:
    """Ends the script unless a run's figures are those of one clean commit."""
    if len(commits) != 1 or not all(map(is_clean, commits)):
        sys.exit(
            f"the run is of {', '.join(sorted(commits))}, not of one clean commit, so no page was written: run it "
            "again from a checkout without changed files, or give --allow-dirty"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "paper", help="folder of the run")
    parser.add_argument("--docs", type=Path, help="a page; the chart is written next to it")
    parser.add_argument("--readme", type=Path, help="a page for the answer, if it has the marks")
    parser.add_argument("--allow-dirty", action="store_true", help="also from changed files or several commits")
    arguments = parser.parse_args()
    tables, larger = read(arguments.out), read(arguments.out / "larger")
    if not tables:
        sys.exit(f"{arguments.out} has no tables; run.py writes them")
    print(short(arguments.out, tables, larger))
    if (arguments.docs or arguments.readme) and not arguments.allow_dirty:
        check_commits(list_commits(tables, larger))
    picture = arguments.docs and arguments.docs.with_name(f"{arguments.docs.stem}-readings.svg")
    if arguments.docs:
        chart(tables).save(arguments.docs.with_suffix(".svg"))
        paper_readings(tables["readings"]).configure(background="white").save(picture)
        put_between(arguments.docs, "<!-- paper: begin -->", "<!-- paper: end -->", page(arguments.out, tables, larger))
    if arguments.readme and MARKS[0] in arguments.readme.read_text():
        text = answer(tables, larger)
        if picture:
            place = Path(os.path.relpath(picture, arguments.readme.parent)).as_posix()
            text += f"\n\n![Speed-up of each reading of the hardware, by model]({place})"
        put_between(arguments.readme, *MARKS, text)


if __name__ == "__main__":
    main()
