"""The rooms inside the stages: what their docstrings promise of imports holds, and none is a pile.

A stage's own files stand above its rooms; a room never imports its parent. Imports inside functions
and for types alone count as well.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers.places import ROOT

STAGES = ("benchmarks", "data", "export", "runtime", "serving")
ROOMS = sorted(path.parent for stage in STAGES for path in (ROOT / stage).glob("*/__init__.py"))
MOST_FILES = 15  # beside `__init__.py`
# `python -m hsnet_trt.export.build_engine` is the command itself.
THE_COMMAND = ("hsnet_trt.export.build_engine", "hsnet_trt.cli.main")


def of_room(path: Path) -> str:
    return f"hsnet_trt.{'.'.join(path.relative_to(ROOT).parts)}"


@cache
def modules() -> dict[str, Path]:
    """Every module's name and file."""
    found = {}
    for path in ROOT.glob("*/**/*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0].startswith(".") or parts[0] in ("tests", "build", "hsnet_trt"):
            continue
        found[".".join(["hsnet_trt", *parts]).removesuffix(".__init__")] = path
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """The project's modules that one of them imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(modules())
            found |= inside or {str(node.module)}
    return frozenset(found & set(modules())) - {name}


def promised(path: Path) -> set[str]:
    """The rooms that a room's docstring lets it import."""
    text = ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or ""
    said = re.search(r"May import: ((?:[^.]|\.(?=\w))+)\.", text)
    assert said, f"{path.relative_to(ROOT)} does not say what it may import"
    return {name.rpartition(".")[2] for name in re.findall(r"`([\w.]+)`", said[1])}


@pytest.mark.parametrize("path", ROOMS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_what_it_says(path: Path) -> None:
    stage, room = of_room(path.parent), of_room(path)
    allowed = {f"{stage}.{name}" for name in promised(path)} | {room}
    for name in (name for name in modules() if f"{name}.".startswith(f"{room}.")):
        for module in imports(name):
            if module.startswith(f"{stage}.") or module == stage:
                assert any(f"{module}.".startswith(f"{a}.") for a in allowed), (
                    f"{name} imports {module}"
                )


def test_rooms_depend_one_way() -> None:
    for stage in STAGES:
        graph = {path.name: promised(path) for path in ROOMS if path.parent.name == stage}
        for room, allowed in graph.items():
            assert allowed <= set(graph), f"{stage}/{room} names a room that is not there"
        TopologicalSorter(graph).prepare()


def test_no_file_imports_itself_by_way_of_others() -> None:
    graph = {
        name: {module for module in imports(name) if (name, module) != THE_COMMAND}
        for name in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" > ".join(error.args[1]))


def test_no_room_is_a_pile() -> None:
    """Of tests and their helpers neither. The command's folder may hold a thin file a verb."""
    tests = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    for folder in tests | {path.parent for path in modules().values()}:
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        assert count <= MOST_FILES or folder == ROOT / "cli", f"{folder.relative_to(ROOT)}: {count}"
