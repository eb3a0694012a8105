"""The panels of a film that show the inside of a driver."""

from __future__ import annotations

import numpy as np

from envs.dashboard import canvas
from envs.dashboard.canvas import Box
from experiments.film.neurons import Dots, blend


def test_dots_drawn_at_once_are_the_dots_drawn_one_by_one():
    box, places = Box(5, 7, 60, 40), np.array([[12.3, 9.8], [30.0, 20.5], [51.6, 33.1]])
    colours = blend((10, 20, 30), (250, 240, 130), np.array([0.0, 0.4, 1.0]))
    together = np.full((40, 60, 3), (22, 28, 40), np.uint8)
    apart = together.copy()
    Dots(box, places, 4.5).draw(together, colours)
    for (x, y), colour in zip(places, colours, strict=True):
        canvas.dot(apart, x, y, 4.5, tuple(round(float(value)) for value in colour))
    assert np.abs(together.astype(int) - apart).max() <= 2
    assert (apart[21, 30] == np.round(colours[1])).all() and (together[0, 0] == (22, 28, 40)).all()
