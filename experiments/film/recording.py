"""A film of a driver that is shown a recorded episode: what it would have steered, beside the human.

film_recording(policy, load_episodes("tub")[0], Path("tub.mp4"), title="tub")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from agents.driving.open_loop import PerturbedRecording
from agents.recordings.episodes import Episode, EpisodeSet
from envs.perturbations import GaussianNoise
from experiments.film.films import RecordingFilm
from experiments.film.reel import Filmed, Reel
from experiments.film.video import VideoWriter
from experiments.machine import one_thread
from policies.explain import look_inside
from policies.policy import DrivingPolicy


def film_recording(
    policy: DrivingPolicy,
    episode: Episode,
    path: Path,
    title: str,
    seconds: float = 30.0,
    noise_variance: float = 0.0,
    seed: int = 0,
    on_frame: Callable[[], None] | None = None,
    perturbation: str = "",
) -> Filmed:
    """Show a driver a recorded episode and film what it would have steered.

    Args:
        policy: the driver.
        episode: recorded at the size that the policy sees.
        path: the MP4 file.
        title: a few words in the picture.
        seconds: longest film.
        noise_variance: of the noise on the driver's frames.
        seed: of the noise and the perturbation.
        on_frame: called after each picture.
        perturbation: what else goes wrong, in the syntax of `envs.perturbations.parse`. While frames are left out, the
            film stays on the last picture.

    Returns:
        Pictures.

    Raises:
        ValueError: if the frames have another size than the policy sees, or the perturbation cannot be applied to a
            recording.
        OSError: if the film cannot be written.
    """
    period_s = episode.meta.nominal_period_s
    steps = min(len(episode), max(1, round(seconds / period_s)))
    policy.eval()
    timed = EpisodeSet((episode,)).with_nominal_period(policy.config.nominal_period_s)[0]
    noise, generator = GaussianNoise(noise_variance), np.random.default_rng(seed)
    limit = min(1.0, 1.15 * float(np.abs(episode.steering[:steps]).max(initial=0.1)))
    panels = RecordingFilm(policy, period_s, title, limit)
    state: torch.Tensor | None = None
    perturbed = PerturbedRecording(timed, perturbation, seed)
    with one_thread(), VideoWriter(path, 1 / period_s) as writer:
        reel = Reel(writer, period_s, steps * period_s)
        for step in range(steps):
            clean = episode.frames(step, step + 1)
            shown = perturbed.take(step, step + 1, noise(clean, generator))
            if not len(shown.frames):
                reel.stay()
            else:
                frames, elapsed = torch.from_numpy(shown.frames), torch.from_numpy(shown.elapsed)
                with torch.inference_mode():
                    steering, state = policy(frames[None], state, elapsed[None])
                insight = look_inside(policy, frames[0], state)
                human = perturbed.steering_sign * float(episode.steering[step])
                time_s = float(episode.time_s[step] - episode.time_s[0])
                reel.append(panels.draw(clean[0], insight, float(steering[0, 0, 0]), human, time_s))
            if on_frame is not None:
                on_frame()
    return Filmed(writer.frame_count, reel.poster, reel.preview)
