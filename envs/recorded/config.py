"""What can be set about the env that a recording becomes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from envs.ranges import Positive, Share


@dataclass(frozen=True, config={"extra": "forbid"})
class RecordedConfig:
    """Frames, episodes and how far the car may leave the recorded line."""

    height: Annotated[int, Field(ge=0, le=4096)] = 0
    """Rows of the frames that drivers get, pixels; 0 for those of the recording."""
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    """Columns of the frames that drivers get, pixels; 0 for those of the recording."""
    period_s: Annotated[float, Field(ge=0.001, le=10.0)] | None = None
    """Time between two actions, s; that of the recording when None."""
    episode_s: Positive = 20.0
    """Length of an episode, s; it is truncated then, or where the recording ends."""
    start_offset: Annotated[float, Field(ge=0.0, le=0.9)] = 0.3
    """The start is drawn within this share of the way to where the car counts as lost."""
    start_heading_rad: Share = 0.05
    """The start is drawn within this angle of the direction of the line, rad."""
    least_shown: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.6
    """Share of the road in the picture that must come from the recorded frame: farther from the line, or turned
    farther, the car counts as lost."""
    limit_m: Positive | None = None
    """Distance from the line at which the car counts as lost, m, where that is nearer than what the frames can
    show."""
    lane_width_m: Positive | None = None
    """Width of the lane, m, that offsets are compared with; that of the recording when None, or else twice the
    distance at which the car counts as lost."""
    opencv_threads: Annotated[int, Field(ge=0, le=1024)] = 1
    """Threads that OpenCV may use, set for the whole process at each reset; 0 leaves the setting alone."""

    def __post_init__(self) -> None:
        if (self.height == 0) != (self.width == 0):
            raise ValueError(f"height and width go together, got {self.height} and {self.width}: give both or none.")
