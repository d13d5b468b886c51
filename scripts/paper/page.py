"""Writes the generated part of docs/paper.md: its tables and the order of its sections."""

import polars as pl
from answer import answer_question
from charts import ACCEPTED, EQUAL_MACS, PAPER, average_models, in_order
from kept import list_commits
from wanted import describe_hardware
from words import (
    DESIGNS,
    PRESET,
    READINGS,
    average_designs,
    capitalise,
    compare_with_paper,
    count_gaining,
    describe_sizes,
    describe_training,
    describe_widths,
    explain_chain,
    show_percent,
    show_range,
    select_paper,
    show_speed_up,
    show_times,
    show_interval,
)

# Columns of a model's table that differ between readings, apart from the speed-up.
FIGURES = {
    "hit rate": "hit_rate",
    "output error": "output_error",
    "gradient error": "gradient_error",
    "computations saved": "computations_saved",
}
# Those of designs that a search found.
SEARCHED = {"largest error": "largest_error", "step error": "step_error"}
# Readings whose designs differ: at equal MACs the design is the same.
DIFFERENT = [name for name in READINGS if name != EQUAL_MACS]


def format_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def mark_model(row: dict) -> str:
    """Names a model, with a star if its row is from the last full run."""
    return row["model"] + ("\\*" if row["kept"] else "")


def list_rows(frame: pl.DataFrame, *columns: str) -> list[dict[str, dict]]:
    """Groups rows by columns, and each group's rows by reading."""
    groups = frame.group_by(*columns, maintain_order=True)
    return [{row["reading"]: row for row in group.to_dicts()} for _, group in groups]


def join_figures(rows: dict[str, dict], column: str, form=show_percent) -> str:
    """Formats a figure of each reading, or once if all are equal."""
    texts = [form(rows[name][column]) for name in DIFFERENT if name in rows]
    return texts[0] if len(set(texts)) == 1 else " / ".join(text.removesuffix(" %") for text in texts) + " %"


def tabulate_means(speed_ups: pl.DataFrame) -> str:
    """Tabulates means over the paper's models, by design and reading."""
    header = ["settings", "reading", "geometric mean (95 % interval over models)", "contains 1.97x", "arithmetic mean"]
    rows = [["the paper", "", show_times(PAPER), "", "", "", ""]]
    for (design, reading), frame in select_paper(speed_ups).group_by("design", "reading", maintain_order=True):
        mean, low, high = average_models(frame["speed_up"])
        gaining = f"{count_gaining(frame)} of {frame.height}"
        side = "yes" if low <= PAPER <= high else "no, below" if high < PAPER else "no, above"
        cells = [design, reading, show_interval(mean, low, high), side, show_times(frame["speed_up"].mean()), gaining]
        rows.append([*cells, show_range(frame["output_error"])])
    return format_table([*header, "models that gain", "output error"], rows)


def tabulate_design(speed_ups: pl.DataFrame, design: str) -> str:
    """Tabulates a design, one row per model: speed-ups by reading, then figures that differ between readings."""
    rows = speed_ups.filter(design=design)
    readings = [name for name in READINGS if name in set(rows["reading"])]
    figures = FIGURES | (SEARCHED if design != PRESET else {})
    counts = {PRESET: [], ACCEPTED: ["passes with reuse"]}.get(design, ["errors over the bound"])
    header = ["model", *readings, *figures, *counts]
    header += ["accuracy lost (limit), points"] if design == ACCEPTED else []
    lines = []
    for by_reading in list_rows(rows, "model"):
        first = next(iter(by_reading.values()))
        line = [mark_model(first), *(show_cell(by_reading, name) for name in readings)]
        line += [join_figures(by_reading, column) for column in figures.values()]
        line += [join_counts(by_reading)] if counts else []
        line += [join_losses(by_reading)] if design == ACCEPTED else []
        lines.append(line)
    return format_table(header, lines)


def show_cell(by_reading: dict[str, dict], reading: str) -> str:
    return show_speed_up(by_reading[reading]) if reading in by_reading else "-"


def join_counts(by_reading: dict[str, dict]) -> str:
    """Formats how many passes reuse and, of a bound on their errors, in how many the judged error exceeds it."""
    rows = [by_reading[name] for name in DIFFERENT if name in by_reading]
    texts = [
        str(row["passes"]) if row["exceeding"] is None else f"{row['exceeding']} of {row['passes']}" for row in rows
    ]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def join_losses(by_reading: dict[str, dict]) -> str:
    """Formats the accuracy that the calibration predicts to be lost, with its upper limit."""
    texts = []
    for row in (by_reading[name] for name in DIFFERENT if name in by_reading):
        known = row["accuracy_loss"] is not None and row["accuracy_loss_upper"] is not None
        texts.append(f"{row['accuracy_loss']:.1f} ({row['accuracy_loss_upper']:.1f})" if known else "-")
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def tabulate_frontier(frontier: pl.DataFrame) -> str:
    """Tabulates means over the paper's models by bound on each layer's error."""
    frame = select_paper(frontier)
    header = ["each layer's error at most", "reading", "speed-up (95 % interval over models)", "at equal MACs"]
    rows = []
    for (limit, reading), group in frame.group_by("limit", "reading", maintain_order=True):
        equal = group["speed_up_equal_macs"].drop_nulls()
        differs = reading == "mercury-ahead" and len(equal)
        cells = [f"{100 * limit:g} %", reading, show_interval(*average_models(group["speed_up"]))]
        cells += [show_interval(*average_models(equal)) if differs else ""]
        share = f"{group['exceeding'].sum()} of {group['passes'].sum()}"
        errors = [show_range(group["output_error"]), show_percent(group["step_error"].mean())]
        rows.append((limit, [*cells, *errors, share]))
    rows = [cells for _, cells in sorted(rows, key=lambda row: row[0])]
    return format_table([*header, "output error", "step error, mean", "errors over the bound"], rows)


def show_memory(frame: pl.DataFrame) -> list[str]:
    """Formats what MCACHE needs: KB, and results per cycle as the mean over models and the peak; `-` without limit."""
    size, mean, peak = frame["mcache_kb"].max(), frame["mcache_results_mean"].mean(), frame["mcache_results_peak"].max()
    return ["-" if value is None else f"{value:.{digits}f}" for value, digits in ((size, 1), (mean, 1), (peak, 0))]


def tabulate_chain(chain: pl.DataFrame) -> str:
    """Tabulates the ladder as means over models."""
    header = ["assumption", "speed-up", "factor", "hit rate", "output error", "computations saved", "MCACHE, KB"]
    header += ["results per cycle, mean", "results per cycle, peak"]
    rows, before = [], None
    for name in in_order(chain, "assumption"):
        rung = chain.filter(assumption=name)
        speed_up = average_models(rung["speed_up"])[0]
        factor = "" if before is None else f"{speed_up / before:.2f}"
        shares = [show_percent(rung["hit_rate"].mean()), show_range(rung["output_error"])]
        shares.append(show_percent(rung["computations_saved"].mean()))
        rows.append([name_rung(rung), show_times(speed_up), factor, *shares, *show_memory(rung)])
        before = speed_up
    return format_table(header, rows)


def name_rung(rung: pl.DataFrame) -> str:
    """Names a rung, with its preset and whether it is a bound."""
    row = rung.row(0, named=True)
    preset = f" (preset {row['preset']})" if row["preset"] else ""
    return f"{row['assumption']}{preset}{' (a bound)' if rung['is_bound'].any() else ''}"


def tabulate_rungs(chain: pl.DataFrame) -> str:
    """Tabulates the ladder's speed-ups, one row per rung and one column per model."""
    models = [mark_model(row) for row in chain.unique("model", maintain_order=True).to_dicts()]
    rows = []
    for name in in_order(chain, "assumption"):
        found = {row["model"]: row["speed_up"] for row in chain.filter(assumption=name).to_dicts()}
        rows.append([name, *(show_times(found.get(model)) for model in in_order(chain, "model"))])
    return format_table(["assumption", *models], rows)


def tabulate_sizes(sizes: pl.DataFrame) -> str:
    """Tabulates the preset's settings by the side of the images."""
    readings = [name for name in READINGS if name in set(sizes["reading"])]
    lines = []
    for by_reading in list_rows(sizes, "model", "size"):
        first = next(iter(by_reading.values()))
        figures = [join_figures(by_reading, column) for column in ("hit_rate", "output_error")]
        line = [mark_model(first), f"{first['size']} x {first['size']}", *figures]
        lines.append(line + [show_cell(by_reading, name) for name in readings])
    return format_table(["model", "pixels", "hit rate", "output error", *readings], lines)


def tabulate_hardware(hardware: pl.DataFrame) -> str:
    """Tabulates the best designs within 10 % by the hardware."""
    lines = [
        [f"{row['kind']} ({mark_model(row)})", row["axis"], show_value(row), show_speed_up(row)]
        + [show_times(row["speed_up_equal_macs"])]
        for row in hardware.to_dicts()
    ]
    return format_table(["class", "axis", "value", "speed-up", "at equal MACs"], lines)


def show_value(row: dict) -> str:
    return f"{row['value']} (a bound)" if row["is_bound"] else row["value"]


def tabulate_modern(speed_ups: pl.DataFrame) -> str:
    """Tabulates modern models, one row per model and design."""
    readings = [name for name in READINGS if name in set(speed_ups["reading"])]
    lines = []
    for by_reading in list_rows(speed_ups, "model", "design"):
        first = next(iter(by_reading.values()))
        figures = [join_figures(by_reading, column) for column in ("hit_rate", "output_error")]
        speed = [show_cell(by_reading, name) for name in readings]
        lines.append([mark_model(first), first["kind"], first["design"], *speed, *figures])
    return format_table(["model", "class", "settings", *readings, "hit rate", "output error"], lines)


def tabulate_training(training: pl.DataFrame) -> str:
    header = ["model", "class", "data", "input", "weights at the start", "batch", "steps", "captured", "samples"]
    header += ["different", "loss, first and last five steps", "validation"]
    rows = []
    for row in training.to_dicts():
        cells = [mark_model(row), *(str(row[name]) for name in ("kind", "data", "input", "weights", "batch", "steps"))]
        cells += [", ".join(map(str, row["captured"])), str(row["samples"]), str(row["different"])]
        cells.append(f"{show_loss(row['first_loss'])}, {show_loss(row['last_loss'])}")
        rows.append([*cells, show_validation(row)])
    return format_table(header, rows)


def show_validation(row: dict) -> str:
    """Formats BLEU, which is no share, or an accuracy."""
    if row["metric"] is None:
        return "-"
    return f"BLEU {row['value']:.1f}" if row["metric"] == "BLEU" else f"{row['metric']} {show_percent(row['value'])}"


def show_loss(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.2f}"


def tabulate_stages(stages: pl.DataFrame) -> str:
    """Tabulates each stage's time in minutes."""
    names, rows = in_order(stages, "stage"), []
    for (_,), group in stages.group_by("model", maintain_order=True):
        took = dict(group.group_by("stage").agg(pl.col("seconds").sum()).iter_rows())
        cells = [f"{took[name] / 60:.1f}" if name in took else "-" for name in names]
        rows.append([mark_model(group.row(0, named=True)), *cells, f"{sum(took.values()) / 60:.1f}"])
    return format_table(["model, minutes", *names, "total"], rows)


def describe_origin(run: dict, tables: dict[str, pl.DataFrame]) -> str:
    """Names the command, the commit, the time and the models of a run."""
    wall, busy = (f"{run[name] / 60:.0f} minutes" for name in ("wall", "cpu"))
    commits, kept = (", ".join(list_commits(tables, kept=kept)) for kept in (False, True))
    text = f"Measured with `{run['command']}` at commit {commits}, in {wall} ({busy} of CPU time)."
    models = select_paper(tables["training"]).height
    text += f" {models} of the paper's 12 models are there." if models < 12 else ""
    return text + (f" Rows with \\* are from the full run at commit {kept}." if kept else "")


def write_page(run: dict, tables: dict[str, pl.DataFrame], accepted: dict | None, stem: str) -> str:
    """Writes the generated part; pictures are `STEM-NAME.svg`."""
    speed_ups, chain, training = tables["speed_ups"], select_paper(tables["chain"]), tables["training"]
    parts = [answer_question(tables, accepted)]
    if "frontier" in tables:
        picture = f"{stem}-frontier.svg"
        parts += [f"![Speed-up against the bound on each layer's error, by reading of the hardware]({picture})"]
    parts.append(describe_origin(run, tables))
    parts += [tabulate_frontier(tables["frontier"])] if "frontier" in tables else []
    parts += ["## Means", compare_with_paper(average_designs(speed_ups)), tabulate_means(speed_ups)]
    parts += ["## Model by model", *write_models(select_paper(speed_ups))]
    parts += ["## How sure are the speed-ups?", describe_widths(tables)]
    parts += ["## Why", explain_chain(chain)]
    parts += [f"![Speed-up under successive assumptions, for each model]({stem}-chain.svg)", tabulate_chain(chain)]
    parts += ["Each model's speed-ups:", tabulate_rungs(chain)]
    if "sizes" in tables:
        parts += ["## Larger inputs", describe_sizes(tables["sizes"])]
        parts += [f"![Speed-up by the side of the images]({stem}-sizes.svg)", tabulate_sizes(tables["sizes"])]
    if "hardware" in tables:
        parts += ["## Hardware by class of networks", describe_hardware(tables["hardware"])]
        parts += [f"![Speed-up of the best design, by hardware]({stem}-hardware.svg)"]
        parts += [tabulate_hardware(tables["hardware"])]
    modern = speed_ups.filter(group="modern")
    parts += ["## Modern models", tabulate_modern(modern)] if modern.height else []
    parts += ["## What was trained", describe_training(training), tabulate_training(training)]
    parts += ["## Time", tabulate_stages(tables["stages"])] if "stages" in tables else []
    return "\n\n".join(part for part in parts if part)


def write_models(speed_ups: pl.DataFrame) -> list[str]:
    """Writes a table for each design. Figures that differ are in the order of the readings."""
    parts = []
    for design in (name for name in DESIGNS if name in set(speed_ups["design"])):
        parts += [f"{capitalise(DESIGNS[design])}:", tabulate_design(speed_ups, design)]
    order = " / ".join(DIFFERENT)
    return [f"Where figures differ between readings, they are in this order: {order}.", *parts] if parts else []


def write_summary(run: dict, tables: dict[str, pl.DataFrame], accepted: dict | None) -> str:
    """Writes what `report.py` prints: the means, the models with the preset's settings, and the answer."""
    found = select_paper(tables["speed_ups"])
    parts = [tabulate_design(found, PRESET), tabulate_means(tables["speed_ups"])]
    return "\n\n".join([*parts, answer_question(tables, accepted), describe_origin(run, tables)])
