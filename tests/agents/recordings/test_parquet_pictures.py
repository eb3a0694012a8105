"""Parquet tables that hold their pictures themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import one_line, picture, save

pa = pytest.importorskip("pyarrow")
COUNT = 12
STEERING = np.round(0.4 * np.sin(np.arange(COUNT) / 3), 4)


def coded(i: int, end: str = ".png") -> bytes:
    return bytes(cv2.imencode(end, picture(level=4 * i)[..., ::-1])[1])


def write(path: Path, pictures: Any, row_group: int = 5, **more: Any) -> Path:
    import pyarrow.parquet as pq

    path.parent.mkdir(exist_ok=True)
    table = pa.table({"image": pictures, "steering": STEERING[: len(pictures)], **more})
    pq.write_table(table, path, row_group_size=row_group)
    return path


KINDS: dict[str, Any] = {
    "bytes": lambda: [coded(i) for i in range(COUNT)],
    "Hugging Face's struct": lambda: [{"bytes": coded(i), "path": f"frame_{i:03d}.png"} for i in range(COUNT)],
    "a struct without paths": lambda: [{"bytes": coded(i), "path": None} for i in range(COUNT)],
    "all of one path": lambda: [{"bytes": coded(i), "path": "image.png"} for i in range(COUNT)],
    "large bytes": lambda: pa.array([coded(i) for i in range(COUNT)], pa.large_binary()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_in_a_column(tmp_path, kind):
    write(tmp_path / "data" / "train-00000-of-00001.parquet", KINDS[kind]())
    for path in (tmp_path / "data", tmp_path / "data" / "train-00000-of-00001.parquet"):
        (episode,) = load_episodes(path)
        np.testing.assert_allclose(episode.steering, STEERING, atol=1e-6)
        np.testing.assert_array_equal(episode.frames()[:, -1, 0, 0] // 4, np.arange(COUNT))
    assert (episode.frames(7, 8)[0, -1, 0, 0]) // 4 == 7


def test_paths_alone_mean_files_beside_the_table(tmp_path):
    for i in range(COUNT):
        save(tmp_path / f"{i:03d}.png", picture(level=4 * i))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    write(tmp_path / "t.parquet", pa.array([{"bytes": None, "path": f"{i:03d}.png"} for i in range(COUNT)], kind))
    (episode,) = load_episodes(tmp_path)
    np.testing.assert_array_equal(episode.frames()[:, -1, 0, 0] // 4, np.arange(COUNT))


def test_stamps_and_the_other_columns_count_too(tmp_path):
    stamps = [1000 + 0.1 * i for i in reversed(range(COUNT))]
    path = write(tmp_path / "t.parquet", KINDS["bytes"](), timestamp=stamps, raw=[b"xyz"] * COUNT, box=[[1, 2]] * COUNT)
    (episode,) = load_episodes(path)
    np.testing.assert_allclose(episode.steering, STEERING[::-1], atol=1e-6)
    np.testing.assert_allclose(np.diff(episode.time_s), 0.1)


def test_of_several_columns_the_camera_that_looks_ahead_counts(tmp_path):
    others = [coded(50 - i) for i in range(COUNT)]
    path = write(tmp_path / "t.parquet", others, center=KINDS["bytes"](), left=others)
    with_option = load_episodes(path, frame_column="image")
    assert with_option[0].frames()[0, -1, 0, 0] // 4 == 50
    assert load_episodes(path)[0].frames()[0, -1, 0, 0] // 4 == 0


def test_rows_without_a_picture_and_damaged_ones_are_counted(tmp_path):
    pictures = KINDS["bytes"]()
    pictures[3], pictures[5], pictures[8] = None, b"", coded(8)[:-40]
    found = load_episodes(write(tmp_path / "t.parquet", pictures))
    assert found.frame_count == COUNT - 3
    assert found.skipped == {"no picture in the row": 2, "picture file truncated": 1}


@pytest.mark.parametrize("pictures", [[b"no picture"] * COUNT, [None] * COUNT])
def test_bytes_that_are_no_pictures_are_no_frames(tmp_path, pictures):
    path = write(tmp_path / "t.parquet", pa.array(pictures, pa.binary()))
    with pytest.raises(ValueError, match="names no picture") as error:
        load_episodes(path)
    one_line(error)


@pytest.mark.parametrize(
    ("name", "cells", "option"),
    [
        ("control", [{"steering": s, "throttle": 0.3, "gear": None} for s in STEERING], None),
        ("car", [{"cmd": {"steer": s}, "lidar": [0.0] * 5} for s in STEERING], None),
        ("steering", [[s] for s in STEERING], None),
        ("action", [[0.3, s] for s in STEERING], "action[1]"),
    ],
)
def test_labels_in_structs_and_lists_are_columns(tmp_path, name, cells, option):
    import pyarrow.parquet as pq

    shown = pa.table({"image": KINDS["bytes"](), name: cells, "points": [[0.0] * 200] * COUNT})
    pq.write_table(shown, tmp_path / "t.parquet", row_group_size=5)
    if option is not None:
        with pytest.raises(ValueError, match=r"it has: 'image', 'action\[0\]', 'action\[1\]'") as error:
            load_episodes(tmp_path)
        one_line(error)
    (episode,) = load_episodes(tmp_path, steering_column=option)
    np.testing.assert_allclose(episode.steering, STEERING, atol=1e-6)
