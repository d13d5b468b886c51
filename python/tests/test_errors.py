"""Tests that errors and warnings have the messages of the command line, and that wrong arguments are refused."""

import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mercury_lab as mercury
import pytest


class Case(NamedTuple):
    """The arguments of a command that fails, and the call that fails in the same way. `T` is the trace."""

    arguments: str
    call: Callable[[Path], object]


CASES = {
    "no trace": Case("replay nowhere --out out", lambda trace: mercury.replay("nowhere", "out")),
    "a file as the trace": Case(
        "inspect damaged/manifest.json", lambda trace: mercury.inspect("damaged/manifest.json")
    ),
    "a damaged tensor": Case("replay damaged --out out", lambda trace: mercury.replay("damaged", "out")),
    "damaged files": Case("verify damaged", lambda trace: mercury.verify("damaged")),
    "out is not empty": Case("replay T --out damaged", lambda trace: mercury.replay(trace, "damaged")),
    "out is a file": Case("replay T --out file.csv", lambda trace: mercury.replay(trace, "file.csv")),
    "unknown key": Case("replay T --out out --rpq.bitz 9", lambda trace: mercury.replay(trace, "out", rpq={"bitz": 9})),
    "value out of range": Case(
        "replay T --out out --rpq.bits 99", lambda trace: mercury.replay(trace, "out", rpq={"bits": 99})
    ),
    "value of another type": Case(
        "replay T --out out --mcache.ways many", lambda trace: mercury.replay(trace, "out", mcache={"ways": "many"})
    ),
    "unknown preset": Case(
        "replay T --out out --preset merkury", lambda trace: mercury.replay(trace, "out", preset="merkury")
    ),
    "no configuration file": Case("config show --config no.toml", lambda trace: mercury.Config("no.toml")),
    "file and preset": Case(
        "config show --config config.toml --preset mercury",
        lambda trace: mercury.Config("config.toml", preset="mercury"),
    ),
    "a pattern without layers": Case(
        "replay T --out out --layers conv.*", lambda trace: mercury.replay(trace, "out", layers=["conv.*"])
    ),
    "unknown layer": Case(
        "vectors T --layer features.1 --out out", lambda trace: mercury.vectors(trace, "features.1", "out")
    ),
    "a step that was not captured": Case(
        "vectors T --layer features.12 --step 9 --out out",
        lambda trace: mercury.vectors(trace, "features.12", "out", step=9),
    ),
    "unknown bound": Case(
        "search T --out out --bound error<=0.1", lambda trace: mercury.search(trace, "out", bound="error<=0.1")
    ),
    "a bound that does not suffice": Case(
        "search T --out out --bound loss-change<=0.1",
        lambda trace: mercury.search(trace, "out", bound="loss-change<=0.1"),
    ),
    "too few samples to judge": Case("search T --out out", lambda trace: mercury.search(trace, "out")),
    "unknown metric": Case(
        "sweep T --out out --set rpq.bits=8,9 --best spead_up",
        lambda trace: mercury.sweep(trace, "out", rpq={"bits": [8, 9]}, best="spead_up"),
    ),
    "too little memory": Case(
        "replay T --out out --memory-limit 1KB", lambda trace: mercury.replay(trace, "out", memory_limit="1KB")
    ),
    "an errors mode that does not exist": Case(
        "replay T --out out --errors some", lambda trace: mercury.replay(trace, "out", errors="some")
    ),
    "no partition": Case("merge damaged --out out", lambda trace: mercury.merge("damaged", "out")),
    "no results": Case("report damaged --out out.html", lambda trace: mercury.report("damaged", "out.html")),
    "nothing to compare": Case("compare damaged damaged", lambda trace: mercury.compare("damaged", "damaged")),
    "no topology": Case("cycles --topology no.csv", lambda trace: mercury.cycles("no.csv")),
    "an invalid topology": Case("cycles --topology file.csv", lambda trace: mercury.cycles("file.csv")),
    "an invalid array": Case(
        "cycles --topology file.csv --array 0x3", lambda trace: mercury.cycles("file.csv", array="0x3")
    ),
    "an invalid length": Case("projection --length 0 --out out", lambda trace: mercury.projection(0, "out")),
}


@pytest.mark.parametrize("name", CASES)
def test_the_message_is_that_of_the_command(name, program, workplace, vgg13):
    arguments, call = CASES[name]
    for folder in (workplace.parent / "cli", workplace):
        make_invalid_files(folder, vgg13)
    before = sorted(workplace.rglob("*"))
    done = program(*(str(vgg13) if word == "T" else word for word in arguments.split()))
    assert (done.returncode, done.stdout) == (2, "")
    with pytest.raises(mercury.MercuryError) as raised:
        call(vgg13)
    # The advice to ask for help is of no use in Python.
    message = re.split(r"\n\n(?:Usage:|For more information)", done.stderr.rstrip())[0]
    assert str(raised.value) == re.sub(r"^error: ", "", message, count=1, flags=re.MULTILINE)
    assert sorted(workplace.rglob("*")) == before


def make_invalid_files(folder: Path, trace: Path) -> None:
    """Makes a trace with two damaged files, an invalid topology, and a configuration."""
    shutil.copytree(trace, folder / "damaged")
    cut, changed = (folder / f"damaged/tensors/step=00000{step}/layer=features.12/input.parquet" for step in (0, 2))
    cut.write_bytes(cut.read_bytes()[:-100])
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    (folder / "file.csv").write_text("Layer name, M, N, K,\nfc, 1, 2, three,\n")
    (folder / "config.toml").write_text("[rpq]\nbits = 9\n")


def test_several_faults_are_all_listed(workplace, vgg13):
    make_invalid_files(workplace, vgg13)
    with pytest.raises(mercury.MercuryError) as raised:
        mercury.verify("damaged")
    faults = str(raised.value).splitlines()
    assert len(faults) == 3
    assert ["step=000000" in faults[0], "step=000002" in faults[1]] == [True, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rpk": {"bits": 9}}, "unexpected argument 'rpk'; sections of a configuration are rpq, mcache, "),
        ({"rpq": 9}, "rpq must be a dictionary of keys, such as rpq={...}, not 9"),
    ],
)
def test_arguments_that_no_function_has_are_type_errors(arguments, message, workplace, vgg13):
    for function in (mercury.replay, mercury.sweep, mercury.search):
        with pytest.raises(TypeError, match=re.escape(message)):
            function(vgg13, "out", **arguments)
    with pytest.raises(TypeError, match=re.escape(message)):
        mercury.Config(**arguments)
    assert list(workplace.iterdir()) == []


def test_a_sweep_needs_several_values(vgg13):
    with pytest.raises(TypeError, match="a key with several values"):
        mercury.sweep(vgg13, rpq={"bits": 8}, reuse={"passes": ["forward"]})


def test_axes_map_keys_to_values(vgg13):
    with pytest.raises(TypeError, match="per_layer must map keys to lists of values, not 'rpq.bits=8,9'"):
        mercury.search(vgg13, per_layer="rpq.bits=8,9")


def test_warnings_are_those_of_the_command(program, workplace):
    topology = "Layer name, M, N, K, Sparsity,\nfc, 1, 2, 3, 1:2,\n"
    for folder in (workplace.parent / "cli", workplace):
        (folder / "topology.csv").write_text(topology)
    done = program("cycles", "--topology", "topology.csv")
    with pytest.warns(mercury.MercuryWarning) as caught:
        mercury.cycles("topology.csv")
    [warning] = caught
    assert f"warning: {warning.message}\n" == done.stderr
    assert warning.filename == __file__


def test_a_clean_run_warns_of_nothing(vgg13):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mercury.inspect(vgg13).layers.rows()


def test_results_need_a_folder_of_results(vgg13):
    with pytest.raises(mercury.MercuryError, match="holds no results"):
        mercury.Results(vgg13)


def test_a_table_that_does_not_exist_is_named(vgg13):
    results = mercury.sweep(vgg13, rpq={"bits": [8, 9]}, errors="none")
    with pytest.raises(mercury.MercuryError, match=r"no table of angles"):
        _ = results.angles


@pytest.mark.parametrize("arguments", [["inspect", "nowhere"], ["replay"]])
def test_the_installed_command_has_the_exit_code_of_the_program(arguments, program):
    script = "import sys; from mercury_lab._cli import analyzer; sys.exit(analyzer())"
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    expected = program(*arguments)
    assert (done.stdout, done.stderr) == (expected.stdout, expected.stderr)
    assert (done.returncode, expected.returncode) == (2, 2)


@pytest.mark.parametrize("argument", ["layers", "steps", "threads"])
def test_arguments_of_other_functions_are_refused(argument, vgg13):
    for call in (lambda **given: mercury.vectors(vgg13, "features.0", **given), mercury.Config):
        with pytest.raises(TypeError, match=f"unexpected argument '{argument}'"):
            call(**{argument: 3})
