"""Donkeycar tubs, version 2, as a target of `convert`: one catalog and one session an episode."""

from __future__ import annotations

import json
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.recordings.episodes import Episode
from agents.recordings.reading.pictures import PictureFiles, orientation
from agents.recordings.writers.target import Progress, Target, Written, runs_of
from agents.runs.files import replacing, write_text

_JPEG_QUALITY = 95


class DonkeycarTarget(Target):
    """Exact pictures are copies of the files they were, or PNG; else JPEG. Arrays beside the steering are not kept.

    The angle is turned to positive right. The time stamp counts milliseconds from the recording's start, with decimals
    where it needs them.
    """

    def write(self, number: int, episode: Episode, progress: Progress) -> Written:
        """See `Target`."""
        images = self.directory / "images"
        images.mkdir(parents=True, exist_ok=True)
        scalars = {name: values for name, values in episode.extras.items() if np.ndim(values) == 1}
        lines: list[str] = []
        bad = 0
        for steps, pictures, passed in runs_of(episode):
            for step, picture in zip(steps, pictures, strict=True):
                index = number * _ROOM + int(step)
                name, content = self._picture(index, episode, int(step), picture)
                with replacing(images / name) as partial:
                    partial.write_bytes(content)
                line_s = episode.meta.start_s + float(episode.time_s[step] - episode.time_s[0])
                record: dict[str, Any] = {
                    "_index": index,
                    "_session_id": f"episode_{number:06d}",
                    "_timestamp_ms": _whole(1000 * line_s),
                    "cam/image_array": name,
                    "user/angle": -float(episode.steering[step]),
                    "user/mode": "user",
                }
                for extra, values in scalars.items():
                    value = values[step].item()
                    if not (isinstance(value, float) and math.isnan(value)):
                        record["user/throttle" if extra == "throttle" else extra] = value
                lines.append(json.dumps(record) + "\n")
            bad += passed - len(steps)
            progress(passed)
        if lines:
            write_text(self.directory / f"catalog_{number}.catalog", "".join(lines))
        return Written(len(lines), bad)

    def finish(self, episodes: list[tuple[int, Episode, Written]]) -> None:
        """See `Target`."""
        scalars = sorted(
            {name for _, episode, _ in episodes for name, values in episode.extras.items() if np.ndim(values) == 1}
        )
        others = [name for name in scalars if name != "throttle"]
        inputs = ["cam/image_array", "user/angle", "user/mode", *(["user/throttle"] if "throttle" in scalars else [])]
        kinds = ["image_array", "float", "str", *(["float"] if "throttle" in scalars else [])]
        count = 0
        for number, _, _ in episodes:
            count += self._number(number, count)
        catalogs = {
            "paths": [f"catalog_{number}.catalog" for number, _, _ in episodes],
            "current_index": count,
            "max_len": _CATALOG,
            "deleted_indexes": [],
        }
        sessions = {"all_full_ids": [f"episode_{number:06d}" for number, _, _ in episodes], "last_id": 0}
        parts: list[Any] = [[*inputs, *others], [*kinds, *("float" for _ in others)], {}]
        parts += [{"created_at": 0.0, "sessions": sessions}, catalogs]
        write_text(self.directory / "manifest.json", "".join(json.dumps(part) + "\n" for part in parts))

    def _number(self, number: int, first: int) -> int:
        """Number an episode's records from `first` on, and write the index of lines that Donkeycar opens a catalog by.

        Returns:
            How many there are.
        """
        path = self.directory / f"catalog_{number}.catalog"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps({**record, "_index": first + at}) + "\n" for at, record in enumerate(records)]
        write_text(path, "".join(lines))
        index = path.with_name(f"{path.name}_manifest")
        lengths = [len(line) for line in lines]  # all ASCII
        content = {"created_at": 0.0, "line_lengths": lengths, "path": index.name, "start_index": first}
        write_text(index, json.dumps(content) + "\n")
        return len(lines)

    def _picture(self, index: int, episode: Episode, step: int, picture: NDArray[np.uint8]) -> tuple[str, bytes]:
        """Return a picture's name and bytes."""
        stem = f"{index}_cam_image_array_"
        if self.exact and isinstance(episode.source, PictureFiles):
            suffix = episode.source.paths[episode.offset + step].suffix.lower()
            content = episode.source.content(episode.offset + step)
            # Donkeycar does not turn pictures upright: one that has to be is written as it is seen.
            if suffix in (".jpg", ".jpeg", ".png") and orientation(content) == 1:
                return stem + suffix, content
        suffix, flags = (".png", []) if self.exact else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        good, packed = cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), flags)
        if not good:
            raise ValueError(
                f"a picture of {picture.shape[1]}×{picture.shape[0]} pixels cannot be encoded as {suffix}."
            )
        return stem + suffix, packed.tobytes()


_ROOM = 1_000_000
"""Numbers of pictures set aside for each episode, so that episodes can be written one by one; records are numbered at
the end, without gaps: by their numbers Donkeycar says how many there are."""
_CATALOG = 1000
"""Records that Donkeycar puts into a catalog where it goes on with a tub."""


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
