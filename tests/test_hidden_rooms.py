"""A folder of one's own with the name of a room: the error says what hides what, and how to go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wormwheel
from wormwheel import ROOMS, RoomFinder, explain, hidden_by

ROOT = Path(__file__).resolve().parents[1]
OURS = {"agents": "runs.files", "envs": "ranges", "experiments": "streams", "policies": "car"}
"""A module of each room that takes little time to import."""


PLAIN = (
    "import sys\nsys.meta_path[:] = [one for one in sys.meta_path if not getattr(one, '__module__', '').startswith("
    "'__editable__')]\n"
)
"""Takes away the finder of an editable install, which finds our modules in a hidden room as well."""


def run(place: Path, code: str, *rooms: str, command: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script beside folders of its own with the names of rooms; the rooms are found later on the path."""
    for room in rooms:
        (place / room).mkdir()
        (place / room / "__init__.py").write_text("MINE = 1\n", encoding="utf-8")
    code = PLAIN + code
    (place / "script.py").write_text(code, encoding="utf-8")
    path = os.pathsep.join([str(place), str(ROOT)] if command else [str(ROOT)])
    words = ["-P", "-c", code] if command and sys.version_info >= (3, 11) else ["script.py"]
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run([sys.executable, *words], cwd=place, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("room", ROOMS)
def test_a_hidden_room_is_named_with_what_hides_it(tmp_path: Path, room: str):
    ran = run(tmp_path, f"import wormwheel\nimport {room}.{OURS[room]}\n", room)
    last = ran.stderr.strip().splitlines()[-1]
    missed = f"{room}.{OURS[room].partition('.')[0]}"
    assert ran.returncode == 1 and last.startswith(f"ModuleNotFoundError: No module named {missed!r}: the package")
    assert f"{tmp_path / room} hides it" in last and f"myproject.{room}" in last and "python -P" in last


@pytest.mark.parametrize(
    ("room", "first"), [("agents", "experiments.policy_paths"), ("policies", "agents.driving.car")]
)
def test_our_own_modules_say_it_too(tmp_path: Path, room: str, first: str):
    ran = run(tmp_path, f"import {first}\n", room)
    assert ran.returncode == 1 and f"{tmp_path / room} hides it" in ran.stderr.strip().splitlines()[-1]


def test_folders_of_ones_own_can_be_used_where_nothing_of_ours_is_missed(tmp_path: Path):
    code = "import policies.car\nimport envs, agents\nassert envs.MINE == agents.MINE == 1\n"
    code += (
        "try:\n    import envs.of_nobody\nexcept ModuleNotFoundError as error:\n    assert 'hides' not in str(error)\n"
    )
    ran = run(tmp_path, code, "envs", "agents")
    assert ran.returncode == 0, ran.stderr


def test_the_command_is_one_line(tmp_path: Path):
    ran = run(tmp_path, "import sys, wormwheel\nsys.exit(wormwheel.main())\n", "experiments", command=True)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1 and "Traceback" not in ran.stderr
    assert ran.stderr.startswith("wormwheel: the package 'experiments' should come from")


def test_nothing_hides_our_rooms_here_and_the_finder_is_asked_last():
    assert [hidden_by(room) for room in ROOMS] == [None] * 4
    assert sum(isinstance(finder, RoomFinder) for finder in sys.meta_path) == 1
    assert all((wormwheel.HERE / room / "__init__.py").is_file() for room in ROOMS)
    assert "environment of its own" in explain("envs", Path("/x/site-packages/envs"))
