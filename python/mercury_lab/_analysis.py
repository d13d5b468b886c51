"""The analyzer's commands as functions. docs/model.md describes what they compute, docs/configuration.md their keys.

Arguments have the names and meanings of the command line's flags. Results are equal to the command line's, byte for byte.
A message of an error is that of the command line.

Arguments that several functions share:

- `trace`: the folder of a trace, or an address such as `s3://bucket/trace`.
- `out`: the folder for the results, empty or missing; without it, a temporary one that lives as long as the result.
- `config`: a TOML file or a `Config`; `preset`: a built-in configuration; and sections of keys such as
  `rpq={"bits": 32}`, which override both.
- `layers`, `steps`, `passes`: lists that select a part of the trace, such as `["features.*"]`, `["100..=500"]`,
  `["forward"]`.
- `errors`: "sampled", "rough", "all" or "none"; `seeds`: the number of projections.
- `threads`: worker threads, one per core without it; `memory_limit`: such as "2GiB".
- `progress`: None shows a bar on a terminal and in Jupyter, True always, False never; or a function of activity, kind of
  things, number done, number in all, and the latest.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mercury_lab import _native
from mercury_lab._command import configuration, flag, format_value, keys, repeated, run
from mercury_lab._results import Inspection, Ladder, Results, SearchResults


def replay(trace, out=None, *, config=None, preset=None, bounds=False, partition=None, progress=None, **more):
    """Replays a trace under one configuration: similarity, output error and cycles per layer, pass and step.

    `bounds` also measures upper bounds on reuse and competing methods, on the same vectors. `partition` such as "1/4"
    replays a share of the layers, which `merge` combines; it returns the folder. `more` are the shared arguments.
    """
    work, sections = _split_work(more)
    folder = _folder(out)
    flags = [*work, *flag("with", "bounds" if bounds else None), *flag("partition", partition)]
    output = run("replay", trace, *_to(folder), *flags, *configuration(config, preset, sections), progress=progress)
    if partition is not None:
        return Path(out)
    return Results(folder, output.text, output.notes)


def sweep(trace, out=None, *, config=None, preset=None, set=(), pareto=(), where=(), best=None, progress=None, **more):
    """Replays a trace under every combination of the values of some keys, in one pass.

    A key with a list or a range of values is swept: `rpq={"bits": range(8, 65, 8)}`; so are texts in `set`, such as
    "rpq.bits=8..=64:8". `pareto`, `where` and `best` select rows of the printed table, which is `.table`.
    """
    work, sections = _split_work(more)
    axes, fixed = [*repeated("set", set)], {}
    for key, value in keys(sections):
        if isinstance(value, (list, tuple, range)) and key != "reuse.passes":
            axes.append(f"--set={key}={','.join(map(format_value, value))}")
        else:
            section, name = key.split(".", 1)
            fixed.setdefault(section, {})[name] = value
    folder = _folder(out)
    selected = [*flag("pareto", pareto), *repeated("where", where), *flag("best", best)]
    flags = [*work, *axes, *selected, *configuration(config, preset, fixed)]
    output = run("sweep", trace, *_to(folder), *flags, progress=progress)
    results = Results(folder, str(output.table), output.notes)
    #: The printed table, before columns of details are left out.
    results.table = output.table
    return results


def search(
    trace,
    out=None,
    *,
    bound=None,
    objective=None,
    per_layer=None,
    shared=None,
    folds=None,
    partition=None,
    parts=(),
    config=None,
    preset=None,
    progress=None,
    **more,
):
    """Searches for the settings of each layer that pay most within an error.

    `bound` is a text such as "layer-error<=0.1", or a list of them. `per_layer` and `shared` map keys to lists of values
    that each layer chooses for itself, or that all layers share. Other bounds in the same folder replay nothing.
    """
    work, sections = _split_work(more)
    folder = _folder(out)
    axes = [*_axes("per-layer", per_layer), *_axes("shared", shared)]
    judged = [*flag("folds", folds), *flag("partition", partition), *repeated("parts", parts)]
    flags = [*work, *repeated("bound", bound), *flag("objective", objective), *axes, *judged]
    output = run("search", trace, *_to(folder), *flags, *configuration(config, preset, sections), progress=progress)
    if partition is not None:
        return Path(out)
    return SearchResults(folder, output.text, output.notes)


def ladder(trace, *, readings=False, config=None, preset=None, progress=None, **more):
    """The speed-up from one reading of the hardware to the bound, one assumption after the other.

    `readings` lists only the readings that presets name, and the bound.
    """
    work, sections = _split_work(more)
    flags = [*work, *flag("readings", readings), *configuration(config, preset, sections)]
    return Ladder(run("ladder", trace, *flags, progress=progress))


def merge(partitions, out=None):
    """Merges the partitions of a replay into the results of one run, byte for byte the same."""
    folder = _folder(out)
    run("merge", *([partitions] if isinstance(partitions, (str, Path)) else partitions), *_to(folder))
    return Results(folder)


def report(results, out, *, trace=()):
    """Writes results as one HTML page that opens without a network; returns its path.

    `results` is a result or a folder, or a list of them; `trace` adds the training loss of these traces.
    """
    listed = results if isinstance(results, (list, tuple)) else [results]
    folders = [getattr(each, "folder", each) for each in listed]
    run("report", *folders, f"--out={out}", *repeated("trace", trace))
    return Path(out)


def compare(a, b, *, threshold=None):
    """The differences between two results, as a table; `threshold` such as `{"speed_up": 0.02}`.

    Returns the table and whether a threshold is crossed.
    """
    limits = [f"{metric}={difference}" for metric, difference in (threshold or {}).items()]
    folders = [getattr(each, "folder", each) for each in (a, b)]
    output = run("compare", *folders, *flag("threshold", limits))
    return output.table, output.crossed


def inspect(trace):
    """What a trace holds: model, training, captured steps, layers."""
    return Inspection(run("inspect", trace))


def verify(folder):
    """Checks that a trace, results or a partition are as they were written; returns a text that counts its files.

    A damaged file raises `MercuryError`, which names each of them.
    """
    return run("verify", folder).text.strip()


def cycles(topology, *, array="12x14", dataflow="ws"):
    """The baseline cycles of the layers in a SCALE-Sim topology file, as a table.

    `array` is rows x columns, `dataflow` one of "os", "ws", "is".
    """
    return run("cycles", f"--topology={topology}", f"--array={array}", f"--dataflow={dataflow}").table


def vectors(trace, layer, out=None, *, step=None, pass_="forward", limit=None, config=None, preset=None, **sections):
    """A layer's input vectors, one per row, with signature and outcome. `step` is the last captured one by default.

    Returns a `ParquetTable` over the file `out`, or over a temporary one.
    """
    file = tempfile.NamedTemporaryFile(suffix=".parquet", prefix="mercury-") if out is None else None
    path = file.name if file else out
    chosen = [f"--layer={layer}", *flag("step", step), f"--pass={pass_}", *flag("limit", limit)]
    run("vectors", trace, f"--out={path}", *chosen, *configuration(config, preset, sections))
    # An open file stays readable after it is removed.
    return _native.ParquetTable(path)


def projection(length, *, bits=20, seed=1, entries="gaussian"):
    """The random matrix R: a table of `bits` rows, columns `bit` and `values` (`length` numbers)."""
    return _native.draw_projection(length, bits, seed, entries)


#: Arguments that replay, sweep, search and ladder share, with their flags.
_WORK = {
    "layers": "layers",
    "steps": "steps",
    "passes": "passes",
    "errors": "errors",
    "seeds": "seeds",
    "label": "label",
    "threads": "threads",
    "memory_limit": "memory-limit",
}


def _split_work(more):
    """The flags of the shared arguments, and the other arguments."""
    flags = [text for name, spelled in _WORK.items() if name in more for text in flag(spelled, more[name])]
    return flags, {name: value for name, value in more.items() if name not in _WORK}


def _axes(name, values):
    if values is not None and not isinstance(values, Mapping):
        raise TypeError(f"{name.replace('-', '_')} must map keys to lists of values, not {values!r}")
    return [f"--{name}={key}={','.join(map(format_value, many))}" for key, many in (values or {}).items()]


def _folder(out):
    return tempfile.TemporaryDirectory(prefix="mercury-") if out is None else out


def _to(folder):
    return [f"--out={getattr(folder, 'name', folder) if isinstance(folder, tempfile.TemporaryDirectory) else folder}"]
