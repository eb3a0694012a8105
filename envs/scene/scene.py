"""A camera in a scene: a road and a look become frames.

A small road is drawn once, whole. Of a long one, only a window around the car is drawn, and the next window when the
car gets there, so that a circuit of half a kilometre costs no more memory than a short one. The window depends on
nothing but the place along the road, so frames do not depend on how the car came there.

    scene = Scene(track, look, camera_params, height=48, width=96)
    frame = scene.frame(x=0.0, y=0.0, yaw=0.0, s=0.0)
"""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.lens import CameraParams
from envs.camera.tiny import TinyCamera
from envs.camera.warp import Ground, Image, WarpCamera
from envs.road.track import Track
from envs.scene.ground import GroundPainter, Region, road_region
from envs.scene.kept import PICTURES
from envs.scene.look import Look
from envs.scene.panorama import draw_panorama
from envs.scene.standing import StandingEdges

_FAR_M = 18.0
"""Half the side of a window; what is farther away is lower than a pixel."""
_STRIDE_M = 5.0
"""Distance along the road between windows."""
_WHOLE_M2 = 750.0
"""Roads whose rectangle is smaller than this are drawn whole."""
_WINDOWS_KEPT = 3
_NOISE_PLACES = 997


class Scene:
    """Draws the frames of one road in one look with one camera."""

    def __init__(
        self,
        track: Track,
        look: Look,
        params: CameraParams,
        height: int,
        width: int,
        pixels_per_m: float = 64.0,
        renderer: str = "warp",
    ):
        """Draw what does not change.

        Args:
            track: the road.
            look: its look.
            params: camera pose and lens.
            height: rows of the frames.
            width: columns of the frames.
            pixels_per_m: resolution of the road texture.
            renderer: "warp", or "tiny" for PyBullet's TinyRenderer.
        """
        self.track, self.look, self.params, self.pixels_per_m = track, look, params, pixels_per_m
        self.camera: WarpCamera | TinyCamera = (TinyCamera if renderer == "tiny" else WarpCamera)(params, height, width)
        lowest, highest = self.camera.elevations
        around = max(0.1, highest) + 0.05, -lowest + 0.05, 1.0 / self.camera.pixel_rad
        self.panorama = PICTURES.get(("panorama", look, *around), lambda: draw_panorama(look, *around))
        region = road_region(track)
        self._whole = (region.right - region.left) * (region.top - region.bottom) <= _WHOLE_M2
        self._painter: GroundPainter | None = None
        self._windows: OrderedDict[int, tuple[Ground, Ground]] = OrderedDict()
        self._shown: int | None = None
        if self._whole:
            key = ("ground", _shape(track), look, region, pixels_per_m)
            ground = PICTURES.get(key, lambda: GroundPainter(track, look).draw(region, pixels_per_m))
            self.camera.load(ground, self.panorama)
        self._standing = StandingEdges(track, look, params, height, width) if look.edges else None
        self._shade = _vignette(look.vignette, height, width) if look.vignette > 0.0 else None
        self._blur_size = (3, 3) if look.blur_px < 0.6 else (5, 5)
        self._bonnet = _bonnet(look, height, width) if look.bonnet is not None else None
        self._noise = _SensorNoise(look, height, width) if look.noise > 0.5 else None

    def frame(self, x: float, y: float, yaw: float, s: float, speed: float = 0.0, turn_radps: float = 0.0) -> Image:
        """What the camera sees.

        Args:
            x: position of the rear axle, m.
            y: position of the rear axle, m.
            yaw: direction of the car, rad.
            s: arc length along the road, m; tells which window to show.
            speed: m/s, for motion blur.
            turn_radps: rate of turn, rad/s, for motion blur.

        Returns:
            uint8 `[H, W, 3]` RGB, a new array. Sensor noise differs from call to call, in an order that the seed of
            the look fixes.
        """
        if not self._whole:
            self._show(s)
        look = self.look
        frame = self.camera.render(x, y, yaw)
        if look.exposure_s > 0.0:
            ago = 0.5 * look.exposure_s
            back = speed * ago
            before = self.camera.render(x - back * math.cos(yaw), y - back * math.sin(yaw), yaw - turn_radps * ago)
            frame = cv2.addWeighted(frame, 0.5, before, 0.5, 0.0)
        if self._standing is not None:
            self._standing.draw(frame, x, y, yaw, s)
        if self._bonnet is not None:
            cv2.copyTo(self._bonnet[0], self._bonnet[1], frame)
        if look.blur_px > 0.25:
            frame = cv2.GaussianBlur(frame, self._blur_size, look.blur_px)
        if self._shade is not None:
            cv2.multiply(frame, self._shade, frame, 1.0 / 255.0)
        if self._noise is not None:
            self._noise.add(frame)
        return frame

    def rewind(self) -> None:
        """Let the next frame be the first one again: sensor noise starts over."""
        if self._noise is not None:
            self._noise.rewind()

    def close(self) -> None:
        """Release the renderer."""
        if isinstance(self.camera, TinyCamera):
            self.camera.close()

    def _show(self, s: float) -> None:
        """Show the window for a place on a long road."""
        count = max(1, round(self.track.length_m / _STRIDE_M))
        number = int(s / self.track.length_m * count) % count
        if number == self._shown:
            return
        if number not in self._windows:
            self._windows[number] = self._draw_window((number + 0.5) * self.track.length_m / count)
            while len(self._windows) > _WINDOWS_KEPT:
                self._windows.popitem(last=False)
        ground, far = self._windows[number]
        if isinstance(self.camera, WarpCamera):
            self.camera.load(ground, self.panorama, far)
        else:
            self.camera.load(ground, self.panorama)
        self._shown = number

    def _draw_window(self, s: float) -> tuple[Ground, Ground]:
        """The ground around a place: what is near in full, what is far at a quarter of the resolution."""
        x, y = self.track.point(s)
        if self._painter is None:
            self._painter = GroundPainter(self.track, self.look)
        draw = self._painter.draw
        if isinstance(self.camera, TinyCamera):
            ground = draw(_square(x, y, _FAR_M), self.pixels_per_m)
            return ground, ground
        near_m = min(_FAR_M, self.camera.near_m(self.pixels_per_m) + _STRIDE_M + self.track.lane_width_m)
        return draw(_square(x, y, near_m), self.pixels_per_m), draw(_square(x, y, _FAR_M), self.pixels_per_m, 2)


def _shape(track: Track) -> bytes:
    """All that a picture of the ground depends on in a road."""
    arrays = track.points, track.headings, track.curvatures, np.array([track.lane_width_m, track.spacing_m])
    return b"".join(np.ascontiguousarray(array, np.float64).tobytes() for array in arrays)


def _square(x: float, y: float, half: float) -> Region:
    return Region(x - half, y - half, x + half, y + half)


def _vignette(strength: float, height: int, width: int) -> Image:
    """uint8 `[H, W, 3]` factor, 255 in the middle and lower towards the corners."""
    row = (np.arange(height) - 0.5 * (height - 1)) / (0.5 * height)
    column = (np.arange(width) - 0.5 * (width - 1)) / (0.5 * width)
    square = (row[:, None] ** 2 + column[None] ** 2) / 2.0
    factor = np.rint(255.0 * (1.0 - strength * square)).astype(np.uint8)
    return np.repeat(factor[..., None], 3, axis=2)


def _bonnet(look: Look, height: int, width: int) -> tuple[Image, Image]:
    """The bonnet's picture and mask: a flat arch at the bottom of the frame."""
    mask = np.zeros((height, width), np.uint8)
    rise = max(1, round(look.bonnet_height * height))
    cv2.ellipse(
        mask, (width // 2, height + rise // 2), (round(0.55 * width), round(1.5 * rise)), 0.0, 0.0, 360.0, 255, -1
    )
    shine = np.linspace(1.15, 0.75, height)[:, None]
    assert look.bonnet is not None
    colors = look.develop(np.clip(shine * np.asarray(look.bonnet), 0.0, 255.0))  # [H, 3]
    return np.ascontiguousarray(np.repeat(colors[:, None], width, axis=1)), mask


class _SensorNoise:
    """Gaussian noise, cut for each frame out of a fixed supply at a random place."""

    def __init__(self, look: Look, height: int, width: int):
        self._seed = look.seed
        self.rewind()
        noise = np.rint(look.noise * _unit_noise(height * width * 3))
        self._size = height * width * 3
        self._more = np.clip(noise, 0, 255).astype(np.uint8)
        self._less = np.clip(-noise, 0, 255).astype(np.uint8)

    def rewind(self) -> None:
        """Start over."""
        self._generator = np.random.default_rng([self._seed, 7])

    def add(self, frame: Image) -> None:
        """Add noise in place."""
        start = int(self._generator.integers(_NOISE_PLACES))
        cut = slice(start, start + self._size)
        cv2.add(frame, self._more[cut].reshape(frame.shape), frame)
        cv2.subtract(frame, self._less[cut].reshape(frame.shape), frame)


@lru_cache(maxsize=4)
def _unit_noise(size: int) -> NDArray[np.float32]:
    """Noise of unit strength, for frames of `size` values to be cut out of at any of the places."""
    return np.random.default_rng(22).standard_normal(size + _NOISE_PLACES, dtype=np.float32)
