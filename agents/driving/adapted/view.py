"""A camera that sits otherwise than the one a driver learnt with, and how its frames are redrawn as that one's.

    shift = ViewShift(pitch_deg=-6.0)                  # the camera looks 6° higher than it did
    redraw = Redrawing(policy.config, shift)
    as_before = redraw(frames)                         # uint8 [N, h, w, 3] as the policy's head sees them

Points of the road are drawn where the camera from before would have seen them (`envs.camera.plane`); what it would have
seen and this one does not repeats the edge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from envs.camera.lens import CameraParams
from envs.camera.plane import Pose, Reprojector, View
from policies.car import CarInfo
from policies.policy import PolicyConfig

WIDEST_DEG = 170.0
"""Field of view up to which a camera is taken for a pinhole."""


@dataclass(frozen=True, config={"extra": "forbid"})
class ViewShift:
    """How a camera sits, compared with the one from before."""

    pitch_deg: Annotated[float, Field(ge=-45, le=45)] = 0.0
    """It looks so much lower, degrees."""
    yaw_deg: Annotated[float, Field(ge=-45, le=45)] = 0.0
    """It looks so much further to the left, degrees."""
    height: Annotated[float, Field(ge=0.1, le=10)] = 1.0
    """It sits so many times as high."""

    @property
    def is_none(self) -> bool:
        """Whether it sits as before."""
        return self == ViewShift()

    def text(self) -> str:
        """Say it in a few words; "" where it sits as before."""
        words = [f"pitch {self.pitch_deg:+.1f}°"] if self.pitch_deg else []
        words += [f"yaw {self.yaw_deg:+.1f}°"] if self.yaw_deg else []
        words += [f"height ×{self.height:.2f}"] if self.height != 1.0 else []
        return ", ".join(words)


def camera_of(car: CarInfo | None) -> CameraParams | None:
    """Return the camera that a policy learnt with, as a pinhole; None where it is not known."""
    if car is None or car.camera_height_m is None or car.camera_pitch_deg is None or car.camera_hfov_deg is None:
        return None
    if car.camera_hfov_deg > WIDEST_DEG:
        return None
    return CameraParams(height_m=car.camera_height_m, pitch_deg=car.camera_pitch_deg, hfov_deg=car.camera_hfov_deg)


class Redrawing:
    """Redraws frames, as a policy's head sees them, of a shifted camera as those of the policy's own.

    Attributes:
        seen: bool `[h, w]`, the pixels of a redrawn frame that show what was seen; the others repeat the edge.
    """

    def __init__(self, config: PolicyConfig, shift: ViewShift, back: bool = False):
        """Prepare the map.

        Args:
            config: of the policy.
            shift: how the camera sits now.
            back: draw frames of the policy's own camera as those of the shifted one instead.

        Raises:
            ValueError: if the policy does not know the camera that it learnt with.
        """
        own = camera_of(config.car)
        if own is None:
            raise ValueError(
                "frames of another camera cannot be redrawn: the policy does not say height, pitch and field of view "
                "of the camera that it learnt with. Train it from recordings that know them."
            )
        fit = config.preprocessing
        crops = (fit.crop_top, fit.crop_bottom, fit.crop_left, fit.crop_right)

        def view(camera: CameraParams) -> View:
            return View(camera, fit.source_height, fit.source_width, *crops, fit.height, fit.width)

        shifted = replace(
            own,
            pitch_deg=own.pitch_deg + shift.pitch_deg,
            yaw_deg=own.yaw_deg + shift.yaw_deg,
            height_m=own.height_m * shift.height,
        )
        seen, wanted = (own, shifted) if back else (shifted, own)
        reprojector = Reprojector(view(seen), view(wanted))
        self._places = reprojector.map(Pose())
        self.seen = reprojector.inside(self._places)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Redraw uint8 `[N, h, w, 3]`; a new array."""
        drawn = np.empty_like(frames)
        for number, frame in enumerate(frames):
            cv2.remap(  # type: ignore[call-overload]
                np.ascontiguousarray(frame),
                self._places,
                None,
                cv2.INTER_LINEAR,
                dst=drawn[number],
                borderMode=cv2.BORDER_REPLICATE,
            )
        return drawn
