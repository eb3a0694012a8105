"""DAgger for recurrent drivers: the driver drives, the expert says what it should have done, and the data set grows.

Imitation alone sees the states that the expert visits. Dataset aggregation (Ross, Gordon and Bagnell, *A Reduction of
Imitation Learning and Structured Prediction to No-Regret Online Learning*, AISTATS 2011, algorithm 3.1) adds those that
the driver visits: in round i each stretch of `hold_s` is driven by the expert with the probability βᵢ = decayⁱ, else by
the driver, and the expert labels every frame. The driver's state runs through all frames, whoever is at the wheel.

Where the driver strays past a bound, the expert takes over until the car is back (an intervention, as a person beside
the driver would): how often, per kilometre, is what the driver is measured by. The data are a data set of this project,
and complete episodes are kept: who is stopped and starts again makes only what is missing.

    mixed = MixedDriver(PolicyDriver(policy), Expert(), DaggerConfig(), share=0.5)
    collect("runs/dagger/data", world, mixed, first=4, count=8, round_number=1)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass as checked_dataclass

from agents.driving.adapted.driver import AdaptedDriver
from agents.driving.car import car_of_env, rig_of_env
from agents.driving.driver import Driver
from agents.driving.expert import Disturbance, DisturbanceConfig, Expert
from agents.driving.record import attempt_seed, remove_leftovers
from agents.driving.recorded_world import World, make_world_env
from agents.driving.rollout import Step, drive_episodes
from agents.driving.statistics import Estimate, poisson_rate
from agents.recordings.episodes import Episode, EpisodeMeta
from agents.recordings.native import episode_directories
from agents.recordings.writer import EpisodeRecording, EpisodeWriter
from envs.lane_keeping.config import LaneKeepingConfig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SIDE_BY_SIDE = 4
"""Episodes that are driven at the same time."""


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class DaggerConfig:
    """How the data set grows."""

    rounds: Annotated[int, Field(ge=1, le=10_000)] = 4
    """Rounds after the first one, in which the expert drives alone."""
    frames: Annotated[int, Field(ge=1, le=1_000_000_000)] = 2000
    """Frames of a round, all of them labelled by the expert."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the driving that the expert keeps falls by this factor from round to round."""
    hold_s: Positive = 1.0
    """Time for which whoever is drawn stays at the wheel, seconds."""
    bound: Annotated[float, Field(gt=0, le=2)] = 0.3
    """Offset, as a share of the lane width, past which the expert takes over."""
    back: Annotated[float, Field(gt=0, le=2)] = 0.1
    """Offset, as a share of the lane width, within which it hands back."""
    least_s: Positive = 0.5
    """Time for which it keeps the wheel at least, seconds."""
    disturbance: DisturbanceConfig = DisturbanceConfig()
    """Pushes on the wheel in the first round, that the expert recovers from."""
    seed: NonNegativeInt = 0
    """Seed of all roads, looks, starts and draws."""

    def __post_init__(self) -> None:
        """Check that the expert hands back nearer than it takes over."""
        if self.back >= self.bound:
            raise ValueError(f"back must be less than bound = {self.bound:g}, got {self.back:g}.")


@dataclass
class Interventions:
    """How often the expert had to take over."""

    count: int = 0
    """Times."""
    driven_m: float = 0.0
    """Way that the driver made itself, m."""
    crashes: int = 0
    """Episodes that ended in a crash all the same."""
    frames: int = 0
    """Frames driven, by whomever."""
    corrected: int = 0
    """Of these, frames at which the driver took the world for one that it has a correction for."""

    @property
    def per_km(self) -> float:
        """Interventions per kilometre that the driver drove itself."""
        return self.count / (self.driven_m / 1000.0) if self.driven_m > 0 else float("nan")

    @property
    def rate(self) -> Estimate:
        """Interventions per kilometre with the exact 95 % interval of a Poisson rate."""
        return poisson_rate(self.count, self.driven_m / 1000.0)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; None per kilometre where the driver drove nowhere."""
        rate = self.rate.to_json()
        return {**vars(self), "per_km": rate["value"], "per_km_95": [rate["low"], rate["high"]]}


@dataclass
class _Wheel:
    """Who drives one car."""

    expert: bool = False
    took_over: bool = False
    until_s: float = 0.0
    progress_m: float = 0.0
    label: float = 0.0


class MixedDriver:
    """The driver, with an expert beside it that labels everything, drives its share, and takes over.

    Attributes:
        interventions: of all episodes so far.
        labels: `[B]` what the expert would have steered in the last call.
        at_wheel: `[B]` True where the expert steered.
        took_over: `[B]` True where it steered because the driver had strayed.
    """

    def __init__(
        self,
        driver: Driver | None,
        expert: Expert,
        config: DaggerConfig,
        share: float,
        seed: Sequence[int] = (0,),
    ):
        """Seat both.

        Args:
            driver: who learns; None lets the expert drive alone.
            expert: who labels.
            config: bounds and times.
            share: of the stretches that the expert drives, in [0, 1].
            seed: of the draws; that of a run and the number of its round, so that no two runs share the draws of any.
        """
        self.driver, self.expert, self.config, self.share = driver, expert, config, share
        self.interventions = Interventions()
        self._draws = np.random.default_rng([7, *seed])
        self._wheels: dict[int, _Wheel] = {}
        self._pushes: dict[int, Disturbance] = {}

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer; see `agents.driving.driver.Driver`."""
        steered = self.driver.act(frames, elapsed, starts, envs)[:, 0] if self.driver is not None else None
        actions = np.zeros((len(frames), 1), np.float32)
        self.labels = np.zeros(len(frames), np.float32)
        self.at_wheel, self.took_over = np.zeros(len(frames), bool), np.zeros(len(frames), bool)
        for row, env in enumerate(envs):
            info = env.unwrapped.status()  # type: ignore[attr-defined]
            if starts[row] and float(info["time_s"]) > 0.0:
                continue  # No episode runs in this row any more; the frame is another row's.
            if starts[row]:
                self._wheels[row] = _Wheel()
            wheel = self._wheels[row]
            self._seat(wheel, info)
            label = self.expert.steer(env)
            self.labels[row], self.at_wheel[row], self.took_over[row] = label, wheel.expert, wheel.took_over
            if wheel.expert or steered is None:
                push = self._push(row, bool(starts[row]), env) if steered is None else 0.0
                actions[row, 0] = min(max(label + push, -1.0), 1.0)
            else:
                actions[row, 0] = steered[row]
            if isinstance(self.driver, AdaptedDriver):
                self.driver.steered[row] = actions[row, 0]
                self.interventions.corrected += bool(self.driver.world[row])
        return actions

    def _seat(self, wheel: _Wheel, info: dict[str, Any]) -> None:
        """Say who drives from here on, and count."""
        config, now_s, way_m = self.config, float(info["time_s"]), float(info["progress_m"])
        if now_s == 0.0:
            wheel.progress_m = way_m
        if not wheel.expert:
            self.interventions.driven_m += max(way_m - wheel.progress_m, 0.0)
        wheel.progress_m = way_m
        self.interventions.frames += 1
        if self.driver is None:
            wheel.expert = True
            return
        strayed = abs(float(info["lateral_offset_m"])) / float(info["lane_width_m"])
        if not wheel.expert and now_s > 0.0 and strayed > config.bound:
            self.interventions.count += 1
            wheel.expert, wheel.took_over, wheel.until_s = True, True, now_s + config.least_s
        elif wheel.took_over:
            if now_s >= wheel.until_s and strayed < config.back:
                wheel.expert = wheel.took_over = False
                wheel.until_s = now_s
        elif now_s >= wheel.until_s:
            wheel.expert = bool(self._draws.random() < self.share)
            wheel.until_s = now_s + config.hold_s

    def _push(self, row: int, start: bool, env: gymnasium.Env[Any, Any]) -> float:
        if start or row not in self._pushes:
            period_s = float(getattr(env.unwrapped, "period_s", 0.0) or env.unwrapped.config.period_s)  # type: ignore[attr-defined]
            generator = np.random.default_rng(int(self._draws.integers(2**62)))
            self._pushes[row] = Disturbance(self.config.disturbance, period_s, generator)
        return self._pushes[row].step()


def collect(
    directory: str | os.PathLike[str],
    world: World,
    mixed: MixedDriver,
    numbers: Sequence[int],
    seed: int,
    round_number: int = 0,
    make_env: Callable[[World], gymnasium.Env[Any, Any]] = make_world_env,
    on_frames: Callable[[int], None] | None = None,
) -> Interventions:
    """Drive episodes and add them to a data set, every frame with the expert's label.

    Args:
        directory: of the data set; made when absent. Episodes whose number is there already are left out.
        world: where; an episode lasts `episode_s`.
        mixed: who drives.
        numbers: of the episodes.
        seed: of their roads, looks and starts, together with their numbers.
        round_number: noted with the episodes.
        make_env: makes the env of the world.
        on_frames: called with the frames driven since the last call.

    Returns:
        The interventions in these episodes.
    """
    place = EpisodeWriter(directory).directory
    remove_leftovers(place)
    there = {path.name for path in episode_directories(place)}
    wanted = [number for number in numbers if f"episode_{number:06d}" not in there]
    before = replace(mixed.interventions)
    if not wanted:
        return Interventions()
    length = max(1, round(world.episode_s / world.period_s))
    longer = replace(world, episode_s=4 * world.episode_s)  # steps are counted; the env's own limit comes later
    envs = [TimeLimit(make_env(longer), length) for _ in range(min(SIDE_BY_SIDE, len(wanted)))]
    rows = {id(env): row for row, env in enumerate(envs)}
    open_episodes: dict[int, EpisodeRecording] = {}

    def note(step: Step) -> None:
        row = rows[id(step.env)]
        if step.order not in open_episodes:
            meta = _meta(step.env, world, step.seed, step.seen_info, round_number, mixed.expert)
            open_episodes[step.order] = EpisodeWriter(directory).episode(meta, wanted[step.order])
        recording = open_episodes[step.order]
        recording.append(
            step.frame,
            float(mixed.labels[row]),
            float(step.seen_info["time_s"]),
            steered=np.float32(step.steering),
            lateral_offset_m=np.float32(step.seen_info["lateral_offset_m"]),
            speed_mps=np.float32(step.seen_info["speed_mps"]),
            expert_drove=bool(mixed.at_wheel[row]),
            taken_over=bool(mixed.took_over[row]),
        )
        if step.ended:
            crashed = bool(step.info["crashed"])
            mixed.interventions.crashes += crashed
            recording.meta = replace(recording.meta, extra={**recording.meta.extra, "crashed": crashed})
            open_episodes.pop(step.order).finish()

    try:
        seeds = [attempt_seed(seed, number) for number in wanted]
        drive_episodes(mixed, envs, seeds, observer=note, on_step=on_frames)
    finally:
        for recording in open_episodes.values():
            recording.abort()
        for env in envs:
            env.close()
    now = mixed.interventions
    return Interventions(
        now.count - before.count,
        now.driven_m - before.driven_m,
        now.crashes - before.crashes,
        now.frames - before.frames,
    )


def count_interventions(episodes: Iterable[Episode]) -> Interventions:
    """Count interventions in episodes that `collect` has written."""
    found = Interventions()
    for episode in episodes:
        taken = np.asarray(episode.extras["taken_over"], bool)
        found.count += int((np.diff(taken.astype(np.int8), prepend=0) > 0).sum())
        own = ~np.asarray(episode.extras["expert_drove"], bool)
        held_s = np.diff(episode.time_s, append=episode.time_s[-1] + episode.meta.nominal_period_s)
        found.driven_m += float((own * held_s * episode.extras["speed_mps"]).sum())
        found.crashes += bool(episode.meta.extra.get("crashed"))
        found.frames += len(episode)
    return found


def episodes_of_round(config: DaggerConfig, world: World, round_number: int) -> list[int]:
    """Return the numbers of a round's episodes in the data set: two or more, since one is held out for validation."""
    length = max(1, round(world.episode_s / world.period_s))
    count = max(2, -(-config.frames // length))
    return list(range(round_number * count, (round_number + 1) * count))


def share_of_round(config: DaggerConfig, round_number: int) -> float:
    """Return the share of the driving that the expert keeps in a round; all of it in round 0."""
    return config.decay**round_number


def _meta(
    env: gymnasium.Env[Any, Any], world: World, seed: int, info: dict[str, Any], round_number: int, expert: Expert
) -> EpisodeMeta:
    lane_width_m = float(info["lane_width_m"])
    extra: dict[str, Any] = {"lane_width_m": lane_width_m, "round": round_number}
    vehicle, renderer = "recorded", "reprojected"
    if isinstance(world, LaneKeepingConfig):
        vehicle, renderer = world.vehicle, world.renderer
        car = car_of_env(env, lane_width_m).to_json() | {"lookahead_s": expert.config.lookahead_s}
        extra |= {"car": car, **rig_of_env(env)}
    return EpisodeMeta("dagger", world.period_s, vehicle=vehicle, renderer=renderer, seed=seed, extra=extra)


def data_of(directory: Path) -> Path:
    """Return where a run of DAgger keeps its data set."""
    return directory / "data"
