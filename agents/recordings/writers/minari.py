"""Minari data sets as a target of `convert`: arrays in HDF5, pictures without loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agents.recordings.episodes import Episode
from agents.recordings.minari import h5
from agents.recordings.writers.target import Progress, Target, Written, runs_of
from agents.runs.files import replacing, write_json

MINARI_VERSION = "0.5.0"
"""Oldest version of Minari that reads what is written; later ones read it too."""

_ELAPSED_MOST = 20.0


class MinariTarget(Target):
    """Observations are the frame and the time since the one before, actions the steering, positive left.

    Minari keeps one observation more than actions: the last frame stands twice. Each episode is a file of its own until
    all are there, then they are joined.
    """

    def write(self, number: int, episode: Episode, progress: Progress) -> Written:
        """See `Target`."""
        place = self._part(number)
        place.parent.mkdir(parents=True, exist_ok=True)
        shape = (episode.meta.height, episode.meta.width, 3)
        kept: list[Any] = []
        with replacing(place) as partial:
            with h5().File(partial, "w", locking=False) as file:
                group = file.create_group("episode")
                camera = group.create_dataset(
                    "observations/camera",
                    (0, *shape),
                    np.uint8,
                    maxshape=(None, *shape),
                    chunks=(1, *shape),
                    compression="gzip",
                    compression_opts=1,
                )
                last = None
                for steps, pictures, passed in runs_of(episode):
                    if len(steps):
                        camera.resize(len(camera) + len(steps), axis=0)
                        camera[-len(steps) :] = pictures
                        last = pictures[-1]
                        kept.append(steps)
                    progress(passed)
                if last is not None:
                    camera.resize(len(camera) + 1, axis=0)
                    camera[-1] = last
                    self._labels(group, episode, np.concatenate(kept))
        if not kept:
            place.unlink()
            return Written(0, len(episode))
        frames = sum(map(len, kept))
        return Written(frames, len(episode) - frames)

    def _labels(self, group: Any, episode: Episode, rows: Any) -> None:
        """Write what is not a picture."""
        count = len(rows)
        steps = np.diff(episode.time_s[rows]) / episode.meta.nominal_period_s
        elapsed = np.concatenate([[1.0], steps, [1.0]]).clip(0.05, _ELAPSED_MOST).astype(np.float32)
        ends = np.zeros(count, bool)
        ends[-1] = True
        group["observations/elapsed"] = elapsed[:, None]
        group["actions"] = episode.steering[rows][:, None]
        group["rewards"] = np.zeros(count)
        group["terminations"] = np.zeros(count, bool)
        group["truncations"] = ends
        group["infos/time_s"] = episode.time_s[rows]
        for name, values in episode.extras.items():
            group[f"infos/{name}"] = np.asarray(values)[rows]
        group.attrs["total_steps"] = count
        if episode.meta.seed is not None:
            group.attrs["seed"] = episode.meta.seed
        group.attrs["wormwheel"] = json.dumps(episode.meta.to_json(), default=str)

    def finish(self, episodes: list[tuple[int, Episode, Written]]) -> None:
        """See `Target`."""
        total = sum(written.frames for _, _, written in episodes)
        place = self.directory / "data" / "main_data.hdf5"
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as partial:
            with h5().File(partial, "w", locking=False) as file:
                for position, (number, _, _) in enumerate(episodes):
                    with h5().File(self._part(number), "r") as part:
                        part.copy("episode", file, f"episode_{position}")
                    file[f"episode_{position}"].attrs["id"] = position
                file.attrs["total_episodes"] = len(episodes)
                file.attrs["total_steps"] = total
        height, width = episodes[0][1].meta.height, episodes[0][1].meta.width
        camera = _box((height, width, 3), "uint8", 0, 255)
        spaces = {
            "type": "Dict",
            "subspaces": {"camera": camera, "elapsed": _box((1,), "float32", 0.05, _ELAPSED_MOST)},
        }
        metadata = {
            "dataset_id": f"wormwheel/{self.directory.name}-v0",
            "total_episodes": len(episodes),
            "total_steps": total,
            "data_format": "hdf5",
            "observation_space": json.dumps(spaces),
            "action_space": json.dumps(_box((1,), "float32", -1.0, 1.0)),
            "minari_version": MINARI_VERSION,
            "jpeg_encoding": False,
            "description": "Recorded lane keeping: the action is the steering in [-1, 1], positive left.",
        }
        write_json(place.parent / "metadata.json", metadata)

    def _part(self, number: int) -> Path:
        return self.parts / f"{number}.hdf5"


def _box(shape: tuple[int, ...], dtype: str, low: float, high: float) -> dict[str, Any]:
    """Describe a Box as Minari does."""
    bounds = {name: np.full(shape, value, dtype).tolist() for name, value in (("low", low), ("high", high))}
    return {"type": "Box", "dtype": dtype, "shape": list(shape), **bounds}
