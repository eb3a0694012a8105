"""A film of a driver on a simulated road, clean or perturbed.

filmed = film_drive(load_policy("runs/demo/policy"), LaneKeepingConfig(episode_s=20.0), seed=7, path=Path("drive.mp4"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

from agents.driving.driver import PolicyDriver, RescaledTime
from agents.driving.metrics import Drive
from agents.driving.rollout import Step, rollout
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import GaussianNoise, PerturbedEnv
from envs.scene.scene import Scene
from experiments.film.films import VIEW, DriveFilm, Moment
from experiments.film.reel import Filmed, Reel
from experiments.film.video import VideoWriter
from experiments.machine import one_thread
from policies.explain import look_inside
from policies.policy import DrivingPolicy

VIEW_PIXELS_PER_M = 128.0
"""Resolution of the road in the large picture of a film."""


def film_drive(
    policy: DrivingPolicy,
    world: LaneKeepingConfig,
    seed: int,
    path: Path,
    noise_variance: float = 0.0,
    on_frame: Callable[[], None] | None = None,
    perturbation: str = "",
    noise_seed: int | None = None,
) -> Filmed:
    """Drive one road and film it.

    Args:
        policy: the driver.
        world: where it drives and for how long; frames get the size that the policy sees.
        seed: of the road, the look and the start.
        path: the MP4 file.
        noise_variance: of the noise on the driver's frames.
        on_frame: called after each period.
        perturbation: what else goes wrong, in the syntax of `envs.perturbations.parse`.
        noise_seed: of the noise and the perturbation, as `agents.driving.trials.Trial` has it; `seed` when None.

    Returns:
        What the car did, and pictures.

    Raises:
        OSError: if the film cannot be written; an older one is still there then.
    """
    fit = policy.config.preprocessing
    world = replace(world, height=fit.source_height, width=fit.source_width)
    driver = PolicyDriver(policy)
    timed = RescaledTime(driver, world.period_s / policy.config.nominal_period_s)
    drawn_from = seed if noise_seed is None else noise_seed
    wrong = perturbation or (f"noise variance {noise_variance:g}" if noise_variance else "")
    reel: Reel | None = None
    panels: DriveFilm | None = None
    view: Scene | None = None
    with one_thread(), VideoWriter(path, 1 / world.period_s) as writer:
        reel = Reel(writer, world.period_s, world.episode_s)

        def observe(step: Step) -> None:
            nonlocal panels, view
            inside, info = step.env.unwrapped, step.info
            assert isinstance(inside, LaneKeepingEnv) and driver.state is not None
            if panels is None or view is None:
                panels = DriveFilm(policy, inside.track, world.period_s, f"road {step.seed}", wrong)
                view = _large_view(inside)
            pose = inside.vehicle_state
            large = view.frame(pose.x, pose.y, pose.yaw, float(inside.track.project((pose.x, pose.y)).s), pose.speed)
            moment = Moment(
                view=large,
                insight=look_inside(policy, torch.from_numpy(step.frame), driver.state),
                steering=step.steering,
                x=pose.x,
                y=pose.y,
                yaw=pose.yaw,
                offset_lane=info["lateral_offset_m"] / info["lane_width_m"],
                speed_mps=info["speed_mps"],
                time_s=info["time_s"],
                way_m=info["progress_m"],
                crashed=info["crashed"],
            )
            # Where an action is held for several periods, so is the picture.
            picture = panels.draw(moment)
            for _ in range(max(1, round(info["time_s"] / world.period_s) - reel.count)):
                reel.append(picture)
                if on_frame is not None:
                    on_frame()

        def make_env(slot: int) -> gymnasium.Env[Any, Any]:
            env = LaneKeepingEnv(world)
            return PerturbedEnv(env, perturbation, drawn_from) if perturbation else env

        noise = GaussianNoise(noise_variance) if noise_variance else None
        drive = rollout(timed, make_env, [seed], 1, perturbation=noise, noise_seed=drawn_from, observer=observe)[0]
        reel.close(describe_drive(drive))
    return Filmed(writer.frame_count, reel.poster, reel.preview, drive)


def describe_drive(drive: Drive) -> str:
    """Say in a few words how a drive went."""
    way = f"{drive.distance_m:.0f} m in {drive.duration_s:.0f} s"
    if drive.crashed:
        return f"left the road after {way}"
    offset = 100 * float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m
    return f"{way} without leaving the road, {offset:.1f} % of the lane width off its middle"


def _large_view(env: LaneKeepingEnv) -> Scene:
    """Return the same scene through the same camera, in the size of the film."""
    scene = env.scene
    height = min(VIEW.height, round(VIEW.width * env.config.height / env.config.width))
    width = round(height * env.config.width / env.config.height)
    return Scene(env.track, scene.look, scene.params, height, width, VIEW_PIXELS_PER_M)
