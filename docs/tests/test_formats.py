"""Tests that docs/formats.md names exactly the columns and keys of real files, and that links and paths in docs exist.

The environment names the folders, as for notebooks/tests: MERCURY_TRACE, MERCURY_RESULTS and MERCURY_SWEEP, which
`make test-trace` creates, and MERCURY_TRAINED, the output of `mercury-tracer train --reuse`. If a variable is not set,
its tests are skipped with a reason (`pytest -rs`).
"""

import json
import os
import re
from pathlib import Path

import mercury_lab as mercury
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FORMATS = REPOSITORY / "docs" / "formats.md"
PAGES = sorted((REPOSITORY / "docs").glob("*.md")) + [REPOSITORY / "README.md"]

# Objects whose keys are arbitrary or documented elsewhere.
FREE = {
    "manifest.json": ["dataset.description", "training.settings", "versions"]
    + [f"sampling.{name}" for name in ("channels", "grad_channels", "filters")],
    "run.json": ["configurations", "trace.model", "trace.dataset", "trace.settings", "measures.errors"],
    "sweep.json": ["axes", "run"],
}
# Keys that may be missing.
OPTIONAL = {
    "manifest.json": {
        "label",
        "command",
        "framework.name",
        "framework.version",
        "dataset.description",
        "training.settings",
        "sampling.passes",
        "sampling.dtype",
    },
    "run.json": {"label", "trace.label", "trace.command", "layer_settings", "search"},
}
TYPES = {
    pa.uint32(): "u32",
    pa.uint64(): "u64",
    pa.int64(): "i64",
    pa.float64(): "f64",
    pa.bool_(): "bool",
    pa.string(): "string",
    pa.large_string(): "string",
    pa.string_view(): "string",
}


def get_folder(variable: str) -> Path:
    path = os.environ.get(variable)
    if not path:
        pytest.skip(f"{variable} is not set, so its files were not compared with docs/formats.md")
    if not Path(path).is_dir():
        pytest.fail(f"{variable}: {path} is not a folder", pytrace=False)
    return Path(path)


def read_tables(title: str) -> list[list[list[str]]]:
    """Returns the tables of a section of docs/formats.md as rows of cells; the header is the first row."""
    found, here, table = [], False, []
    for line in FORMATS.read_text().splitlines() + ["#"]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if here and table:
            found.append([row for row in table if set(row[0]) != {"-"}])
        table = []
        if line.startswith("#"):
            here = line.lstrip("# ") == title
    assert found, f"docs/formats.md: section {title!r} is missing or has no table"
    return found


def read_documented(title: str, header: str = "column") -> dict[str, str]:
    """Returns names and types in a section's tables of columns or keys."""
    names = {}
    for first, *rows in read_tables(title):
        if first[0] != header:
            continue
        for row in rows:
            for name in re.findall(r"`([^`]+)`", row[0]):
                assert name not in names, f"docs/formats.md, {title}: {name} is listed twice"
                names[name] = row[1]
    assert names, f"docs/formats.md: section {title!r} has no table of {header}s"
    return names


def compare(title: str, found: set[str], expected: set[str]) -> None:
    assert found - expected == set(), f"docs/formats.md, {title}: these names are missing"
    assert expected - found == set(), f"docs/formats.md, {title}: the file lacks these names"


def compare_columns(title: str, path: Path, swept: bool = False) -> None:
    schema = pq.read_schema(path)
    expected = read_documented(title)
    columns = {field.name: field.type for field in schema if not (swept and "." in field.name)}
    compare(title, set(columns), set(expected))
    for name, found in columns.items():
        assert expected[name] == TYPES.get(found), f"docs/formats.md, {title}: {name} is {found}"


TABLES = [
    ("MERCURY_TRACE", "layers.parquet", "trace/layers.parquet"),
    ("MERCURY_TRACE", "steps.parquet", "trace/steps.parquet"),
    ("MERCURY_TRACE", "evaluations.parquet", "trace/evaluations.parquet"),
    ("MERCURY_TRAINED", "measurements.parquet", "measurements.parquet"),
    ("MERCURY_TRAINED", "loss_changes.parquet", "loss_changes.parquet"),
    ("MERCURY_RESULTS", "layers.parquet", "results/layers.parquet"),
    ("MERCURY_RESULTS", "models.parquet", "results/models.parquet"),
    ("MERCURY_RESULTS", "configurations.parquet", "results/configurations.parquet"),
    ("MERCURY_RESULTS", "angles.parquet", "results/angles.parquet"),
    ("MERCURY_SWEEP", "layers.parquet", "results/layers.parquet"),
    ("MERCURY_SWEEP", "models.parquet", "results/models.parquet"),
    ("MERCURY_SWEEP", "configurations.parquet", "results/configurations.parquet"),
]


@pytest.mark.parametrize(("variable", "name", "title"), TABLES)
def test_every_column_is_documented(variable, name, title):
    compare_columns(title, get_folder(variable) / name, swept=variable == "MERCURY_SWEEP")


def test_a_sweep_has_its_keys_as_columns():
    sweep = get_folder("MERCURY_SWEEP")
    columns = [name for name in pq.read_schema(sweep / "configurations.parquet").names if "." in name]
    assert columns == [key for key, _ in json.loads((sweep / "sweep.json").read_text())["axes"]]


def list_keys(value: object, free: list[str], path: str = "") -> set[str]:
    """Returns the paths of the keys in a JSON value; `[]` stands for the items of a list of objects."""
    if path in free:
        return {path}
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        return set().union(*(list_keys(inner, free, prefix + name) for name, inner in value.items()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(list_keys(inner, free, f"{path}[]") for inner in value))
    return {path}


FILES = [
    ("MERCURY_TRACE", "manifest.json"),
    ("MERCURY_RESULTS", "run.json"),
    ("MERCURY_SWEEP", "run.json"),
    ("MERCURY_SWEEP", "sweep.json"),
]


@pytest.mark.parametrize(("variable", "name"), FILES)
def test_every_key_is_documented(variable, name):
    found = list_keys(json.loads((get_folder(variable) / name).read_text()), FREE[name])
    expected = set(read_documented(name, "key"))
    compare(name, found, expected - (OPTIONAL.get(name, set()) - found))


def test_the_record_of_a_search_is_documented():
    search = json.loads((get_folder("MERCURY_SEARCH") / "run.json").read_text())["search"]
    compare("Search", {f"search.{name}" for name in search}, set(read_documented("Search", "key")))
    (meaning,) = [row[2] for first, *rows in read_tables("Search") for row in rows if "search.readings" in row[0]]
    names = set(search["readings"][0]) | set(search["readings"][0]["methods"][0])
    assert names == set(re.findall(r"`([^`]+)`", meaning))


def test_every_file_is_documented():
    """Each kind of folder has a section that begins with a list of its files."""
    text = FORMATS.read_text()
    folders = [("TRACE", "Trace"), ("RESULTS", "Results"), ("SWEEP", "Sweep"), ("SEARCH", "Search")]
    for variable, title in folders:
        section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
        for path in get_folder(f"MERCURY_{variable}").iterdir():
            name = re.sub(r"^best-.*\.toml$", "best-READING.toml", path.name)
            assert name in section, f"docs/formats.md, {title}: {path.name}"


def test_tensor_files_are_as_documented():
    trace = get_folder("MERCURY_TRACE")
    ops = {row["name"]: row["op"] for row in pq.read_table(trace / "layers.parquet").to_pylist()}
    key_columns = {}
    for first, *rows in read_tables("Tensor files"):
        if first[0] == "layer":
            key_columns = {(row[0].strip("`"), row[1].strip("`")): re.findall(r"`([^`]+)`", row[2]) for row in rows}
    assert len(key_columns) == 9
    files = list((trace / "tensors").rglob("*.parquet"))
    assert files, f"{trace} has no tensors"
    for path in files:
        schema = pq.ParquetFile(path).schema_arrow
        key = (ops[path.parent.name.removeprefix("layer=")], path.name)
        assert schema.names == [*key_columns[key], *read_documented("Tensor files")], path
        assert all(field.type == pa.uint32() for field in list(schema)[:-1]), path
        values = schema.field("values").type
        assert pa.types.is_fixed_size_list(values), path
        assert values.value_field.name == "element" and values.value_type in (pa.float32(), pa.float16()), path
        assert not any(field.nullable for field in [*schema, values.value_field]), path


def test_vectors_and_projection_are_as_documented(tmp_path):
    trace = get_folder("MERCURY_TRACE")
    layer = pq.read_table(trace / "layers.parquet")["name"][0].as_py()
    vectors, projection = tmp_path / "vectors.parquet", tmp_path / "projection.parquet"
    mercury.vectors(trace, layer, vectors, limit=10)
    mercury.projection(9, projection)
    for path in (vectors, projection):
        compare(path.name, set(pq.read_schema(path).names), set(read_documented(path.name)))


def list_anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as mdBook and GitHub generate them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_exist(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in list_anchors(path), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_in_the_repository_exist(page):
    """Checks paths such as `reuse/src/caching/outcomes.rs`; files that commands create are not in these folders."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    folders = "trace|reuse|hardware|tracer|analyzer|python|notebooks|scripts|docs|fuzz"
    for path in re.findall(rf"`((?:{folders})/(?:src|tests|presets|examples|benches|[\w.-]+\.\w+)[\w./-]*)`", text):
        assert (REPOSITORY / path).exists(), f"{page.name}: {path}"


def test_the_summary_lists_every_page():
    summary = (REPOSITORY / "docs" / "SUMMARY.md").read_text()
    listed = set(re.findall(r"\]\(([\w.-]+)\)", summary))
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"SUMMARY.md"}
    assert pages - listed == set(), "docs/SUMMARY.md does not list them"
