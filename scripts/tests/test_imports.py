"""Tests that the files of each crate have no circular imports, so that they can be read from the bottom up.

A file imports another file by `use crate::…` or `use super::…`. Imports from the module file of a file's own folder
(`use super::Name`) do not count: a folder and its files form one unit.
"""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CRATES = sorted(path.parent.name for path in REPOSITORY.glob("*/Cargo.toml") if (path.parent / "src").is_dir())
USE = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?use ((?:crate|super)(?:::)[^;]+);", re.MULTILINE)
TESTS = re.compile(r"\n#\[cfg\(test\)\]\n(?:#\[path[^\n]*\n)?mod \w+ \{.*", re.DOTALL)


def list_modules(source: Path) -> dict[tuple[str, ...], Path]:
    """Returns the files of a crate by module path."""
    found = {}
    for path in source.rglob("*.rs"):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] in ("mod", "lib"):
            parts = parts[:-1]
        if parts != ("main",) and not parts[-1:] == ("tests",) and not path.stem.endswith("_tests"):
            found[parts] = path
    return found


def expand_paths(text: str) -> list[str]:
    """Expands the braces of a use declaration into a list of paths."""
    text = re.sub(r"\s+", "", re.sub(r"\bas \w+", "", text))
    head, brace, rest = text.partition("{")
    if not brace:
        return [text]
    items, depth, start = [], 0, 0
    inner = rest[: rest.rindex("}")]
    for place, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            items.append(inner[start:place])
            start = place + 1
    return [name for item in items if item for name in expand_paths(head + item)]


def find_imports(module: tuple[str, ...], text: str, found: dict) -> set[tuple[str, ...]]:
    """Returns the modules that a file imports."""
    reached = set()
    for declaration in USE.findall(TESTS.sub("", text)):
        for name in expand_paths(declaration):
            parts = name.split("::")
            base: tuple[str, ...] = ()
            if parts[0] == "super":
                base = module
                while parts and parts[0] == "super":
                    base, parts = base[:-1], parts[1:]
            else:
                parts = parts[1:]
            path = (*base, *parts)
            while path and path not in found:
                path = path[:-1]
            is_own_folder = path == module[: len(path)]
            if path and not is_own_folder:
                reached.add(path)
    return reached


def find_circle(imports: dict) -> list:
    """Returns the modules of a circular import in order; empty if there is none."""
    done, trail = set(), []

    def visit(module):
        if module in trail:
            return trail[trail.index(module) :]
        if module in done:
            return []
        trail.append(module)
        for target in sorted(imports.get(module, ())):
            if found := visit(target):
                return found
        done.add(trail.pop())
        return []

    return next(filter(None, map(visit, sorted(imports))), [])


@pytest.mark.parametrize("crate", CRATES)
def test_there_are_no_circular_imports(crate):
    found = list_modules(REPOSITORY / crate / "src")
    texts = {module: path.read_text(encoding="utf-8") for module, path in found.items()}
    imports = {module: find_imports(module, text, found) for module, text in texts.items()}
    assert any(imports.values()) or len(found) <= 4
    loop = find_circle(imports)
    assert not loop, " -> ".join("::".join(module) or "lib" for module in [*loop, loop[0]])


def test_circles_are_found():
    found = {("a",): None, ("b",): None, ("b", "c"): None}
    text = "use crate::b::{self, c::{Deep, Other as Same}};\n#[cfg(test)]\nmod tests {\n    use crate::z::Z;\n}\n"
    assert find_imports(("a",), text, found) == {("b",), ("b", "c")}
    text = "use super::Own;\nuse super::super::a::A;\npub(crate) use crate::a::B;\n"
    assert find_imports(("b", "c"), text, found) == {("a",)}
    assert find_circle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == [("b",), ("c",)]
    assert find_circle({("a",): {("b",), ("c",)}, ("b",): {("c",)}}) == []
