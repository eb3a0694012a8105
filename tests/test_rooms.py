"""The four rooms: who may import whom, and that what is imported is ours."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("policies", "envs", "agents", "experiments")
ALLOWED = {
    "policies": {"policies"},
    "envs": {"envs"},
    "agents": {"agents", "policies", "envs"},
    "experiments": {"experiments", "agents", "policies", "envs"},
}


@cache
def imports(source: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """The imports of a module, inside functions too."""
    return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom)))


def imported_rooms(source: str) -> set[str]:
    """The rooms that a module imports anywhere in it, inside functions too."""
    found: set[str] = set()
    for node in imports(source):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found & {*ROOMS, "tests"}


def modules() -> list[Path]:
    return [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str):
    wrong = [
        f"{path} imports {other}"
        for path in modules()
        if path.parts[0] == room
        for other in sorted(imported_rooms((ROOT / path).read_text(encoding="utf-8")) - ALLOWED[room])
    ]
    assert not wrong


def test_the_check_sees_imports_inside_functions():
    assert imported_rooms(
        "def f():\n    from agents.runs.files import write_json\n    import envs.road.track as t"
    ) == {
        "agents",
        "envs",
    }


def test_no_relative_imports():
    for path in modules():
        found = imports((ROOT / path).read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in found), path


def test_every_folder_with_modules_is_a_package():
    for folder in {path.parent for path in modules()}:
        assert (ROOT / folder / "__init__.py").is_file(), folder


def imported_modules(source: str, known: set[str]) -> set[str]:
    """The modules of ours that a module imports anywhere in it, inside functions and for types too."""
    found: set[str] = set()
    for node in imports(source):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif node.module:
            below = {f"{node.module}.{alias.name}" for alias in node.names} & known
            # `from package import module` needs the module; any other name needs the package itself.
            found |= below if len(below) == len(node.names) else below | {node.module}
    return found & known


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of modules that import each other in a loop: strongly connected components, after Tarjan 1972."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            members = stack[stack.index(module) :]
            del stack[-len(members) :]
            if len(members) > 1 or module in graph[module]:
                found.append(sorted(members))

    for module in sorted(graph):
        if module not in order:
            visit(module)
    return found


KNOWN: list[list[str]] = []
"""Circles that are being opened; none may be added."""


def test_no_circle_of_imports():
    paths = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in modules()}
    graph = {
        name: imported_modules((ROOT / path).read_text(encoding="utf-8"), set(paths)) - {name}
        for name, path in paths.items()
    }
    assert [circle for circle in circles(graph) if circle not in KNOWN] == []


def test_circles_are_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    known = {"agents", "agents.runs", "agents.runs.files", "envs"}
    assert imported_modules("def f():\n    from agents.runs import files\n    import envs", known) == {
        "agents.runs.files",
        "envs",
    }
