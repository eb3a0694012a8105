"""What a demonstration found, as one value: `results.json` holds it and `report.html` shows it.

Roads are kept with their outline and the way that was driven, thinned out, so that a report can be made again from it.

    results = Results(...)
    write_json("runs/demo/results.json", results.to_json())
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agents.driving.metrics import Drive, closed_loop
from agents.driving.statistics import Estimate
from agents.runs.directory import to_json

FORMAT_VERSION = 1
OFFSET_EDGES = tuple(round(-0.5 + 0.0125 * n, 4) for n in range(81))
"""Edges of the histogram of offsets, shares of the lane width, positive left."""

Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Road:
    """One drive on one road.

    Attributes:
        seed: of the road, the look and the start.
        length_m: of a lap, m.
        lane_width_m: width of the lane, m.
        distance_m: way made, m.
        duration_s: time driven, s.
        crashed: whether the car left the road.
        mean_offset_lane: mean absolute offset as a share of the lane width.
        worst_offset_lane: largest absolute offset as a share of the lane width.
        outline: centre line of the road, m; empty where it is not kept.
        trail: where the car went, m; empty where it is not kept.
    """

    seed: int
    length_m: float
    lane_width_m: float
    distance_m: float
    duration_s: float
    crashed: bool
    mean_offset_lane: float
    worst_offset_lane: float
    outline: Points
    trail: Points

    @classmethod
    def from_drive(cls, drive: Drive, length_m: float, outline: ArrayLike = (), trail: ArrayLike = ()) -> Road:
        """Summarise a drive; the lines `[N, 2]` are thinned out to what a small picture needs."""
        share = np.abs(drive.lateral_offset_m) / drive.lane_width_m
        return cls(
            seed=drive.seed,
            length_m=round(length_m, 2),
            lane_width_m=round(drive.lane_width_m, 4),
            distance_m=round(drive.distance_m, 2),
            duration_s=round(drive.duration_s, 3),
            crashed=drive.crashed,
            mean_offset_lane=round(float(share.mean()), 5),
            worst_offset_lane=round(float(share.max()), 5),
            outline=_thin(outline, 90),
            trail=_thin(trail, 140),
        )


@dataclass(frozen=True)
class NoiseLevel:
    """All drives under noise of one variance.

    Attributes:
        variance: of the Gaussian noise on pixels in [0, 1]; 0 is clean.
        figures: those of `agents.driving.metrics.closed_loop`.
        offsets: share of the time in each bin of `OFFSET_EDGES`; what lies beyond counts in the outermost bins.
        roads: one entry a drive.
    """

    variance: float
    figures: dict[str, Estimate]
    offsets: tuple[float, ...]
    roads: tuple[Road, ...]

    @classmethod
    def from_drives(cls, variance: float, drives: Sequence[Drive], roads: Sequence[Road]) -> NoiseLevel:
        """Summarise the drives under one variance."""
        share = np.concatenate([drive.lateral_offset_m / drive.lane_width_m for drive in drives])
        counts, _ = np.histogram(np.clip(share, OFFSET_EDGES[0], OFFSET_EDGES[-1]), OFFSET_EDGES)
        offsets = tuple(round(float(count) / max(len(share), 1), 6) for count in counts)
        return cls(variance, closed_loop(drives), offsets, tuple(roads))

    @property
    def crashes(self) -> int:
        """Drives that ended off the road."""
        return sum(road.crashed for road in self.roads)

    @property
    def distance_m(self) -> float:
        """Way made in all drives, m."""
        return sum(road.distance_m for road in self.roads)


@dataclass(frozen=True)
class Results:
    """All that a demonstration found.

    Attributes:
        command: what was typed.
        started: when, ISO 8601.
        versions: of Python and the packages.
        machine: processor, cores, system.
        options: resolved options.
        vehicle: the car, "bullet" or "bicycle".
        core: name of the core.
        neurons: neurons, or state values, of the core.
        synapses: of the core.
        parameters: trainable values, head and core.
        recorded_frames: frames that the expert recorded.
        recorded_roads: roads that it drove.
        history: figures of each epoch of training.
        levels: what the driver did, by rising variance; the first one is clean.
        seconds: time that each part took.
        expert: what the expert, who knows the true position, did on the same roads; None when it did not drive.
    """

    command: str
    started: str
    versions: dict[str, str]
    machine: dict[str, str]
    options: dict[str, Any]
    vehicle: str
    core: str
    neurons: int
    synapses: int
    parameters: int
    recorded_frames: int
    recorded_roads: int
    history: tuple[dict[str, float], ...]
    levels: tuple[NoiseLevel, ...]
    seconds: dict[str, float]
    expert: NoiseLevel | None = None

    @property
    def clean(self) -> NoiseLevel:
        """The drives without noise."""
        return self.levels[0]

    def verdict(self) -> str:
        """Say in one sentence what was found on the clean roads."""
        level, name = self.clean, f"The {self.neurons}-neuron {self.core.upper()} driver"
        offset = 100 * level.figures["mean_offset_lane"].value
        where = f"on {len(level.roads)} roads that it had not seen"
        apart = f"{offset:.1f} % of the lane width off the middle of its lane on average"
        way = f"{level.distance_m / 1000:.2f} km" if level.distance_m >= 1000 else f"{level.distance_m:.0f} m"
        if level.crashes == 0:
            return f"{name} drove {way} {where} without leaving the road, {apart}."
        crashes = "once" if level.crashes == 1 else f"{level.crashes} times"
        return f"{name} left the road {crashes} in {way} {where}; it was {apart}."

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; a figure that is not finite becomes null."""
        values: dict[str, Any] = {
            "format": "wormwheel-demo",
            "format_version": FORMAT_VERSION,
            "verdict": self.verdict(),
        }
        values |= {"offset_edges": list(OFFSET_EDGES)} | to_json(self)
        for level, found in zip([*values["levels"], values["expert"]], [*self.levels, self.expert], strict=True):
            if found is not None:
                level["figures"] = {name: estimate.to_json() for name, estimate in found.figures.items()}
        return _finite(values)


def _thin(line: ArrayLike, most: int) -> Points:
    """Keep at most so many points of a line, evenly, first and last included; centimetres are enough."""
    points = np.asarray(line, np.float64).reshape(-1, 2)
    if not len(points):
        return ()
    chosen = np.unique(np.round(np.linspace(0, len(points) - 1, min(most, len(points)))).astype(int))
    return tuple((round(float(x), 2), round(float(y), 2)) for x, y in points[chosen])


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
