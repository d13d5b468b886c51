"""No file of a crate imports, by way of others, itself: a reader can take any file after those below it.

An arrow runs from a file to the file that `use crate::…` or `use super::…` names. Names that a file takes from the
file of its own folder (`use super::Name`) are no arrow: a folder and its files are one house.
"""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CRATES = sorted(path.parent.name for path in REPOSITORY.glob("*/Cargo.toml") if (path.parent / "src").is_dir())
USE = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?use ((?:crate|super)(?:::)[^;]+);", re.MULTILINE)
TESTS = re.compile(r"\n#\[cfg\(test\)\]\n(?:#\[path[^\n]*\n)?mod \w+ \{.*", re.DOTALL)


def modules(source: Path) -> dict[tuple[str, ...], Path]:
    """Each file of a crate by its module's path."""
    found = {}
    for path in source.rglob("*.rs"):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] in ("mod", "lib"):
            parts = parts[:-1]
        if parts != ("main",) and not parts[-1:] == ("tests",) and not path.stem.endswith("_tests"):
            found[parts] = path
    return found


def names(text: str) -> list[str]:
    """The paths of a use declaration, without braces."""
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
    return [name for item in items if item for name in names(head + item)]


def targets(module: tuple[str, ...], text: str, found: dict) -> set[tuple[str, ...]]:
    """The modules whose files a file imports."""
    reached = set()
    for declaration in USE.findall(TESTS.sub("", text)):
        for name in names(declaration):
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


def circle(arrows: dict) -> list:
    """The files of a circle, in order; none if there is none."""
    done, trail = set(), []

    def visit(module):
        if module in trail:
            return trail[trail.index(module) :]
        if module in done:
            return []
        trail.append(module)
        for target in sorted(arrows.get(module, ())):
            if found := visit(target):
                return found
        done.add(trail.pop())
        return []

    return next(filter(None, map(visit, sorted(arrows))), [])


@pytest.mark.parametrize("crate", CRATES)
def test_no_file_imports_itself_by_way_of_others(crate):
    found = modules(REPOSITORY / crate / "src")
    arrows = {module: targets(module, path.read_text(encoding="utf-8"), found) for module, path in found.items()}
    assert any(arrows.values()) or len(found) <= 2
    loop = circle(arrows)
    assert not loop, " -> ".join("::".join(module) or "lib" for module in [*loop, loop[0]])


def test_circles_are_found():
    found = {("a",): None, ("b",): None, ("b", "c"): None}
    text = "use crate::b::{self, c::{Deep, Other as Same}};\n#[cfg(test)]\nmod tests {\n    use crate::z::Z;\n}\n"
    assert targets(("a",), text, found) == {("b",), ("b", "c")}
    assert targets(("b", "c"), "use super::Own;\nuse super::super::a::A;\npub(crate) use crate::a::B;\n", found) == {("a",)}
    assert circle({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == [("b",), ("c",)]
    assert circle({("a",): {("b",), ("c",)}, ("b",): {("c",)}}) == []
