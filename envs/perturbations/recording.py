"""Perturbations on recorded frames, by the same effects that act on a running env.

What needs an env that answers (another road, another car, another action) cannot be done to a recording. Where an
action would be held for several periods, the frames in between are left out; a recording has nothing to show between
two of its frames, so times are rounded to whole frames, what is rounded off being carried over.

    frames, elapsed, index = perturb_recording(frames, elapsed, "fog:3+lower_rate:2", seed=7, period_s=0.05)
    steering = steering[index]  # the labels of what is left
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.camera.info import CameraInfo
from envs.frames import FrameKind
from envs.perturbations.composition import LONGEST, Composition
from envs.perturbations.perturbation import Moment, Perturbation
from envs.perturbations.registry import PERTURBATIONS, as_composition


class PerturbedFrames(NamedTuple):
    """PerturbedFrames frames under a perturbation, as far as they are still shown.

    Attributes:
        frames: `[K, ...]` of the kind that was given, new.
        elapsed: float32 `[K]`, the time since the previous frame that is reported to the driver, in nominal periods.
        kept: int `[K]`, increasing: which of the given frames, and so which labels, each one stands for.
    """

    frames: NDArray[Any]
    elapsed: NDArray[np.float32]
    kept: NDArray[np.intp]


class RecordedEpisode:
    """A perturbed recording, read piece by piece from its first frame to its last."""

    def __init__(self, perturbation: str | Perturbation | Composition, seed: int, camera: CameraInfo):
        """Start an episode.

        Args:
            perturbation: in any form that the registry reads.
            seed: of the episode.
            camera: size and nominal period of the frames.

        Raises:
            ValueError: if a perturbation does not exist, or cannot be applied to a recording.
        """
        composition = as_composition(perturbation)
        unfit = [part.name for part in composition.parts if not part.kind.frames]
        if unfit:
            fit = ", ".join(name for name, made in PERTURBATIONS.items() if made.frames)
            raise ValueError(
                f"{', '.join(unfit)} needs an env that answers and cannot be applied to a recording. These can: {fit}."
            )
        self._composition = composition
        self._running = composition.begin(seed, camera)
        self._camera, self._moves = camera, composition.changes_time
        self._seen = 0
        self._skip, self._debt = 0, 0.0
        self._since = 0.0
        self._time_s = 0.0

    @property
    def steering_sign(self) -> float:
        """The factor on the labels: −1 where left and right are exchanged, else 1."""
        return -1.0 if self._running.mirrors else 1.0

    def take(
        self,
        frames: NDArray[Any],
        elapsed: NDArray[np.floating],
        speed_mps: float = 1.5,
        yaw_rate_radps: NDArray[np.floating] | None = None,
    ) -> PerturbedFrames:
        """Perturb the next frames.

        Args:
            frames: `[T, ...]` of any kind that `envs.frames` accepts, floats in [0, 1].
            elapsed: `[T]` time since the previous frame, in nominal periods.
            speed_mps: of the car.
            yaw_rate_radps: `[T]` of the car, positive to the left; zeros when None.

        Returns:
            What is left of them; `kept` counts from the first frame of this piece.
        """
        if self._seen == 0 and len(frames):
            self._composition.check_frames(FrameKind.of_frame(frames[0]))
        pictures: list[NDArray[Any]] = []
        times: list[float] = []
        kept: list[int] = []
        for number in range(len(frames)):
            passed = float(elapsed[number])
            if self._seen:
                self._time_s += passed * self._camera.period_s
                self._since += passed
            else:
                self._since = passed
            self._seen += 1
            if self._skip:
                self._skip -= 1
                continue
            turn = 0.0 if yaw_rate_radps is None else float(yaw_rate_radps[number])
            picture, reported = self._running.see(frames[number], Moment(self._time_s, self._since, speed_mps, turn))
            pictures.append(picture)
            times.append(reported)
            kept.append(number)
            self._since = 0.0
            self._skip = self._periods() - 1
        shown = np.stack(pictures) if pictures else np.empty((0, *frames.shape[1:]), frames.dtype)
        return PerturbedFrames(shown, np.array(times, np.float32), np.array(kept, np.intp))

    def _periods(self) -> int:
        """After how many recorded frames the next one is shown."""
        held = self._running.periods()
        if not self._moves:
            return 1
        self._debt += held
        whole = min(max(1, math.floor(self._debt + 0.5)), round(LONGEST))
        self._debt = max(self._debt - whole, -0.5)
        return whole


def perturb_recording(
    frames: NDArray[Any],
    elapsed: NDArray[np.floating],
    perturbation: str | Perturbation | Composition,
    seed: int,
    period_s: float,
) -> PerturbedFrames:
    """Perturb a recorded episode.

    Args:
        frames: `[T, ...]` of any kind that `envs.frames` accepts, floats in [0, 1]; left as they are.
        elapsed: `[T]` time since the previous frame, in nominal periods.
        perturbation: in any form that the registry reads.
        seed: of the episode.
        period_s: nominal period.

    Returns:
        Frames, elapsed times and which frames they are, ready to be unpacked. Where left and right are exchanged
        (`steering_sign`), so are the labels.

    Raises:
        ValueError: if a perturbation does not exist, or cannot be applied to a recording.
    """
    if frames.ndim not in (3, 4) or len(frames) == 0:
        raise ValueError(f"expected frames [T, ...] with T of at least 1, got shape {frames.shape}.")
    camera = CameraInfo(*FrameKind.of_frame(frames[0]).size, period_s)
    return RecordedEpisode(perturbation, seed, camera).take(frames, elapsed)


def steering_sign(perturbation: str | Perturbation | Composition, seed: int, camera: CameraInfo) -> float:
    """The factor on the labels of that episode: −1 where left and right are exchanged, else 1."""
    return RecordedEpisode(perturbation, seed, camera).steering_sign
