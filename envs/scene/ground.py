"""The ground from above: pavement, verge, lines, wear, drawn with OpenCV.

Materials are noise pushed through a table of colours. The noise lies on the whole plane (`noise_tiles`), so two
pictures of neighbouring regions of the same road fit together. A picture costs a few milliseconds for each million
pixels.

    painter = GroundPainter(track, look)
    ground = painter.draw(road_region(track), pixels_per_m=64.0)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.warp import Ground, Image
from envs.road.curves import FloatArray
from envs.road.track import Track
from envs.scene.ground_noise import COARSE, TILE, PlaneNoise
from envs.scene.look import Line, Look, Surface
from envs.scene.marks import Mark, boxes, cracks, old_lines, patches, seams, strays, touching

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


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
    """Draw part of the ground once; `GroundPainter` draws several parts in less time."""
    return GroundPainter(track, look).draw(region, pixels_per_m)


class GroundPainter:
    """Draws parts of the ground of one road in one look."""

    def __init__(self, track: Track, look: Look):
        """Lay out the marks.

        Args:
            track: the road.
            look: its materials, lines and marks.
        """
        self.track, self.look = track, look
        self._marks = patches(track, look) + cracks(track, look)
        self._strays = strays(track, look) + seams(track, look) + old_lines(track, look)
        self._mark_boxes, self._stray_boxes = boxes(self._marks), boxes(self._strays)

    def draw(self, region: Region, pixels_per_m: float, halvings: int = 0) -> Ground:
        """Draw a part.

        Args:
            region: what to draw; its corner is moved to the grid of the noise, so that regions fit together.
            pixels_per_m: resolution.
            halvings: draw it as that picture would look after its sides have been halved so often; at most twice.

        Returns:
            The picture and where it lies.
        """
        sheet = _Sheet(self, region, pixels_per_m, halvings)
        return Ground(sheet.draw(), sheet.column0 / sheet.scale, sheet.row0 / sheet.scale, sheet.scale)

    def marks(self, low: FloatArray, high: FloatArray) -> list[Mark]:
        """The marks on the pavement that touch a rectangle."""
        return touching(self._marks, self._mark_boxes, low, high)

    def strays(self, low: FloatArray, high: FloatArray) -> list[Mark]:
        """The stray marks on the ground that touch a rectangle."""
        return touching(self._strays, self._stray_boxes, low, high)


class _Sheet:
    """One picture in the making."""

    def __init__(self, painter: GroundPainter, region: Region, pixels_per_m: float, halvings: int):
        self.painter, self.track, self.look = painter, painter.track, painter.look
        self.scale = pixels_per_m / 2**halvings
        grid = COARSE >> halvings
        self.column0 = math.floor(region.left * self.scale / grid) * grid
        self.row0 = math.floor(region.bottom * self.scale / grid) * grid
        self.width = math.ceil(region.right * self.scale) - self.column0
        self.height = math.ceil(region.top * self.scale) - self.row0
        self.noise = PlaneNoise(self.row0, self.column0, self.height, self.width, halvings)
        self.low = np.array([self.column0, self.row0]) / self.scale - 1.0
        self.high = self.low + np.array([self.width, self.height]) / self.scale + 2.0
        inside = np.all((self.track.points > self.low) & (self.track.points < self.high), axis=1)
        self.spans = _spans(inside, 48)

    def draw(self) -> Image:
        track, look = self.track, self.look
        half = track.lane_width_m
        road = self.noise.material(look.road, look.seed, 0)
        for mark in self.painter.marks(self.low, self.high):
            self.mark(road, mark, mark.shade)
        picture: Image = cv2.applyColorMap(road, _table(look.road, look))
        if look.road != look.verge:
            beside = np.full((self.height, self.width), 255, np.uint8)
            self.band(beside, -half, half, 0)
            verge = self.noise.material(look.verge, look.seed, 1)
            cv2.copyTo(cv2.applyColorMap(verge, _table(look.verge, look)), beside, picture)
        if look.kerb is not None:
            self.kerbs(picture)
        for mark in self.painter.strays(self.low, self.high):
            self.mark(picture, mark, tuple(float(c) for c in look.develop((mark.shade, mark.shade, mark.shade))))
        self.lines(picture)
        if look.shadow > 0.0:
            self.shade(picture)
        return picture

    def mark(self, target: Image, mark: Mark, color: float | tuple[float, ...]) -> None:
        """Blend a mark into a picture."""
        thickness = max(1, round(mark.width_m * self.scale))
        outline = self.pixels(mark.points)
        low, high = (outline.min(axis=0) >> _SHIFT) - thickness, (outline.max(axis=0) >> _SHIFT) + thickness + 1
        if low[0] >= self.width or low[1] >= self.height or high[0] <= 0 or high[1] <= 0:
            return
        left, top = max(0, int(low[0])), max(0, int(low[1]))
        part = target[top : int(high[1]), left : int(high[0])]
        outline = outline - (np.array([left, top], np.int32) << _SHIFT)
        drawn = part.copy()
        if mark.width_m > 0.0:
            cv2.polylines(drawn, [outline], False, color, thickness, cv2.LINE_AA, _SHIFT)
        else:
            cv2.fillPoly(drawn, [outline], color, cv2.LINE_AA, _SHIFT)
        opacity = mark.opacity * min(1.0, mark.width_m * self.scale) if mark.width_m > 0.0 else mark.opacity
        target[top : int(high[1]), left : int(high[0])] = cv2.addWeighted(part, 1.0 - opacity, drawn, opacity, 0.0)

    def pixels(self, points: FloatArray) -> NDArray[np.int32]:
        """Drawing coordinates, with fractional bits, of positions `[..., 2]` in metres."""
        place = points * self.scale - np.array([self.column0, self.row0])
        return np.rint(place * (1 << _SHIFT)).astype(np.int32)

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
        for span in self.spans if where is None else where:
            points, normal = track.points[span], track.normals[span]
            outline = np.concatenate([points + high * normal, (points + low * normal)[::-1]])
            cv2.fillPoly(target, [self.pixels(outline)], color, cv2.LINE_AA, _SHIFT)

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

    def lines(self, picture: Image) -> None:
        """Edge lines and centre line; where the paint is worn away, the pavement stays."""
        track, look = self.track, self.look
        half = track.lane_width_m
        places = (
            (look.left, half - look.inset_m - 0.5 * look.left.width_m),
            (look.right, -half + look.inset_m + 0.5 * look.right.width_m),
            (look.centre, 0.0),
        )
        painted = picture.copy() if look.wear > 0.0 else picture
        pavement = 0.5 * (np.asarray(look.road.dark) + np.asarray(look.road.bright))
        for line, lateral in places:
            faded = np.asarray(line.color) + 0.5 * look.wear * (pavement - np.asarray(line.color))
            color = tuple(float(c) for c in look.develop(faded))
            for low, high in _stripes(line, lateral):
                self.stripe(painted, line, low, high, color)
        if painted is not picture:
            cv2.copyTo(painted, self.paint_left(), picture)

    def stripe(self, target: Image, line: Line, low: float, high: float, color: tuple[float, ...]) -> None:
        """One stripe, whole or in dashes. OpenCV's smooth polygons reach half a pixel too far, hence the trim."""
        trim = 0.4 / self.scale if (high - low) * self.scale > 1.5 else 0.0
        low, high = low + trim, high - trim
        if line.dash_m <= 0.0:
            self.band(target, low, high, color)
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
            cv2.fillPoly(target, [outline], color, cv2.LINE_AA, _SHIFT)

    def paint_left(self) -> Image:
        """uint8 `[h, w]` mask of where there is paint left."""
        shifts = np.random.default_rng([self.look.seed, 4]).integers(TILE // 16, size=(2, 2)) * 16
        mixed = cv2.addWeighted(
            self.noise.tile("medium", shifts[0]), 0.6, self.noise.tile("spots", shifts[1], COARSE), 0.6, -0.2 * 128.0
        )
        return cv2.threshold(mixed, 255.0 * (0.12 + 0.45 * self.look.wear), 255.0, cv2.THRESH_BINARY)[1]

    def shade(self, picture: Image) -> None:
        """Soft shadows and spots of light over everything, in place."""
        rng = np.random.default_rng([self.look.seed, 5])
        zoom, shift = int(rng.choice([4, 8, 16])), rng.integers(TILE, size=2)
        field = self.noise.tile("spots" if zoom == 16 else "coarse", shift, zoom)
        edge, soft = rng.uniform(70.0, 150.0), rng.uniform(4.0, 60.0)
        light = 1.0 - self.look.shadow * np.clip((edge - np.arange(256)) / soft + 0.5, 0.0, 1.0)
        dark = cv2.LUT(field, (np.clip(light, 0.0, 1.0) * 255.0).astype(np.uint8))
        cv2.multiply(picture, cv2.merge([dark, dark, dark]), picture, 1.0 / 255.0)


def _stripes(line: Line, lateral: float) -> list[tuple[float, float]]:
    if line.width_m <= 0.0:
        return []
    half = 0.5 * line.width_m
    if not line.double:
        return [(lateral - half, lateral + half)]
    return [
        (lateral + side * 1.1 * line.width_m - 0.7 * half, lateral + side * 1.1 * line.width_m + 0.7 * half)
        for side in (-1.0, 1.0)
    ]


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
