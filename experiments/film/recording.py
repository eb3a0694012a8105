"""A film of a driver that is shown a recorded episode: what it would have steered, beside the human.

film_recording(PolicyDriver(policy), load_episodes("tub")[0], Path("tub.mp4"), title="tub")
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from agents.driving.driver import PolicyDriver
from agents.driving.open_loop import respond
from agents.recordings.episodes import Episode, EpisodeSet
from envs.perturbations import GaussianNoise
from experiments.film.films import RecordingFilm
from experiments.film.reel import Filmed, Reel
from experiments.film.video import VideoWriter
from experiments.machine import one_thread
from policies.explain.saliency import look_inside


def film_recording(
    driver: PolicyDriver,
    episode: Episode,
    path: Path,
    name: str,
    title: str,
    seconds: float = 30.0,
    noise_variance: float = 0.0,
    seed: int = 0,
    on_frame: Callable[[], None] | None = None,
    perturbation: str = "",
) -> Filmed:
    """Show a driver a recorded episode and film what it would have steered.

    Args:
        driver: the driver, with the preprocessing that fits the frames.
        episode: recorded at the size that its preprocessing names as source.
        path: the MP4 file.
        name: of the driver.
        title: of the recording.
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
    policy = driver.policy
    timed = EpisodeSet((episode.slice(0, steps),)).with_nominal_period(policy.config.nominal_period_s)
    noise = GaussianNoise(noise_variance) if noise_variance else None
    height, width = episode.frames(0, 1).shape[1:3]
    wrong = perturbation or (f"noise variance {noise_variance:g}" if noise_variance else "")
    panels = RecordingFilm(policy, period_s, name, f"{title};  {wrong}" if wrong else title, width / height)
    with one_thread(), VideoWriter(path, 1 / period_s) as writer:
        reel = Reel(writer, period_s, steps * period_s)

        def advance_to(step: int) -> None:
            while reel.count < step:
                reel.stay()
                if on_frame is not None:
                    on_frame()

        for response in respond(driver, timed, perturbation, noise, seed, steps=1):
            step = int(response.index[0])
            advance_to(step)
            assert response.state is not None
            seen = driver.preprocessing(torch.from_numpy(response.frames[0]))
            insight = look_inside(policy, seen, response.state, preprocessed=True)
            human, steering = float(response.recorded[0]), float(response.steering[0])
            time_s = float(episode.time_s[step] - episode.time_s[0])
            reel.append(panels.draw(episode.frames(step, step + 1)[0], insight, steering, human, time_s))
            if on_frame is not None:
                on_frame()
        advance_to(steps)
        reel.close()
    return Filmed(writer.frame_count, reel.poster, reel.preview)
