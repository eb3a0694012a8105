"""A driver on recorded frames: what would it have steered?

Open loop: the recorded car does not react. Episodes run side by side from their first frame to their last with the
state carried, as on a road.

    predictions = predict(policy, episodes)  # float32 [T] for each episode

A recorded episode under a perturbation, with what is known of the car and its camera.

Blur, fog and shadows move as fast as the ground does: at so many camera heights a second. A recording names the speed
at best, so the height of the camera is guessed from the kind of vehicle, and the speed from that where it is missing.

    perturbed = PerturbedRecording(episode, "motion_blur:3", seed=7)
    shown = perturbed.take(0, 64)  # frames, elapsed, and which of the 64 they are
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.metrics import Estimate, open_loop
from agents.recordings.episodes import Episode, EpisodeSet
from envs.perturbations import Clip, Recorded, RecordedEpisode
from policies.policy import DrivingPolicy

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


Perturbation = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
"""Changes frames `[n, H, W, 3]`; draws from the generator it is given."""


def predict(
    policy: DrivingPolicy,
    episodes: Sequence[Episode] | EpisodeSet,
    side_by_side: int = 16,
    steps: int = 64,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    on_frames: Callable[[int], None] | None = None,
) -> list[NDArray[np.float32]]:
    """Run a driver over recorded episodes.

    Args:
        policy: the driver; its mode (training or evaluation) is put back afterwards.
        episodes: recorded at the size that the policy's preprocessing names as source.
        side_by_side: episodes in one batch.
        steps: frames in one call.
        perturbation: changes the frames before the policy sees them.
        seed: seed of the perturbation; every episode has a generator of its own.
        on_frames: called with the number of frames done since the last call.

    Returns:
        Predicted steering in [−1, 1], float32 `[T]`, for each episode.

    Raises:
        ValueError: if the frames have another size than the policy expects.
    """
    order = sorted(range(len(episodes)), key=lambda index: -len(episodes[index]))
    results: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(episodes)
    was_training = policy.training
    policy.eval()
    try:
        for first in range(0, len(order), side_by_side):
            chosen = order[first : first + side_by_side]
            generators = [np.random.default_rng([seed, index]) for index in chosen]
            longest = len(episodes[chosen[0]])
            parts: list[list[NDArray[np.float32]]] = [[] for _ in chosen]
            state = None
            for start in range(0, longest, steps):
                active = [row for row, index in enumerate(chosen) if len(episodes[index]) > start]
                stop = min(start + steps, longest)
                counts = [min(stop, len(episodes[chosen[row]])) - start for row in active]
                elapsed = np.ones((len(active), stop - start), np.float32)
                frames: NDArray[np.uint8] | None = None
                for row, count in zip(active, counts, strict=True):
                    episode = episodes[chosen[row]]
                    pictures = episode.frames(start, start + count)
                    if perturbation is not None:
                        pictures = perturbation(pictures, generators[row])
                    if frames is None:
                        frames = np.zeros((len(active), stop - start, *pictures.shape[1:]), np.uint8)
                    frames[row, :count] = pictures
                    elapsed[row, :count] = episode.elapsed(start, start + count)
                assert frames is not None
                with torch.inference_mode():
                    steering, state = policy(
                        torch.from_numpy(frames),
                        None if state is None else state[: len(active)],  # longest first: the rest have ended
                        torch.from_numpy(elapsed),
                    )
                for row, count in zip(active, counts, strict=True):
                    parts[row].append(steering[row, :count, 0].numpy())
                if on_frames is not None:
                    on_frames(sum(counts))
            for row, index in enumerate(chosen):
                results[index] = np.concatenate(parts[row])
    finally:
        policy.train(was_training)
    return results


def evaluate_open_loop(
    policy: DrivingPolicy,
    episodes: EpisodeSet,
    training_mean: float,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    on_frames: Callable[[int], None] | None = None,
) -> dict[str, Estimate]:
    """Return the figures of `agents.driving.metrics.open_loop` for a driver on recorded episodes."""
    predictions = predict(policy, episodes, perturbation=perturbation, seed=seed, on_frames=on_frames)
    return open_loop(predictions, [episode.steering for episode in episodes], training_mean, seed=seed)


def evaluate_perturbed(
    policy: DrivingPolicy,
    episodes: EpisodeSet,
    training_mean: float,
    perturbation: str,
    seed: int = 0,
    on_frames: Callable[[int], None] | None = None,
    steps: int = 64,
) -> dict[str, Estimate]:
    """Return the figures of `agents.driving.metrics.open_loop` for a driver on perturbed recordings.

    Where frames are left out, the driver answers for those that it is shown; where left and right are exchanged, so are
    the labels.

    Args:
        policy: the driver, in evaluation mode from here on.
        episodes: recorded at the size that the policy's preprocessing names as source.
        training_mean: what the driver that R² compares with always steers.
        perturbation: in the syntax of `envs.perturbations.parse`.
        seed: of the perturbation, together with the episode's number.
        on_frames: called with the number of recorded frames done since the last call.
        steps: frames in memory at a time.

    Raises:
        ValueError: if a perturbation does not exist or cannot be applied to recordings.
    """
    policy.eval()
    predictions, targets = [], []
    for number, episode in enumerate(episodes):
        recorded = PerturbedRecording(episode, perturbation, episode_seed(seed, number))
        state: torch.Tensor | None = None
        steered, labels = [], []
        for start in range(0, len(episode), steps):
            stop = min(start + steps, len(episode))
            shown = recorded.take(start, stop)
            if len(shown.frames):
                with torch.inference_mode():
                    steering, state = policy(
                        torch.from_numpy(shown.frames[None]), state, torch.from_numpy(shown.elapsed[None])
                    )
                steered.append(steering[0, :, 0].numpy())
                labels.append(recorded.steering_sign * episode.steering[start:stop][shown.kept])
            if on_frames is not None:
                on_frames(stop - start)
        predictions.append(np.concatenate(steered))
        targets.append(np.concatenate(labels))
    return open_loop(predictions, targets, training_mean, seed=seed)


def score(policy: DrivingPolicy, episodes: EpisodeSet) -> dict[str, float]:
    """Return RMSE, R² and correlation on recorded episodes, without intervals: the figures of a validation pass."""
    predicted = np.concatenate(predict(policy, episodes)).astype(np.float64)
    target = np.concatenate([episode.steering for episode in episodes]).astype(np.float64)
    squared = np.square(predicted - target).mean()
    variance = target.var()
    spread = predicted.std() * target.std()
    covariance = ((predicted - predicted.mean()) * (target - target.mean())).mean()
    return {
        "rmse": float(np.sqrt(squared)),
        "r2": float(1 - squared / variance) if variance > 1e-12 else 0.0,
        "correlation": float(covariance / spread) if spread > 1e-12 else 0.0,
    }
