"""Imports point one way: no circle between modules, and no room knows of one above it.

All imports count, also those inside functions and those for types alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tddfa3", "jobs")

# From the ground up; rooms of one storey know nothing of each other.
STOREYS: dict[str, tuple[tuple[str, ...], ...]] = {
    "tddfa3": (
        ("vocabulary",),
        ("images",),
        ("assets",),
        ("rasterize",),
        ("geometry",),
        ("networks",),
        ("drawing",),
        ("faces",),
    ),
    "jobs": (
        ("storage",),
        ("shards",),
        ("record",),
        ("label",),
        ("drive", "output"),
        ("export",),
        ("doctor",),
        ("report_page",),
        ("exits",),
        ("programs",),
    ),
}
VOCABULARY = ("errors", "conventions", "coefficients", "outputs", "device")
"""Modules at the root of tddfa3 that every room may use; the others there use all rooms."""
STRANGERS_TO_THE_LIBRARY = ("jobs", "ray", "pyarrow", "fsspec")


@cache
def modules() -> dict[str, Path]:
    """Dotted name to file."""
    named = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


@cache
def imported(module: str) -> dict[str, int]:
    """What a module imports, by dotted name, and a line on which it does."""
    tree = ast.parse(modules()[module].read_text(encoding="utf-8"))
    return {name: line for line, name in _imported(tree)}


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written with their whole path"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield node.lineno, submodule if submodule in modules() else str(node.module)


def own(module: str) -> set[str]:
    """The modules of this repository that it imports."""
    return imported(module).keys() & modules().keys()


def room(module: str) -> str:
    """Where a module stands: a folder, or what its place at a root makes it."""
    package, *path = module.split(".")
    if package == "tddfa3":
        if len(path) > 1 or (path and modules()[module].name == "__init__.py"):
            return path[0]
        return "vocabulary" if path and path[0] in VOCABULARY else "faces"
    if path[:1] == ["pipeline"] and len(path) > 1:
        return path[1]
    return path[0] if path[:1] in (["report_page"], ["exits"]) else "programs"


def storey(module: str) -> int:
    """Of its room, within its package."""
    storeys = STOREYS[module.split(".")[0]]
    (number,) = (i for i, rooms in enumerate(storeys) if room(module) in rooms)
    return number


def said(module: str, other: str) -> str:
    place = modules()[module].relative_to(ROOT)
    return f"{place}:{imported(module)[other]} imports {other}"


def test_every_module_stands_in_a_room() -> None:
    assert len(modules()) > 100
    for module in modules():
        if module not in ("jobs", "jobs.pipeline"):
            storey(module)


def test_no_circle() -> None:
    try:
        TopologicalSorter({module: own(module) for module in modules()}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_knows_of_one_above(package: str) -> None:
    upwards = [
        said(module, other)
        for module in modules()
        for other in own(module)
        if module.split(".")[0] == other.split(".")[0] == package
        and room(module) != room(other)
        and storey(other) >= storey(module)
    ]
    assert not upwards, "\n".join(upwards)


def test_no_program_imports_another() -> None:
    programs = [module for module in modules() if room(module) == "programs"]
    assert "jobs.label" in programs
    between = [said(module, other) for module in programs for other in own(module) & {*programs}]
    assert not between, "\n".join(between)


def test_the_library_knows_nothing_of_the_job() -> None:
    strangers = [
        said(module, other)
        for module in modules()
        if module.startswith("tddfa3")
        for other in imported(module)
        if other.split(".")[0] in STRANGERS_TO_THE_LIBRARY
    ]
    assert not strangers, "\n".join(strangers)
