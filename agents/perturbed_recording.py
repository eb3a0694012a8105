"""A recorded episode under a perturbation, with what is known of the car and its camera.

Blur, fog and shadows move as fast as the ground does: at so many camera heights a second. A recording names the speed
at best, so the height of the camera is guessed from the kind of vehicle, and the speed from that where it is missing.

    perturbed = PerturbedRecording(episode, "motion_blur:3", seed=7)
    shown = perturbed.take(0, 64)  # frames, elapsed, and which of the 64 they are
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.episodes import Episode
from envs.perturbations import Clip, Recorded, RecordedEpisode

CAMERA_M = {"car": 1.2, "udacity": 1.2}
"""Height of the camera above the road in vehicles of full size, m; in models it is that of `Clip`."""
HEIGHTS_PER_S = 7.5
"""Speed of a car whose recording lacks it, camera heights a second: that of the simulated ones, and 9 m/s in a car."""


class PerturbedRecording:
    """A recorded episode, read piece by piece from its first frame to its last under a perturbation."""

    def __init__(self, episode: Episode, perturbation: str, seed: int):
        """Start from the first frame.

        Args:
            episode: with pictures.
            perturbation: in the syntax of `envs.perturbations.parse`.
            seed: of the perturbation in this episode.

        Raises:
            ValueError: if the perturbation does not exist, or cannot be applied to a recording.
        """
        meta = episode.meta
        self.clip = Clip(meta.height, meta.width, meta.nominal_period_s)
        if meta.vehicle in CAMERA_M:
            self.clip = Clip(meta.height, meta.width, meta.nominal_period_s, camera_m=CAMERA_M[meta.vehicle])
        self._episode = episode
        self._effects = RecordedEpisode(perturbation, seed, self.clip)

    @property
    def steering_sign(self) -> float:
        """By what the labels are to be multiplied: −1 where left and right are exchanged, else 1."""
        return self._effects.steering_sign

    def take(self, start: int, stop: int, frames: NDArray[np.uint8] | None = None) -> Recorded:
        """Perturb the next frames.

        Args:
            start: the first of them; where the last call stopped.
            stop: one past the last.
            frames: uint8 `[stop − start, H, W, 3]` instead of the recorded ones.

        Returns:
            What is left of them; `kept` counts from `start`.
        """
        episode = self._episode
        pictures = episode.frames(start, stop) if frames is None else frames
        return self._effects.take(pictures, episode.elapsed(start, stop), self.speed_mps(start, stop))

    def speed_mps(self, start: int, stop: int) -> float:
        """The mean speed of the car in some frames, m/s; a guess where the recording lacks it."""
        speed = self._episode.extras.get("speed_mps")
        mean = float("nan") if speed is None else float(np.mean(np.asarray(speed[start:stop], np.float64)))
        return mean if np.isfinite(mean) else HEIGHTS_PER_S * self.clip.camera_m


def episode_seed(seed: int, number: int) -> int:
    """Return the seed of a perturbation in the n-th episode of a recording."""
    return int(np.random.default_rng([seed, number]).integers(2**62))
