"""The project's own data set as a target of `convert`."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from agents.recordings.episodes import Episode
from agents.recordings.writer import EpisodeWriter
from agents.recordings.writers.target import Progress, Target, Written, runs_of


class NativeTarget(Target):
    """Raw frames and arrays; always exact. An extra of the source that names it is kept in `meta.json`."""

    def write(self, number: int, episode: Episode, progress: Progress) -> Written:
        """See `Target`."""
        writer = EpisodeWriter(self.directory)
        place = self.directory / f"episode_{number:06d}"
        if place.is_dir():  # complete, but a stop came before it was noted
            frames = len(np.load(place / "steering.npy", allow_pickle=False))
            return Written(frames, len(episode) - frames)
        frames = 0
        extra = json.loads(json.dumps(dict(episode.meta.extra), default=str))
        source = str(extra.pop("recorded_from", episode.meta.source))
        meta = dataclasses.replace(episode.meta, source=source, extra=extra)
        with writer.episode(meta, number) as recording:
            for steps, pictures, passed in runs_of(episode):
                for step, picture in zip(steps, pictures, strict=True):
                    extras = {name: values[step] for name, values in episode.extras.items()}
                    recording.append(picture, float(episode.steering[step]), float(episode.time_s[step]), **extras)
                frames += len(steps)
                progress(passed)
        return Written(frames, len(episode) - frames)

    def finish(self, episodes: list[tuple[int, Episode, Written]]) -> None:
        """See `Target`; nothing is left to do."""
