"""The small plots of `wormwheel gallery`, for what is not to be seen in a frame: the car's way, and time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.dashboard.canvas import DRIVER, FAINT, MUTED, PANEL, Box, Picture, line, text
from envs.perturbations import CameraInfo, Moment, PerturbedEnv, parse

PLOTTED = 60
"""Periods in a plot of ways; half as many in one of time."""
TRIED = 50
"""Seeds that are tried for a draw of a perturbation of the time that does something within the plot."""


def plot_way(cells: Sequence[str], make: Callable[[str], PerturbedEnv], seed: int, box: Box) -> list[Picture]:
    """Draw the way of the car under the same commands, over the clean one.

    Args:
        cells: perturbations; the first one is clean.
        make: makes an env under a perturbation.
        seed: of the road and the perturbations.
        box: size of a picture.
    """
    ways = [_way(make(cell), seed) for cell in cells]
    every = np.concatenate(ways)
    low, high = every.min(axis=0), every.max(axis=0)
    scale = min((box.width - 12) / max(high[0] - low[0], 0.1), (box.height - 12) / max(high[1] - low[1], 0.1))
    middle = 0.5 * (low + high)

    def place(way: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = (way - middle) * scale * np.array([1.0, -1.0])
        return turned + np.array([0.5 * box.width, 0.5 * box.height])

    pictures = []
    for number, way in enumerate(ways):
        picture = _empty(box)
        line(picture, place(ways[0]), MUTED, 1)
        if number:
            line(picture, place(way), DRIVER, 2)
        pictures.append(picture)
    return pictures


def _way(env: PerturbedEnv, seed: int) -> NDArray[np.float64]:
    """`[T, 2]` positions ahead of and beside the start, m; closes the env."""
    env.reset(seed=seed)
    inside: Any = env.unwrapped
    start = inside.vehicle_state
    ahead = np.array([np.cos(start.yaw), np.sin(start.yaw)])
    basis = np.stack([ahead, np.array([-ahead[1], ahead[0]])], axis=1)
    way = []
    for step in range(PLOTTED):
        state = inside.vehicle_state
        way.append([state.x - start.x, state.y - start.y])
        env.step(np.array([0.75 * np.sin(0.25 * step)], np.float32))
    env.close()
    return np.array(way) @ basis


def plot_time(cells: Sequence[str], period_s: float, seed: int, box: Box) -> list[Picture]:
    """Draw when the driver gets a picture (across), when that was taken (up), and the elapsed time it is given (ticks).

    Each perturbation is drawn once, from the first seed in which it does something within the plot.

    Args:
        cells: perturbations; the first one is clean.
        period_s: nominal period.
        seed: of the perturbations, the first to be tried.
        box: size of a picture.
    """
    clean = _arrivals(cells[0], period_s, seed)
    pictures = []
    for number, cell in enumerate(cells):
        draws = (_arrivals(cell, period_s, seed + later) for later in range(TRIED))
        telling = next((draw for draw in draws if draw != clean), clean) if number else clean
        pictures.append(_clock(telling, period_s, box))
    return pictures


def _arrivals(perturbation: str, period_s: float, seed: int) -> list[tuple[float, float, float]]:
    """Return, for each picture that the driver gets, when it comes, when it was taken, and the elapsed time reported.

    All in nominal periods.
    """
    running = parse(perturbation).begin(seed, CameraInfo(1, 1, period_s))
    now, elapsed = 0.0, 1.0
    steps: list[tuple[float, float, float]] = []
    while now < PLOTTED // 2:
        # The frame is its own number: what the driver sees tells when it was taken.
        frame = np.full((1, 1, 3), round(now * 8) % 256, np.uint8)
        seen, reported = running.see(frame, Moment(now * period_s, elapsed))
        steps.append((now, int(seen[0, 0, 0]) / 8.0, reported))
        elapsed = running.periods()
        now += elapsed
    return steps


def _clock(steps: Sequence[tuple[float, float, float]], period_s: float, box: Box) -> Picture:
    picture = _empty(box)
    periods = PLOTTED // 2
    left, foot = 8, 17
    across, up = (box.width - left - 6) / periods, (box.height - foot - 8) / periods
    corner = np.array([left, box.height - foot])
    line(picture, np.array([[0.0, -8 - up * periods], [0.0, 0.0], [across * periods, 0.0]]) + corner, FAINT, 1)
    for place in range(0, periods + 1, 10):
        x = round(left + place * across)
        cv2.line(picture, (x, box.height - foot), (x, box.height - foot + 3), MUTED, 1)
        words = f"{place * period_s:g}" + (" s" if place == periods else "")
        text(picture, words, x if place else left, box.height - 13, 10, MUTED, anchor="r" if place else "l")
    text(picture, "taken", left + 4, 2, 10, MUTED)
    for now, _, reported in steps:
        x = round(left + now * across)
        cv2.line(picture, (x, box.height - foot), (x, round(box.height - foot - 4.0 * reported)), MUTED, 1)
    stairs: list[tuple[float, float]] = []
    for (begin, taken, _), (end, _, _) in zip(steps, [*steps[1:], (float(periods), 0.0, 0.0)], strict=True):
        stairs += [(begin, taken), (min(end, periods), taken)]
    line(picture, np.array([[0.0, 0.0], [periods, periods]]) * [across, -up] + corner, FAINT, 1)
    line(picture, np.array(stairs) * [across, -up] + corner, DRIVER, 1)
    return picture


def _empty(box: Box) -> Picture:
    return np.full((box.height, box.width, 3), PANEL, np.uint8)
