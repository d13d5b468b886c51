"""Tests that traces written by other programs are read like our own.

For any library, types, codec and pages, `verify` accepts the trace and `replay` gives the same results bit for bit.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import duckdb
import mercury_lab as mercury
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docs" / "examples"))
import write_trace  # noqa: E402

TABLES = ("layers.parquet", "steps.parquet", "evaluations.parquet")


def replay(trace: Path) -> dict[str, bytes]:
    """Replays a trace and returns the files of its tables by name."""
    results = mercury.replay(trace)
    return {path.name: path.read_bytes() for path in results.folder.glob("*.parquet")}


def rewrite(trace: Path, copy: Path, write, dtype: str = "f32") -> Path:
    """Copies a trace, with all Parquet files written by `write(path, table, is_tensor)` and new checksums."""
    shutil.copytree(trace, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    for step in manifest["captured"]:
        for entry in step["tensors"]:
            path = copy / f"tensors/step={step['step']:06}/layer={entry['layer']}/{entry['kind']}.parquet"
            write(path, pq.ParquetFile(path).read(), True)
            entry["bytes"] = path.stat().st_size
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest["sampling"]["dtype"] = dtype
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for name in TABLES:
        write(copy / name, pq.ParquetFile(copy / name).read(), False)
    names = [*TABLES, "manifest.json"]
    sums = [f"{hashlib.sha256((copy / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names)]
    (copy / "SHA256SUMS").write_text("".join(sums))
    return copy


@pytest.fixture(scope="module")
def trace(tmp_path_factory) -> Path:
    """A trace written by docs/examples/write_trace.py, with an added evaluation."""
    folder = tmp_path_factory.mktemp("elsewhere") / "trace"
    write_trace.train(str(folder), steps=5, every=4, batch=8, kept=3)
    row = {"steps_done": [5], "metric": ["top1"], "value": [0.5], "samples": [512]}
    schema = pq.read_schema(folder / "evaluations.parquet")
    pq.write_table(pa.table(row, schema=schema), folder / "evaluations.parquet")
    return rewrite(folder, folder.parent / "evaluated", lambda path, table, is_tensor: None)


@pytest.fixture(scope="module")
def expected(trace) -> dict[str, bytes]:
    results = replay(trace)
    assert len(results) >= 3
    return results


def cast(table: pa.Table, kinds: dict, values: pa.DataType | None = None) -> pa.Table:
    """Returns the table with other types and nullable columns."""
    fields = []
    for field in table.schema:
        is_values = field.name == "values"
        kind = values if is_values and values is not None else kinds.get(field.type, field.type)
        fields.append(pa.field(field.name, kind, nullable=True))
    return table.cast(pa.schema(fields))


def write_pyarrow(kinds=None, values=None, **options):
    def write(path, table, is_tensor):
        chosen = values(table.schema.field("values").type.list_size) if is_tensor and values else None
        if kinds is not None or chosen is not None:
            table = cast(table, kinds or {}, chosen)
        pq.write_table(table, path, **options)

    return write


def write_polars(**options):
    return lambda path, table, is_tensor: pl.from_arrow(table).write_parquet(path, **options)


def write_polars_lists(path, table, is_tensor):
    frame = pl.from_arrow(table)
    frame.with_columns(pl.col("values").arr.to_list() if is_tensor else pl.all()).write_parquet(path)


def write_polars_inferred(path, table, is_tensor):
    """Writes types as polars infers them from Python objects (i64, f64), except for the values."""
    kinds = {"values": pl.List(pl.Float32)} if is_tensor else {}
    pl.DataFrame(table.to_pylist(), schema_overrides=kinds, strict=False).write_parquet(path)


def write_duckdb(**options):
    return lambda path, table, is_tensor: duckdb.from_arrow(table).write_parquet(str(path), **options)


def write_delta(path, table, is_tensor):
    """Writes the delta encodings of the second format version."""
    encodings = {pa.uint32(): "DELTA_BINARY_PACKED", pa.uint64(): "DELTA_BINARY_PACKED", pa.string(): "DELTA_BYTE_ARRAY"}
    chosen = {field.name: encodings[field.type] for field in table.schema if field.type in encodings}
    pq.write_table(table, path, use_dictionary=False, column_encoding=chosen, data_page_version="2.0")


ELEMENT = pa.field("item", pa.float32(), metadata={"unit": "none", "PARQUET:field_id": "9"})
SIGNED = {pa.uint32(): pa.int64(), pa.uint64(): pa.int64()}
NARROW = {pa.uint32(): pa.int16(), pa.uint64(): pa.int32()}
WAYS = {
    "pyarrow": write_pyarrow(),
    "pyarrow, no Arrow schema": write_pyarrow(store_schema=False),
    "pyarrow, no Arrow schema, names of elements kept": write_pyarrow(store_schema=False, use_compliant_nested_type=False),
    "pyarrow, nullable": write_pyarrow({}),
    "pyarrow, large strings and lists": write_pyarrow({pa.string(): pa.large_string()}, lambda n: pa.large_list(pa.float32())),
    "pyarrow, views": write_pyarrow({pa.string(): pa.string_view()}, lambda n: pa.list_(pa.float32())),
    "pyarrow, dictionaries": write_pyarrow({pa.string(): pa.dictionary(pa.int8(), pa.string())}),
    "pyarrow, binary": write_pyarrow({pa.string(): pa.binary()}),
    "pyarrow, metadata of fields": write_pyarrow({}, lambda n: pa.list_(ELEMENT, n)),
    "pyarrow, signed": write_pyarrow(SIGNED),
    "pyarrow, signed, no Arrow schema": write_pyarrow(SIGNED, store_schema=False),
    "pyarrow, narrow": write_pyarrow(NARROW),
    "pyarrow, version 1.0": write_pyarrow(version="1.0"),
    "pyarrow, pages of the second version": write_pyarrow(data_page_version="2.0"),
    "pyarrow, delta": write_delta,
    "pyarrow, small groups": write_pyarrow(row_group_size=2),
    "polars": write_polars(),
    "polars, lists": write_polars_lists,
    "polars, inferred types": write_polars_inferred,
    "duckdb": write_duckdb(),
}
for codec in ("none", "snappy", "gzip", "brotli", "lz4", "zstd"):
    WAYS[f"pyarrow, {codec}"] = write_pyarrow(compression=codec)
    WAYS[f"pyarrow, {codec}, second version"] = write_pyarrow(compression=codec, data_page_version="2.0")
    # Pages with few or no values.
    WAYS[f"pyarrow, {codec}, small pages"] = write_pyarrow(
        compression=codec, data_page_size=64, write_batch_size=1, use_dictionary=False
    )
    WAYS[f"pyarrow, {codec}, small pages, second version, nullable"] = write_pyarrow(
        {}, compression=codec, data_page_size=64, write_batch_size=1, data_page_version="2.0"
    )
for codec in ("uncompressed", "snappy", "gzip", "brotli", "lz4", "zstd"):
    WAYS[f"polars, {codec}"] = write_polars(compression=codec, data_page_size=100, row_group_size=3)
    WAYS[f"duckdb, {codec}"] = write_duckdb(compression=codec)


@pytest.mark.parametrize("way", WAYS)
def test_a_trace_is_read_like_our_own(trace, expected, tmp_path, way):
    copy = rewrite(trace, tmp_path / "trace", WAYS[way])
    assert "as they were written" in mercury.verify(copy)
    assert replay(copy) == expected


def build_half_type(size: int) -> pa.DataType:
    return pa.list_(pa.field("element", pa.float16(), nullable=False), size)


HALVES = {
    "no Arrow schema": write_pyarrow({}, lambda n: pa.list_(pa.float16()), store_schema=False),
    "large lists, gzip": write_pyarrow({}, lambda n: pa.large_list(pa.float16()), compression="gzip"),
    "second version, brotli": write_pyarrow(
        {}, lambda n: pa.list_(pa.float16(), n), compression="brotli", data_page_version="2.0"
    ),
    "signed, small pages": write_pyarrow(
        SIGNED, build_half_type, data_page_size=64, write_batch_size=1, use_dictionary=False
    ),
    "polars": lambda path, table, is_tensor: pl.from_arrow(
        cast(table, {}, build_half_type(table.schema.field("values").type.list_size)) if is_tensor else table
    ).write_parquet(path),
}


@pytest.fixture(scope="module")
def expected_halves(trace) -> dict[str, bytes]:
    return replay(rewrite(trace, trace.parent / "halves", write_pyarrow({}, build_half_type), "f16"))


@pytest.mark.parametrize("way", HALVES)
def test_f16_values_are_read_like_our_own(trace, expected_halves, expected, tmp_path, way):
    copy = rewrite(trace, tmp_path / "trace", HALVES[way], "f16")
    assert "as they were written" in mercury.verify(copy)
    found = replay(copy)
    assert found == expected_halves
    assert found != expected


def change_tensor(change):
    def write(path, table, is_tensor):
        if is_tensor and path.name == "input.parquet" and "conv1" in str(path):
            pq.write_table(change(table), path)

    return write


def change_table(name, column, values):
    def write(path, table, is_tensor):
        if path.name == name:
            place = table.column_names.index(column)
            pq.write_table(table.set_column(place, column, values(table[column].to_pylist())), path)

    return write


def replace_values(rows, kind=pa.list_(pa.float32())):
    """Replaces the values column; `rows` maps its old rows to new ones."""

    def change(table):
        values = pa.array(rows(table["values"].to_pylist()), kind)
        return table.set_column(table.num_columns - 1, "values", values)

    return change_tensor(change)


def replace_key(values):
    return change_tensor(lambda table: table.set_column(0, "sample", values(table["sample"].to_pylist())))


WRONG = {
    "a null row": (replace_values(lambda rows: [rows[0], None, *rows[2:]]), ["values: row 1 is null"]),
    "a null value": (
        replace_values(lambda rows: [*rows[:2], [None, *rows[2][1:]]]),
        ["values: row 2 has a null (value 0)"],
    ),
    "a short row": (replace_values(lambda rows: [rows[0], rows[1][:-1], rows[2]]), ["values: row 1 has 255 values", "256"]),
    "a long row": (replace_values(lambda rows: [rows[0], rows[1], rows[2] * 2]), ["values: row 2 has 512 values", "256"]),
    "an empty row": (replace_values(lambda rows: [[], *rows[1:]]), ["values: row 0 has 0 values", "256"]),
    "f64": (replace_values(lambda rows: rows, pa.list_(pa.float64())), ["holds lists of f64", "pa.list_(pa.float32(), 256)"]),
    "f16": (replace_values(lambda rows: rows, pa.list_(pa.float16())), ["holds lists of f16", "sampling.dtype", "f32"]),
    "planes": (
        replace_values(lambda rows: [[row[:16], row[16:]] for row in rows], pa.list_(pa.list_(pa.float32()))),
        ["holds lists of lists of f32", "pl.Array(pl.Float32, 256)"],
    ),
    "a number a row": (replace_values(lambda rows: [row[0] for row in rows], pa.float32()), ["values: holds f32"]),
    "a null key": (replace_key(lambda keys: pa.array([None, *keys[1:]], pa.uint32())), ["sample: row 0 is null"]),
    "a negative key": (
        replace_key(lambda keys: pa.array([-1, *keys[1:]], pa.int64())),
        ["sample: row 0 holds -1", "0 to 4294967295"],
    ),
    "keys in f64": (replace_key(lambda keys: pa.array(keys, pa.float64())), ["sample: holds f64", "u32", "pl.UInt32"]),
    "another order": (
        change_tensor(lambda table: table.select([1, 0, 2])),
        ["sample: found column channel in its place", "sample, channel, values, in this order"],
    ),
    "an index": (
        change_tensor(lambda table: table.append_column("__index_level_0__", pa.array(range(table.num_rows)))),
        ["__index_level_0__: the column is not expected"],
    ),
    "macs in f64": (
        change_table("layers.parquet", "macs", lambda values: pa.array(map(float, values))),
        ["macs: holds f64", "u64", "pa.uint64()"],
    ),
    "a null name": (
        change_table("layers.parquet", "name", lambda values: pa.array([*values[:-1], None])),
        ["name: row 2 is null", "string"],
    ),
    "a large dimension": (
        change_table("layers.parquet", "rows", lambda values: pa.array([*values[:-1], 1 << 32])),
        ["rows: row 2 holds 4294967296", "u32"],
    ),
    "true or false in numbers": (
        change_table("steps.parquet", "captured", lambda values: pa.array(map(int, values))),
        ["captured: holds i64", "bool", "pl.Boolean"],
    ),
    "a null loss": (
        change_table("steps.parquet", "loss", lambda values: pa.array([*values[:3], None, values[4]])),
        ["loss: row 3 is null"],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_refusals_name_the_difference(trace, tmp_path, what):
    write, parts = WRONG[what]
    copy = rewrite(trace, tmp_path / "trace", write)
    with pytest.raises(mercury.MercuryError) as raised:
        mercury.verify(copy)
    message = str(raised.value)
    for part in parts:
        assert part in message, message
    assert "capture anew" not in message and "copy it again" not in message
