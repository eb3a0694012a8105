"""What a policy's steering means: the car, the lane and the camera that it learnt in.

Steering is a share of full lock, and full lock turns one car more than another. A policy judges a bend by how it looks
in the picture, in lane widths; so on another car it steers alike when the curvature that it asks for, times the lane
width, is the same:

    s_here = s · (curvature at full lock · lane width, where it learnt) / (the same, here)

    gain = policy.config.car.steering_gain(CarInfo(full_lock_curvature_per_m=0.2, lane_width_m=3.5))
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A number above 0."""
Number = Annotated[float, Field(allow_inf_nan=False)]
"""A finite number."""


@dataclass(frozen=True, config={"extra": "forbid"})
class CarInfo:
    """A car with its camera on its road; None stands for what is not known. Of what varied, the mean."""

    full_lock_curvature_per_m: Positive | None = None
    """Curvature of the path at full lock, 1/m: tan(steering angle) / wheelbase of a bicycle."""
    lane_width_m: Positive | None = None
    """Width of a lane, m."""
    speed_mps: Positive | None = None
    """Speed, m/s."""
    camera_height_m: Positive | None = None
    """Height of the camera above the road, m."""
    camera_pitch_deg: Number | None = None
    """Tilt of the camera, degrees, positive downwards."""
    camera_hfov_deg: Positive | None = None
    """Horizontal field of view of the camera, degrees."""
    camera_horizon: Number | None = None
    """Row of the horizon as a share of the picture's height: 0 at the top, 1 at the bottom."""

    lookahead_s: Positive | None = None
    """Time ahead of the point on the road that whoever was imitated steered for, s."""

    def steering_gain(self, here: CarInfo) -> float:
        """Return by what steering that was learnt in this car is multiplied in another one.

        Args:
            here: the car at hand.

        Raises:
            ValueError: if the curvature at full lock or the lane width is not known of both.
        """
        missing = [
            f"{name} of the {which}"
            for which, car in (("policy's car", self), ("car at hand", here))
            for name in ("full_lock_curvature_per_m", "lane_width_m")
            if getattr(car, name) is None
        ]
        if missing:
            raise ValueError(
                f"steering cannot be converted without the {', '.join(missing)}: say it, or give the gain itself "
                "(--steering-gain; `wormwheel fit` suggests one)."
            )
        assert self.full_lock_curvature_per_m and self.lane_width_m
        assert here.full_lock_curvature_per_m and here.lane_width_m
        return (self.full_lock_curvature_per_m * self.lane_width_m) / (
            here.full_lock_curvature_per_m * here.lane_width_m
        )

    def to_json(self) -> dict[str, Any]:
        """Return what is known, as plain values."""
        return {name: value for name, value in vars(self).items() if value is not None and not name.startswith("_")}
