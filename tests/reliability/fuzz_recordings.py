"""A fuzzer over every reader of recordings: seeded damage must end in a clear count or one clear line.

    python -m tests.reliability.fuzz_recordings --count 10000 --seed 0

Each case damages one file of a small recording, or puts a pipe, a device, a directory or a loop of links in its place,
then reads all of it, frames too. Faults are: another error than ValueError or OSError, a message of several lines or
one that names no file, more than 5 s, more than 1 GiB. They are printed with their seed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import gzip
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tarfile
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from agents.recordings import load_episodes
from agents.recordings.convert import convert
from agents.recordings.episodes import EpisodeSet
from tests.agents.recordings.makers import make_log, make_native, make_tub, picture
from tests.reliability.mutations import mutate

SLOWEST_S = 5.0
"""Most time of the processor that a damaged file may take, s; four times that by the clock counts as hung."""
MOST_BYTES = 1 << 30
"""Memory that may be taken beyond what the process has at the start."""


def make_version_1(place: Path) -> None:
    """Make a Donkeycar tub of version 1."""
    import json

    make_tub(place / "two", count=8)
    for index in range(8):
        name = f"{index}_cam_image_array_.jpg"
        (place / "two" / "images" / name).rename(place / name)
        record = {"cam/image_array": name, "user/angle": index / 10, "user/mode": "user", "milliseconds": 50 * index}
        (place / f"record_{index}.json").write_text(json.dumps(record))
    shutil.rmtree(place / "two")


def make_packed(place: Path, end: str, make: Callable[..., object] = make_tub) -> None:
    """Make a tub, or a log, in an archive."""
    make(place / "tub", count=8)
    files = [path for path in sorted((place / "tub").rglob("*")) if path.is_file()]
    if end == ".zip":
        with zipfile.ZipFile(place / "tub.zip", "w") as packed:
            for path in files:
                packed.write(path, path.relative_to(place))
    else:
        with tarfile.open(place / f"tub{end}", "w:gz" if end == ".tar.gz" else "w") as packed:
            for path in files:
                packed.add(path, path.relative_to(place))
    shutil.rmtree(place / "tub")


def make_comma(place: Path) -> None:
    """Make a segment of comma2k19 with a film."""
    from tests.agents.recordings.test_table import make_film

    segment = place / "route" / "3"
    for name, values in {
        "global_pose/frame_times": np.arange(20) / 20,
        "processed_log/CAN/steering_angle/t": np.arange(100) / 90,
        "processed_log/CAN/steering_angle/value": np.sin(np.arange(100) / 9) * 90,
        "processed_log/CAN/speed/t": np.arange(100) / 90,
        "processed_log/CAN/speed/value": np.full(100, 20.0),
    }.items():
        path = segment / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            np.save(file, values)
    make_film(segment / "video.mp4", 20)


def make_table(place: Path) -> None:
    """Make a film with a table."""
    from tests.agents.recordings.test_table import make_film

    make_film(place / "drive.mp4", 20)
    rows = [f"{i / 20},{np.sin(i / 5) * 0.5:.4f},3.2" for i in range(20)]
    (place / "drive.csv").write_text("\n".join(["time,steering,speed", *rows]) + "\n")


def make_parquet(place: Path) -> None:
    """Make a table that holds its pictures itself."""
    import cv2
    import pyarrow as pa
    import pyarrow.parquet as pq

    coded = [bytes(cv2.imencode(".png", picture(level=9 * i))[1]) for i in range(12)]
    held = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(coded)]
    table = pa.table({"image": held, "steering": np.linspace(-0.5, 0.5, 12), "note": ["x"] * 12})
    pq.write_table(table, place / "train.parquet", row_group_size=5)


def converted(to: str) -> Callable[[Path], None]:
    """Make a small recording in a format that is written."""

    def make(place: Path) -> None:
        make_native(place / ".native", (9, 6), height=16)
        convert(load_episodes(place / ".native"), place / "set", to)  # type: ignore[arg-type]
        shutil.rmtree(place / ".native")

    return make


FORMATS: dict[str, tuple[Callable[[Path], None], str]] = {
    "native": (lambda place: make_native(place / "set"), "set"),
    "donkeycar": (lambda place: make_tub(place / "set", count=8) and None, "set"),
    "donkeycar 1": (make_version_1, ""),
    "tar.gz": (lambda place: make_packed(place, ".tar.gz"), "tub.tar.gz"),
    "tar": (lambda place: make_packed(place, ".tar"), "tub.tar"),
    "zip": (lambda place: make_packed(place, ".zip"), "tub.zip"),
    "udacity.zip": (lambda place: make_packed(place, ".zip", make_log), "tub.zip"),
    "udacity.tar.gz": (lambda place: make_packed(place, ".tar.gz", make_log), "tub.tar.gz"),
    "udacity": (lambda place: make_log(place / "set", count=8), "set"),
    "comma2k19": (make_comma, ""),
    "table": (make_table, "drive.mp4"),
    "parquet": (make_parquet, "train.parquet"),
    "lerobot": (converted("lerobot"), "set"),
    "minari": (converted("minari"), "set"),
}
"""How a small recording of each format is made in a directory, and what is read there."""


class Specimen:
    """A recording of one format that is damaged and made whole again."""

    def __init__(self, name: str, place: Path) -> None:
        self.name = name
        make, part = FORMATS[name]
        place.mkdir()
        make(place)
        self.path = place / part if part else place
        self.place = place
        files = sorted(path for path in place.rglob("*") if path.is_file())
        self.pictures = [path for path in files if path.suffix == ".jpg"]
        self.others = [path for path in files if path.suffix != ".jpg"]
        self.clean = {path: path.read_bytes() for path in files}

    def damage(self, rng: random.Random) -> tuple[Path, str]:
        """Damage one file; pictures are many and alike and are not drawn more often than the rest together."""
        path = rng.choice(self.others if rng.random() < 0.75 or not self.pictures else self.pictures)

        def damaged(rng: random.Random) -> bytes:
            content = self.clean[path]
            if path.name.endswith(".tar.gz") and rng.random() < 0.6:
                return gzip.compress(mutate(gzip.decompress(content), rng), 1)
            return mutate(content, rng)

        return path, replace_file(path, damaged, rng)

    def restore(self, path: Path) -> None:
        """Make a damaged file whole again."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.write_bytes(self.clean[path])


def replace_file(path: Path, damaged: Callable[[random.Random], bytes], rng: random.Random) -> str:
    """Put damaged bytes, or something that is no file, in the place of a file; returns which."""
    path.unlink()
    if rng.random() >= 0.05:
        path.write_bytes(damaged(rng))
        return "bytes"
    kind = rng.choice(("pipe", "zero", "directory", "loop", "missing"))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "zero":
        path.symlink_to("/dev/zero")
    elif kind == "directory":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    return kind


class Hung(BaseException):
    """A reader was still at it after four times the longest time."""


def examine(path: Path, place: Path) -> str | None:
    """Read a recording to its last frame; return what is wrong with how that ended, None when nothing is."""
    return examine_by(lambda _: check(load_episodes(path)), place)


def examine_by(read: Callable[[Path], Any], place: Path) -> str | None:
    """Read what lies in a directory; return what is wrong with how that ended, None when nothing is."""

    def stop(number: int, frame: Any) -> None:
        raise Hung

    started_s = time.process_time()
    before = _peak_bytes()
    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(int(4 * SLOWEST_S))
    try:
        read(place)
    except (ValueError, OSError) as error:
        signal.alarm(0)
        text = str(error)
        if "\n" in text or "\r" in text:
            return f"several lines: {text!r:.300}"
        if str(place) not in text:
            return f"names no file: {text:.300}"
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return f"cannot be printed: {text!r:.300}"
    except Hung:
        return f"hung: {traceback.format_exc()[-600:]}"
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)
    if time.process_time() - started_s > SLOWEST_S:
        return f"took {time.process_time() - started_s:.1f} s"
    if _peak_bytes() - before > MOST_BYTES:
        return f"took {(_peak_bytes() - before) / (1 << 20):.0f} MiB"
    return None


def check(episodes: EpisodeSet) -> None:
    """Check that what was read is whole."""
    for episode in episodes:
        assert np.isfinite(episode.elapsed()).all()
        assert np.abs(episode.steering).max() <= 1
        if episode.source is not None:
            frames = episode.frames()
            assert frames.shape == (len(episode), episode.meta.height, episode.meta.width, 3)
            assert frames.dtype == np.uint8
    assert not any("\n" in line for line in episodes.warnings)


def run(names: list[str], count: int, seed: int, directory: Path) -> Iterator[tuple[str, int, str]]:
    """Yield format, seed and fault of every case that ends badly; `count` cases of each format."""
    logging.disable()
    try:
        for name in names:
            specimen = Specimen(name, directory / name.replace(" ", "-"))
            assert examine(specimen.path, specimen.place) is None, f"{name} is clean before it is damaged"
            for case in range(count):
                rng = random.Random(f"{seed} {name} {case}")
                path, kind = specimen.damage(rng)
                fault = examine(specimen.path, specimen.place)
                if fault is not None:
                    yield name, case, f"{path.name} ({kind}): {fault}"
                specimen.restore(path)
    finally:
        logging.disable(logging.NOTSET)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="cases in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", nargs="*", default=list(FORMATS))
    options = parser.parse_args()
    each = -(-options.count // len(options.format))
    faults = 0
    # Messages of FFmpeg and libjpeg about damage go straight to standard error and would bury what is found.
    with tempfile.TemporaryDirectory() as directory:
        for name, case, fault in run(options.format, each, options.seed, Path(directory)):
            faults += 1
            print(f"FAULT {name} case {case}: {fault}", flush=True)
    print(f"{each * len(options.format):,} damaged recordings of {len(options.format)} formats: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
