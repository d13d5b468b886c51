"""Tests that each function has the results of its command, byte for byte: all files, and what is printed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import mercury_lab as mercury
import pytest

TOPOLOGY = """Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1, 227, 227, 11, 11, 3, 96, 4,
Conv2DP, 31, 31, 5, 5, 48, 1, 1,
"""
CURVE = "step_error,accuracy_loss,upper\n0,0,0.25\n0.2,0.5,1\n0.6,3,5\n"
CONFIG = """[rpq]
bits = 28
variant = "sign+rescale"

[[layer]]
name = "features.12"
rpq.bits = 12
"""
REUSE = '["forward","weight-grad"]'


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Case(NamedTuple):
    """The arguments of a command, and the call that gives what the command prints. `T` is the trace."""

    arguments: str
    call: Callable[[Path], object]


CASES = {
    "replay": Case("replay T --out out", lambda trace: mercury.replay(trace, "out").text),
    "replay, everything": Case(
        "replay T --out out --with bounds --bounds.cosine 0.9 --errors all --seeds 2 --layers features.* --threads 1 "
        "--steps 0,1..=2 --passes forward,weight-grad --label mine --memory-limit 2GiB --preset mercury-skip "
        f"--rpq.bits 24 --array.hit_cycles 0.25 --memory.double_buffered false --reuse.passes {REUSE}",
        lambda trace: (
            mercury.replay(
                trace,
                "out",
                bounds={"cosine": 0.9},
                errors="all",
                seeds=2,
                layers="features.*",
                threads=1,
                steps=[0, "1..=2"],
                passes=["forward", "weight-grad"],
                label="mine",
                memory_limit="2GiB",
                preset="mercury-skip",
                rpq={"bits": 24},
                array={"hit_cycles": 0.25},
                memory={"double_buffered": False},
                reuse={"passes": ["forward", "weight-grad"]},
            ).text
        ),
    ),
    "replay of a file": Case(
        "replay T --out out --config config.toml --mcache.ways 4",
        lambda trace: mercury.replay(trace, "out", config="config.toml", mcache={"ways": 4}).text,
    ),
    "replay of a Config": Case(
        "replay T --out out --config config.toml --mcache.entries 256 --mcache.ways 4",
        lambda trace: (
            mercury.replay(
                trace,
                "out",
                config=mercury.Config(Path("config.toml"), mcache={"entries": 256, "ways": 16}),
                mcache={"ways": 4},
            ).text
        ),
    ),
    "replay_partition": Case(
        "replay T --out out --partition 2/3 --errors none --rpq.bits 8",
        lambda trace: mercury.replay_partition(trace, "out", "2/3", errors="none", rpq={"bits": 8}) and "",
    ),
    "sweep": Case(
        f"sweep T --out out --set rpq.bits=8..=32:8 --set rpq.variant=sign,centred --set reuse.passes=[],{REUSE} "
        "--mcache.entries 64 --pareto hit_rate,output_error",
        lambda trace: (
            mercury.sweep(
                trace,
                "out",
                rpq={"bits": range(8, 33, 8), "variant": ["sign", "centred"]},
                reuse={"passes": [[], ["forward", "weight-grad"]]},
                mcache={"entries": 64},
                pareto=["hit_rate", "output_error"],
            ).text
        ),
    ),
    "sweep, the best": Case(
        f"sweep T --out out --set rpq.bits=12,20 --reuse.passes {REUSE} --where output_error<=0.6 "
        "--where hit_rate>=0.1 --best speed_up --seeds 2 --preset patch-os",
        lambda trace: str(
            mercury.sweep(
                trace,
                "out",
                rpq={"bits": (12, 20)},
                reuse={"passes": ("forward", "weight-grad")},
                where=["output_error<=0.6", "hit_rate>=0.1"],
                best="speed_up",
                seeds=2,
                config=mercury.Config(preset="patch-os"),
            ).table
        ),
    ),
    "search": Case(
        "search T --out out --bound layer-error<=0.2 --bound step-error<=0.15 --folds 0 --objective edp "
        "--per-layer rpq.bits=12,28 --per-layer rpq.variant=sign,sign+rescale --shared mcache.entries=64,1024",
        lambda trace: (
            mercury.search(
                trace,
                "out",
                bound=["layer-error<=0.2", "step-error<=0.15"],
                folds=0,
                objective="edp",
                per_layer={"rpq.bits": [12, 28], "rpq.variant": ("sign", "sign+rescale")},
                shared={"mcache.entries": [64, 1024]},
            ).text
        ),
    ),
    "search from a Config": Case(
        "search T --out out --bound layer-error<=0.3 --folds 0 --preset mercury --mcache.ways 8",
        lambda trace: (
            mercury.search(
                trace,
                "out",
                bound="layer-error<=0.3",
                folds=0,
                config=mercury.Config(preset="mercury", mcache={"ways": 8}),
            ).text
        ),
    ),
    "search within an accuracy": Case(
        "search T --out out --bound accuracy-loss<=1 --accuracy-curve curve.csv --folds 0 --preset mercury",
        lambda trace: (
            mercury.search(
                trace, "out", bound="accuracy-loss<=1", accuracy_curve=Path("curve.csv"), folds=0, preset="mercury"
            ).text
        ),
    ),
    "ladder": Case(
        "ladder T --mcache.ways 8 --format csv", lambda trace: mercury.ladder(trace, mcache={"ways": 8}).rungs.to_csv()
    ),
    "ladder, readings": Case(
        "ladder T --readings --format csv", lambda trace: mercury.ladder(trace, readings=True).rungs.to_csv()
    ),
    "inspect": Case("inspect T", mercury.inspect),
    "inspect, csv": Case("inspect T --format csv", lambda trace: mercury.inspect(trace).layers.to_csv()),
    "verify": Case("verify T", lambda trace: f"{mercury.verify(trace)}\n"),
    "vectors": Case(
        "vectors T --layer features.12 --step 1 --pass input-grad --limit 300 --out out --rpq.bits 12",
        lambda trace: (
            mercury.vectors(trace, "features.12", "out", step=1, pass_name="input-grad", limit=300, rpq={"bits": 12})
            and ""
        ),
    ),
    "projection": Case(
        "projection --length 27 --bits 33 --seed 7 --entries sparse --out out",
        lambda trace: mercury.projection(27, "out", bits=33, seed=7, entries="sparse") and "",
    ),
    "cycles": Case(
        "cycles --topology topology.csv --array 8x16 --dataflow os --format csv",
        lambda trace: mercury.cycles("topology.csv", array="8x16", dataflow="os").to_csv(),
    ),
    "config show": Case(
        "config show --config config.toml --rpq.bits 40",
        lambda trace: mercury.Config("config.toml", rpq={"bits": 40}).toml,
    ),
    "config presets": Case("config presets", lambda trace: mercury.Config.presets()),
}


@pytest.mark.parametrize("name", CASES)
def test_files_and_text_are_those_of_the_command(name, program, workplace, vgg13):
    arguments, call = CASES[name]
    cli = workplace.parent / "cli"
    for folder in (cli, workplace):
        (folder / "config.toml").write_text(CONFIG)
        (folder / "topology.csv").write_text(TOPOLOGY)
        (folder / "curve.csv").write_text(CURVE)
    done = program(*(str(vgg13) if word == "T" else word for word in arguments.split()))
    assert done.returncode == 0, done.stderr
    assert str(call(vgg13)) == done.stdout
    expected = read_files(cli)
    assert ("out" in " ".join(expected)) == ("--out" in arguments)
    assert read_files(workplace) == expected


def test_a_merge_is_that_of_the_command(program, workplace, mobilenet):
    for part in ("1/2", "2/2"):
        assert program("replay", mobilenet, "--out", f"parts/{part[0]}", "--partition", part).returncode == 0
        mercury.replay_partition(mobilenet, f"parts/{part[0]}", part)
    assert program("merge", "parts", "--out", "merged").returncode == 0
    results = mercury.merge([Path("parts/2"), "parts/1"], "merged")
    assert read_files(workplace) == read_files(workplace.parent / "cli")
    assert results.layers.to_csv() == mercury.replay(mobilenet).layers.to_csv()
    assert results.layers.to_csv() == mercury.merge("parts").layers.to_csv()


def test_a_search_in_parts_is_that_of_the_command(program, workplace, mobilenet):
    flags = ["--bound=layer-error<=0.3", "--folds=0", "--preset=mercury", "--per-layer=rpq.bits=12,20"]
    axes = {"folds": 0, "preset": "mercury", "per_layer": {"rpq.bits": [12, 20]}}
    for part in ("1/2", "2/2"):
        folder = f"part-{part[0]}"
        assert program("search", mobilenet, "--out", folder, "--partition", part, *flags[1:]).returncode == 0
        assert mercury.search_partition(mobilenet, folder, part, **axes) == Path(folder)
    done = program("search", mobilenet, "--out", "search", "--parts=part-1", "--parts=part-2", *flags)
    assert done.returncode == 0, done.stderr
    results = mercury.search(mobilenet, "search", bound="layer-error<=0.3", parts=["part-1", "part-2"], **axes)
    assert results.text == done.stdout
    assert read_files(workplace) == read_files(workplace.parent / "cli")


def test_a_report_is_that_of_the_command(program, workplace, mobilenet):
    flags = ["--bound=layer-error<=0.3", "--folds=0", "--preset=mercury"]
    assert program("replay", mobilenet, "--out", "replay").returncode == 0
    assert program("sweep", mobilenet, "--out", "sweep", "--set", "rpq.bits=8,20").returncode == 0
    assert program("search", mobilenet, "--out", "search", *flags).returncode == 0
    done = program("report", "replay", "sweep", "search", "--trace", mobilenet, "--out", "report.html")
    assert done.returncode == 0, done.stderr
    replay = mercury.replay(mobilenet, "replay")
    sweep = mercury.sweep(mobilenet, "sweep", rpq={"bits": [8, 20]})
    mercury.search(mobilenet, "search", bound="layer-error<=0.3", folds=0, preset="mercury")
    assert mercury.report([replay, sweep, "search"], "report.html", trace=mobilenet) == Path("report.html")
    assert read_files(workplace) == read_files(workplace.parent / "cli")


def test_a_comparison_is_that_of_the_command(program, workplace, vgg13):
    for bits in (12, 20):
        assert program("replay", vgg13, "--out", str(bits), "--rpq.bits", bits).returncode == 0
    a, b = (mercury.replay(vgg13, str(bits), rpq={"bits": bits}) for bits in (12, 20))
    comparison = mercury.compare(a, b, threshold={"speed_up": 0.0, "hit_rate": 1})
    done = program("compare", "12", "20", "--threshold", "speed_up=0.0,hit_rate=1")
    assert (str(comparison.changes), comparison.crossed, done.returncode) == (done.stdout, True, 1)
    assert "configurations.0.rpq.bits: 12 -> 20" in comparison.notes
    assert all(note in done.stderr for note in comparison.notes)
    same = mercury.compare("12", a)
    assert (len(same.changes), same.crossed) == (0, False)
    assert program("compare", "12", "12").returncode == 0


def test_commands_on_several_threads_have_the_same_results(vgg13):
    """Commands on several threads at once have the results of one after the other."""

    def replay(bits: int) -> bytes:
        results = mercury.replay(vgg13, rpq={"bits": bits})
        return (results.folder / "layers.parquet").read_bytes()

    lengths = [8, 16, 24, 32]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(replay, lengths))
    assert together == [replay(bits) for bits in lengths]
    assert len(set(together)) == len(lengths)
