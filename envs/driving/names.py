"""Names of what a driver needs in an env that others made.

names = DrivingNames(camera="render", steering=0, positive="right", speed="info.speed", lateral_offset="env.y")
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeInt
from pydantic.dataclasses import dataclass

from envs.driving.places import check_place
from envs.ranges import Positive, one_of

Place = Annotated[str, AfterValidator(check_place)]
"""Where something is (`envs.driving.places`); empty where the env does not have it."""
Side = Annotated[str, one_of("left", "right")]
_Crop = Annotated[int, Field(ge=0, le=4096)]
_Pixels = Annotated[int, Field(ge=8, le=4096)]


@dataclass(frozen=True, config={"extra": "forbid"})
class DrivingNames:
    """Where camera, steering, speed and road are in an env, and what they count."""

    camera: Place = "observation"
    """The picture: any kind that `envs.frames` accepts, such as observation, observation.rgb or render."""
    crop_top: _Crop = 0
    """Rows to cut off at the top of the picture, pixels."""
    crop_bottom: _Crop = 0
    """Rows to cut off at the bottom of the picture, pixels."""
    height: _Pixels | None = None
    """Rows of the frames that drivers get, pixels; as they are when left out."""
    width: _Pixels | None = None
    """Columns of the frames that drivers get, pixels; as they are when left out."""
    hfov_deg: Annotated[float, Field(ge=10.0, le=160.0)] | None = None
    """Horizontal field of view of the camera, degrees; a guess when left out, for perturbations alone."""
    horizon: Annotated[float, Field(ge=0.0, le=0.9)] | None = None
    """Height of the horizon in the frame, 0 at the top, 1 at the bottom; a guess when left out."""
    camera_height_m: Positive | None = None
    """Height of the camera above the road, m; a guess when left out, as for a camera that looks from above."""
    steering: NonNegativeInt = 0
    """Which number of the action steers."""
    positive: Side = "left"
    """To which side that number steers when it is positive."""
    steering_gain: Positive = 1.0
    """The share of the env's own steering range that full lock here means."""
    gas: NonNegativeInt | None = None
    """Which number of the action accelerates, for the cruise controller; none when left out."""
    brake: NonNegativeInt | None = None
    """Which number of the action brakes; the same as `gas` where a negative gas brakes, none when left out."""
    gas_per_mps: Positive = 0.05
    """Gas for each m/s below the wanted speed, as a share of its range."""
    brake_per_mps: Positive = 0.03
    """Brake for each m/s above the wanted speed, as a share of its range."""
    most_brake: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Hardest braking, as a share of its range."""
    speed_mps: Positive = 10.0
    """Speed that the cruise controller holds, m/s; without one, that of the env, where it does not tell its own."""
    speed: Place = ""
    """The speed of the car, m/s; of a vector, its length."""
    lateral_offset: Place = ""
    """The distance of the car from the middle of its lane, m; not needed where `centre_line` is given."""
    offset_positive: Side = "left"
    """On which side of the lane that distance is positive."""
    lane_width: Place = ""
    """The width of the lane, m, such as constant.5; a crash is leaving it where nothing else says what a crash is."""
    heading_error: Place = ""
    """The direction of the car relative to the road, rad, positive to the side of `offset_positive`."""
    centre_line: Place = ""
    """The middle of the lane as a closed line, rows of numbers in m, known after a reset."""
    centre_line_columns: tuple[NonNegativeInt, NonNegativeInt] = (0, 1)
    """Which numbers of a row are x and y, y to the left of x."""
    position: Place = ""
    """Where the car is, x and y in m; for `centre_line`."""
    yaw: Place = ""
    """Direction of the car, rad, counter-clockwise from x once `yaw_offset_rad` is added; for `centre_line`."""
    yaw_offset_rad: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    """What is to be added to `yaw`, rad."""
    crashed: Place = ""
    """Whether the car has crashed."""
    period_s: Annotated[float, Field(ge=0.001, le=10.0)] | None = None
    """Time between two actions, s; the env's own `period_s`, or from its render_fps, when left out."""
    episode_s: Annotated[float, Field(gt=0, le=86_400.0)] = 60.0
    """Length of an episode, s; it is truncated then."""
    ends_with_env: bool = True
    """Whether an episode ends where the env ends it, too."""
    reward: Annotated[str, one_of("env", "lane")] = "env"
    """"env", or "lane": way made relative to what the speed allows, weighted by 1 − (offset / half the lane)², and −10
    for a crash; for `centre_line`."""

    def __post_init__(self) -> None:
        if not self.camera:
            raise ValueError("camera must say where the picture is, such as observation or render, got nothing.")
        if self.centre_line and not (self.position and self.yaw and self.lane_width):
            raise ValueError("centre_line needs position, yaw and lane_width, to tell where on the road the car is.")
        if self.reward == "lane" and not self.centre_line:
            raise ValueError('reward "lane" needs centre_line.')
        if self.gas is not None and not self.speed:
            raise ValueError("a cruise controller (gas) needs to know the speed.")
        if self.brake is not None and self.gas is None:
            raise ValueError("brake is for the cruise controller, which needs gas.")
