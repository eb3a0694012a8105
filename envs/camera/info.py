"""What is known about the camera behind a stream of frames, whether rendered, recorded or of another env.

camera = camera_info(CameraParams(), height=48, width=96, period_s=0.05)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from envs.camera.lens import CameraParams


@dataclass(frozen=True)
class CameraInfo:
    """Size, rate and geometry of the frames of an episode.

    Attributes:
        height: rows of a frame, pixels.
        width: columns of a frame, pixels.
        period_s: nominal time between two frames, s.
        fov_rad: horizontal field of view of the pinhole with the same resolution in the middle, rad; a guess where the
            camera is unknown.
        horizon: height of the horizon in the frame, 0 at the top, 1 at the bottom; a guess where it is unknown.
        height_m: height of the camera above the road, m; a guess where it is unknown.
    """

    height: int
    width: int
    period_s: float
    fov_rad: float = 1.6
    horizon: float = 0.35
    height_m: float = 0.2


def camera_info(params: CameraParams, height: int, width: int, period_s: float) -> CameraInfo:
    """Describe a known camera by the pinhole that draws alike in the middle of the frame."""
    focal_px, _ = params.focal_px(width)
    far = np.array([params.forward_m + 1e5, params.lateral_m, params.height_m])
    _, row = params.pixels(far, height, width)
    horizon = float(np.clip((row + 0.5) / height, 0.0, 0.9)) if np.isfinite(row) else CameraInfo.horizon
    return CameraInfo(height, width, period_s, 2.0 * math.atan(0.5 * width / focal_px), horizon, params.height_m)
