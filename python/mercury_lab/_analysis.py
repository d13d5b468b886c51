"""The analyzer's commands as functions. docs/model.md describes what they compute, docs/python.md how to call them.

Arguments have the names and meanings of the command line's flags; those that several functions share are in
`_arguments.py`. Results equal the command line's, byte for byte, and errors have its messages.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Unpack

from mercury_lab import _native
from mercury_lab._arguments import ProgressOption, Section, Sections, StrPath, WorkOptions
from mercury_lab._command import axis_flag, drop_work, flag, is_list, key_flags, list_values, repeated_flag, run
from mercury_lab._command import work_flags
from mercury_lab._config import ConfigLike, configuration_flags, split_configuration
from mercury_lab._folders import OutFolder
from mercury_lab._native import ParquetTable, Table
from mercury_lab._results import Comparison, Inspection, Ladder, Results, SearchResults, SweepResults


def replay(
    trace: StrPath,
    out: StrPath | None = None,
    *,
    config: ConfigLike | None = None,
    preset: str | None = None,
    bounds: bool | Section = False,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> Results:
    """Replays a trace under one configuration: similarity, output error and cycles per layer, pass and step.

    >>> results = replay("trace", rpq={"bits": 32})
    >>> [(row["step"], round(row["speed_up"], 2)) for row in results.models.rows()]
    [(0, 1.05), (1, 1.06), (2, 1.06)]

    Args:
        trace: The folder of a trace, or an address such as `s3://bucket/trace`.
        out: The folder for the results, empty or missing; None takes a temporary one.
        config: A TOML file or a `Config`.
        preset: A built-in configuration instead; "mercury" by default.
        bounds: Also measures upper bounds on reuse and competing methods, on the same vectors; a dictionary sets keys,
            such as `{"cosine": 0.9}`.
        progress: None shows a bar on a terminal and in Jupyter, True always, False never; or a function of activity,
            kind of things, number done, number in all, and the latest.
        more: What to evaluate (`WorkOptions`), and keys by section, such as `rpq={"bits": 32}`.

    Raises:
        MercuryError: With the message of the command line.
    """
    folder = OutFolder(out)
    sections = _with_bounds(more, bounds)
    flags = [*work_flags(more), *_measured(bounds), *configuration_flags(config, preset, sections)]
    output = run("replay", trace, folder.flag, *flags, progress=progress)
    return Results._from_output(folder, output)


def replay_partition(
    trace: StrPath,
    out: StrPath,
    partition: str,
    *,
    config: ConfigLike | None = None,
    preset: str | None = None,
    bounds: bool | Section = False,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> Path:
    """Replays a share of a trace's layers, such as "1/4"; returns the folder `out`, which `merge` takes.

    A partition that was stopped continues when the function is called again. Other arguments are those of `replay`.
    """
    sections = _with_bounds(more, bounds)
    flags = [*work_flags(more), *_measured(bounds), *configuration_flags(config, preset, sections)]
    run("replay", trace, f"--out={out}", f"--partition={partition}", *flags, progress=progress)
    return Path(out)


def merge(partitions: StrPath | Iterable[StrPath], out: StrPath | None = None) -> Results:
    """Merges the partitions of a replay into the results of one run, byte for byte the same.

    Args:
        partitions: The folders of all partitions, in any order, or folders that contain them.
        out: The folder for the results, empty or missing; None takes a temporary one.
    """
    folder = OutFolder(out)
    output = run("merge", *list_values(partitions), folder.flag)
    return Results._from_output(folder, output)


def sweep(
    trace: StrPath,
    out: StrPath | None = None,
    *,
    config: ConfigLike | None = None,
    preset: str | None = None,
    pareto: str | Iterable[str] = (),
    where: str | Iterable[str] = (),
    best: str | None = None,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> SweepResults:
    """Replays a trace under every combination of the values of some keys, in one pass.

    Keys with several values are swept, in the order in which they are given:

    >>> results = sweep("trace", rpq={"bits": range(8, 33, 8)}, mcache={"entries": [64, 1024]})
    >>> len(results.configurations)
    8

    A sweep that was stopped continues when the function is called again with the same folder.

    Args:
        pareto: Columns such as `["hit_rate", "output_error"]`; `.table` has only their Pareto frontier.
        where: Conditions such as "output_error<=0.1"; `.table` has only the rows that meet all of them.
        best: A column; `.table` has only the best row by it.
        trace, out, config, preset, progress, more: As of `replay`. `out` may also hold a part of the same sweep.
    """
    folder = OutFolder(out)
    base, keys = split_configuration(config, preset, drop_work(more))
    axes = {key: values for key, values in keys.items() if is_list(values) and not _is_value(key, values)}
    if not axes:
        raise TypeError("sweep needs a key with several values, such as rpq={'bits': [16, 32]}")
    fixed = {key: value for key, value in keys.items() if key not in axes}
    swept = [axis_flag("set", key, values) for key, values in axes.items()]
    selected = [*flag("pareto", pareto), *repeated_flag("where", where), *flag("best", best)]
    flags = [*swept, *selected, *work_flags(more), *base, *key_flags(fixed)]
    output = run("sweep", trace, folder.flag, *flags, progress=progress)
    return SweepResults._from_output(folder, output)


def search(
    trace: StrPath,
    out: StrPath | None = None,
    *,
    bound: str | Iterable[str] | None = None,
    accuracy_curve: StrPath | None = None,
    objective: Literal["cycles", "cycles-with-stalls", "energy", "edp"] | None = None,
    per_layer: Mapping[str, Iterable[object]] | None = None,
    shared: Mapping[str, Iterable[object]] | None = None,
    folds: int | None = None,
    parts: StrPath | Iterable[StrPath] = (),
    config: ConfigLike | None = None,
    preset: str | None = None,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> SearchResults:
    """Searches for the settings of each layer that pay most within an error.

    >>> results = search("trace", bound="layer-error<=0.2", preset="mercury", folds=0)
    >>> [table["rpq"]["bits"] for table in results.best["layer"] if "rpq" in table]
    [28, 12]

    A search that was stopped continues when the function is called again with the same folder. Other bounds or another
    objective in this folder replay nothing.

    Args:
        bound: The largest errors of a design, such as "layer-error<=0.1", which is the default; or a list of them.
            "accuracy-loss<=1" limits the accuracy that training loses, in percentage points.
        accuracy_curve: A CSV file with the accuracy loss over the step error, by a calibration of your own; None takes
            the built-in one.
        objective: What a design minimises; "cycles" by default.
        per_layer: Keys with the values that each layer chooses from, such as `{"rpq.bits": range(12, 53, 8)}`.
        shared: Keys with values that all layers share; each combination gets a design of its own.
        folds: The number of parts of the trace by which designs are judged; 0 judges nothing.
        parts: Folders that `search_partition` has written.
        trace, out, config, preset, progress, more: As of `replay`. `out` may also hold a search of the same settings.
    """
    folder = OutFolder(out)
    axes = [*_axes("per-layer", per_layer), *_axes("shared", shared)]
    judged = [*flag("folds", folds), *repeated_flag("parts", parts)]
    bounds = [*repeated_flag("bound", bound), *flag("accuracy-curve", accuracy_curve)]
    question = [*bounds, *flag("objective", objective), *axes, *judged]
    flags = [*question, *work_flags(more), *configuration_flags(config, preset, drop_work(more))]
    output = run("search", trace, folder.flag, *flags, progress=progress)
    return SearchResults._from_output(folder, output)


def search_partition(
    trace: StrPath,
    out: StrPath,
    partition: str,
    *,
    per_layer: Mapping[str, Iterable[object]] | None = None,
    shared: Mapping[str, Iterable[object]] | None = None,
    folds: int | None = None,
    config: ConfigLike | None = None,
    preset: str | None = None,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> Path:
    """Evaluates a share of a search's settings, such as "1/4"; returns the folder `out`, for `parts` of `search`.

    Other arguments are those of `search`.
    """
    axes = [*_axes("per-layer", per_layer), *_axes("shared", shared), *flag("folds", folds)]
    flags = [*axes, *work_flags(more), *configuration_flags(config, preset, drop_work(more))]
    run("search", trace, f"--out={out}", f"--partition={partition}", *flags, progress=progress)
    return Path(out)


def ladder(
    trace: StrPath,
    *,
    readings: bool = False,
    config: ConfigLike | None = None,
    preset: str | None = None,
    progress: ProgressOption = None,
    **more: Unpack[WorkOptions],
) -> Ladder:
    """The speed-up from one reading of the hardware to the bound, one assumption after the other.

    Args:
        readings: Lists only the readings that presets name, and the bound.
        trace, config, preset, progress, more: As of `replay`.
    """
    flags = [*flag("readings", readings), *work_flags(more), *configuration_flags(config, preset, drop_work(more))]
    # The printed table leaves out columns that CSV has.
    output = run("ladder", trace, "--format=csv", *flags, progress=progress)
    return Ladder(_table(output), output.notes)


def report(
    results: Results | StrPath | Iterable[Results | StrPath],
    out: StrPath,
    *,
    trace: StrPath | Iterable[StrPath] = (),
) -> Path:
    """Writes results as one HTML page that opens without a network; returns its path.

    Args:
        results: Results or their folders, one or several.
        out: The file to write.
        trace: The traces of the results, to show the loss of every training step.
    """
    listed = [results] if isinstance(results, Results) else list_values(results)
    run("report", *map(_find_folder, listed), f"--out={out}", *repeated_flag("trace", trace))
    return Path(out)


def compare(a: Results | StrPath, b: Results | StrPath, *, threshold: Mapping[str, float] | None = None) -> Comparison:
    """The differences between two results.

    Args:
        a: The first results, or their folder.
        b: The second.
        threshold: The largest accepted absolute differences, such as `{"speed_up": 0.02}`, of `hit_rate`,
            `output_error` and `speed_up`.
    """
    limits = [f"{metric}={difference}" for metric, difference in (threshold or {}).items()]
    output = run("compare", _find_folder(a), _find_folder(b), *flag("threshold", limits))
    return Comparison(_table(output), output.crossed, output.notes)


def inspect(trace: StrPath) -> Inspection:
    """What a trace holds: model, training, captured steps, layers.

    >>> layer = inspect("trace").layers.rows()[0]
    >>> layer["layer"], layer["geometry"], layer["macs"]
    ('features.0', '1x32x32 * 64x3x3 padded by 1', 589824)
    """
    output = run("inspect", trace)
    return Inspection(output.text, _table(output))


def verify(folder: StrPath) -> str:
    """Checks that a trace, results or a partition are as they were written; returns a text that counts its files.

    Raises:
        MercuryError: Files are damaged or missing; the message names each of them.
    """
    return run("verify", folder).text.strip()


def cycles(topology: StrPath, *, array: str = "12x14", dataflow: Literal["os", "ws", "is"] = "ws") -> Table:
    """The baseline cycles of the layers in a SCALE-Sim topology file, without reuse and without memory stalls.

    Args:
        topology: A CSV file of convolutions or matrix products; docs/formats.md describes it.
        array: Rows x columns of the array.
        dataflow: Output, weight or input stationary.

    Returns:
        A row for each layer: `m`, `k` and `n` of one product; `cycles` of all its products; `utilization`, a share.
    """
    return _table(run("cycles", f"--topology={topology}", f"--array={array}", f"--dataflow={dataflow}"))


def vectors(
    trace: StrPath,
    layer: str,
    out: StrPath | None = None,
    *,
    step: int | None = None,
    pass_name: Literal["forward", "input-grad"] = "forward",
    limit: int | None = None,
    config: ConfigLike | None = None,
    preset: str | None = None,
    **sections: Unpack[Sections],
) -> ParquetTable:
    """A layer's input vectors, one per row, with signature and outcome.

    >>> import polars
    >>> polars.DataFrame(vectors("trace", "features.12", limit=5))["outcome"].to_list()
    ['MAU', 'MAU', 'MAU', 'HIT', 'HIT']

    Args:
        trace: The folder of a trace.
        layer: The layer's name; `inspect` lists them.
        out: The Parquet file to write; None takes a temporary one, which the returned table keeps.
        step: A captured step; None takes the last.
        pass_name: The pass. The weight gradient has the vectors of "forward".
        limit: At most the first `limit` vectors of each product.
        config, preset, sections: As of `replay`.

    Returns:
        A table that is read from the file, batch by batch. docs/formats.md lists its columns; `values` has the vector's
        elements.
    """
    chosen = [f"--layer={layer}", *flag("step", step), f"--pass={pass_name}", *flag("limit", limit)]
    flags = [*chosen, *configuration_flags(config, preset, sections)]
    with _output_file(out) as file:
        run("vectors", trace, f"--out={file}", *flags)
        return ParquetTable(file)


def projection(
    length: int,
    out: StrPath | None = None,
    *,
    bits: int = 20,
    seed: int = 1,
    entries: str = "gaussian",
) -> ParquetTable:
    """Makes the projection matrix R for vectors of `length` elements.

    >>> import polars
    >>> polars.DataFrame(projection(9, bits=20)).shape
    (20, 2)

    Args:
        length: The number of elements of a vector.
        out: The Parquet file to write; None takes a temporary one, which the returned table keeps.
        bits: The number of rows of R, which are the bits of a signature.
        seed: The seed of R, as `rpq.seed`; without effect if R is from a file.
        entries: "gaussian", "sparse" or "file:PATH", as `rpq.projection`.

    Returns:
        A row for each bit: `bit`, and `values`, a list of `length` numbers (f32).
    """
    flags = [f"--length={length}", f"--bits={bits}", f"--seed={seed}", f"--entries={entries}"]
    with _output_file(out) as file:
        run("projection", *flags, f"--out={file}")
        return ParquetTable(file)


@contextmanager
def _output_file(out: StrPath | None) -> Iterator[Path]:
    """The caller's file, or a temporary one. Open files stay readable after they are removed."""
    with tempfile.TemporaryDirectory(prefix="mercury-") as folder:
        yield Path(folder, "table.parquet") if out is None else Path(out)


def _measured(bounds: bool | Section) -> list[str]:
    return [] if bounds is False else ["--with=bounds"]


def _with_bounds(more: Mapping[str, object], bounds: bool | Section) -> dict[str, object]:
    """The sections of a configuration, with that of the bounds' keys."""
    sections = drop_work(more)
    return sections if isinstance(bounds, bool) else {**sections, "bounds": bounds}


def _is_value(key: str, values: Iterable[object]) -> bool:
    """Whether a list is one value of its key: `reuse.passes` is a list of names, and a list of lists is swept."""
    return key == "reuse.passes" and all(isinstance(value, str) for value in values)


def _axes(name: str, axes: Mapping[str, Iterable[object]] | None) -> list[str]:
    if axes is not None and not isinstance(axes, Mapping):
        raise TypeError(f"{name.replace('-', '_')} must map keys to lists of values, not {axes!r}")
    return [axis_flag(name, key, values) for key, values in (axes or {}).items()]


def _find_folder(results: Results | StrPath) -> StrPath:
    return results.folder if isinstance(results, Results) else results


def _table(output: _native.Output) -> Table:
    assert output.table is not None, "the command prints a table"
    return output.table
