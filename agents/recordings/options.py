"""How recordings are read: clock, cameras, columns, units, and which part of the driving counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

ANY_FORMAT = frozenset({"nominal_period_s", "nominal_rate", "from_s", "to_s", "episodes"})
"""Options that concern recordings of every format."""
STEERING = frozenset({"degrees", "steering_unit", "straight", "positive"})
"""Options on what numbers of steering mean."""
COLUMNS = frozenset({"steering_column", "frame_column", "time_column", "speed_column"})
"""Options that name a column, field or feature."""
PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Period = Annotated[float, Field(ge=1e-4, le=3600)]
Rate = Annotated[float, Field(ge=1 / 3600, le=1e4)]


@dataclass(frozen=True, config={"extra": "forbid"})
class ReadOptions:
    """How recordings are read."""

    nominal_period_s: Period | None = None
    """Time between frames when all is on time, seconds, 0.0001 to 3600; also the spacing of frames whose clock is
    unusable. None takes the median of the time stamps, or the usual rate of the format when they are unusable."""
    nominal_rate: Rate | None = None
    """Frames a second of a recording whose clock lies: time stamps are not looked at, frames are laid out at this
    rate."""
    max_gap_s: PositiveSeconds = 1.0
    """A longer gap between frames begins a new episode, seconds."""
    from_s: Seconds = 0.0
    """Driving before this moment of each recording's time line is left out, seconds."""
    to_s: PositiveSeconds | None = None
    """Driving from this moment of each recording's time line on is left out, seconds; None goes to the end."""
    episodes: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Numbers of the episodes that count, from 0, as `wormwheel data info` lists them; all when empty."""
    side_cameras: bool = False
    """Udacity: add the left and right cameras as episodes of their own; they are trained on, never tested on."""
    side_camera_correction: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Udacity: steering added to a side camera's label so that it leads back to the middle, in [0, 1]."""
    full_lock_deg: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 450.0
    """comma2k19: angle of the steering wheel that counts as full lock, degrees. The cars' true locks lie near 380° and
    500°; a smaller angle spreads the small angles of a motorway and leaves out what is beyond it."""
    degrees: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Steering stands in degrees, and this angle is full lock; 25 for Udacity's car. None takes the unit from the
    column's name or its values, and refuses where they do not say."""
    steering_unit: Literal["auto", "share", "percent", "degrees", "radians"] = "auto"
    """Unit of a column of steering: shares of full lock, per cent of it, or angles, for which `degrees` is full lock;
    "auto" goes by the column's name, by notes beside the table, or by its values."""
    straight: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Value that the recorded steering has straight ahead, such as 1500 µs of a servo or 0.5 between 0 and 1; `degrees`
    is then counted from there. None is 0, and refuses tables where that cannot be."""
    positive: Literal["auto", "left", "right"] = "auto"
    """Side to which positive steering in the recording goes; "auto" takes the format's own: right in Udacity logs and
    Donkeycar tubs, left elsewhere."""
    steering_column: str | None = None
    """Column, field or feature with the steering, where its name does not say so."""
    frame_column: str | None = None
    """Column, field or feature with the picture's path, the picture itself, or the frame's number in the video."""
    time_column: str | None = None
    """Column, field or feature with the time stamps."""
    speed_column: str | None = None
    """Column, field or feature with the speed."""
    table: Path | None = None
    """Table (CSV or parquet) that belongs to a video or a folder of pictures."""
    offset_s: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """Seconds by which the table's clock is ahead of the video's: a row stamped t belongs to the frame at t − offset_s.
    """
    all_catalogs: bool = False
    """Donkeycar: read the catalogs that the manifest does not name as well."""

    def __post_init__(self) -> None:
        """Check what concerns more than one field."""
        if self.to_s is not None and self.to_s <= self.from_s:
            raise ValueError(f"to_s must be later than from_s = {self.from_s:g}, got {self.to_s:g}.")

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that are not at their default."""
        plain = ReadOptions()
        names = (item.name for item in dataclasses.fields(self))
        return tuple(name for name in names if getattr(self, name) != getattr(plain, name))

    def replaced(self, **changes: Any) -> ReadOptions:
        """Return the options with other values, checked."""
        return dataclasses.replace(self, **changes)

    @property
    def period_s(self) -> float | None:
        """The period that was asked for, by period or by rate, seconds; None when the recording decides."""
        if self.nominal_period_s is not None:
            return self.nominal_period_s
        return None if self.nominal_rate is None else 1 / self.nominal_rate

    def side(self, usual: Literal["left", "right"]) -> float:
        """Return the factor that turns the recording's steering to positive left, +1 or −1."""
        return 1.0 if (usual if self.positive == "auto" else self.positive) == "left" else -1.0
