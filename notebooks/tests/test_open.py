"""Tests that a trace and its results open in pyarrow, polars and DuckDB with equal contents.

`make test-notebooks` creates both and sets MERCURY_TRACE and MERCURY_RESULTS to their folders.
"""

import json
import math
import os
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROW_GROUP_BYTES = 128 << 20


def get_folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.fail(f"{variable} is not set; run `make test-notebooks`, or set it to a folder", pytrace=False)
    if not Path(path).is_dir():
        pytest.fail(f"{variable}: {path} is not a folder", pytrace=False)
    return Path(path)


@pytest.fixture(scope="module")
def trace() -> Path:
    return get_folder("MERCURY_TRACE")


@pytest.fixture(scope="module")
def results() -> Path:
    return get_folder("MERCURY_RESULTS")


@pytest.fixture(scope="module")
def manifest(trace: Path) -> dict:
    return json.loads((trace / "manifest.json").read_text())


def read_with_duckdb(path: Path) -> pa.Table:
    # The names of folders look like Hive partitions, which would become columns.
    return duckdb.read_parquet(str(path), hive_partitioning=False).to_arrow_table()


def read_rows(path: Path) -> list[dict]:
    """Returns the rows of a small table, after checking that all three libraries agree."""
    by_pyarrow = pq.ParquetFile(path).read().to_pylist()
    assert pl.read_parquet(path).to_dicts() == by_pyarrow, f"{path}: polars and pyarrow differ"
    assert read_with_duckdb(path).to_pylist() == by_pyarrow, f"{path}: DuckDB and pyarrow differ"
    return by_pyarrow


def list_tensors(trace: Path, manifest: dict) -> list[tuple[Path, int, dict]]:
    """Returns path, step and manifest entry of every tensor file."""
    return [
        (trace / f"tensors/step={step:06}/layer={entry['layer']}/{entry['kind']}.parquet", step, entry)
        for step, entries in ((captured["step"], captured["tensors"]) for captured in manifest["captured"])
        for entry in entries
    ]


def read_bits(column: pa.ChunkedArray) -> np.ndarray:
    """Returns the bit patterns of values, in which -0 differs from 0 and a NaN equals itself."""
    return column.combine_chunks().flatten().to_numpy().view(np.uint32)


def test_manifest_lists_every_file(trace, manifest):
    listed = {path: entry["bytes"] for path, _, entry in list_tensors(trace, manifest)}
    found = {path: path.stat().st_size for path in (trace / "tensors").rglob("*.parquet")}
    assert listed, "no step was captured"
    assert listed == found


def test_layers_and_steps(trace, manifest):
    layers = read_rows(trace / "layers.parquet")
    assert [layer["index"] for layer in layers] == list(range(len(layers)))
    captured = manifest["captured"]
    assert {entry["layer"] for step in captured for entry in step["tensors"]} <= {layer["name"] for layer in layers}

    steps = read_rows(trace / "steps.parquet")
    assert [step["step"] for step in steps if step["captured"]] == [step["step"] for step in captured]
    if manifest["complete"]:
        assert len(steps) == manifest["training"]["steps"]


def test_tensors_are_equal_in_all_libraries(trace, manifest):
    for path, _, entry in list_tensors(trace, manifest):
        by_pyarrow = pq.ParquetFile(path).read()
        by_polars = pl.read_parquet(path, hive_partitioning=False)
        by_duckdb = read_with_duckdb(path)
        *keys, values = by_pyarrow.column_names
        assert values == "values" and keys, path
        assert by_polars.columns == by_duckdb.column_names == by_pyarrow.column_names, path

        width = entry["width"]
        assert pa.types.is_fixed_size_list(by_pyarrow.schema.field(values).type), path
        assert by_pyarrow.schema.field(values).type.list_size == width, path
        assert by_polars.schema[values] == pl.Array(pl.Float32, width), path

        expected = read_bits(by_pyarrow[values])
        assert len(expected) == entry["rows"] * width, path
        for table in (by_pyarrow, by_polars.to_arrow(), by_duckdb):
            assert table.num_rows == entry["rows"], path
            flat = table[values].combine_chunks().flatten()
            assert flat.null_count == 0 and all(column.null_count == 0 for column in table.columns), path
            assert np.array_equal(read_bits(table[values]), expected), path
            for key in keys:
                assert table[key].type == pa.uint32() and table[key].equals(by_pyarrow[key]), (path, key)


def test_tensors_describe_themselves(trace, manifest):
    ops = {layer["name"]: layer["op"] for layer in read_rows(trace / "layers.parquet")}
    for path, step, entry in list_tensors(trace, manifest):
        expected = {
            "mercury.schema_version": str(manifest["schema_version"]),
            "mercury.step": str(step),
            "mercury.layer": entry["layer"],
            "mercury.kind": entry["kind"],
            "mercury.op": ops[entry["layer"]],
        }
        by_pyarrow = {key.decode(): value.decode() for key, value in pq.read_metadata(path).metadata.items()}
        pairs = duckdb.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(path)]).fetchall()
        by_duckdb = {key.decode(): value.decode() for key, value in pairs}
        for found in (by_pyarrow, pl.read_parquet_metadata(path), by_duckdb):
            assert {key: value for key, value in found.items() if key.startswith("mercury.")} == expected, path


def test_tensors_are_encoded_as_documented(trace, manifest):
    for path, _, entry in list_tensors(trace, manifest):
        metadata = pq.read_metadata(path)
        for index in range(metadata.num_row_groups):
            group = metadata.row_group(index)
            column = group.column(group.num_columns - 1)
            assert column.path_in_schema == "values.list.element", path
            assert column.compression == "ZSTD", path
            # RLE encodes the levels of lists; a dictionary would show as PLAIN or RLE_DICTIONARY.
            assert set(column.encodings) == {"BYTE_STREAM_SPLIT", "RLE"}, path
            assert not column.has_dictionary_page, path
            # A single row may exceed the limit.
            assert group.num_rows == 1 or group.num_rows * entry["width"] * 4 <= ROW_GROUP_BYTES, path


def test_results_add_up(results):
    layers, models = read_rows(results / "layers.parquet"), read_rows(results / "models.parquet")
    assert layers and models
    for row in layers + models:
        # Vectors of switched-off layers are counted but not looked up.
        looked_up = row["hit"] + row["mau"] + row["mnu"]
        assert looked_up == row["vectors"] or (looked_up <= row["vectors"] and row.get("switched_off", True)), row
        parts = ("signature_cycles", "compute_cycles", "stall_cycles", "extra_cycles")
        assert sum(row[part] for part in parts) == row["mercury_cycles"], row
        assert row["speed_up"] == row["baseline_cycles"] / row["mercury_cycles"], row
        assert row["hit_rate"] == (row["hit"] / row["vectors"] if row["vectors"] else None), row

    for model in models:
        step_rows = [row for row in layers if all(row[key] == model[key] for key in ("configuration", "step"))]
        # Outcomes and the output error of a model are those of its forward passes.
        forward = [row for row in step_rows if row["pass"] == "forward"]
        forward_names = ("vectors", "hit", "mau", "mnu")
        for name in forward_names:
            assert model[name] == sum(row[name] for row in forward), (name, model)
        for name in ("samples", "batch", "trial"):
            assert model[name] == max(row[name] for row in step_rows), (name, model)
        # Ratios, errors and columns with an interval are not sums.
        others = ("configuration", "step", "trial", "hit_rate", "error_square", "exact_square", "samples", "batch")
        others += ("is_bound", "mcache_results_mean", "mcache_results_peak", "mcache_kb", "gradient_error")
        starts = ("speed_up", "output_", "loss_")
        summed = [name for name in model if name not in forward_names and name not in others]
        summed = [name for name in summed if not name.startswith(starts)]
        assert len(summed) >= 14, summed
        for name in summed:
            assert math.isclose(model[name], sum(row[name] for row in step_rows), rel_tol=1e-12), (name, model)
        assert model["is_bound"] == any(row["is_bound"] for row in step_rows), model
        for name in {row["pass"] for row in step_rows}:
            shares = [row["error_share"] for row in step_rows if row["pass"] == name and row["error_share"] is not None]
            assert not shares or math.isclose(sum(shares), 1), (name, model)


def test_configurations_sum_their_steps(results):
    models, configurations = read_rows(results / "models.parquet"), read_rows(results / "configurations.parquet")
    assert configurations
    for row in configurations:
        steps = [model for model in models if model["configuration"] == row["configuration"]]
        # The steps after the trial, if there are any.
        steps = [model for model in steps if not model["trial"]] or steps
        for name in ("vectors", "hit", "mau", "mnu", "macs", "macs_saved_net", "baseline_cycles", "mercury_cycles"):
            assert row[name] == sum(step[name] for step in steps), (name, row)
        assert row["computations_saved"] == row["macs_saved_net"] / row["macs"], row
