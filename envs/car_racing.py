"""wormwheel/CarRacing-v0: Gymnasium's CarRacing as an env to drive in, which takes names and no code.

import gymnasium, envs
env = gymnasium.make("wormwheel/CarRacing-v0", speed_mps=25.0)
observation, info = env.reset(seed=7)

Gymnasium's CarRacing draws 700 polygons a frame, of which about 14 show. This leaves the others out, before its own
code looks at them one by one; the pixels are the same.

    car = gymnasium.make("CarRacing-v3").unwrapped
    draw_what_shows(car)
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from envs.driving.env import DrivingEnv
from envs.driving.names import DrivingNames


def draw_what_shows(car: Any) -> None:
    """Let a CarRacing skip polygons that lie outside the picture; every frame stays as it is.

    Args:
        car: an unwrapped CarRacing of Gymnasium; its method that draws the road is replaced.
    """
    car._render_road = _Ground(car).draw


class _Ground:
    """Grass and road of one CarRacing, and where their corners are."""

    def __init__(self, car: Any):
        from gymnasium.envs.box2d import car_racing  # needs Box2D

        size, reach, self._field_m = car_racing.GRASS_DIM, 20, car_racing.PLAYFIELD
        self._car = car
        self._limits = np.array([car_racing.WINDOW_W, car_racing.WINDOW_H], float)
        # A pixel more than its own test allows: that one decides, by its own arithmetic.
        self._margin = car_racing.MAX_SHAPE_DIM + 1.0
        self._grass = [
            [(x + size, y), (x, y), (x, y + size), (x + size, y + size)]
            for x in (size * column for column in range(-reach, reach, 2))
            for y in (size * row for row in range(-reach, reach, 2))
        ]
        self._grass_corners = np.array(self._grass, float)  # [P, 4, 2], m
        self._road: list[Any] = []
        self._road_corners = np.zeros((0, 4, 2))

    def draw(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        """Draw background, grass and road, in the order of the original; takes what the original takes."""
        car, end = self._car, self._field_m
        if car.road_poly is not self._road:  # Another road has been drawn.
            self._road = car.road_poly
            self._road_corners = np.array([corners for corners, _ in self._road], float)

        def paint(corners: Any, colour: Any, clip: bool = True) -> None:
            car._draw_colored_polygon(car.surf, corners, colour, zoom, translation, angle, clip=clip)

        paint([(end, end), (end, -end), (-end, -end), (-end, end)], car.bg_color, clip=False)
        for number in self._near(self._grass_corners, zoom, translation, angle):
            paint(self._grass[number], car.grass_color)
        for number in self._near(self._road_corners, zoom, translation, angle):
            corners, colour = self._road[number]
            paint([(x, y) for x, y in corners], [int(part) for part in colour])

    def _near(
        self, corners: NDArray[np.float64], zoom: float, translation: tuple[float, float], angle: float
    ) -> list[int]:
        """Numbers of the polygons `[P, 4, 2]` with a corner in or near the picture."""
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        pixels = corners @ np.array([[cos, sin], [-sin, cos]]) + translation  # [P, 4, 2]
        inside = (pixels >= -self._margin) & (pixels <= self._limits + self._margin)
        return np.flatnonzero(inside.all(-1).any(-1)).tolist()


CAR_RACING = "CarRacing-v3"
"""The env of Gymnasium that is adapted."""
ROAD_HALF_WIDTH_M = 40.0 / 6.0
"""Distance of its road's edges from the middle, m (TRACK_WIDTH of its source)."""

CAR_RACING_NAMES = DrivingNames(
    camera="observation",
    crop_bottom=12,  # rows of indicators
    height=84,
    width=96,
    positive="right",
    gas=1,
    brake=2,
    speed_mps=25.0,
    speed="env.car.hull.linearVelocity",
    lane_width=f"constant.{2.0 * ROAD_HALF_WIDTH_M!r}",
    centre_line="env.track",
    centre_line_columns=(2, 3),
    position="env.car.hull.position",
    yaw="env.car.hull.angle",
    yaw_offset_rad=0.5 * math.pi,  # its angle counts from the y axis
    period_s=1.0 / 50.0,
    episode_s=20.0,
    ends_with_env=False,
    reward="lane",
)
"""Where everything is in CarRacing. The road has one lane, its middle is the target: offset and lane width refer to the
whole road, and leaving it is a crash. It is seen from above."""


def car_racing_env(
    names: DrivingNames = CAR_RACING_NAMES, render_mode: str | None = None, **overrides: Any
) -> DrivingEnv:
    """Make CarRacing as an env to drive in.

    Args:
        names: where everything is.
        render_mode: "rgb_array" or None.
        **overrides: attributes of the names to replace, such as height, width, speed_mps and episode_s.

    Raises:
        ValueError: if Box2D is not installed, or an attribute is unknown or out of range.
    """
    unknown = sorted(set(overrides) - set(names.__dataclass_fields__))
    if unknown:
        raise ValueError(f"DrivingNames has no attribute {', '.join(unknown)}.")
    names = replace(names, **overrides)
    try:
        car = gymnasium.make(CAR_RACING, render_mode=render_mode, disable_env_checker=True).unwrapped
    except gymnasium.error.DependencyNotInstalled as error:
        raise ValueError("CarRacing needs Box2D: install it with pip install 'gymnasium[box2d]'.") from error
    draw_what_shows(car)
    return DrivingEnv(car, names)
