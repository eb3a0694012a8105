"""Gymnasium's CarRacing draws 700 polygons a frame, of which about 14 show. This leaves the others out, before its own
code looks at them one by one; the pixels are the same.

    car = gymnasium.make("CarRacing-v3").unwrapped
    draw_what_shows(car)
"""  # noqa: D205

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


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
