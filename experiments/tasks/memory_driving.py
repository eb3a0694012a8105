"""Driving that no single picture decides: which lane did the sign say, which bend was coming when it went dark?

An expert that sees everything drives and is recorded, with `lane_sign_delay_s` (task "sign") or `blackout_s` (task
"blackout") of LaneKeeping. Every core learns from that recording by imitation, with the same head, the same windows,
each a whole episode, and the same steps, from several seeds, and drives roads it has not seen.

The score is the lane error where memory decides: the mean distance from the lane to keep, as a share of its width, of
the frames after the lane should have been changed; or in the dark and the second after it. A frame that a car does not
reach because it left the road counts 1, which is also what the wrong lane counts. Drives to either lane count half,
however many they are: who always keeps to one lane has an error of half a lane.

    python -m experiments.tasks.memory_driving --task sign --cores liquid_s4 lrc_ssm lstm feedforward
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass
from tyro.conf import arg

from agents.driving.driver import PolicyDriver
from agents.driving.record import RecorderConfig, record
from agents.driving.rollout import Step, rollout
from agents.driving.statistics import ENOUGH_VALUES, student_mean
from agents.imitation.train import ImitationConfig, train_imitation
from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.splits import split_by_episode
from agents.runs.directory import open_run
from agents.runs.files import write_json
from envs import LANE_KEEPING
from envs.lane_keeping.config import LaneKeepingConfig
from envs.road.random_road import RandomRoadConfig
from experiments.cli import run_script
from experiments.console import check_json, plain, progress, say, table, write_results
from experiments.options import claim_alike
from policies.cores import CORES
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

AFTER_DARK_S = 1.0
"""Time after a blackout that still counts, seconds."""

VERB = "tasks memory_driving"
FREE = ("cores", "seeds", "workers", "out", "json")
"""Options that may change from one start to the next; all others shape the recording, a training or its score."""
ROAD_SEED = 1_000_000
"""Seed of the first road that is driven; those of the recording are far from it."""


@dataclass(frozen=True)
class Usual:
    """How a task is learnt and driven unless something else is asked for.

    Attributes:
        radius_m: smallest radius of a bend, m.
        speed_mps: range of speeds, m/s.
        episode_s: length of a drive, s.
        epochs: passes over the recording.
    """

    radius_m: float
    speed_mps: tuple[float, float]
    episode_s: float
    epochs: int


USUAL = {
    # Gentle bends, so that most of what is to be learnt is the change of lane.
    "sign": Usual(radius_m=3.0, speed_mps=(1.2, 2.0), episode_s=9.0, epochs=12),
    # Bends that are bends, and slow enough for them to be within sight before it goes dark.
    "blackout": Usual(radius_m=1.5, speed_mps=(0.6, 1.0), episode_s=15.0, epochs=24),
}


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class Options:
    """Learn to drive with a memory, and see whether it is there."""

    task: Literal["sign", "blackout"] = "sign"
    """"sign": an arrow says which lane to take later. "blackout": the camera goes dark before bends."""
    cores: tuple[str, ...] = ("liquid_s4", "lrc_ssm", "ltc", "cfc", "lstm", "gru", "transformer", "feedforward")
    """Cores to compare, each at its default size; the Transformer's window is an episode."""
    seeds: PositiveInt = 5
    """Trainings of each core."""
    delay_s: tuple[float, float] = (2.0, 4.0)
    """Range of the time between the two signs, s, for "sign"."""
    dark_s: tuple[float, float] = (0.5, 3.0)
    """Range of the length of a blackout, s, for "blackout"."""
    period_s: Annotated[float, Field(ge=0.01, le=1)] = 0.1
    """Time between frames, s."""
    radius_m: Annotated[float, Field(gt=0, le=100)] | None = None
    """Smallest radius of a bend, m; that of the task (`USUAL`) when left out, like the next two."""
    speed_mps: tuple[float, float] | None = None
    """Range of speeds, m/s."""
    episode_s: Annotated[float, Field(gt=0, le=600)] | None = None
    """Length of a drive, and of a training window, s."""
    frames: PositiveInt = 36_000
    """Frames that the expert records."""
    epochs: PositiveInt | None = None
    """Passes over the recording; those of the task when left out."""
    batch_size: PositiveInt = 8
    """Episodes to a step of training."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5e-3
    """Largest learning rate of every core."""
    steering_weight: Annotated[float, Field(ge=0, le=50)] = 2.0
    """How much more frames count that are steered hard, such as those in which the lane is changed."""
    roads: PositiveInt = 30
    """Roads that are driven, the same for all."""
    height: PositiveInt = 24
    """Rows of a frame, pixels."""
    width: PositiveInt = 48
    """Columns of a frame, pixels."""
    workers: PositiveInt = 1
    """Processes that record."""
    out: Path = Path("runs/tasks/memory_driving")
    """Directory of recording, trainings and figures; what is there is used again, by the same options."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write the figures as well."""
    quick: bool = False
    """A smoke test whose figures mean nothing."""

    def __post_init__(self) -> None:
        """Check the cores."""
        unknown = [core for core in self.cores if core not in CORES]
        if unknown or not self.cores:
            raise ValueError(f"cores must be some of {', '.join(CORES)}, got {', '.join(unknown) or 'none'}.")

    @property
    def drive_s(self) -> float:
        """Length of a drive, s."""
        return USUAL[self.task].episode_s if self.episode_s is None else self.episode_s

    @property
    def world(self) -> LaneKeepingConfig:
        """Where is recorded and driven: one look, steady cameras, so that memory is what is learnt."""
        usual = USUAL[self.task]
        return LaneKeepingConfig(
            vehicle="bicycle",
            period_s=self.period_s,
            roads=RandomRoadConfig(min_lane_radius_m=usual.radius_m if self.radius_m is None else self.radius_m),
            speed_mps=self.speed_mps or usual.speed_mps,
            height=self.height,
            width=self.width,
            variety=0.0,
            episode_s=self.drive_s,
            lane_sign_delay_s=self.delay_s if self.task == "sign" else None,
            blackout_s=self.dark_s if self.task == "blackout" else None,
        )


@dataclass
class Tally:
    """Lane errors of the frames that memory decides, drive by drive.

    Attributes:
        period_s: of a frame.
        errors: by the number of the drive.
        lit_s: time since it was dark, by the number of the drive.
        left: whether the left-hand lane was to be taken, by the number of the drive.
    """

    period_s: float
    errors: dict[int, list[float]] = field(default_factory=dict)
    lit_s: dict[int, float] = field(default_factory=dict)
    left: dict[int, bool] = field(default_factory=dict)

    def note(self, step: Step) -> None:
        """Look at a step; after a crash the rest of the planned time counts 1."""
        info, errors = step.info, self.errors.setdefault(step.order, [])
        if "dark" in info:
            self.lit_s[step.order] = 0.0 if info["dark"] else self.lit_s.get(step.order, math.inf) + self.period_s
            decisive = self.lit_s[step.order] <= AFTER_DARK_S
        else:
            decisive = info["lane_due"]
            self.left[step.order] = info["lane_signed"] > 0.0  # known however early the car leaves the road
        if decisive:
            errors.append(min(1.0, abs(info["lateral_offset_m"]) / info["lane_width_m"]))
        if step.terminated:
            world = step.env.unwrapped
            left = round((world.config.episode_s - info["time_s"]) / self.period_s)  # type: ignore[attr-defined]
            errors += [1.0] * left

    def score(self) -> float:
        """Return the mean over the lanes to take of the mean over drives of the mean over their frames."""
        lanes: dict[bool, list[float]] = {}
        for order, errors in self.errors.items():
            if errors:
                lanes.setdefault(self.left.get(order, False), []).append(float(np.mean(errors)))
        return float(np.mean([np.mean(drives) for drives in lanes.values()]))


def run(options: Options) -> dict[str, Any]:
    """Record, train, drive and print the table; returns the figures."""
    if options.quick:
        options = replace(
            options, seeds=1, frames=240, epochs=1, episode_s=6.0, delay_s=(1.0, 1.5), roads=2, cores=options.cores[:2]
        )
    check_json(options.json)
    with claim_alike(options.out / options.task, VERB, options, FREE) as directory:
        figures = _compare(options, directory.path)
    straight = float(np.mean([100 * score for score in _expert_scores(options)]))
    show(figures, options, straight)
    write_results(options.json, f"{VERB} {options.task}", options, {"cores": figures, "expert": straight})
    return figures


def _compare(options: Options, place: Path) -> dict[str, dict[str, Any]]:
    """Record, and train and drive every core from every seed, as far as that is not done."""
    with progress("recording the expert", options.frames) as bar:
        record(
            place / "recording",
            options.world,
            RecorderConfig(frames=options.frames),
            options.workers,
            lambda news: bar.advance(news.frames),
        )
    sets = split_by_episode(load_episodes(place / "recording"), 0.15)
    figures: dict[str, dict[str, Any]] = {}
    with progress("training and driving", len(options.cores) * options.seeds, "runs") as bar:
        for core in options.cores:
            scores, seconds = [], []
            for seed in range(options.seeds):
                score, took_s = learn_and_drive(core, seed, options, sets, place / core / f"seed-{seed}")
                scores.append(score)
                seconds.append(took_s)
                bar.advance()
            figures[core] = {"scores": scores, "seconds": seconds}
            say(f"{core}: {', '.join(f'{100 * score:.1f}' for score in scores)} % of a lane.")
    return figures


def learn_and_drive(
    core: str, seed: int, options: Options, sets: tuple[EpisodeSet, EpisodeSet], directory: Path
) -> tuple[float, float]:
    """Train and drive, or read what an earlier run with the same options has found.

    Returns:
        The lane error where memory decides, share of the lane, and the time that training took, s.
    """
    found = directory / "score.json"
    asked = {
        key: value
        for key, value in plain(options).items()
        if key not in ("cores", "seeds", "workers", "out", "json", "quick")
    }
    if found.exists():
        known = json.loads(found.read_text(encoding="utf-8"))
        if known["options"] == asked:
            return known["score"], known["seconds"]
    started_s = time.perf_counter()
    policy = learn(core, seed, options, sets, directory)
    took_s = time.perf_counter() - started_s
    score = drive(policy, options)
    write_json(found, {"options": asked, "score": score, "seconds": took_s})
    return score, took_s


def learn(
    core: str, seed: int, options: Options, sets: tuple[EpisodeSet, EpisodeSet], directory: Path
) -> DrivingPolicy:
    """Train one driver on windows that are whole episodes."""
    window = round(options.drive_s / options.world.period_s)
    config = PolicyConfig(
        core=core,
        core_options={"window": window} if core == "transformer" else {},
        preprocessing=Preprocessing(options.height, options.width, height=options.height, width=options.width),
        nominal_period_s=options.world.period_s,
    )
    learning = ImitationConfig(
        epochs=options.epochs or USUAL[options.task].epochs,
        batch_size=options.batch_size,
        window=window,
        burn_in=0,
        core_learning_rate=options.learning_rate,
        steering_weight=options.steering_weight,
        seed=seed,
    )
    with open_run(directory, VERB, learning, results=("score.json",)) as run:
        run.begin()
        return train_imitation(learning, config, *sets, run).policy


def drive(policy: DrivingPolicy, options: Options) -> float:
    """Drive the roads; returns the lane error where memory decides, share of the lane."""
    return _score(PolicyDriver(policy), options)


def _expert_scores(options: Options) -> NDArray[np.float64]:
    """Return what the expert reaches, which sees everything."""
    from agents.driving.expert import Expert

    return np.array([_score(Expert(), options)])


def _score(driver: Any, options: Options) -> float:
    world = options.world
    tally = Tally(world.period_s)
    rollout(
        driver,
        lambda slot: gymnasium.make(LANE_KEEPING, config=world, disable_env_checker=True),
        range(ROAD_SEED, ROAD_SEED + options.roads),
        observer=tally.note,
    )
    return tally.score()


def show(figures: dict[str, dict[str, Any]], options: Options, expert: float) -> None:
    """Print the table."""
    rows = []
    for core, one in figures.items():
        mean = student_mean([100 * score for score in one["scores"]])
        shown = f"{mean.value:.1f}" + (f" ± {mean.high - mean.value:.1f}" if mean.bounded else "")
        rows.append([core, shown, f"{np.mean(one['seconds']):.0f}"])
    rows.append(["the expert, which sees everything", f"{expert:.1f}", ""])
    title = f"{options.task}: lane error where memory decides, {options.roads} roads"
    table(title, ["core", "% of the lane", "s a training"], rows)
    if options.seeds >= ENOUGH_VALUES:
        say(f"± is a 95 % interval of the mean over {options.seeds} seeds (Student's t).")


if __name__ == "__main__":
    run_script(Options, run, description=__doc__)
