"""Tests that other libraries take tables by the Arrow PyCapsule interface, without copies."""

import gc
from pathlib import Path

import duckdb
import mercury_lab as mercury
import polars
import pyarrow
import pyarrow.parquet
import pytest

TABLES = ["layers", "models", "configurations", "designs", "angles"]


@pytest.fixture(scope="module")
def results(vgg13) -> mercury.Results:
    return mercury.replay(vgg13, bounds=True, seeds=2)


@pytest.mark.parametrize("name", TABLES)
def test_libraries_see_the_table_of_the_file(name, results):
    table, path = getattr(results, name), results.folder / f"{name}.parquet"
    expected = polars.read_parquet(path)
    assert expected.height > 0
    assert polars.DataFrame(table).equals(expected)
    assert polars.DataFrame(pyarrow.table(table)).equals(expected)
    assert duckdb.sql('select * from "table"').pl().equals(expected)
    assert (table.columns, len(table)) == (expected.columns, expected.height)


def list_addresses(table: pyarrow.Table, is_text: bool) -> list[int]:
    """The addresses of the buffers of text columns, or of all others."""
    columns = [column for column in table.columns if (pyarrow.types.is_primitive(column.type)) != is_text]
    buffers = [buffer for column in columns for chunk in column.chunks for buffer in chunk.buffers()]
    return [buffer.address for buffer in buffers if buffer is not None]


@pytest.mark.parametrize("name", TABLES)
def test_exports_share_memory(name, results):
    table = getattr(results, name)
    first, second = (list_addresses(pyarrow.table(table), is_text=False) for _ in range(2))
    assert len(first) >= 5
    assert first == second


def test_exports_share_text(results):
    first, second = (list_addresses(pyarrow.table(results.layers), is_text=True) for _ in range(2))
    assert len(first) >= 2
    assert first == second


def test_polars_takes_numbers_without_a_copy(results):
    [expected] = pyarrow.table(results.layers)["mercury_cycles"].chunks
    taken = polars.DataFrame(results.layers)["mercury_cycles"].to_arrow()
    assert taken.buffers()[1].address == expected.buffers()[1].address


def test_an_export_outlives_the_table(vgg13):
    table = pyarrow.table(mercury.replay(vgg13).layers)
    gc.collect()
    assert table.equals(pyarrow.table(mercury.replay(vgg13).layers))


def test_rows_csv_and_text_show_the_same(results):
    rows = results.configurations.rows()
    assert rows == polars.DataFrame(results.configurations).to_dicts()
    header, *lines = results.configurations.to_csv().splitlines()
    assert header.split(",") == results.configurations.columns
    assert [int(line.split(",")[0]) for line in lines] == [row["configuration"] for row in rows] == [0, 1]
    assert str(results.configurations).split()[:3] == ["configuration", "rpq.seed", "steps"]
    assert repr(results.configurations).startswith("Table(2 rows: configuration, rpq.seed, ")


def test_vectors_are_read_from_their_file(tmp_path, vgg13):
    out = tmp_path / "vectors.parquet"
    table = mercury.vectors(vgg13, "features.12", out)
    expected = pyarrow.parquet.read_table(out)
    assert expected.num_rows == 256 * 64 * 3
    assert pyarrow.table(table).equals(expected)
    assert polars.DataFrame(table).equals(polars.read_parquet(out))
    assert duckdb.sql('select count(*) from "table"').fetchall() == [(expected.num_rows,)]
    assert table.columns == expected.column_names
    # A table can be read again, and without its file.
    out.unlink()
    assert pyarrow.table(table).equals(expected)


def test_vectors_have_the_outcomes_of_the_replay(vgg13):
    vectors = polars.DataFrame(mercury.vectors(vgg13, "features.12", step=1))
    layers = polars.DataFrame(mercury.replay(vgg13).layers)
    [row] = layers.filter(layer="features.12", step=1, **{"pass": "forward"}).to_dicts()
    counts = dict(vectors["outcome"].value_counts().iter_rows())
    assert counts == {"HIT": row["hit"], "MAU": row["mau"]}
    assert (row["mnu"], set(vectors["values"].list.len())) == (0, {9})


def test_signatures_are_those_of_the_projection(vgg13):
    """The sign of each product with a row of R, by another library."""
    vectors = polars.DataFrame(mercury.vectors(vgg13, "features.12", limit=500, rpq={"bits": 20, "seed": 3}))
    rows = polars.DataFrame(mercury.projection(9, bits=20, seed=3))["values"].to_list()
    assert len(rows) == 20
    for values, signature in vectors.select("values", "signature").iter_rows():
        products = [sum(a * b for a, b in zip(row, values, strict=True)) for row in rows]
        # f32 and f64 round products near 0 differently.
        clear = [bit for bit, product in enumerate(products) if abs(product) > 1e-4]
        assert [signature >> bit & 1 for bit in clear] == [products[bit] > 0 for bit in clear]


def test_a_file_that_is_no_table_is_named(tmp_path):
    path = tmp_path / "broken.parquet"
    path.write_text("no table")
    with pytest.raises(mercury.MercuryError, match="broken.parquet"):
        mercury.ParquetTable(path)
    with pytest.raises(mercury.MercuryError, match="missing.parquet"):
        mercury.ParquetTable(Path(tmp_path, "missing.parquet"))
