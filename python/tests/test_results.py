"""Tests of results and configurations as objects."""

import gc
import tomllib
import warnings
from pathlib import Path

import mercury_lab as mercury
import pytest


@pytest.mark.parametrize(
    "call",
    [
        lambda trace: mercury.replay(trace),
        lambda trace: mercury.sweep(trace, rpq={"bits": [8, 9]}),
        lambda trace: mercury.search(trace, folds=0, preset="mercury"),
    ],
    ids=["replay", "sweep", "search"],
)
def test_temporary_results_live_as_long_as_their_object(call, temporary, vgg13):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = call(vgg13)
        assert temporary in results.folder.parents
        assert mercury.verify(results.folder).endswith("as they were written")
        del results
        gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_failed_call_leaves_no_temporary_folder(temporary, vgg13):
    with pytest.raises(mercury.MercuryError) as raised:
        mercury.replay(vgg13, rpq={"bits": 99})
    del raised
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_temporary_tables_leave_no_file(temporary, vgg13):
    table = mercury.vectors(vgg13, "features.12", limit=10)
    assert len(table.columns) == 10
    assert mercury.projection(9).columns == ["bit", "values"]
    assert list(temporary.iterdir()) == []


def test_results_of_the_caller_stay(workplace, vgg13):
    results = mercury.replay(vgg13, Path("out"))
    expected = results.layers.to_csv()
    del results
    gc.collect()
    opened = mercury.Results("out")
    assert opened.layers.to_csv() == expected
    assert (opened.text, repr(opened)) == ("", "Results('out')")
    assert opened.run["trace"]["model"]["name"] == "vgg13"


def test_the_best_design_outlives_its_search(temporary, vgg13):
    best = mercury.search(vgg13, bound="layer-error<=0.2", folds=0, preset="mercury").best
    gc.collect()
    promised = [table["rpq"]["bits"] for table in best["layer"] if "rpq" in table]
    assert promised == [28, 12]
    replayed = mercury.replay(vgg13, config=mercury.Config(best, array={"clock_mhz": 100}))
    search = mercury.search(vgg13, bound="layer-error<=0.2", folds=0, preset="mercury")
    [design] = [row for row in search.configurations.rows() if row["method"] == "per layer"]
    assert replayed.configurations.rows()[0]["mercury_cycles"] == design["mercury_cycles"]
    del best, replayed, search
    gc.collect()
    assert list(temporary.iterdir()) == []


def test_a_search_has_a_short_summary_and_its_design_prints_what_differs(vgg13):
    search = mercury.search(vgg13, bound="layer-error<=0.2", folds=0)
    assert search.text.startswith(search.summary)
    lines = search.summary.splitlines()
    assert lines[0].startswith("vgg13 within layer-error <= 0.2: ")
    assert any(line.split()[:3] == ["bound", "per", "layer"] for line in lines)
    assert len(lines) == 23 < len(search.text.splitlines()) - 10
    assert "features.12" not in search.summary
    assert mercury.SearchResults(search.folder).summary == ""
    printed = str(search.best)
    assert printed.startswith("# What differs from the preset mercury.\n")
    differing = tomllib.loads(printed)
    assert differing.pop("layer") == search.best["layer"]
    assert differing["array"] == {"hit_cycles": "column"} and "rpq" not in differing
    # Together with the preset, they are the whole design.
    file = search.folder.parent / "differing.toml"
    file.write_text(printed)
    assert mercury.Config(file) == search.best == mercury.Config(search.folder / "best.toml")
    assert search.best.differences("mercury-skip") != printed
    assert "rpq.bits = 33\n" in mercury.Config(rpq={"bits": 33}).differences()
    assert mercury.Config().differences() == "# What differs from the preset mercury.\n"


def test_a_printed_comparison_names_both_results(workplace, vgg13):
    a = mercury.replay(vgg13, "first", errors="none")
    b = mercury.replay(vgg13, "second", errors="none", rpq={"bits": 30})
    compared = mercury.compare(a, b)
    lines = str(compared).splitlines()
    assert lines[:3] == ["a: first: rpq.bits 20", "b: second: rpq.bits 30", "configurations.0.rpq.bits: 20 -> 30"]
    assert "hit_rate_a" in lines[4]
    assert str(compared).endswith(str(compared.changes))


def test_the_best_design_of_a_search_without_gain_does_not_reuse(mobilenet):
    search = mercury.search(mobilenet, bound="layer-error<=0.0", folds=0, preset="mercury")
    assert search.best["layer"] == [{"name": "*", "reuse": {"passes": []}}]
    assert {row["speed_up"] for row in search.frontier.rows() if row["method"] == "per layer"} == {1.0}


def test_the_table_of_a_sweep_has_the_selected_rows(workplace, vgg13):
    sweep = mercury.sweep(vgg13, "out", rpq={"bits": [8, 16, 24]}, best="speed_up")
    assert (len(sweep.table), len(sweep.configurations)) == (1, 3)
    assert sweep.table.rows()[0]["rpq.bits"] == 8
    assert any(note.startswith("the best of 3 rows") for note in sweep.notes)
    assert len(mercury.SweepResults("out").table) == 3


def test_arrays_and_ranges_are_axes(vgg13):
    import numpy

    counts = [
        len(mercury.sweep(vgg13, rpq={"bits": bits}, errors="none").configurations)
        for bits in (range(8, 11), (8, 9, 10), numpy.arange(8, 11), (bits for bits in [8, 9, 10]))
    ]
    assert counts == [3, 3, 3, 3]


def test_a_configuration_survives_its_file(tmp_path):
    config = mercury.Config(
        preset="mercury-skip",
        rpq={"bits": 33, "variant": "sign+magnitude(2)"},
        reuse={"passes": ["forward", "weight-grad"]},
        memory={"double_buffered": False},
        energy={"dram": 150.5},
    )
    config.save(tmp_path / "config.toml")
    loaded = mercury.Config(tmp_path / "config.toml")
    assert loaded == config == mercury.Config(config)
    assert loaded != mercury.Config(config, rpq={"bits": 34})
    assert [loaded[key] for key in ("rpq.bits", "rpq.variant", "reuse.passes", "energy.dram")] == [
        33,
        "sign+magnitude(2)",
        ["forward", "weight-grad"],
        150.5,
    ]
    assert loaded.values["memory"]["double_buffered"] is False
    with pytest.raises(KeyError):
        _ = loaded["rpq.bitz"]


def test_a_configuration_names_the_source_of_values():
    config = mercury.Config(mercury.Config(preset="patch-os", rpq={"bits": 40}), rpq={"bits": 41, "seed": 7})
    [bits] = [line for line in config.toml.splitlines() if line.startswith("bits = ")]
    assert bits.split("#") == [bits.split("#")[0], " flag --rpq.bits"] and "41" in bits
    assert "# preset patch-os" in repr(config)
    assert {name for name in ("mercury", "patch-os", "trec") if name in mercury.Config.presets()} == {
        "mercury",
        "patch-os",
        "trec",
    }


def test_layers_tables_are_kept(tmp_path, vgg13):
    path = tmp_path / "config.toml"
    path.write_text('[[layer]]\nname = "features.12"\nrpq.bits = 12\n')
    config = mercury.Config(path, mcache={"entries": 64})
    config.save(tmp_path / "saved.toml")
    saved = mercury.Config(tmp_path / "saved.toml")
    assert saved["layer"] == config["layer"] == [{"name": "features.12", "rpq": {"bits": 12}}]
    a, b = (mercury.replay(vgg13, config=each).layers.to_csv() for each in (config, saved))
    assert a == b != mercury.replay(vgg13, mcache={"entries": 64}).layers.to_csv()
