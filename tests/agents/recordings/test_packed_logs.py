"""Logs and tables in archives, read without unpacking."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import one_line, picture

COUNT = 12
STEERING = np.round(0.4 * np.sin(np.arange(COUNT) / 3), 4)
NAMES = [f"center_2018_07_16_17_11_{i // 10:02d}_{100 * i % 1000:03d}.png" for i in range(COUNT)]


def png(i: int) -> bytes:
    return bytes(cv2.imencode(".png", picture(level=4 * i)[..., ::-1])[1])


def log(before: str = "IMG/") -> bytes:
    rows = [f"{before}{name},,,{s},0.5,0,10" for name, s in zip(NAMES, STEERING, strict=True)]
    return ("\n".join(rows) + "\n").encode()


def files(
    log_name: str = "driving_log.csv", folder: str = "", pictures: str = "IMG/", **more: bytes
) -> dict[str, bytes]:
    found = {folder + log_name: log()} | {f"{folder}{pictures}{name}": png(i) for i, name in enumerate(NAMES)}
    return found | more


def pack(place: Path, content: dict[str, bytes]) -> Path:
    if place.suffix == ".zip":
        with zipfile.ZipFile(place, "w") as zipped:
            for name, data in content.items():
                zipped.writestr(name, data)
        return place
    with tarfile.open(place, "w" if place.suffix == ".tar" else "w:gz") as tar:
        for name, data in content.items():
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return place


def check(path: Path, sign: float = -1.0, period_s: float = 0.1) -> None:
    (episode,) = load_episodes(path)
    np.testing.assert_allclose(episode.steering, sign * STEERING, atol=1e-6)
    np.testing.assert_array_equal(episode.frames()[:, -1, 0, 0] // 4, np.arange(COUNT))
    np.testing.assert_allclose(np.diff(episode.time_s), period_s)


@pytest.mark.parametrize("end", [".zip", ".tar.gz", ".tgz", ".tar"])
@pytest.mark.parametrize("folder", ["", "data/", "./data/", "a b/c/"])
def test_a_simulator_log_in_an_archive(tmp_path, end, folder):
    content = files(folder=folder) | {"__MACOSX/._driving_log.csv": b"notes", f"{folder}._driving_log.csv": b"notes"}
    check(pack(tmp_path / f"log{end}", content))


@pytest.mark.parametrize(
    "content",
    [
        files(pictures="img/"),
        files(pictures="other/"),
        files(pictures=""),
        files("my log.csv", "run/"),
        {"run/driving_log.csv": log(r"C:\\Users\\jo\\IMG\\"), **{f"run/IMG/{n}": png(i) for i, n in enumerate(NAMES)}},
        {"run/driving_log.csv": log("../IMG/"), **{f"IMG/{n}": png(i) for i, n in enumerate(NAMES)}},
    ],
    ids=["capitals", "one folder below", "beside the log", "another name", "paths of Windows", "a step up"],
)
def test_pictures_are_found_in_an_archive_as_in_a_folder(tmp_path, content):
    check(pack(tmp_path / "log.zip", content))


@pytest.mark.parametrize("end", [".zip", ".tar.gz"])
@pytest.mark.parametrize("column", ["image", "frame"])
def test_a_table_with_pictures_in_an_archive(tmp_path, end, column):
    cells = [f"{i:04d}.png" if column == "image" else str(i) for i in range(COUNT)]
    rows = [f"{cell},{s}" for cell, s in zip(cells, STEERING, strict=True)]
    content = {"set/labels.csv": "\n".join([f"{column},steering", *rows]).encode()}
    content |= {f"set/frames/{i:04d}.png": png(i) for i in range(COUNT)}
    check(pack(tmp_path / f"set{end}", content), 1.0, 0.05)


def test_a_table_that_is_named_belongs_to_the_pictures_in_an_archive(tmp_path):
    rows = [f"{name},{s}" for name, s in zip(NAMES, STEERING, strict=True)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,steering", *rows]))
    archive = pack(tmp_path / "set.zip", {f"pictures/{name}": png(i) for i, name in enumerate(NAMES)})
    (episode,) = load_episodes(archive, table=tmp_path / "labels.csv")
    np.testing.assert_allclose(episode.steering, STEERING, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no file.*unpack it"),
        ({"readme.txt": b"hello"}, "holds 1 files.*neither.*unpack it"),
        ({"inner.zip": b"PK"}, "It holds an archive, inner.zip: unpack it"),
        (files(folder="a/") | files(folder="b/"), "holds 2 logs"),
        ({"a.csv": b"x,y\n1,2\n", "b.csv": b"x,y\n1,2\n"}, "holds 2 tables"),
        ({"driving_log.csv": log()}, "should hold the pictures"),
        ({"labels.csv": b"time,steering\n0,0.1\n", "drive.mp4": b"film"}, "videos are read unpacked only"),
    ],
)
def test_what_an_archive_lacks_is_said_in_one_line(tmp_path, content, message):
    for end in (".zip", ".tar.gz") if content else (".zip",):
        with pytest.raises(ValueError, match=message) as error:
            load_episodes(pack(tmp_path / f"set{end}", content))
        one_line(error)


def test_an_archive_that_changed_is_read_again(tmp_path):
    check(pack(tmp_path / "log.zip", files()))
    pack(tmp_path / "log.zip", {"readme.txt": b"hello"})
    with pytest.raises(ValueError, match="neither"):
        load_episodes(tmp_path / "log.zip")
