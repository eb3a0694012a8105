"""How many of an expert's frames does a driver need: imitation with all of them, DAgger with a quarter.

    python -m experiments.dagger_frames --out runs/dagger-frames

Imitation learns from `frames` recorded by the disturbed expert; DAgger from a quarter as many labelled frames in all,
in rounds. Both make as many gradient steps, see the same world, and drive the same unseen roads; one driver a seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from agents.driving.paired_shares import paired_share_difference
from agents.driving.record import RecorderConfig, record
from agents.driving.statistics import Estimate, bootstrap, poisson_rate
from agents.driving.trials import Run, Trial, drive_trials
from agents.imitation.dagger import DaggerConfig
from agents.imitation.train import ImitationConfig
from agents.recordings import load_episodes
from agents.runs.files import write_json
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.cli import run_script
from experiments.console import say, table
from experiments.options import claim_alike
from experiments.train_dagger import VALIDATION, WORLD, TrainDaggerOptions
from experiments.train_dagger import run as train_dagger
from experiments.train_imitation import TrainOptions
from experiments.train_imitation import run as train_imitation
from experiments.training_sets import FrameOptions, SplitOptions

VERB = "dagger_frames"
FREE = ("out", "seeds", "roads", "episode_s", "workers")
"""Options that may change when what stands in --out is kept."""
NAMES = ("imitation", "dagger")
"""What is compared, in the order of the table."""
UNSEEN_SEED = 900_000
"""Seed of the first road that the drivers are measured on."""


@dataclass(frozen=True, config={"extra": "forbid"})
class DaggerFramesOptions:
    """Measure imitation on all of an expert's frames against DAgger on a quarter of them."""

    out: Path = Path("runs/dagger-frames")
    """Directory; what stands there is kept and not made again."""
    frames: PositiveInt = 9600
    """Frames that imitation learns from."""
    height: PositiveInt = 24
    """Rows of the frames; small ones, so that all of it takes minutes."""
    width: PositiveInt = 48
    """Columns of the frames."""
    variety: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Variety of looks and cameras, in training and on the unseen roads."""
    epochs: PositiveInt = 8
    """Epochs of imitation; DAgger's rounds have as many passes as make the same number of gradient steps at the end."""
    rounds: PositiveInt = 3
    """Rounds of DAgger after the first."""
    core: str = "ltc"
    """Recurrent core."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds, each with data, weights and draws of its own."""
    roads: PositiveInt = 20
    """Unseen roads for each driver."""
    episode_s: Annotated[float, Field(gt=0)] = 30.0
    """Length of a drive on them, s."""
    workers: PositiveInt = 1
    """Processes that record and drive."""


def run(options: DaggerFramesOptions) -> dict[str, Any]:
    """Train both for every seed, drive, compare."""
    _check_rounds(options)
    with claim_alike(options.out, VERB, options, FREE):
        return _compare(options)


def _compare(options: DaggerFramesOptions) -> dict[str, Any]:
    out = options.out
    world = replace(WORLD, vehicle="bicycle", height=options.height, width=options.width, variety=options.variety)
    figures: dict[str, Any] = {"options": json.loads(json.dumps(asdict(options), default=str)), "seeds": {}}
    for seed in options.seeds:
        policies = {
            "imitation": _imitation(out / f"imitation-{seed}", options, world, seed),
            "dagger": _dagger(out / f"dagger-{seed}", options, world, seed),
        }
        driven = _drive(policies, options, world, seed)
        figures["seeds"][str(seed)] = driven
        say(f"seed {seed}: " + ", ".join(f"{name} {sum(row['crashed'])} crashes" for name, row in driven.items()))
    rows = []
    for name in NAMES:
        some = [row[name] for row in figures["seeds"].values()]
        crashed = [one for row in some for one in row["crashed"]]
        offsets = np.array([one for row in some for one in row["offset_lane"]])
        rate = poisson_rate(sum(crashed), sum(sum(row["distance_m"]) for row in some) / 1000)
        offset = _mean(offsets)
        each = " + ".join(str(sum(row["crashed"])) for row in some)
        frames = _labelled(out, name, options)
        rows.append([name, f"{frames:,}", f"{each} of {len(crashed)}", rate.text(2), offset.text(1, 100)])
        figures[name] = {"frames": frames, "crashes": sum(crashed), "crashes_per_km": rate.to_json()}
    pairs = [[one for row in figures["seeds"].values() for one in row[name]["crashed"]] for name in reversed(NAMES)]
    more = paired_share_difference(*pairs)
    figures["dagger_minus_imitation"] = more.to_json()
    columns = ["", "labelled frames", "crashes", "crashes per km", "mean offset, % of lane"]
    drivers = f"{len(options.seeds)} seeds, {options.roads} unseen roads each"
    table(f"{drivers}, 95 % intervals over the roads for these drivers", columns, rows)
    say(f"share of the roads on which DAgger crashed minus imitation's: {more.text(0, 100)} %")
    write_json(out / "summary.json", figures)
    return figures


def _drive(
    policies: Mapping[str, Path], options: DaggerFramesOptions, world: LaneKeepingConfig, seed: int
) -> dict[str, Any]:
    """Drive a seed's unseen roads with both; what stands by the same options is not driven again."""
    path, asked = options.out / f"drives-{seed}.json", [options.roads, options.episode_s]
    if path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there["asked"] == asked:
            return dict(there["drives"])
    unseen = replace(world, episode_s=options.episode_s, start_offset=0.15, start_heading_rad=0.1)
    runs = tuple(Run(UNSEEN_SEED + 1000 * seed + number) for number in range(options.roads))
    drives = drive_trials([Trial(place, unseen, runs) for place in policies.values()], options.workers)
    driven = {
        name: {
            "crashed": [bool(drive.crashed) for drive in some],
            "distance_m": [drive.distance_m for drive in some],
            "offset_lane": [float(np.abs(drive.lateral_offset_m).mean()) / drive.lane_width_m for drive in some],
        }
        for name, some in zip(policies, drives, strict=True)
    }
    write_json(path, {"asked": asked, "drives": driven})
    return driven


def _mean(values: NDArray[np.float64]) -> Estimate:
    return bootstrap(lambda chosen: float(values[chosen].mean()), len(values))


def _check_rounds(options: DaggerFramesOptions) -> None:
    """Check that DAgger gets no more than a quarter of the frames.

    Raises:
        ValueError: if its rounds do not hold whole episodes.
    """
    each, length = options.frames // 4 // (options.rounds + 1), round(WORLD.episode_s / WORLD.period_s)
    if each % length:
        whole = 4 * (options.rounds + 1) * length
        raise ValueError(
            f"--frames {options.frames} gives DAgger {each} frames a round, which are no whole episodes of {length}: "
            f"take a multiple of {whole}."
        )


def _labelled(out: Path, name: str, options: DaggerFramesOptions) -> int:
    """Return how many labelled frames a driver learnt from: the most of any seed."""
    places = [out / f"{name}-{seed}" / "data" for seed in options.seeds]  # validation included, in both alike
    return max(load_episodes([place]).frame_count for place in places)


def _imitation(place: Path, options: DaggerFramesOptions, world: Any, seed: int) -> Path:
    """Record and imitate; returns the policy."""
    data, trained = place / "data", place / "run"
    record(data, world, RecorderConfig(frames=options.frames, seed=seed), options.workers)
    if not (trained / "results.json").is_file():
        learning = ImitationConfig(epochs=options.epochs, seed=seed)
        train_imitation(
            TrainOptions(
                data=(data,),
                out=trained,
                core=options.core,
                learning=learning,
                split=SplitOptions(hold_out=0.0, validation=VALIDATION),
                frames=FrameOptions(height=options.height, width=options.width),
                resume=trained.exists(),
            )
        )
    return trained / "policy"


def _dagger(place: Path, options: DaggerFramesOptions, world: Any, seed: int) -> Path:
    """Run DAgger; returns the policy."""
    if not (place / "results.json").is_file():
        each = options.frames // 4 // (options.rounds + 1)
        dagger = DaggerConfig(rounds=options.rounds, frames=each, seed=seed)
        # The last round learns from a quarter of the frames, so it has four times the passes.
        learning = ImitationConfig(epochs=4 * options.epochs, seed=seed)
        train_dagger(
            TrainDaggerOptions(
                out=place, core=options.core, dagger=dagger, learning=learning, world=world, resume=place.exists()
            )
        )
    return place / "policy"


if __name__ == "__main__":
    run_script(DaggerFramesOptions, run)
