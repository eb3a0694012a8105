"""Episodes: stretches of driving with frames, steering and time stamps, whose pictures stay on disk.

An `Episode` holds its steering and its clock in memory (16 bytes a frame) and reads frames when they are asked for. Its
slices are views. An `EpisodeSet` is an ordered collection with one nominal frame period and a record of what was left
out on the way in.

    episodes = load_episodes(["tub"])
    episodes[0].frames(0, 8)   # uint8 [8, H, W, 3]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

ELAPSED_RANGE = (0.05, 20.0)
"""Bounds of `Episode.elapsed`, in nominal periods: a clock hiccup must not stop the circuit or blow up its step."""


@dataclass(frozen=True)
class EpisodeMeta:
    """Where an episode comes from and how it was made."""

    source: str = ""
    """What it was read from or recorded by: a path or a name. Episodes of one recording share it."""
    nominal_period_s: float = 0.05
    """Time between frames when all is on time, seconds, > 0."""
    height: int = 0
    """H, pixels; 0 when there are no pictures. A writer fills it in."""
    width: int = 0
    """W, pixels; 0 when there are no pictures. A writer fills it in."""
    vehicle: str = ""
    """The vehicle, such as "bullet", "bicycle" or "donkeycar"."""
    renderer: str = ""
    """What made the pictures, such as "warp", "tiny" or "camera"."""
    seed: int | None = None
    """Seed of the road and the look; None for real recordings."""
    start_s: float = 0.0
    """Where the episode begins on the time line of its source, seconds. Time blocks are cut on this line, so that two
    cameras of one drive fall on the same side."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth keeping; must have a JSON form."""

    def __post_init__(self) -> None:
        """Check the period and the size."""
        if not (np.isfinite(self.nominal_period_s) and self.nominal_period_s > 0):
            raise ValueError(f"nominal_period_s must be a positive number of seconds, got {self.nominal_period_s}.")
        if self.height < 0 or self.width < 0:
            raise ValueError(f"height and width must not be negative, got {self.height} and {self.width}.")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {**dataclasses.asdict(self), "extra": dict(self.extra)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EpisodeMeta:
        """Rebuild from `to_json`; keys of a later version are passed over."""
        names = {item.name for item in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in names})


def is_centre(meta: EpisodeMeta) -> bool:
    """Return whether an episode is that of the camera by which the person steered, not of one at the side."""
    return bool(meta.extra.get("camera", "centre") == "centre")


class FrameSource(Protocol):
    """Where frames are read from: random access by index, nothing kept in memory."""

    def read(self, start: int, stop: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read a run of frames.

        Returns:
            uint8 `[n, H, W, 3]` RGB, and bool `[n]`: False where a frame could not be decoded and its neighbour stands
            in for it.
        """
        ...


@dataclass(frozen=True)
class Episode:
    """One stretch of driving.

    Raises:
        ValueError: if lengths disagree, steering is not finite or leaves [-1, 1], or time does not rise strictly.
    """

    steering: NDArray[np.float32]
    """`[T]` in [-1, 1] of full lock, positive left."""
    time_s: NDArray[np.float64]
    """`[T]` seconds, strictly increasing; the zero is arbitrary."""
    meta: EpisodeMeta
    """Where it comes from."""
    source: FrameSource | None = None
    """Where the frames are; None for logs without pictures."""
    offset: int = 0
    """Index in `source` of the first frame."""
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """More arrays `[T, ...]` by name, such as `speed_mps` or `lateral_offset_m`."""
    digests: NDArray[np.uint64] | None = None
    """`[T]` hashes of the picture files, equal for copies; None where the frames are not kept as files of their own."""

    def __post_init__(self) -> None:
        """Check lengths, ranges and the clock."""
        steps = len(self.steering)
        if steps == 0:
            raise ValueError(f"an episode needs at least one frame, got none from {self.meta.source!r}.")
        for name, values in {"time_s": self.time_s, **self.extras}.items():
            if len(values) != steps:
                raise ValueError(f"{name} must have one entry for each of the {steps} steps, got {len(values)}.")
        if not (np.isfinite(self.steering).all() and np.abs(self.steering).max() <= 1.0):
            raise ValueError(f"steering must be finite and within [-1, 1]; it is not in {self.meta.source!r}.")
        if not (np.isfinite(self.time_s).all() and (np.diff(self.time_s) > 0).all()):
            raise ValueError(f"time_s must be finite and rise strictly; it does not in {self.meta.source!r}.")

    def __len__(self) -> int:
        return len(self.steering)

    @property
    def duration_s(self) -> float:
        """Time covered, seconds: first to last frame and one nominal period for the last."""
        return float(self.time_s[-1] - self.time_s[0]) + self.meta.nominal_period_s

    def frames(self, start: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """Read frames `start` to `stop` (the end when None) as uint8 `[n, H, W, 3]` RGB."""
        return self.checked_frames(start, stop)[0]

    def checked_frames(self, start: int = 0, stop: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Read frames as `frames` does, with bool `[n]`: False where the picture could not be decoded."""
        start, stop = self._range(start, stop)
        if self.source is None:
            raise ValueError(f"{self.meta.source} has no pictures, only logs: it can be plotted but not learnt from.")
        return self.source.read(self.offset + start, self.offset + stop)

    def elapsed(self, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
        """Return time since the previous frame in nominal periods.

        Args:
            start: First step.
            stop: One past the last step; the end when None.

        Returns:
            float32 `[n]`, clipped to `ELAPSED_RANGE`; 1.0 for the first frame of the episode.
        """
        start, stop = self._range(start, stop)
        steps = np.diff(self.time_s[max(start - 1, 0) : stop]) / self.meta.nominal_period_s
        if start == 0:
            steps = np.concatenate([[1.0], steps])
        return np.clip(steps, *ELAPSED_RANGE).astype(np.float32)

    def slice(self, start: int, stop: int) -> Episode:
        """Return a view of steps `start` to `stop`; frames stay on disk."""
        start, stop = self._range(start, stop)
        meta = dataclasses.replace(self.meta, start_s=self.meta.start_s + float(self.time_s[start] - self.time_s[0]))
        extras = {name: values[start:stop] for name, values in self.extras.items()}
        digests = None if self.digests is None else self.digests[start:stop]
        return Episode(
            self.steering[start:stop], self.time_s[start:stop], meta, self.source, self.offset + start, extras, digests
        )

    @property
    def is_centre(self) -> bool:
        """Whether the labels are those of the person: those of a side camera are made up from them."""
        return is_centre(self.meta)

    def with_nominal_period(self, nominal_period_s: float) -> Episode:
        """Return the same episode, its elapsed times counted in another period."""
        return dataclasses.replace(self, meta=dataclasses.replace(self.meta, nominal_period_s=nominal_period_s))

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        stop = len(self) if stop is None else stop
        if not 0 <= start < stop <= len(self):
            raise ValueError(f"steps must satisfy 0 <= start < stop <= {len(self)}, got {start} and {stop}.")
        return start, stop


@dataclass(frozen=True)
class EpisodeSet:
    """An ordered collection of episodes, and what was left out when it was read."""

    episodes: tuple[Episode, ...]
    """The episodes, in the order recorded."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Records left out, by reason."""
    notices: tuple[str, ...] = ()
    """Things the reader had to decide, one line each."""
    read: int = 0
    """Frames of the centre camera in all of the recording, where a part of it was chosen."""

    def __len__(self) -> int:
        return len(self.episodes)

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> EpisodeSet: ...
    def __getitem__(self, index: int | slice) -> Episode | EpisodeSet:
        if isinstance(index, slice):
            return dataclasses.replace(self, episodes=self.episodes[index])
        return self.episodes[index]

    @property
    def frame_count(self) -> int:
        """Frames in all episodes together."""
        return sum(len(episode) for episode in self.episodes)

    @property
    def duration_s(self) -> float:
        """Time covered by all episodes together, seconds."""
        return sum(episode.duration_s for episode in self.episodes)

    @property
    def nominal_period_s(self) -> float:
        """The nominal period of all episodes, seconds; a ValueError when they differ or there are none."""
        periods = {episode.meta.nominal_period_s for episode in self.episodes}
        if len(periods) != 1:
            raise ValueError(f"one nominal period was expected, got {sorted(periods)}; call with_nominal_period first.")
        return periods.pop()

    @property
    def frame_size(self) -> tuple[int, int]:
        """H and W of all episodes; a ValueError when they differ or there are none."""
        sizes: dict[tuple[int, int], str] = {}
        for episode in self.episodes:
            sizes.setdefault((episode.meta.height, episode.meta.width), episode.meta.source)
        if len(sizes) != 1:
            found = " and ".join(f"{w}×{h} in {source}" for (h, w), source in list(sizes.items())[:2]) or "no episode"
            raise ValueError(f"pictures of one size were expected, got {found}; read the sets one at a time.")
        return next(iter(sizes))

    @property
    def centre(self) -> EpisodeSet:
        """The episodes whose labels are those of the person; a notice says how many others were left out."""
        kept = tuple(episode for episode in self.episodes if episode.is_centre)
        if len(kept) == len(self.episodes):
            return self
        others = sum(len(episode) for episode in self.episodes if not episode.is_centre)
        notice = f"{others} frames of side cameras are left out: their labels are made up"
        return dataclasses.replace(self, episodes=kept, notices=(*self.notices, notice))

    @property
    def warnings(self) -> list[str]:
        """What a person should be told: the records left out in one line, then the notices."""
        if not self.skipped:
            return list(self.notices)
        reasons = ", ".join(f"{count} × {reason}" for reason, count in self.skipped.items())
        return [f"skipped {sum(self.skipped.values())} records: {reasons}", *self.notices]

    def with_nominal_period(self, nominal_period_s: float) -> EpisodeSet:
        """Return the same episodes, elapsed times counted in another period, seconds."""
        episodes = tuple(episode.with_nominal_period(nominal_period_s) for episode in self.episodes)
        return dataclasses.replace(self, episodes=episodes)

    def between(self, from_s: float, to_s: float | None) -> EpisodeSet:
        """Return what lies between two moments of each source's time line, seconds; to the end when `to_s` is None."""
        kept: list[Episode] = []
        for episode in self.episodes:
            line_s = episode.meta.start_s + (episode.time_s - episode.time_s[0])
            first = int(np.searchsorted(line_s, from_s - 1e-9))
            last = len(line_s) if to_s is None else int(np.searchsorted(line_s, to_s - 1e-9))
            if first < last:
                kept.append(episode.slice(first, last))
        return dataclasses.replace(self, episodes=tuple(kept))

    def cut(self, length: int) -> EpisodeSet:
        """Return views of at most `length` steps, for balanced parallel streams; each piece counts as an episode."""
        if length < 1:
            raise ValueError(f"length must be at least 1 step, got {length}.")
        pieces = tuple(
            episode.slice(start, min(start + length, len(episode)))
            for episode in self.episodes
            for start in range(0, len(episode), length)
        )
        return dataclasses.replace(self, episodes=pieces)
