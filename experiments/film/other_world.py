"""A film of a drive in an env that others made: its own picture, and the driver's frame, neurons and steering.

filmed = film_other_world(Take(policy, "ltc"), look_at_world("racetrack-v1"), seed=7, path=Path("drive.mp4"))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver, RescaledTime
from agents.driving.metrics import Drive
from agents.driving.other_world import OtherWorld
from agents.driving.recorded_world import RecordedWorld
from agents.driving.rollout import Step, rollout
from envs.dashboard.canvas import DRIVER, Picture, blank_picture
from envs.dashboard.layout import plan
from envs.dashboard.panels import Header, SeenPanel, SteeringPanel
from envs.perturbations import GaussianNoise, PerturbedEnv
from experiments.film.drive import Take
from experiments.film.films import InsidePanels, show_view, steering_strip
from experiments.film.reel import Filmed, Reel
from experiments.film.video import VideoWriter
from experiments.machine import one_thread
from policies.explain.saliency import Insight, look_inside


class OtherFilm:
    """Pictures of a drive whose road nobody has drawn."""

    def __init__(self, take: Take, world: OtherWorld | RecordedWorld, condition: str, aspect: float):
        """Lay out the panels.

        Args:
            take: who drives, and under what.
            world: where.
            condition: the same in words.
            aspect: columns by rows of the env's picture.
        """
        boxes, inside = plan(aspect), take.inside
        self._view = boxes.view
        self._header = Header(boxes.header, take.name, condition, take.is_clean)
        self._seen = SeenPanel(boxes.side, note="lit: where it looks" if inside is not None else "")
        self._steering = SteeringPanel(boxes.steering)
        self._inside = None
        if inside is not None:
            self._inside = InsidePanels(inside, boxes.inside, boxes.strip_bottom, world.period_s)
        below = boxes.strip_top if inside is not None else boxes.below
        self._strip = steering_strip(below, world.period_s, (("driver", DRIVER),))

    def draw(self, step: Step, view: NDArray[np.uint8], insight: Insight | None) -> Picture:
        """Draw one picture, uint8 `[720, 1280, 3]`."""
        picture, info = blank_picture(), step.info
        show_view(picture, view, self._view)
        told = [f"{info['time_s']:.1f} s"]
        told += [f"{info['progress_m']:.0f} m"] if "progress_m" in info else []
        told += [f"{info['speed_mps']:.1f} m/s"] if "speed_mps" in info else []
        status = "   ".join(told)
        self._header.draw(picture, f"left the road   {status}" if info["crashed"] else status, info["crashed"])
        if insight is None:
            self._seen.draw(picture, step.frame)
        else:
            self._seen.draw(picture, insight.seen.numpy(), insight.saliency.numpy())
            assert self._inside is not None
            self._inside.draw(picture, insight)
        self._steering.draw(picture, step.steering)
        self._strip.draw(picture, step.steering)
        return picture

    def end(self, picture: Picture, words: str, crashed: bool) -> Picture:
        """Return the last picture with how the drive went in its header."""
        picture = picture.copy()
        self._header.draw(picture, words, crashed)
        return picture


def film_other_world(
    take: Take, world: OtherWorld | RecordedWorld, seed: int, path: Path, on_frame: Callable[[], None] | None = None
) -> Filmed:
    """Drive in an env that others made and film it.

    Args:
        take: who drives, and under what.
        world: where, and for how long.
        seed: of the episode.
        path: the MP4 file.
        on_frame: called after each period.

    Raises:
        ValueError: if the env draws no picture, or cannot do what the perturbation needs.
        OSError: if the film cannot be written.
    """
    driver, drawn_from = take.driver(), seed if take.noise_seed is None else take.noise_seed
    timed = driver if driver.period_s is None else RescaledTime(driver, world.period_s / driver.period_s)
    film: OtherFilm | None = None
    last: Picture | None = None
    shown = 0

    def make_env(slot: int) -> gymnasium.Env[Any, Any]:
        env = world.make(*(driver.frame_size or (world.height, world.width)))
        return PerturbedEnv(env, take.perturbation, drawn_from) if take.perturbation else env

    noise = GaussianNoise(take.noise_variance) if take.noise_variance else None
    with one_thread(), VideoWriter(path, 1 / world.period_s) as writer:
        reel = Reel(writer, world.period_s, world.episode_s)

        def observe(step: Step) -> None:
            nonlocal film, last, shown
            env: Any = step.env.unwrapped
            # An env that renders nothing shows what the driver gets.
            view = step.frame if env.render_mode is None else np.array(env.render(), np.uint8)
            insight = None
            if isinstance(driver, PolicyDriver) and driver.state is not None:
                pixels = driver.preprocessing(torch.from_numpy(step.frame))
                insight = look_inside(driver.policy, pixels, driver.state, preprocessed=True)
            if film is None:
                film = OtherFilm(
                    take, world, f"{world.name}, seed {seed};  {take.wrong}", view.shape[1] / view.shape[0]
                )
            last = film.draw(step, view, insight)
            periods = max(1, round(step.info["time_s"] / world.period_s) - shown)
            shown += periods
            for _ in range(periods):
                reel.append(last)
                if on_frame is not None:
                    on_frame()

        (drive,) = rollout(timed, make_env, [seed], 1, perturbation=noise, noise_seed=drawn_from, observer=observe)
        assert film is not None and last is not None
        reel.close(drive.crashed, film.end(last, describe_other(drive), drive.crashed))
    return Filmed(writer.frame_count, reel.poster, reel.preview, drive)


def describe_other(drive: Drive) -> str:
    """Say in a few words how a drive went, as far as the env tells."""
    way = f"{drive.distance_m:.0f} m in " if math.isfinite(drive.distance_m) else ""
    if drive.crashed:
        return f"left the road after {way}{drive.duration_s:.0f} s"
    offset = float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
    off = f", {100 * offset:.1f} % of the lane width off its middle" if math.isfinite(offset) else ""
    return f"{way}{drive.duration_s:.0f} s without leaving the road{off}"
