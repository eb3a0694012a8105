"""What stands around the road, indexed by direction: sky, hills, trees, houses, halls with lamps, people, cones.

panorama = draw_panorama(look, top_rad=0.8, pixels_per_rad=60)
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from envs.camera.warp import Image, Panorama
from envs.scene.look import Color, Look, to_color

_FINE = 2  # the picture is drawn this many times larger and then averaged
_BELOW_RAD = 0.06  # how far the picture reaches below the horizon
_DEGREE = math.pi / 180.0


def draw_panorama(look: Look, top_rad: float, bottom_rad: float, pixels_per_rad: float) -> Panorama:
    """Draw the surroundings.

    Args:
        look: the kind of scenery, its colours and its seed.
        top_rad: elevation of the first row, rad.
        bottom_rad: how far below the horizon the camera sees, rad; a glossy ground mirrors as far above it.
        pixels_per_rad: resolution; about that of the frames, so that the surroundings do not flicker.
    """
    width = max(64, round(2.0 * math.pi * pixels_per_rad))
    per_rad = width / (2.0 * math.pi)
    highest = max(top_rad, min(bottom_rad, 1.4)) if look.gloss > 0.0 else top_rad
    height = max(8, math.ceil((highest + _BELOW_RAD) * per_rad))
    canvas = _Canvas(look, height * _FINE, width * _FINE, highest, per_rad * _FINE)
    {"country": canvas.country, "town": canvas.town, "hall": canvas.hall, "room": canvas.room}[look.scenery]()
    image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
    mirror = _mirrored(image, look, highest, per_rad) if look.gloss > 0.0 else None
    return Panorama(look.develop(image.astype(np.float64)), highest, per_rad, mirror)


def _mirrored(image: Image, look: Look, top_rad: float, per_rad: float) -> Image:
    """What the ground adds to the picture: the surroundings upside down, smeared towards the viewer, lamps most of all.

    A rough ground mirrors better at a flat angle (Fresnel), hence the fall with the depth below the horizon.
    """
    rows = int(top_rad * per_rad)
    upside_down = image[:rows][::-1].astype(np.float32) / 255.0
    wide = int(0.05 * per_rad) * 2 + 1
    padded = cv2.copyMakeBorder(upside_down, 0, 0, wide, wide, cv2.BORDER_WRAP)
    high = max(0.6, 0.12 * per_rad)
    smeared = cv2.GaussianBlur(padded, (0, 0), sigmaX=max(0.5, 0.02 * per_rad), sigmaY=high)[:, wide:-wide]
    depth = np.arange(rows)[:, None, None] / per_rad
    strength = look.gloss * (0.35 + 0.65 * np.exp(-depth / 0.25))
    lamps = smeared * smeared * (0.4 + 1.8 * smeared)
    return np.clip(255.0 * strength * lamps * np.asarray(look.gain), 0.0, 255.0).astype(np.uint8)


class _Canvas:
    """One panorama in the making; azimuths and elevations in degrees, elevation 0 at the horizon."""

    def __init__(self, look: Look, height: int, width: int, top_rad: float, per_rad: float):
        self.look, self.height, self.width = look, height, width
        self.top, self.per_degree = top_rad / _DEGREE, per_rad * _DEGREE
        self.rng = np.random.default_rng([look.seed, 6])
        part = np.clip(np.arange(height)[:, None] / max(1.0, self.top * self.per_degree), 0.0, 1.0) ** 1.5
        column = np.asarray(look.sky[0]) * (1.0 - part) + np.asarray(look.sky[1]) * part  # [h, 3]
        self.image: Image = np.repeat(column[:, None].astype(np.uint8), width, axis=1)

    def row(self, elevation: float) -> int:
        return round((self.top - elevation) * self.per_degree)

    def count(self, least: float, most: float) -> int:
        return int(round(least + self.look.clutter * (most - least)))

    def color(self, low: float, high: float, spread: float = 20.0) -> Color:
        red, green, blue = np.clip(self.rng.uniform(low, high) + self.rng.normal(0.0, spread, 3), 0.0, 255.0)
        return float(red), float(green), float(blue)

    def box(self, azimuth: float, low: float, high: float, width: float, color: Color) -> None:
        left, right = round((azimuth - width / 2) * self.per_degree), round((azimuth + width / 2) * self.per_degree)
        for shift in (-self.width, 0, self.width):
            cv2.rectangle(self.image, (left + shift, self.row(high)), (right + shift, self.row(low)), color, -1)

    def blob(self, azimuth: float, elevation: float, width: float, height: float, color: Color) -> None:
        axes = (max(1, round(width * self.per_degree / 2)), max(1, round(height * self.per_degree / 2)))
        column = round(azimuth * self.per_degree)
        for shift in (-self.width, 0, self.width):
            cv2.ellipse(
                self.image, (column + shift, self.row(elevation)), axes, 0.0, 0.0, 360.0, color, -1, cv2.LINE_AA
            )

    def shape(self, azimuths: list[float], elevations: list[float], color: Color) -> None:
        points = np.array(
            [[round(a * self.per_degree), self.row(e)] for a, e in zip(azimuths, elevations, strict=True)], np.int32
        )
        for shift in (-self.width, 0, self.width):
            cv2.fillPoly(self.image, [points + np.array([shift, 0], np.int32)], color, cv2.LINE_AA)

    def skyline(self, height: float, rough: float, color: Color) -> None:
        """A ridge around the horizon: a sum of sines, so that it closes."""
        columns = np.linspace(0.0, 2.0 * np.pi, 181)
        ridge = np.zeros_like(columns)
        for wave in range(1, 12):
            ridge += self.rng.normal(0.0, wave**-rough) * np.sin(wave * columns + self.rng.uniform(0.0, 2.0 * np.pi))
        ridge = height * (1.0 + 0.6 * ridge / max(1e-6, np.abs(ridge).max()))
        degrees = columns / _DEGREE
        self.shape([0.0, *degrees.tolist(), 360.0], [-9.0, *ridge.tolist(), -9.0], color)

    def clouds(self) -> None:
        for _ in range(int(self.rng.integers(0, 14))):
            azimuth, elevation, width = self.rng.uniform(0, 360), self.rng.uniform(6, 50), self.rng.uniform(6, 40)
            shade = self.rng.uniform(0.2, 0.8)
            color = to_color(np.asarray(self.look.sky[1]) * (1 - shade) + 250.0 * shade)
            self.blob(azimuth, elevation, width, width * self.rng.uniform(0.08, 0.3), color)

    def country(self) -> None:
        """Sky, clouds, ridges, trees, poles."""
        self.clouds()
        haze = np.asarray(self.look.sky[1])
        for depth in range(int(self.rng.integers(0, 4))):
            green = np.asarray(self.color(50, 130, 18)) * (0.9, 1.05, 0.7)
            near = (depth + 1) / 4.0
            color = to_color(haze * (1 - near) + green * near)
            self.skyline(self.rng.uniform(1.0, 9.0) * (1.3 - near), self.rng.uniform(0.6, 1.6), color)
        self.bushes(self.count(0, 60))
        for _ in range(self.count(0, 50)):
            self.tree(self.rng.uniform(0, 360), self.rng.uniform(2, 22))
        for _ in range(self.count(0, 8)):
            self.box(
                self.rng.uniform(0, 360), -1, self.rng.uniform(4, 20), self.rng.uniform(0.3, 0.9), self.color(30, 160)
            )

    def town(self) -> None:
        """Sky, houses, trees, people, cones."""
        self.clouds()
        for _ in range(self.count(4, 45)):
            azimuth, high, width = self.rng.uniform(0, 360), self.rng.uniform(3, 32), self.rng.uniform(4, 30)
            self.box(azimuth, -2, high, width, self.color(50, 210, 22))
            for _ in range(int(self.rng.integers(0, 6))):
                inside = azimuth + self.rng.uniform(-0.4, 0.4) * width
                self.box(
                    inside,
                    self.rng.uniform(1, high / 2 + 1),
                    self.rng.uniform(high / 2, high),
                    self.rng.uniform(0.5, 3),
                    self.color(20, 240),
                )
        for _ in range(self.count(0, 16)):
            self.tree(self.rng.uniform(0, 360), self.rng.uniform(3, 18))
        self.small_things()

    def hall(self) -> None:
        """A dark hall: clutter to eye height, pillars, nets and pipes, rows of lamps, people, cones."""
        wall = np.asarray(self.look.sky[1])
        if self.rng.random() < 0.5:
            self.box(
                self.rng.uniform(0, 360),
                -2,
                self.rng.uniform(6, 20),
                self.rng.uniform(20, 80),
                self.color(150, 250, 10),
            )
        for _ in range(self.count(40, 320)):
            shade = wall * self.rng.uniform(0.3, 2.0) + self.rng.normal(0, 16, 3)
            high = self.rng.gamma(1.6, 4.0)
            low = -2.0 if self.rng.random() < 0.5 else self.rng.uniform(0.0, high)
            color = to_color(shade)
            self.box(self.rng.uniform(0, 360), low, high, self.rng.gamma(1.3, 1.8), color)
        for _ in range(self.count(0, 40)):
            self.box(
                self.rng.uniform(0, 360),
                self.rng.uniform(-2, 10),
                self.rng.uniform(8, 60),
                self.rng.uniform(0.2, 1.2),
                self.color(20, 210),
            )
        for _ in range(int(self.rng.integers(0, 7))):
            self.box(self.rng.uniform(0, 360), -2, 90, self.rng.uniform(1, 14), self.color(20, 200, 50))
        for _ in range(int(self.rng.integers(0, 6))):
            row, size, step = self.rng.uniform(4, 45), self.rng.uniform(0.8, 4.0), self.rng.uniform(4, 20)
            start, sweep = self.rng.uniform(0, 360), self.rng.uniform(30, 300)
            for azimuth in np.arange(start, start + sweep, step):
                self.lamp(float(azimuth) % 360.0, row, size)
        for _ in range(self.count(0, 40)):
            self.lamp(self.rng.uniform(0, 360), self.rng.uniform(2, 45), self.rng.uniform(0.5, 3.5))
        self.small_things()

    def room(self) -> None:
        """Plain walls, a skirting board, doors, pictures, furniture."""
        self.box(180.0, -9.0, self.rng.uniform(0.5, 3.0), 362.0, self.color(30, 220, 12))
        for _ in range(self.count(2, 14)):
            self.box(
                self.rng.uniform(0, 360), -2, self.rng.uniform(5, 40), self.rng.uniform(3, 25), self.color(30, 220, 30)
            )
        for _ in range(self.count(0, 12)):
            low = self.rng.uniform(6, 25)
            self.box(
                self.rng.uniform(0, 360),
                low,
                low + self.rng.uniform(3, 18),
                self.rng.uniform(3, 22),
                self.color(40, 250, 40),
            )
        for _ in range(self.count(0, 12)):
            self.lamp(self.rng.uniform(0, 360), self.rng.uniform(20, 60), self.rng.uniform(2.0, 8.0))
        self.small_things()

    def lamp(self, azimuth: float, elevation: float, size: float) -> None:
        tint = 225.0 + self.rng.uniform(0, 30)
        glow = to_color(0.5 * np.asarray(self.look.sky[0]) + 0.5 * np.array([tint, tint, tint - 15]))
        self.blob(azimuth, elevation, size * 1.5, size * 0.9, glow)
        self.blob(azimuth, elevation, size, size * 0.5, (tint, tint, min(255.0, tint + self.rng.uniform(-30, 25))))

    def tree(self, azimuth: float, high: float) -> None:
        leaf = to_color(np.asarray(self.color(20, 95, 14)) * (0.9, 1.15, 0.6))
        width = high * self.rng.uniform(0.25, 0.8)
        self.box(azimuth, -1, high * 0.6, max(0.3, width * 0.12), self.color(30, 90, 10))
        if self.rng.random() < 0.4:
            self.shape([azimuth - width / 2, azimuth, azimuth + width / 2], [high * 0.2, high, high * 0.2], leaf)
        else:
            self.blob(azimuth, high * 0.68, width, high * 0.64, leaf)

    def bushes(self, count: int) -> None:
        for _ in range(count):
            leaf = to_color(np.asarray(self.color(20, 110, 14)) * (0.95, 1.1, 0.6))
            width = self.rng.uniform(1, 12)
            self.blob(self.rng.uniform(0, 360), 0.0, width, self.rng.uniform(1, 6), leaf)

    def small_things(self) -> None:
        """Cones, people, barriers and flags."""
        if self.rng.random() < 0.4 * self.look.clutter + 0.1:
            color, start, sweep = self.color(40, 160, 50), self.rng.uniform(0, 360), self.rng.uniform(30, 200)
            self.box(start, -3, self.rng.uniform(0.3, 3.0), sweep, color)
        for _ in range(self.count(0, 12)):
            azimuth, high = self.rng.uniform(0, 360), self.rng.uniform(1.5, 7)
            cone = [(240.0, 120.0, 30.0), (235.0, 200.0, 30.0), (40.0, 90.0, 170.0)][int(self.rng.integers(3))]
            self.shape([azimuth - high * 0.3, azimuth, azimuth + high * 0.3], [-1.5, high, -1.5], cone)
        for _ in range(self.count(0, 12)):
            azimuth, high = self.rng.uniform(0, 360), self.rng.uniform(4, 22)
            self.box(azimuth, -1.5, high * 0.5, high * 0.16, self.color(15, 120))
            self.box(azimuth, high * 0.45, high * 0.85, high * 0.22, self.color(15, 220, 40))
            self.blob(azimuth, high * 0.93, high * 0.12, high * 0.15, self.color(120, 200, 15))
