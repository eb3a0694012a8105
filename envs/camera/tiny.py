"""The same camera drawn by PyBullet's software renderer: the same ground as a textured plane, the same pose.

TinyRenderer is some twenty times slower than the look-up of `envs.camera.warp`, knows pinhole lenses only, and reads
its texture without averaging, so that its pictures flicker. It is here as a second opinion about where things appear,
and as a shift to be robust to.

    camera = TinyCamera(CameraParams(lens=1.0), height=48, width=96)
    camera.load(ground, panorama)
    frame = camera.render(x=0.0, y=0.0, yaw=0.0)
"""

from __future__ import annotations

import math
import weakref
from typing import Any

import cv2
import numpy as np

from envs.camera.lens import CameraParams
from envs.camera.warp import Ground, Image, Panorama, WarpCamera
from envs.scratch import Scratch
from envs.vehicle.bullet import UNCOPYABLE, import_bullet, release

_NEAR_M, _FAR_M = 0.02, 80.0
_FARTHEST_M = 35.0  # beyond, a pixel shows nothing but the border, and TinyRenderer leaves holes
_BEYOND_M = 40.0  # the plane reaches this far past the picture of the ground, in the colour of its border


class TinyCamera:
    """Draws what the camera sees of a ground with TinyRenderer, and all beyond 35 m with `WarpCamera`."""

    def __init__(self, params: CameraParams, height: int, width: int):
        """Start a simulator that holds nothing but the ground.

        Raises:
            ValueError: if the lens is not a pinhole, or PyBullet is not installed.
        """
        if params.lens < 1.0 - 1e-6:
            raise ValueError(
                f'renderer="tiny" draws pinhole lenses only (lens=1.0), got lens={params.lens}. Use renderer="warp".'
            )
        self._bullet = import_bullet()
        self.params, self.height, self.width = params, height, width
        self._sky = WarpCamera(params, height, width)
        self._drawn = (self._sky.reach_m < _FARTHEST_M)[..., None]
        self._client: int = self._bullet.connect(self._bullet.DIRECT)
        scratch = Scratch()
        self._folder = scratch.path
        self._release = weakref.finalize(self, release, self._bullet, self._client, scratch)
        self._loads = 0
        _, focal_y = params.focal_px(width)
        focal_x, _ = params.focal_px(width)
        vertical = 2.0 * math.degrees(math.atan(0.5 * height / focal_y))
        aspect = (width / focal_x) / (height / focal_y)
        self._projection = self._bullet.computeProjectionMatrixFOV(vertical, aspect, _NEAR_M, _FAR_M)
        rotation = params.rotation()
        self._ahead, self._up = rotation[:, 0], rotation[:, 2]

    @property
    def elevations(self) -> tuple[float, float]:
        """Lowest and highest elevation that the camera sees, rad."""
        return self._sky.elevations

    @property
    def pixel_rad(self) -> float:
        """Angle between neighbouring columns in the middle of the image."""
        return self._sky.pixel_rad

    def load(self, ground: Ground, panorama: Panorama) -> None:
        """Show another scene from now on."""
        bullet, client = self._bullet, self._client
        self._sky.load(ground, panorama)
        bullet.resetSimulation(physicsClientId=client)
        self._loads += 1
        file = self._folder / f"ground{self._loads}.bmp"  # a new name each time: PyBullet keeps textures by name
        if not cv2.imwrite(str(file), np.ascontiguousarray(ground.image[::-1, :, ::-1])):
            raise OSError(f"Could not write {file}: is the temporary folder full?")
        corners, indices, uvs = _plane(ground)
        shape = bullet.createVisualShape(
            bullet.GEOM_MESH,
            vertices=corners,
            indices=indices,
            uvs=uvs,
            normals=[[0.0, 0.0, 1.0]] * len(corners),
            physicsClientId=client,
        )
        body = bullet.createMultiBody(0.0, -1, shape, physicsClientId=client)
        texture = bullet.loadTexture(str(file), physicsClientId=client)
        bullet.changeVisualShape(body, -1, textureUniqueId=texture, rgbaColor=[1, 1, 1, 1], physicsClientId=client)
        file.unlink()

    def render(self, x: float, y: float, yaw: float) -> Image:
        """Draw the frame of a car whose rear axle is at (x, y) and that looks along `yaw`; uint8 `[H, W, 3]` RGB."""
        bullet, params = self._bullet, self.params
        cosine, sine = math.cos(yaw), math.sin(yaw)
        turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        eye = np.array([x, y, 0.0]) + turn @ np.array([params.forward_m, params.lateral_m, params.height_m])
        view = bullet.computeViewMatrix(eye.tolist(), (eye + turn @ self._ahead).tolist(), (turn @ self._up).tolist())
        _, _, pixels, _, _ = bullet.getCameraImage(
            self.width,
            self.height,
            view,
            self._projection,
            lightDirection=[0.0, 0.0, 1.0],
            lightColor=[1.0, 1.0, 1.0],
            lightAmbientCoeff=1.0,
            lightDiffuseCoeff=0.0,
            lightSpecularCoeff=0.0,
            shadow=0,
            renderer=bullet.ER_TINY_RENDERER,
            flags=bullet.ER_NO_SEGMENTATION_MASK,
            physicsClientId=self._client,
        )
        frame = np.asarray(pixels, np.uint8).reshape(self.height, self.width, 4)[..., :3]
        return np.where(self._drawn, frame, self._sky.render(x, y, yaw))

    def close(self) -> None:
        """Stop the simulator."""
        self._release()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(UNCOPYABLE)


def _plane(ground: Ground) -> tuple[list[list[float]], list[int], list[list[float]]]:
    """Vertices, triangles and texture coordinates of the ground: a 3×3 grid whose outer cells stretch the border."""
    rows, columns = ground.image.shape[:2]
    half = 0.5 / ground.pixels_per_m
    left, bottom = ground.x0 - half, ground.y0 - half
    right, top = left + columns / ground.pixels_per_m, bottom + rows / ground.pixels_per_m
    edge_u, edge_v = 0.5 / columns, 0.5 / rows
    xs = [left - _BEYOND_M, left, right, right + _BEYOND_M]
    ys = [bottom - _BEYOND_M, bottom, top, top + _BEYOND_M]
    us, vs = [edge_u, edge_u, 1.0 - edge_u, 1.0 - edge_u], [edge_v, edge_v, 1.0 - edge_v, 1.0 - edge_v]
    corners = [[x, y, 0.0] for y in ys for x in xs]
    uvs = [[u, v] for v in vs for u in us]
    indices = []
    for row in range(3):
        for column in range(3):
            a = 4 * row + column
            indices += [a, a + 1, a + 5, a, a + 5, a + 4]
    return corners, indices, uvs
