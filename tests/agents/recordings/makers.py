"""Small recordings of every format for the tests, clean until a test dirties them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.recordings.episodes import EpisodeMeta
from agents.recordings.writer import EpisodeWriter

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data"


def real(name: str) -> Path:
    """A real recording, or a skip where it is not kept."""
    if not (SHARED / name).exists():
        pytest.skip(f"the real recording {SHARED / name} is not on this machine")
    return SHARED / name


def picture(height: int = 12, width: int = 16, level: int = 100) -> np.ndarray:
    """An RGB picture that is red at the top and blue at the bottom."""
    frame = np.full((height, width, 3), level, np.uint8)
    frame[: height // 2, :, 0] = 250
    frame[height // 2 :, :, 2] = 250
    return frame


def save(path: Path, frame: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(path), frame[..., ::-1])


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) > 20
    return text


def make_tub(directory: Path, count: int = 6, **manifest: Any) -> list[dict[str, Any]]:
    """Write a clean tub of `count` records, 50 ms apart, angles 0.0, 0.1, 0.2, …; return the records."""
    directory.mkdir(parents=True, exist_ok=True)
    records = []
    for index in range(count):
        name = f"{index}_cam_image_array_.jpg"
        save(directory / "images" / name, picture(level=10 * (index % 10)))
        records.append(
            {
                "_index": index,
                "_session_id": "a",
                "_timestamp_ms": 1_600_000_000_000 + 50 * index,
                "cam/image_array": name,
                "user/angle": index % 10 / 10,
                "user/mode": "user",
                "user/throttle": 0.5,
            }
        )
    write_catalog(directory, records)
    write_manifest(directory, **manifest)
    return records


def write_catalog(directory: Path, records: list[dict[str, Any]], name: str = "catalog_0.catalog") -> None:
    (directory / name).write_text("".join(json.dumps(record) + "\n" for record in records))


def write_manifest(
    directory: Path, paths: tuple[str, ...] = ("catalog_0.catalog",), deleted: tuple[int, ...] = ()
) -> None:
    lines: list[Any] = [["cam/image_array", "user/angle"], ["image_array", "float"], {}, {"created_at": 1.0}]
    lines.append({"paths": list(paths), "current_index": 6, "max_len": 1000, "deleted_indexes": list(deleted)})
    (directory / "manifest.json").write_text("\n".join(map(json.dumps, lines)))


def make_log(
    directory: Path,
    count: int = 6,
    *,
    prefix: str = "C:\\Users\\Jo\\IMG\\",
    step_ms: int = 70,
    sides: bool = True,
    header: bool = False,
    end: str = "\n",
    start: str = "",
) -> None:
    """Write a clean log: steering 0.0, 0.1, …, 10 mph."""
    (directory / "IMG").mkdir(parents=True)
    rows = ["center,left,right,steering,throttle,brake,speed"] if header else []
    for index in range(count):
        second, millisecond = divmod(index * step_ms, 1000)
        stamp = f"2018_07_16_17_11_{second:02d}_{millisecond:03d}"
        fields = []
        for camera, level in (("center", 0), ("left", 60), ("right", 120)):
            if camera == "center" or sides:
                save(directory / "IMG" / f"{camera}_{stamp}.jpg", picture(level=level + index % 10))
            fields.append(f"{prefix}{camera}_{stamp}.jpg")
        rows.append(", ".join(fields) + f",{index % 10 / 10},0.5,0,10")
    (directory / "driving_log.csv").write_text(start + end.join(rows) + end, encoding="utf-8", newline="")


def make_native(directory: Path, lengths: tuple[int, ...] = (5, 3), height: int = 4) -> None:
    writer = EpisodeWriter(directory)
    for number, length in enumerate(lengths):
        with writer.episode(EpisodeMeta(source="expert", seed=number, extra={"road": number})) as recording:
            for step in range(length):
                frame = np.full((height, 6, 3), 50 * number + step, np.uint8)
                recording.append(frame, steering=step / 10, time_s=0.05 * step, speed_mps=2.0)


MAKERS: dict[str, Callable[[Path], Any]] = {"native": make_native, "donkeycar": make_tub, "udacity": make_log}
