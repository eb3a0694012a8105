"""The ground from above: pavement, verge, lines, wear, drawn with OpenCV.

Materials are noise pushed through a table of colours. The noise comes from one tile that repeats over the whole
plane, so that two pictures of neighbouring regions of the same road fit together, and a picture costs a few
milliseconds for each million pixels.

    ground = draw_ground(track, look, region=road_region(track), pixels_per_m=64)
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera import Ground, Image
from envs.looks import Line, Look, Surface
from envs.track import FloatArray, Track

_TILE = 512
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
_COARSE = 16  # pixels of the picture per pixel of the coarse noise


class Region(NamedTuple):
    """A rectangle of the ground, m."""

    left: float
    bottom: float
    right: float
    top: float


def road_region(track: Track, margin_m: float = 1.5) -> Region:
    """The rectangle around a whole road."""
    reach = track.lane_width_m + margin_m
    low, high = track.points.min(axis=0) - reach, track.points.max(axis=0) + reach
    return Region(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def draw_ground(track: Track, look: Look, region: Region, pixels_per_m: float) -> Ground:
    """Draw part of the ground.

    Args:
        track: the road.
        look: its materials, lines and marks.
        region: what to draw; its corner is moved to the grid of the noise, so that regions fit together.
        pixels_per_m: resolution.

    Returns:
        The picture and where it lies.
    """
    column0 = math.floor(region.left * pixels_per_m / _COARSE) * _COARSE
    row0 = math.floor(region.bottom * pixels_per_m / _COARSE) * _COARSE
    width = math.ceil(region.right * pixels_per_m) - column0
    height = math.ceil(region.top * pixels_per_m) - row0
    sheet = _Sheet(track, look, pixels_per_m, column0, row0, height, width)
    image = sheet.draw()
    return Ground(image, column0 / pixels_per_m, row0 / pixels_per_m, pixels_per_m)


class _Sheet:
    """One picture in the making."""

    def __init__(self, track: Track, look: Look, pixels_per_m: float, column0: int, row0: int, height: int, width: int):
        self.track, self.look, self.scale = track, look, pixels_per_m
        self.column0, self.row0, self.height, self.width = column0, row0, height, width
        low = np.array([column0, row0]) / pixels_per_m - 1.0
        high = low + np.array([width, height]) / pixels_per_m + 2.0
        inside = np.all((track.points > low) & (track.points < high), axis=1)
        self.spans = _spans(inside, 48)

    def draw(self) -> Image:
        track, look = self.track, self.look
        half = track.lane_width_m
        road = self.noise(look.road, 0)
        self.mark_pavement(road)
        picture = cv2.applyColorMap(self.noise(look.verge, 1), _table(look.verge, look))
        mask = np.zeros((self.height, self.width), np.uint8)
        self.band(mask, -half, half, 255)
        if look.road == look.verge:
            mask[:] = 255
        cv2.copyTo(cv2.applyColorMap(road, _table(look.road, look)), mask, picture)
        if look.kerb is not None:
            self.kerbs(picture)
        self.strays(picture)
        self.lines(picture)
        if look.shadow > 0.0:
            self.shade(picture)
        return picture

    def pixels(self, points: FloatArray) -> NDArray[np.int32]:
        """Drawing coordinates, with fractional bits, of positions `[..., 2]` in metres."""
        place = points * self.scale - np.array([self.column0, self.row0])
        return np.rint(place * (1 << _SHIFT)).astype(np.int32)

    def noise(self, surface: Surface, salt: int) -> Image:
        """uint8 `[h, w]` mixture of the three noises, around 128."""
        fine, medium, coarse = _tiles()
        rng = np.random.default_rng([self.look.seed, salt])
        shifts = rng.integers(_TILE, size=(4, 2))
        first = self.tile(medium, shifts[0], 1)
        second = self.tile(fine, shifts[1], 1)
        third = self.tile(coarse, shifts[2], _COARSE)
        mixed = cv2.addWeighted(
            first, surface.medium, second, surface.fine, 128.0 * (1.0 - surface.medium - surface.fine)
        )
        return cv2.addWeighted(mixed, 1.0, third, surface.coarse, -128.0 * surface.coarse)

    def tile(self, tile: Image, shift: NDArray[np.integer], zoom: int) -> Image:
        """The repeating tile over this picture, `zoom` pixels of the picture for each of its own."""
        height, width = -(-self.height // zoom) + 2 * (zoom > 1), -(-self.width // zoom) + 2 * (zoom > 1)
        row, column = (self.row0 // zoom + int(shift[0])) % _TILE, (self.column0 // zoom + int(shift[1])) % _TILE
        below, right = max(0, row + height - _TILE), max(0, column + width - _TILE)
        part = cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_WRAP)[
            row : row + height, column : column + width
        ]
        if zoom > 1:
            part = cv2.resize(part, (width * zoom, height * zoom), interpolation=cv2.INTER_LINEAR)
        return part[: self.height, : self.width]

    def band(
        self,
        target: Image,
        low: float,
        high: float,
        color: float | tuple[float, ...],
        where: list[NDArray[np.intp]] | None = None,
    ) -> None:
        """Fill the strip of the road between two lateral positions."""
        track = self.track
        normals = np.stack([-np.sin(track.headings), np.cos(track.headings)], axis=1)
        for span in self.spans if where is None else where:
            points, normal = track.points[span], normals[span]
            outline = np.concatenate([points + high * normal, (points + low * normal)[::-1]])
            cv2.fillPoly(target, [self.pixels(outline)], color, cv2.LINE_AA, _SHIFT)

    def mark_pavement(self, road: Image) -> None:
        """Cracks, seams and patches, drawn into the noise of the pavement before it gets its colours."""
        track, look = self.track, self.look
        rng = np.random.default_rng([look.seed, 2])
        half = track.lane_width_m
        for _ in range(rng.poisson(look.patches_per_m * track.length_m)):
            s, lateral = rng.uniform(0.0, track.length_m), rng.uniform(-half, half)
            length, width = rng.uniform(0.1, 1.2), rng.uniform(0.1, 0.5)
            shade = float(np.clip(128.0 + rng.normal(0.0, 45.0), 0.0, 255.0))
            along = s + np.array([0.0, length, length, 0.0])
            across = np.clip(lateral + np.array([0.0, 0.0, width, width]), -half, half)
            outline = self.pixels(track.point(along, across))
            if not self.near(outline):
                continue
            left, top = np.maximum(outline.min(axis=0) >> _SHIFT, 0)
            right, bottom = (outline.max(axis=0) >> _SHIFT) + 1
            part = road[top:bottom, left:right]
            if part.size:
                flat = part.copy()
                cv2.fillPoly(flat, [outline - (np.array([left, top], np.int32) << _SHIFT)], shade, cv2.LINE_AA, _SHIFT)
                road[top:bottom, left:right] = cv2.addWeighted(part, 0.5, flat, 0.5, 0.0)
        for _ in range(rng.poisson(look.cracks_per_m * track.length_m)):
            s, lateral, count = rng.uniform(0.0, track.length_m), rng.uniform(-half, half), int(rng.integers(4, 12))
            along = s + np.cumsum(rng.normal(0.0, 0.12, count))
            across = np.clip(lateral + np.cumsum(rng.normal(0.0, 0.08, count)), -half, half)
            line = self.pixels(track.point(along, across))
            thickness = max(1, round(float(rng.uniform(0.004, 0.02)) * self.scale))
            shade = float(rng.uniform(0.0, 70.0))
            if self.near(line):
                cv2.polylines(road, [line], False, shade, thickness, cv2.LINE_AA, _SHIFT)

    def near(self, outline: NDArray[np.int32]) -> bool:
        """Whether a shape touches the picture."""
        low, high = outline.min(axis=0) >> _SHIFT, outline.max(axis=0) >> _SHIFT
        return bool(low[0] < self.width and low[1] < self.height and high[0] >= 0 and high[1] >= 0)

    def kerbs(self, picture: Image) -> None:
        """Blocks of two colours beside the inner and outer edge of sharp bends."""
        track, look = self.track, self.look
        assert look.kerb is not None
        block = 0.25
        number = np.floor(np.arange(len(track.points)) * track.spacing_m / block).astype(np.intp)
        sharp = np.abs(track.curvatures) > 0.35
        half, width = track.lane_width_m, look.kerb_width_m
        for colour in (0, 1):
            paint = tuple(float(c) for c in look.develop(look.kerb[colour]))
            inside = np.zeros(len(track.points), bool)
            for span in self.spans:
                inside[span] = True
            spans = _spans(inside & sharp & (number % 2 == colour), 48)
            for low, high in ((half, half + width), (-half - width, -half)):
                self.band(picture, low, high, paint, spans)

    def strays(self, picture: Image) -> None:
        """Marks that mean nothing: bits of tape, old lines, tyre tracks."""
        track, look = self.track, self.look
        rng = np.random.default_rng([look.seed, 3])
        half = track.lane_width_m
        for _ in range(rng.poisson(look.strays_per_m * track.length_m)):
            s, lateral = rng.uniform(0.0, track.length_m), rng.uniform(-3.0, 3.0) * half
            place, angle, length = track.point(s, lateral), rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.1, 3.0)
            bend = rng.normal(0.0, 0.4, 6).cumsum() * rng.integers(2)
            steps = np.stack([np.cos(angle + bend), np.sin(angle + bend)], axis=1) * length / 6.0
            shade, opacity = rng.choice([20.0, 60.0, 200.0, 235.0]), rng.uniform(0.15, 0.6)
            line = self.pixels(place + np.cumsum(steps, axis=0))
            thickness = max(1, round(float(rng.uniform(0.01, 0.05)) * self.scale))
            if not self.near(line):
                continue
            left, top = np.maximum((line.min(axis=0) >> _SHIFT) - thickness, 0)
            right, bottom = (line.max(axis=0) >> _SHIFT) + thickness + 1
            part = picture[top:bottom, left:right]
            if part.size:
                flat = part.copy()
                paint = tuple(float(c) for c in look.develop((shade, shade, shade)))
                cv2.polylines(
                    flat,
                    [line - (np.array([left, top], np.int32) << _SHIFT)],
                    False,
                    paint,
                    thickness,
                    cv2.LINE_AA,
                    _SHIFT,
                )
                picture[top:bottom, left:right] = cv2.addWeighted(part, 1.0 - opacity, flat, opacity, 0.0)

    def lines(self, picture: Image) -> None:
        """Edge lines and centre line, each through a mask that wear eats into."""
        track, look = self.track, self.look
        half = track.lane_width_m
        places = (
            (look.left, half - look.inset_m - 0.5 * look.left.width_m),
            (look.right, -half + look.inset_m + 0.5 * look.right.width_m),
            (look.centre, 0.0),
        )
        wear = self.wear() if look.wear > 0.0 else None
        for line, lateral in places:
            if line.width_m <= 0.0:
                continue
            mask: Image = np.zeros((self.height, self.width), np.uint8)
            for low, high in _stripes(line, lateral):
                self.stripe(mask, line, low, high)
            if wear is not None:
                mask = cv2.multiply(mask, wear, scale=1.0 / 255.0)
            _paint(picture, mask, look.develop(line.color))

    def stripe(self, mask: Image, line: Line, low: float, high: float) -> None:
        """One stripe, whole or in dashes. OpenCV's smooth polygons reach half a pixel too far, hence the trim."""
        trim = 0.4 / self.scale if (high - low) * self.scale > 1.5 else 0.0
        low, high = low + trim, high - trim
        if line.dash_m <= 0.0:
            self.band(mask, low, high, 255)
            return
        track = self.track
        count = max(1, round(track.length_m / (line.dash_m + line.gap_m)))
        period = track.length_m / count
        dash = period * line.dash_m / (line.dash_m + line.gap_m)
        middle = (np.arange(count) + 0.5) * period
        centre = track.point(middle)
        corner = np.array([self.column0, self.row0]) / self.scale - 1.0
        opposite = corner + np.array([self.width, self.height]) / self.scale + 2.0
        shown = middle[((centre > corner) & (centre < opposite)).all(axis=1)]
        along = shown[:, None] + np.linspace(-0.5, 0.5, 2 + math.ceil(dash / 0.15)) * dash  # [dashes, K]
        outlines = np.concatenate(
            [track.point(along, high), track.point(along[:, ::-1], low)], axis=1
        )  # [dashes, 2 K, 2]
        for outline in self.pixels(outlines):
            cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, _SHIFT)

    def wear(self) -> Image:
        """uint8 `[h, w]` what is left of the paint, 255 where it is whole."""
        fine, medium, coarse = _tiles()
        shifts = np.random.default_rng([self.look.seed, 4]).integers(_TILE, size=(2, 2))
        mixed = cv2.addWeighted(
            self.tile(medium, shifts[0], 1), 0.6, self.tile(coarse, shifts[1], _COARSE), 0.6, -0.2 * 128.0
        )
        edge = 255.0 * (0.15 + 0.55 * self.look.wear)
        table = np.clip((np.arange(256) - edge) / 40.0 + 0.5, 0.25 * (1.0 - self.look.wear), 1.0) * 255.0
        return cv2.LUT(mixed, table.astype(np.uint8))

    def shade(self, picture: Image) -> None:
        """Soft shadows and spots of light over everything, in place."""
        _, _, coarse = _tiles()
        rng = np.random.default_rng([self.look.seed, 5])
        zoom = int(rng.choice([4, 8, 16]))
        field = (
            self.tile(coarse, rng.integers(_TILE, size=2), _COARSE)
            if zoom == 16
            else self.tile(_blurred(), rng.integers(_TILE, size=2), zoom)
        )
        edge, soft = rng.uniform(70.0, 150.0), rng.uniform(4.0, 60.0)
        depth = self.look.shadow
        light = 1.0 - depth * np.clip((edge - np.arange(256)) / soft + 0.5, 0.0, 1.0)
        table = (np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8)
        dark = cv2.LUT(field, table)
        cv2.multiply(picture, cv2.merge([dark, dark, dark]), picture, 1.0 / 255.0)


def _stripes(line: Line, lateral: float) -> list[tuple[float, float]]:
    half = 0.5 * line.width_m
    if not line.double:
        return [(lateral - half, lateral + half)]
    return [
        (lateral + side * 1.1 * line.width_m - 0.7 * half, lateral + side * 1.1 * line.width_m + 0.7 * half)
        for side in (-1.0, 1.0)
    ]


def _paint(picture: Image, mask: Image, color: Image) -> None:
    """Blend a colour over a picture where a mask is not zero, in place."""
    places = np.flatnonzero(mask > 0)
    flat = picture.reshape(-1, 3)
    strength = mask.reshape(-1)[places].astype(np.float32)[:, None] / 255.0
    under = flat[places].astype(np.float32)
    flat[places] = np.rint(under + strength * (color.astype(np.float32) - under)).astype(np.uint8)


def _table(surface: Surface, look: Look) -> Image:
    """`[256, 1, 3]` colours of a material after the camera's processing."""
    part = np.linspace(0.0, 1.0, 256)[:, None]
    return look.develop(np.asarray(surface.dark) * (1.0 - part) + np.asarray(surface.bright) * part)[:, None, :]


def _spans(inside: NDArray[np.bool_], most: int) -> list[NDArray[np.intp]]:
    """Runs of consecutive samples of a closed line, each at most `most` long and overlapping the next by one."""
    count = len(inside)
    chosen = np.flatnonzero(inside)
    if len(chosen) == 0:
        return []
    breaks = np.flatnonzero(np.diff(chosen) > 1) + 1
    spans = []
    for run in np.split(chosen, breaks):
        for start in range(0, len(run), most):
            part = run[start : start + most]
            spans.append(np.append(part, (part[-1] + 1) % count))
    return spans


@lru_cache(maxsize=1)
def _tiles() -> tuple[Image, Image, Image]:
    """Fine, medium and coarse noise: three uint8 tiles that repeat without a seam."""
    rng = np.random.default_rng(20)
    return _noise_tile(rng, 0.6), _noise_tile(rng, 3.5), _noise_tile(rng, 1.6)


@lru_cache(maxsize=1)
def _blurred() -> Image:
    return _noise_tile(np.random.default_rng(21), 8.0)


def _noise_tile(rng: np.random.Generator, sigma: float) -> Image:
    """Gaussian noise of a correlation length in pixels, mean 128 and standard deviation 45."""
    frequency = np.fft.fftfreq(_TILE)
    square = frequency[:, None] ** 2 + frequency[None] ** 2
    white = np.fft.fft2(rng.standard_normal((_TILE, _TILE)))
    noise = np.fft.ifft2(white * np.exp(-2.0 * (np.pi * sigma) ** 2 * square)).real
    noise = (noise - noise.mean()) / noise.std()
    return np.clip(np.rint(128.0 + 45.0 * noise), 0, 255).astype(np.uint8)
