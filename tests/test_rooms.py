"""The four rooms: who may import whom, and that what is imported is ours."""

from __future__ import annotations

import ast
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


def imported_rooms(source: str) -> set[str]:
    """The rooms that a module imports anywhere in it, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
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
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree)), path


def test_every_folder_with_modules_is_a_package():
    for folder in {path.parent for path in modules()}:
        assert (ROOT / folder / "__init__.py").is_file(), folder
