"""Running verbs in tests: small worlds, small drivers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.driving.driver import PolicyDriver
from experiments import cli

ROAD = (
    *("--vehicle", "bicycle", "--variety", "0", "--workers", "1"),
    *("--roads.length-m", "25", "35", "--height", "24", "--width", "48", "--pixels-per-m", "32"),
)
"""Options of a world that is quick to draw."""
DRIVER = (
    *("--core", "gru", "--core-options", "hidden_size=8", "--height", "24", "--width", "48"),
    *("--epochs", "2", "--batch-size", "8", "--gap-s", "0.2"),
)
"""Options of a driver that is quick to train on little driving."""


@dataclass
class Ran:
    """What a run of the command left on the screen."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The line that says what went wrong; there must be one and no more."""
        lines = [line for line in self.err.splitlines() if line.startswith("wormwheel: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def wormwheel(capsys: pytest.CaptureFixture[str], *arguments: object) -> Ran:
    """Run the command in this process."""
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Ran(code, captured.out, captured.err)


def write_tub(path: Path, frames: int = 120, height: int = 24, width: int = 48, **changes: Any) -> Path:
    """Write a Donkeycar tub of a bright bar whose place is the steering.

    Args:
        path: its directory.
        frames: how many.
        height: of the pictures, pixels.
        width: of the pictures, pixels.
        **changes: `record_N={...}` replaces fields of record N, `picture_N=bytes` the file of picture N.
    """
    (path / "images").mkdir(parents=True)
    records = []
    for number in range(frames):
        angle = 0.8 * float(np.sin(number / 7))
        picture = np.full((height, width, 3), 40, np.uint8)
        column = round((0.5 + 0.4 * angle) * width)
        picture[:, max(column - 2, 0) : column + 2] = 220
        name = f"{number}_cam_image_array_.jpg"
        content = cv2.imencode(".jpg", picture)[1].tobytes()
        (path / "images" / name).write_bytes(changes.get(f"picture_{number}", content))
        record = {
            "_index": number,
            "_timestamp_ms": 1_600_000_000_000 + 50 * number,
            "_session_id": "a",
            "cam/image_array": name,
            "user/angle": angle,
            "user/throttle": 0.2,
            "user/mode": "user",
        }
        records.append({**record, **changes.get(f"record_{number}", {})})
    (path / "catalog_0.catalog").write_text("".join(json.dumps(record) + "\n" for record in records))
    manifest = [
        ["cam/image_array", "user/angle", "user/throttle", "user/mode"],
        ["image_array", "float", "float", "str"],
        {},
        {"created_at": 0, "sessions": {}},
        {"paths": ["catalog_0.catalog"], "current_index": frames, "max_len": 1000, "deleted_indexes": []},
    ]
    (path / "manifest.json").write_text("\n".join(json.dumps(line) for line in manifest) + "\n")
    return path


def tree(path: Path) -> dict[str, bytes]:
    """The content of every file below a directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def hear_elapsed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list to which every policy at the wheel adds the elapsed times that it is told."""
    heard: list[float] = []
    act = PolicyDriver.act

    def hear(self: PolicyDriver, frames: Any, elapsed: Any, starts: Any, envs: Any) -> Any:
        heard.extend(elapsed.tolist())
        return act(self, frames, elapsed, starts, envs)

    monkeypatch.setattr(PolicyDriver, "act", hear)
    return heard
