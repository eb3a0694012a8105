"""Closed curves in the plane: resampling, smoothing, direction and curvature.

A curve is `[N, 2]` positions, the last joined to the first.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def gaussian_periodic(values: FloatArray, spacing_m: float, sigma_m: float) -> FloatArray:
    """Gaussian average along a closed curve: `[N, K]` values at even spacing, width `sigma_m`."""
    frequency = 2.0 * np.pi * np.fft.rfftfreq(len(values), spacing_m)
    response = np.exp(-0.5 * (frequency * sigma_m) ** 2)
    return np.fft.irfft(np.fft.rfft(values, axis=0) * response[:, None], n=len(values), axis=0)


def smooth_closed(points: FloatArray, spacing_m: float, sigma_m: float) -> FloatArray:
    """Gaussian smoothing of a closed curve whose remainder is smoothed again, so that bends hardly shrink."""
    once = gaussian_periodic(points, spacing_m, sigma_m)
    return once + gaussian_periodic(points - once, spacing_m, sigma_m)


def catmull_rom(points: FloatArray, spacing_m: float) -> FloatArray:
    """Even samples of the closed cubic through the points, parametrised by chord length."""
    chord = np.hypot(*(np.roll(points, -1, axis=0) - points).T)  # [N]
    before = np.roll(chord, 1)
    slope = (np.roll(points, -1, axis=0) - points) / chord[:, None]
    slope_before = np.roll(slope, 1, axis=0)
    tangent = (slope_before * chord[:, None] + slope * before[:, None]) / (chord + before)[:, None]
    per = max(4, math.ceil(4.0 * float(chord.mean()) / spacing_m))
    t = (np.arange(per) / per)[None, :, None]
    h = chord[:, None, None]
    p0, p1 = points[:, None], np.roll(points, -1, axis=0)[:, None]
    m0, m1 = tangent[:, None] * h, np.roll(tangent, -1, axis=0)[:, None] * h
    dense = (
        (2 * t**3 - 3 * t**2 + 1) * p0 + (t**3 - 2 * t**2 + t) * m0 + (3 * t**2 - 2 * t**3) * p1 + (t**3 - t**2) * m1
    )
    return resample(dense.reshape(-1, 2), spacing_m)


def resample(points: FloatArray, spacing_m: float) -> FloatArray:
    """Even samples, about `spacing_m` apart, of a closed polygon."""
    closed = np.concatenate([points, points[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(closed, axis=0).T))])
    count = max(8, round(arc[-1] / spacing_m))
    at = np.arange(count) * (arc[-1] / count)
    return np.stack([np.interp(at, arc, closed[:, 0]), np.interp(at, arc, closed[:, 1])], axis=1)


def headings_and_curvatures(points: FloatArray, spacing_m: float) -> tuple[FloatArray, FloatArray]:
    """Central differences over ±2 samples: the resampled polygon is not smooth from one sample to the next."""
    reach = 2
    ahead = np.roll(points, -reach, axis=0) - points
    behind = points - np.roll(points, reach, axis=0)
    both = ahead + behind
    headings = np.arctan2(both[:, 1], both[:, 0])
    turn = wrap(np.arctan2(ahead[:, 1], ahead[:, 0]) - np.arctan2(behind[:, 1], behind[:, 0]))
    return headings, turn / (reach * spacing_m)


def wrap(angle: FloatArray) -> FloatArray:
    """The same angle in (−π, π]."""
    return -((-np.asarray(angle) + np.pi) % (2.0 * np.pi) - np.pi)


def clearance(points: FloatArray, spacing_m: float, neighbours_m: float) -> float:
    """Smallest distance between points that lie more than `neighbours_m` apart along the curve, m."""
    count, least = len(points), math.inf
    for start in range(0, count, 512):  # blocks, so that memory does not grow with the square of the length
        block = points[start : start + 512]
        square = ((block[:, None] - points[None]) ** 2).sum(axis=-1)
        apart = np.abs(np.arange(start, start + len(block))[:, None] - np.arange(count)[None])
        apart = np.minimum(apart, count - apart) * spacing_m
        least = min(least, float(square[apart > neighbours_m].min(initial=math.inf)))
    return math.sqrt(least)
