"""View synthesis: recorded windows as they would look from beside the line, with the steering that brings the car back.

The road plane of a window is shifted and turned (`envs.camera.plane`), as if the car stood `left` metres to the left of
where it was and were turned by `yaw`. The recorded car would have come to y = κ d² / 2 at the distance d ahead; from
the new pose the circle through that point has the curvature

    κ' = κ − 2 (left + yaw · d) / d²

so the label changes by −2 (left + yaw · d) / (d² κ_lock), with the curvature κ_lock at full lock (Bojarski et al.,
arXiv:1604.07316, section 5, shift the frames of side cameras likewise; the point ahead is the expert's pure pursuit).

    synthesis = ViewSynthesis(View(camera, 120, 160), full_lock_curvature_per_m=1.6, config=ViewsConfig(share=0.5))
    frames, steering = synthesis(frames, steering, generator)
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from envs.camera.plane import Pose, Reprojector, View

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, config={"extra": "forbid"})
class ViewsConfig:
    """Windows seen from beside the recorded line; for recordings of one camera over a flat road."""

    share: Probability = 0.0
    """Share of the windows that are redrawn; 0 switches it off."""
    least_shown: Annotated[float, Field(gt=0.5, lt=1)] = 0.75
    """Share of the road in a redrawn frame that the recorded one must show: how far to the side frames are taken."""
    most_yaw_rad: Annotated[float, Field(ge=0, le=0.5)] = 0.3
    """Largest angle by which the car is turned, rad."""
    lookahead_heights: Positive = 5.0
    """Distance ahead, in heights of the camera, at which the car is back on the line."""

    def __post_init__(self) -> None:
        """Check that nothing is said of views that are not made."""
        rest = ("least_shown", "most_yaw_rad", "lookahead_heights")
        if self.share == 0 and any(getattr(self, name) != getattr(type(self), name) for name in rest):
            raise ValueError("views are not redrawn while their share is 0: give --views.share, or leave out the rest.")


class ViewSynthesis:
    """Redraws windows of one camera."""

    def __init__(self, view: View, full_lock_curvature_per_m: float, config: ViewsConfig):
        """Prepare for the frames of a view.

        Args:
            view: of the frames as the learner sees them, cropped and resized.
            full_lock_curvature_per_m: curvature of the car's path at full lock, 1/m.
            config: how many, how far.

        Raises:
            ValueError: if the camera sees no road.
        """
        self.reprojector = Reprojector(view)
        if not self.reprojector.on_road.any():
            raise ValueError("the frames show no road: their horizon lies below them. Say where it is, or crop less.")
        self.config = config
        self.most_left_m = self.reprojector.reach(config.least_shown)
        self.lookahead_m = config.lookahead_heights * view.camera.height_m
        self.full_lock_curvature_per_m = full_lock_curvature_per_m

    def correction(self, pose: Pose) -> float:
        """What is added to the steering so that a car at a pose comes back to the line, in full locks."""
        ahead_m = self.lookahead_m
        curvature = -2.0 * (pose.left_m + pose.yaw_rad * ahead_m) / (ahead_m * ahead_m)
        return curvature / self.full_lock_curvature_per_m

    def __call__(self, frames: Tensor, steering: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Redraw some windows, each from one pose.

        Args:
            frames: uint8 `[B, T, H, W, 3]`, of the view's size; left as they are.
            steering: float `[B, T]`, positive left.
            generator: source of the draws.

        Returns:
            Frames and steering of the same shapes; what would need more than full lock is labelled full lock.
        """
        draws = torch.rand(len(frames), 3, generator=generator)
        chosen = (draws[:, 0] < self.config.share).nonzero().flatten().tolist()
        if not chosen:
            return frames, steering
        frames, steering = frames.clone(), steering.clone()
        for row in chosen:
            left, yaw = (2.0 * draws[row, 1:] - 1.0).tolist()
            pose = Pose(left_m=left * self.most_left_m, yaw_rad=yaw * self.config.most_yaw_rad)
            places = self.reprojector.map(pose)
            window = frames[row].numpy()
            for frame in window:
                frame[:] = self.reprojector.warp(frame, pose, places)
            # At full lock, too: without them a bend is only seen from where less steering suffices.
            steering[row] = (steering[row] + self.correction(pose)).clamp(-1.0, 1.0)
        return frames, steering
