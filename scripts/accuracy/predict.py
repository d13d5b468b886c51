#!/usr/bin/env python3
"""Compares predictions from a trace with measurements of reuse: changes of the loss, gradients, accuracy.

Trains without reuse, with probes: at some steps the same weights and samples are also computed with reuse.
The same steps are captured and replayed. Prints correlations and writes the pairs to OUT/pairs.parquet. With
--docs it also writes the chart docs/accuracy.svg.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import altair as alt
import mercury_lab as mercury
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from places import REPOSITORY, link_dataset  # noqa: E402
from runs import format_toml, put_between, run  # noqa: E402

VARIANTS = {
    "sign": {},
    "sign+rescale": {"rpq": {"variant": "sign+rescale"}},
    "centred": {"rpq": {"variant": "centred"}},
    "centroid": {"mcache": {"representative": "centroid"}},
    "sign+rescale, centroid": {"rpq": {"variant": "sign+rescale"}, "mcache": {"representative": "centroid"}},
}
BITS = [8, 16, 32, 64]
# Flags of training and capture: all layers, and enough samples and filters for an estimate.
MODELS = {
    "vgg13": ["--batch-size", "32", "--lr", "0.02", "--clip", "1", "--samples", "8", "--filters", "64"],
    "mobilenet_v2": ["--batch-size", "32", "--optimizer", "adam", "--lr", "0.002", "--samples", "8"],
}


def write_configurations(folder: Path, bits: list[int]) -> dict[str, tuple[str, int, Path]]:
    """Writes the configuration files; returns variant, signature length and path by name."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for variant, changes in VARIANTS.items():
        for length in bits:
            name = f"{variant.replace(' ', '').replace('+', '-').replace(',', '-')}-{length}"
            keys = {"rpq": {"bits": length, **changes.get("rpq", {})}, "mcache": changes.get("mcache", {})}
            path = folder / f"{name}.toml"
            path.write_text(format_toml({**keys, "bits": {"patience": 0}, "stop": {"window": 0}}))
            found[name] = (variant, length, path)
    return found


def measure_pairs(model: str, steps: list[int], files: dict, out: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Measures predictions and their outcomes by configuration and step, and the accuracies of the trained weights."""
    place, listed = out / model, ",".join(map(str, steps))
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    data = link_dataset("cifar10", out)
    common = ["--model", model, "--dataset", "cifar10", "--data-dir", data]
    probes = [flag for _, _, path in files.values() for flag in ("--probe", path)]
    run(
        "mercury-tracer", "train", *common, *MODELS[model], "--out", place / "trace", "--steps", max(steps) + 1,
        "--capture", f"steps={listed}", "--measure", f"steps={listed}", "--validation-samples", 0,
        "--save", place / "weights.safetensors", *probes,
    )  # fmt: skip
    measured = pl.read_parquet(place / "trace" / "loss_changes.parquet")
    frames = []
    for name, (variant, bits, path) in files.items():
        results = mercury.replay(place / "trace", place / "results" / name, config=path, errors="all")
        predicted = pl.DataFrame(results.models).select(
            "step", "hit_rate", "output_error", predicted="loss_change", low="loss_change_low", high="loss_change_high"
        )
        gradients = (
            pl.DataFrame(results.layers)
            .filter(pl.col("pass") == "weight-grad")
            .group_by("step")
            .agg(predicted_gradient_error=(pl.col("error_square").sum() / pl.col("exact_square").sum()).sqrt())
        )
        both = predicted.join(gradients, on="step").join(measured.filter(pl.col("configuration") == name), on="step")
        frames.append(both.with_columns(model=pl.lit(model), variant=pl.lit(variant)))
    evaluated = run(
        "mercury-tracer", "evaluate", *common, "--weights", place / "weights.safetensors", "--samples", 500,
        *[flag for _, _, path in files.values() for flag in ("--reuse", path)], "--format", "json",
    )  # fmt: skip
    rows = pl.DataFrame([json.loads(line) for line in evaluated.splitlines()])
    exact = rows.filter(pl.col("configuration") == "exact")["top1"][0]
    accuracies = rows.filter(pl.col("configuration") != "exact").with_columns(top1_change=pl.col("top1") - exact)
    last = pl.concat(frames).filter(pl.col("step") == max(steps))
    return pl.concat(frames), accuracies.join(last.select("configuration", "variant", "model", "output_error", "predicted"), on="configuration")


def spearman(frame: pl.DataFrame, x: str, y: str) -> float:
    return frame.select(pl.corr(x, y, method="spearman")).item()


def format_correlations(pairs: pl.DataFrame, accuracies: pl.DataFrame) -> str:
    lines = ["| model | pairs | compared quantities | Spearman correlation | Pearson correlation |", "| --- | --- | --- | --- | --- |"]
    for model in MODELS:
        steps, trained = (frame.filter(pl.col("model") == model) for frame in (pairs, accuracies))
        if steps.height < 3:
            continue
        row = lambda what, frame, x, y: lines.append(
            f"| {model} | {frame.height} | {what} | {spearman(frame, x, y):.2f} | {frame.select(pl.corr(x, y)).item():.2f} |"
        )
        row("predicted and measured loss change", steps, "predicted", "loss_change")
        row("predicted output error and measured loss change", steps, "output_error", "loss_change")
        row("predicted local error of weight gradients and measured error of all gradients", steps, "predicted_gradient_error", "gradient_error")
        row("predicted output error and measured change of top-1 accuracy", trained, "output_error", "top1_change")
    small = pairs.filter(pl.col("loss_change").abs() < 0.1 * pl.col("loss"))
    signs = (small["predicted"].sign() == small["loss_change"].sign()).mean()
    lines += ["", f"If the loss changes by less than 10 % ({small.height} pairs), {100 * signs:.0f} % of the predicted signs are correct."]
    inside = pairs["loss_change"].is_between(pairs["low"], pairs["high"]).mean()
    lines += [f"Over all pairs, {100 * inside:.0f} % of the measured changes lie within the predicted 95 % interval."]
    return "\n".join(lines)


def draw_chart(pairs: pl.DataFrame, accuracies: pl.DataFrame) -> alt.Chart:
    colour = alt.Color("variant:N", title="variant")
    points = alt.Chart(pairs).mark_point()
    loss = points.encode(
        x=alt.X("predicted:Q", title="predicted change of the loss (nats, first order)").scale(type="symlog", constant=0.01),
        y=alt.Y("loss_change:Q", title="measured change (nats)").scale(type="symlog", constant=0.01),
        color=colour, shape=alt.Shape("model:N", title="model"),
    ).properties(width=330, height=260)  # fmt: skip
    accuracy = alt.Chart(accuracies).mark_point().encode(
        x=alt.X("output_error:Q", title="predicted output error |Y' - Y| / |Y|"),
        y=alt.Y("top1_change:Q", title="measured change of top-1 accuracy"),
        color=colour, shape=alt.Shape("model:N", title="model"),
    ).properties(width=330, height=260)  # fmt: skip
    return (loss | accuracy).configure(background="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=REPOSITORY / "accuracy" / "prediction")
    parser.add_argument("--quick", action="store_true", help="fewer steps and signature lengths, one model")
    parser.add_argument("--docs", type=Path, help="a Markdown file with marks; the chart is written next to it")
    arguments = parser.parse_args()
    models, steps, bits = list(MODELS), [0, 30, 90], BITS
    if arguments.quick:
        models, steps, bits = ["mobilenet_v2"], [0, 10], [16, 32, 64]
    files = write_configurations(arguments.out / "configs", bits)
    found = [measure_pairs(model, steps, files, arguments.out) for model in models]
    pairs, accuracies = (pl.concat([pair[i] for pair in found]) for i in (0, 1))
    pairs.write_parquet(arguments.out / "pairs.parquet")
    accuracies.write_parquet(arguments.out / "accuracies.parquet")
    text = format_correlations(pairs, accuracies)
    print(text)
    if arguments.docs:
        write_docs(arguments.docs, text, pairs, accuracies)


def write_docs(docs: Path, text: str, pairs: pl.DataFrame, accuracies: pl.DataFrame) -> None:
    """Writes the text between the page's marks, and the chart next to the page."""
    draw_chart(pairs, accuracies).save(docs.with_suffix(".svg"))
    put_between(docs, "<!-- prediction: begin -->", "<!-- prediction: end -->", text)


if __name__ == "__main__":
    main()
