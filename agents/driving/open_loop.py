"""The one open loop: a driver on recorded frames. What would it have steered?

The recorded car does not react. Episodes run from their first frame to their last with the state carried, as on a road.

    predictions = predict(policy, episodes)  # float32 [T] for each episode
    for response in respond(driver, episodes, "fog:3"):  # what a driver steered on some frames of one episode
        error = response.steering - response.recorded

Frames may be perturbed. Blur, fog and shadows move as fast as the ground does: at so many camera heights a second. Most
recordings name the speed at best, so the height of the camera is guessed from the kind of vehicle, and the speed from
that where it is missing; those of ours know the whole camera.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import Driver, PolicyDriver
from agents.driving.metrics import Estimate, open_loop
from agents.recordings.episodes import ELAPSED_RANGE, Episode, EpisodeSet
from agents.runs.reading import damaged
from envs.camera.info import camera_info
from envs.camera.lens import CameraParams
from envs.perturbations import CameraInfo, PerturbedFrames, RecordedEpisode
from policies.policy import DrivingPolicy

CAMERA_M = {"car": 1.2, "udacity": 1.2}
"""Height of the camera above the road in vehicles of full size, m; in models it is that of `CameraInfo`."""
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
        self.clip = _camera_of(episode)
        self._episode = episode
        self._effects = RecordedEpisode(perturbation, seed, self.clip)

    @property
    def steering_sign(self) -> float:
        """By what the labels are to be multiplied: −1 where left and right are exchanged, else 1."""
        return self._effects.steering_sign

    def take(self, start: int, stop: int, frames: NDArray[np.uint8] | None = None) -> PerturbedFrames:
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
        return mean if np.isfinite(mean) else HEIGHTS_PER_S * self.clip.height_m


def _camera_of(episode: Episode) -> CameraInfo:
    """Describe the camera: as the recording knows it, else a guess by the kind of vehicle."""
    meta = episode.meta
    known = meta.extra.get("camera_params")
    if isinstance(known, Mapping):
        with damaged(Path(meta.source), "its camera_params should be those of a camera; record it again"):
            return camera_info(CameraParams(**known), meta.height, meta.width, meta.nominal_period_s)
    guess = CameraInfo(meta.height, meta.width, meta.nominal_period_s)
    return replace(guess, height_m=CAMERA_M[meta.vehicle]) if meta.vehicle in CAMERA_M else guess


def episode_seed(seed: int, number: int) -> int:
    """Return the seed of a perturbation in the n-th episode of a recording."""
    return int(np.random.default_rng([seed, number]).integers(2**62))


Perturbation = Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]]
"""Changes frames `[n, H, W, 3]`; draws from the generator it is given."""


@dataclass
class Response:
    """What a driver steered on some frames of one episode, in their order."""

    episode: int
    """Number of the episode."""
    index: NDArray[np.intp]
    """`[n]` which of its frames; some are left out where a perturbation drops frames."""
    frames: NDArray[np.uint8]
    """`[n, H, W, 3]` as the driver saw them."""
    steering: NDArray[np.float32]
    """`[n]` in [−1, 1], positive left."""
    recorded: NDArray[np.float32]
    """`[n]` the recorded steering, times `sign`."""
    sign: float
    """−1 where a perturbation exchanges left and right, else 1."""
    state: torch.Tensor | None
    """`[1, S]` state of a policy after the last of them; None for other drivers."""


def respond(
    driver: Driver,
    episodes: Sequence[Episode] | EpisodeSet,
    perturbation: str = "",
    noise: Perturbation | None = None,
    seed: int = 0,
    side_by_side: int = 1,
    steps: int = 64,
    on_frames: Callable[[int], None] | None = None,
) -> Iterator[Response]:
    """Show a driver recorded episodes, each from its first frame to its last.

    Args:
        driver: a `PolicyDriver`, or any other, which is shown one frame at a time.
        episodes: recorded at the size that the driver sees; elapsed times count in their nominal period.
        perturbation: in the syntax of `envs.perturbations.parse`.
        noise: changes the frames before the perturbation does.
        seed: of both; every episode has draws of its own from it and its number.
        side_by_side: episodes in one batch; drivers other than a `PolicyDriver` see one at a time.
        steps: most frames in a response.
        on_frames: called with the number of recorded frames done since the last call.

    Yields:
        What it steered, some frames at a time; those of one episode in order, episodes in between each other.

    Raises:
        ValueError: if the frames have another size than the driver sees, or the perturbation cannot be applied to
            recordings.
    """
    order = sorted(range(len(episodes)), key=lambda number: -len(episodes[number]))
    together = side_by_side if isinstance(driver, PolicyDriver) else 1
    for first in range(0, len(order), together):
        numbers = order[first : first + together]
        shown = [_shown(episodes[number], number, perturbation, noise, seed, steps, on_frames) for number in numbers]
        state: torch.Tensor | None = None
        rows = list(range(len(numbers)))
        while True:
            pieces = [(place, piece) for place, row in enumerate(rows) if (piece := next(shown[row], None)) is not None]
            if not pieces:
                break
            begins = state is None
            if state is not None:
                state = state[[place for place, _ in pieces]]
            rows = [rows[place] for place, _ in pieces]
            parts = [piece for _, piece in pieces]
            if isinstance(driver, PolicyDriver):
                steering, state = _sequences(driver, parts, state)
            else:
                steering = [_one_by_one(driver, parts[0], begins)]
                state = torch.empty(1, 0)
            for place, (row, piece) in enumerate(zip(rows, parts, strict=True)):
                episode = episodes[numbers[row]]
                recorded = piece.sign * episode.steering[piece.index]
                own = state[place : place + 1] if isinstance(driver, PolicyDriver) else None
                yield Response(numbers[row], piece.index, piece.frames, steering[place], recorded, piece.sign, own)


@dataclass
class _Piece:
    """Frames `[n, H, W, 3]` to show next, with their times `[n]` and numbers `[n]`, and the sign of the labels."""

    frames: NDArray[np.uint8]
    elapsed: NDArray[np.float32]
    index: NDArray[np.intp]
    sign: float


def _shown(
    episode: Episode,
    number: int,
    perturbation: str,
    noise: Perturbation | None,
    seed: int,
    steps: int,
    on_frames: Callable[[int], None] | None,
) -> Iterator[_Piece]:
    """Give the frames of an episode that a driver is shown, `steps` at a time but for the last ones."""
    recording = PerturbedRecording(episode, perturbation, episode_seed(seed, number))
    draws = np.random.default_rng([seed, number])
    waiting: _Piece | None = None
    for start in range(0, len(episode), steps):
        stop = min(start + steps, len(episode))
        frames = None if noise is None else noise(episode.frames(start, stop), draws)
        shown = recording.take(start, stop, frames)
        piece = _Piece(
            shown.frames, np.clip(shown.elapsed, *ELAPSED_RANGE), start + shown.kept, recording.steering_sign
        )
        if waiting is not None:
            # Pieces are made whole again where frames were left out, so that episodes run in step.
            piece = _Piece(
                np.concatenate([waiting.frames, piece.frames]),
                np.concatenate([waiting.elapsed, piece.elapsed]),
                np.concatenate([waiting.index, piece.index]),
                piece.sign,
            )
        if on_frames is not None:
            on_frames(stop - start)
        whole = len(piece.index) if stop == len(episode) else len(piece.index) // steps * steps
        for begin in range(0, whole, steps):
            part = slice(begin, min(begin + steps, whole))
            yield _Piece(piece.frames[part], piece.elapsed[part], piece.index[part], piece.sign)
        waiting = _Piece(piece.frames[whole:], piece.elapsed[whole:], piece.index[whole:], piece.sign)


def _sequences(
    driver: PolicyDriver, pieces: Sequence[_Piece], state: torch.Tensor | None
) -> tuple[list[NDArray[np.float32]], torch.Tensor]:
    """Steer through B pieces at once; shorter ones, which are the last of their episodes, are filled up."""
    longest = max(len(piece.index) for piece in pieces)
    frames = np.zeros((len(pieces), longest, *pieces[0].frames.shape[1:]), np.uint8)
    elapsed = np.ones((len(pieces), longest), np.float32)
    for row, piece in enumerate(pieces):
        frames[row, : len(piece.index)] = piece.frames
        elapsed[row, : len(piece.index)] = piece.elapsed
    steering, state = driver.steer_sequences(frames, elapsed, state)
    return [steering[row, : len(piece.index)] for row, piece in enumerate(pieces)], state


def _one_by_one(driver: Driver, piece: _Piece, begins: bool) -> NDArray[np.float32]:
    """Steer through a piece, frame by frame."""
    steered = [
        driver.act(piece.frames[step][None], piece.elapsed[step : step + 1], np.array([begins and step == 0]), ())[0, 0]
        for step in range(len(piece.index))
    ]
    return np.array(steered, np.float32)


def as_driver(driver: DrivingPolicy | Driver, preprocessed: bool = False) -> Driver:
    """Return a driver as it is, and a policy as a driver; `preprocessed` as `DrivingPolicy.forward` has it."""
    if not isinstance(driver, DrivingPolicy):
        return driver
    return PolicyDriver(driver, driver.config.preprocessing.after if preprocessed else None)


def predict(
    driver: DrivingPolicy | Driver,
    episodes: Sequence[Episode] | EpisodeSet,
    side_by_side: int = 16,
    steps: int = 64,
    perturbation: Perturbation | None = None,
    seed: int = 0,
    on_frames: Callable[[int], None] | None = None,
    preprocessed: bool = False,
) -> list[NDArray[np.float32]]:
    """Run a driver over recorded episodes.

    Args:
        driver: a policy, whose mode (training or evaluation) is put back afterwards, or any driver.
        episodes: recorded at the size that it sees.
        side_by_side: episodes in one batch.
        steps: frames in one call.
        perturbation: changes the frames before the driver sees them.
        seed: seed of the perturbation; every episode has a generator of its own.
        on_frames: called with the number of frames done since the last call.
        preprocessed: whether the frames are cropped and resized already, as a policy does it.

    Returns:
        Predicted steering in [−1, 1], float32 `[T]`, for each episode.

    Raises:
        ValueError: if the frames have another size than the driver sees.
    """
    training = isinstance(driver, DrivingPolicy) and driver.training
    parts: list[list[NDArray[np.float32]]] = [[] for _ in episodes]
    try:
        for response in respond(
            as_driver(driver, preprocessed), episodes, "", perturbation, seed, side_by_side, steps, on_frames
        ):
            parts[response.episode].append(response.steering)
    finally:
        if isinstance(driver, DrivingPolicy):
            driver.train(training)
    return [np.concatenate(part) for part in parts]


def evaluate_open_loop(
    driver: DrivingPolicy | Driver,
    episodes: EpisodeSet,
    training_mean: float,
    noise: Perturbation | None = None,
    seed: int = 0,
    on_frames: Callable[[int], None] | None = None,
    preprocessed: bool = False,
    perturbation: str = "",
) -> dict[str, Estimate]:
    """Return the figures of `agents.driving.metrics.open_loop` for a driver on recorded episodes.

    Where frames are left out, the driver answers for those that it is shown; where left and right are exchanged, so are
    the labels.

    Args:
        driver: a policy, in evaluation mode from here on, or any driver.
        episodes: recorded at the size that it sees.
        training_mean: what the driver that R² compares with always steers.
        noise: changes the frames before the perturbation does.
        seed: of noise and perturbation, together with the episode's number.
        on_frames: called with the number of recorded frames done since the last call.
        preprocessed: whether the frames are cropped and resized already, as a policy does it.
        perturbation: in the syntax of `envs.perturbations.parse`.

    Raises:
        ValueError: if a perturbation does not exist or cannot be applied to recordings.
    """
    steered: list[list[NDArray[np.float32]]] = [[] for _ in episodes]
    recorded: list[list[NDArray[np.float32]]] = [[] for _ in episodes]
    for response in respond(
        as_driver(driver, preprocessed), episodes, perturbation, noise, seed, 16, on_frames=on_frames
    ):
        steered[response.episode].append(response.steering)
        recorded[response.episode].append(response.recorded)
    predictions, targets = ([np.concatenate(part) for part in parts] for parts in (steered, recorded))
    return open_loop(predictions, targets, training_mean, seed=seed)


def score(driver: DrivingPolicy | Driver, episodes: EpisodeSet, preprocessed: bool = False) -> dict[str, float]:
    """Return RMSE, R² and correlation on recorded episodes, without intervals: the figures of a validation pass."""
    predicted = np.concatenate(predict(driver, episodes, preprocessed=preprocessed)).astype(np.float64)
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
