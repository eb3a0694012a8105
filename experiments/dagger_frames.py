"""How many of an expert's frames does a driver need: imitation with all of them, DAgger with a quarter.

    python -m experiments.dagger_frames --out runs/dagger-frames

Imitation learns from `frames` recorded by the disturbed expert; DAgger from a quarter as many labelled frames in all,
in rounds. Both make as many gradient steps, see the same world, and drive the same unseen roads; one driver a seed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass

from agents.driving.metrics import Drive, closed_loop
from agents.driving.record import RecorderConfig, record
from agents.driving.statistics import poisson_rate
from agents.driving.trials import Run, Trial, drive_trials
from agents.imitation.dagger import DaggerConfig
from agents.imitation.train import ImitationConfig
from agents.runs.files import make_directory, write_json
from experiments.cli import run_script
from experiments.console import say, table
from experiments.train_dagger import WORLD, TrainDaggerOptions
from experiments.train_dagger import run as train_dagger
from experiments.train_imitation import TrainOptions
from experiments.train_imitation import run as train_imitation

UNSEEN_SEED = 900_000
"""Seed of the first road that the drivers are measured on."""


@dataclass(frozen=True, config={"extra": "forbid"})
class DaggerFramesOptions:
    """Measure imitation on all of an expert's frames against DAgger on a quarter of them."""

    out: Path = Path("runs/dagger-frames")
    """Directory; what stands there is kept and not made again."""
    frames: PositiveInt = 8000
    """Frames that imitation learns from."""
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
    out = make_directory(options.out)
    figures: dict[str, Any] = {"options": json.loads(json.dumps(asdict(options), default=str)), "seeds": []}
    driven: dict[str, list[Drive]] = {"imitation": [], "dagger": []}
    world = replace(WORLD, vehicle="bicycle")
    for seed in options.seeds:
        policies = {
            "imitation": _imitation(out / f"imitation-{seed}", options, world, seed),
            "dagger": _dagger(out / f"dagger-{seed}", options, world, seed),
        }
        unseen = replace(world, episode_s=options.episode_s, start_offset=0.15, start_heading_rad=0.1)
        runs = tuple(Run(UNSEEN_SEED + 1000 * seed + number) for number in range(options.roads))
        drives = drive_trials([Trial(place, unseen, runs) for place in policies.values()], options.workers)
        row: dict[str, Any] = {"seed": seed}
        for name, some in zip(policies, drives, strict=True):
            driven[name] += some
            row[name] = {key: value.to_json() for key, value in closed_loop(some).items()}
        figures["seeds"].append(row)
        say(f"seed {seed}: " + ", ".join(f"{name} {row[name]['crashes']['value']:.0f} crashes" for name in driven))
    rows = []
    for name, some in driven.items():
        crashes, km = sum(drive.crashed for drive in some), sum(drive.distance_m for drive in some) / 1000
        rate, one = poisson_rate(crashes, km), closed_loop(some)
        frames = options.frames if name == "imitation" else options.frames // 4
        rows.append(
            [
                name,
                f"{frames:,}",
                f"{crashes} of {len(some)}",
                rate.text(2),
                one["mean_offset_lane"].text(1, 100),
                one["autonomy"].text(1, 100),
            ]
        )
        figures[name] = {"frames": frames, "crashes": crashes, "km": km, "crashes_per_km": rate.to_json()}
    columns = ["", "labelled frames", "crashes", "crashes per km", "mean offset, % of lane", "autonomy, %"]
    table(f"{len(options.seeds)} seeds, {options.roads} unseen roads each, 95 % intervals", columns, rows)
    write_json(out / "summary.json", figures)
    return figures


def _imitation(place: Path, options: DaggerFramesOptions, world: Any, seed: int) -> Path:
    """Record and imitate; returns the policy."""
    data, trained = place / "data", place / "run"
    record(data, world, RecorderConfig(frames=options.frames, seed=seed), options.workers)
    if not (trained / "results.json").is_file():
        learning = ImitationConfig(epochs=options.epochs, seed=seed)
        train_imitation(
            TrainOptions(
                data=(data,), out=trained, core=options.core, learning=learning, baseline=False, resume=trained.exists()
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
