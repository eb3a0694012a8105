"""What a camera over a flat road would have seen from another place, made from what it saw.

A pixel below the horizon shows a point of the road. Seen from a car that stands a little further on, to the side, or
turned, that point appears in another pixel; for a pinhole the two are related by a homography (Hartley and Zisserman,
*Multiple View Geometry*, section 13.1),

    x' ~ K' (R + t nᵀ / h) K⁻¹ x

with the rotation R and the shift t between the cameras, the normal n of the road and the height h over it. Here every
pixel's ray is followed to the road and back through the other lens instead, which is the same for pinholes and holds
for every lens. What is above the horizon is taken to be infinitely far away: it turns with the car and does not
shift. What stands up from the road is drawn as if painted on it.

    seen = View(CameraParams(), 48, 96)
    left = Reprojector(seen).warp(frame, Pose(left_m=0.1, yaw_rad=-0.05))  # as if 10 cm to the left, turned right

Two cameras: `Reprojector(seen, wanted)` draws the frames of one as those of the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.camera.lens import CameraParams, FloatArray
from envs.camera.warp import Image

_FAR_M = 1e5
_FLATTEST = 1e-4  # slope of a ray below which it meets the road too far away to count
_NEAREST_M = 1e-3
_OUTSIDE = -1e4  # pixel that stands for what a lens cannot draw


class Pose(NamedTuple):
    """Where a car stands, seen from another: positions of the rear axles."""

    forward_m: float = 0.0
    """Ahead, m."""
    left_m: float = 0.0
    """To the left, m."""
    yaw_rad: float = 0.0
    """Turned to the left, rad."""


@dataclass(frozen=True)
class View:
    """Frames of a camera over a flat road, cut and resized; the names are those of `policies.preprocessing`."""

    camera: CameraParams
    """Where it sits and how its lens draws."""
    source_height: int
    """Rows of the camera's own frame, pixels."""
    source_width: int
    """Columns of the camera's own frame, pixels."""
    crop_top: int = 0
    """Rows cut off at the top, pixels of the camera's own frame."""
    crop_bottom: int = 0
    """Rows cut off at the bottom."""
    crop_left: int = 0
    """Columns cut off on the left."""
    crop_right: int = 0
    """Columns cut off on the right."""
    height: int = 0
    """Rows after it all; 0 leaves those that the cut leaves."""
    width: int = 0
    """Columns after it all; 0 leaves those that the cut leaves."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the frames."""
        rows, columns = self._kept
        return self.height or rows, self.width or columns

    @property
    def _kept(self) -> tuple[int, int]:
        return (
            self.source_height - self.crop_top - self.crop_bottom,
            self.source_width - self.crop_left - self.crop_right,
        )

    def points(self) -> tuple[FloatArray, NDArray[np.bool_]]:
        """What the pixels show, in the frame of the car (x ahead of the rear axle, y left, z up from the road).

        Returns:
            `[H, W, 3]` points, m, those above the horizon far away, and bool `[H, W]`, True on the road.
        """
        (height, width), (rows, columns) = self.size, self._kept
        down = self.crop_top + (np.arange(height) + 0.5) * rows / height - 0.5
        across = self.crop_left + (np.arange(width) + 0.5) * columns / width - 0.5
        camera = self.camera
        rays = camera.rays_through(across, down, self.source_height, self.source_width)
        on_road = rays[..., 2] < -_FLATTEST
        reach = np.where(on_road, camera.height_m / np.where(on_road, -rays[..., 2], 1.0), _FAR_M)
        origin = np.array([camera.forward_m, camera.lateral_m, camera.height_m])
        return origin + reach[..., None] * rays, on_road

    def pixels(self, points: FloatArray) -> FloatArray:
        """Where points `[..., 3]` in the frame of the car appear: `[..., 2]` column and row, NaN behind the lens."""
        (height, width), (rows, columns) = self.size, self._kept
        found = self.camera.pixels(points, self.source_height, self.source_width)
        scale = np.array([width / columns, height / rows])
        return (found - np.array([self.crop_left, self.crop_top]) + 0.5) * scale - 0.5

    def projection(self) -> FloatArray:
        """`[3, 4]` matrix that takes points (x, y, z, 1) in the frame of the car to (column, row, 1) times the distance
        ahead of the camera; of a pinhole.
        """  # noqa: D205
        camera, (height, width), (rows, columns) = self.camera, self.size, self._kept
        focal_x, focal_y = camera.focal_px(self.source_width)
        # The camera's axes: ahead, left, up.
        pixel = np.array(
            [
                [0.5 * (self.source_width - 1), -focal_x, 0.0],
                [0.5 * (self.source_height - 1), 0.0, -focal_y],
                [1.0, 0.0, 0.0],
            ]
        )
        across, down = width / columns, height / rows
        cut = np.array(
            [
                [across, 0.0, (0.5 - self.crop_left) * across - 0.5],
                [0.0, down, (0.5 - self.crop_top) * down - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )
        origin = np.array([camera.forward_m, camera.lateral_m, camera.height_m])
        towards = camera.rotation().T
        return cut @ pixel @ np.column_stack([towards, -towards @ origin])


class Reprojector:
    """Draws frames of one view as another would have seen them, from a car at another pose."""

    def __init__(self, seen: View, wanted: View | None = None):
        """Prepare for two views.

        Args:
            seen: of the frames that there are.
            wanted: of the frames that are made; the same when None.
        """
        self.seen, self.wanted = seen, wanted or seen
        points, self.on_road = self.wanted.points()
        self.size = self.wanted.size
        self._points = np.concatenate([points, np.ones((*self.size, 1))], axis=2)  # [H, W, 4]
        self._projection = seen.projection() if seen.camera.lens == 1.0 else None

    def map(self, pose: Pose, only: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Where each pixel that is wanted lies in the frame that was seen.

        Args:
            pose: of the car that is wanted, as seen from the car that took the frame.
            only: bool `[H, W]`, the pixels that are asked for; all when None.

        Returns:
            `[H, W, 2]` column and row, or `[N, 2]` for the pixels of `only`; far outside where the lens draws nothing.
        """
        points = self._points if only is None else self._points[only]
        cosine, sine = math.cos(pose.yaw_rad), math.sin(pose.yaw_rad)
        move = np.array(
            [
                [cosine, -sine, 0.0, pose.forward_m],
                [sine, cosine, 0.0, pose.left_m],
                [0.0, 0.0, 1.0, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        if self._projection is None:
            found = self.seen.pixels((points @ move.T)[..., :3])
            return np.where(np.isfinite(found), found, _OUTSIDE).astype(np.float32)
        # A pinhole needs no angles: the homography of the road, and of what is far away.
        flat = points.reshape(-1, 4) @ (self._projection @ move).T  # [N, 3]
        ahead = flat[:, 2:]
        places = np.where(ahead > _NEAREST_M, flat[:, :2] / np.where(ahead > _NEAREST_M, ahead, 1.0), _OUTSIDE)
        return places.reshape(*points.shape[:-1], 2).astype(np.float32)

    def inside(self, places: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Whether places `[..., 2]` of a map lie in the frame that was seen."""
        rows, columns = self.seen.size
        return np.all((places >= -0.5) & (places <= np.array([columns, rows]) - 0.5), axis=-1)

    def warp(self, frame: Image, pose: Pose, places: NDArray[np.float32] | None = None) -> Image:
        """Draw a frame, uint8 `[h, w, 3]`, from another pose; what was not seen gets the colours of the border.

        Args:
            frame: that was seen.
            pose: of the car that is wanted, as seen from the car that took the frame.
            places: the map for that pose, where it is known already.

        Returns:
            uint8 `[H, W, 3]`, a new array.
        """
        return _look_up(frame, self.map(pose) if places is None else places)

    def compose(self, frames: Iterable[tuple[Callable[[], Image], Pose]]) -> Image:
        """Draw what several frames saw: the first as far as it goes, then what the next ones saw besides.

        Args:
            frames: each by a function that reads it, uint8 `[h, w, 3]`, and the pose that is wanted, as seen from the
                car that took it. Those that are not needed are not read.

        Returns:
            uint8 `[H, W, 3]`; what none of them saw gets the colours of the first one's border.
        """
        picture: Image | None = None
        missing = np.ones(self.size, bool)
        for read, pose in frames:
            if picture is None:
                places = self.map(pose)
                picture = _look_up(read(), places)
                missing = ~self.inside(places)
                continue
            if not missing.any():
                break
            places = self.map(pose, missing)  # [N, 2]
            seen = self.inside(places)
            if seen.any():
                filled = missing.copy()
                filled[missing] = seen
                picture[filled] = _look_up(read(), places[seen][:, None])[:, 0]
                missing &= ~filled
        if picture is None:
            raise ValueError("at least one frame is needed to draw another one, got none.")
        return picture

    def shown(self, pose: Pose) -> float:
        """The share of the road in the wanted frame that the seen one shows, in [0, 1]."""
        if not self.on_road.any():
            return 0.0
        return float(self.inside(self.map(pose, self.on_road)).mean())

    def reach(self, least_shown: float, of_yaw: bool = False) -> float:
        """How far to the side a car can stand, m, or turn, rad, with a share of the road still shown.

        Args:
            least_shown: that share, in (0, 1).
            of_yaw: how far it can turn, on the spot.

        Returns:
            The smaller of both sides; found to a thousandth by halving.
        """

        def enough(value: float) -> bool:
            poses = (Pose(yaw_rad=value), Pose(yaw_rad=-value)) if of_yaw else (Pose(0.0, value), Pose(0.0, -value))
            return min(map(self.shown, poses)) >= least_shown

        low, high = 0.0, 1.2 if of_yaw else 20.0 * self.seen.camera.height_m
        if not enough(low):
            return 0.0
        while high - low > 1e-3 * high:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if enough(middle) else (low, middle)
        return low


def _look_up(frame: Image, places: NDArray[np.float32]) -> Image:
    """Look pixels up by places `[..., 2]`, column and row; `[h, w, 3]` to `[..., 3]`."""
    frame = np.ascontiguousarray(frame)
    return np.asarray(cv2.remap(frame, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))  # type: ignore[call-overload]
