"""What perturbations, rollouts and films may ask of an env with a car and a camera, beyond Gymnasium's interface.

The observation is `Dict(camera: Box uint8 [H, W, 3], elapsed: Box float32 [1])`, the action `Box(−1, 1)` of one number
(steering, positive to the left) or two (steering, throttle). The info may hold `lateral_offset_m`, `heading_error_rad`,
`lane_width_m`, `progress_m`, `speed_mps`, `time_s` and `crashed`; what an env does not know is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from envs.camera.info import CameraInfo


class Motion(NamedTuple):
    """How the car moves."""

    speed_mps: float
    """Forward speed, m/s."""
    yaw_rate_radps: float
    """Rate of turn, rad/s, positive to the left."""


@runtime_checkable
class CameraCar(Protocol):
    """An unwrapped env with a car and a camera: LaneKeeping, or another behind `DrivingEnv`."""

    render_mode: str | None
    next_periods: float | None
    """For how many nominal periods the next action is held, in (0, 10]; None for one. It counts for one step."""

    def camera_info(self) -> CameraInfo:
        """Describe the camera of this episode; before the first reset its geometry is a guess."""

    def motion(self) -> Motion:
        """Tell how the car moves now."""

    def picture(self, frame: Any = None) -> Any:
        """Draw a picture for people, with `frame` as what the driver gets (the last observation when None)."""
