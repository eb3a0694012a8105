"""Do liquid circuits keep driving under shift when others fail? The published claim, put to the test.

    python -m experiments.liquid_claim --publish experiments/results/liquid_claim    # about 100 minutes on two cores
    python -m experiments.liquid_claim --quick                                       # seconds: that all of it works
    python -m experiments.liquid_claim --cores ltc-ncp liquid-s4 lrc-ssm lstm feedforward --roads 12 --elapsed-jitter .5

The last trains on a clock that jitters. Several families of shift at once, and which pairs are worse together than
they add up to: `experiments.liquid_claim.interactions`.

An expert is recorded once. Every core learns from that recording with the same head, the same number of steps and the
same search for a learning rate, from several seeds. All of them drive the same roads under perturbations of every
family, and again with and without the elapsed time at irregular frame rates. What comes out is written down with
its intervals, whatever it is.

The same command resumes what was killed: with the episode, the epoch, the drive in flight.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from agents.driving.record import RecorderConfig, RecordingProgress, record, with_vehicle
from agents.imitation.train import ImitationConfig
from agents.runs.directory import to_json, versions
from agents.runs.files import make_directory
from agents.runs.workers import run_jobs
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.console import progress, say
from experiments.liquid_claim.comparisons import HIDDEN, claims, clock_claim, clocks
from experiments.liquid_claim.report import Material, write_outcome
from experiments.liquid_claim.training import (
    CONTENDERS,
    USUAL,
    Training,
    choose_rates,
    load_sets,
    plan_tuning,
    steps_of,
    train_some,
)
from experiments.machine import machine
from experiments.record import WORLD
from experiments.robustness import verb
from experiments.robustness.analysis import find
from experiments.robustness.drivers import choose_baseline, find_policy_runs
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.store import check_extra, make_table, open_plan, read_table
from experiments.robustness.suites import Suite

SUITE = (
    *("gaussian", "variance", "motion_blur", "fog", "rain", "night", "moving_shadows", "jpeg", "lens_dirt"),
    *("camera_pitch", "latency", "dropped_frames", "steering_lag", "action_noise", "worn_markings", "fgsm"),
)
"""Perturbations of the test: one or two of every family."""


Share = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""


@dataclass(frozen=True, config={"extra": "forbid"})
class LiquidClaim:
    """Train every core alike, shift the world, and say what the claim is worth.

    At the defaults, one core of a small server takes about 100 s for a training (70 of them) and 90 s for the drives of
    a trained driver (50 of them): some 190 minutes of one core, or 100 minutes of two.
    """

    quick: bool = False
    """A tiny version of everything, to see that it works; it says nothing about any core."""
    out: Path = Path("runs/liquid_claim")
    """Directory of recording, trainings, drives and outcome; the same command resumes there."""
    publish: Path | None = None
    """Directory for a copy of what is worth keeping: summary.json, README.md, pictures."""
    cores: tuple[str, ...] = USUAL
    """Who is compared; liquid-s4 and lrc-ssm are there, too."""
    seeds: PositiveInt = 5
    """Training runs of each core."""
    rates: Annotated[tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...], Field(min_length=1)] = (
        1e-3,
        4.5e-3,
        2e-2,
    )
    """Learning rates of the core that are tried on the first seed; the least validation error chooses."""
    frames: PositiveInt = 48_000
    """Frames that the expert records."""
    epochs: PositiveInt = 5
    """Passes over the recording in each training."""
    height: PositiveInt = 32
    """Rows of a frame, pixels."""
    width: PositiveInt = 64
    """Columns of a frame, pixels."""
    recorded_variety: Share = 0.6
    """Variety of looks and cameras in the recording, in [0, 1]."""
    variety: Share = 0.35
    """Variety of looks and cameras on the roads of the test, in [0, 1]."""
    elapsed_jitter: float = 0.0
    """Share of the frame period by which periods vary in the recording, in [0, 0.9]; 0 records a steady clock, so that
    irregular time is a shift like the others."""
    vehicle: str = "bicycle"
    """"bicycle" (kinematic) or "bullet" (MIT racecar in PyBullet, slower)."""
    perturbations: tuple[str, ...] = SUITE
    """What is done to the world."""
    severities: tuple[int, ...] = (1, 3, 5)
    """How strongly, 1 to 5."""
    timing: tuple[str, ...] = ("jittered_period", "lower_rate")
    """Perturbations of time under which every driver drives with the elapsed time known and hidden."""
    timing_severities: tuple[int, ...] = (3, 4, 5)
    """How strongly those."""
    roads: PositiveInt = 4
    """Roads of the test, the same for all."""
    episode_s: float = 20.0
    """Length of a drive, s."""
    seed: NonNegativeInt = 0
    """Of the recording."""
    road_seed: NonNegativeInt = 1_000_000
    """Seed of the first road of the test; the next ones follow it."""
    films: NonNegativeInt = 4
    """Failures that are filmed for the report of the test."""
    workers: PositiveInt = 2
    """Processes, of one thread each; they do not change the figures."""

    def __post_init__(self) -> None:
        """Check what was asked for."""
        unknown = [label for label in self.cores if label not in CONTENDERS]
        if unknown or len(set(self.cores)) < max(2, len(self.cores)):
            raise ValueError(f"cores must be two or more of {', '.join(CONTENDERS)}, each once; got {self.cores}.")

    @property
    def world(self) -> LaneKeepingConfig:
        """Where the test is driven."""
        return with_vehicle(
            LaneKeepingConfig(
                vehicle=self.vehicle,
                height=self.height,
                width=self.width,
                variety=self.variety,
                episode_s=self.episode_s,
            )
        )


QUICK = LiquidClaim(
    quick=True,
    out=Path("runs/liquid_claim_quick"),
    cores=("ltc-ncp", "cfc-full", "feedforward"),
    seeds=2,
    rates=(5e-3, 2e-2),
    frames=480,
    epochs=1,
    height=24,
    width=48,
    perturbations=("variance", "side_wind"),
    severities=(2, 5),
    timing=("lower_rate",),
    timing_severities=(4,),
    roads=2,
    episode_s=2.0,
    films=1,
    workers=1,
)
"""What `--quick` stands for."""


def run(options: LiquidClaim, command: str = "python -m experiments.liquid_claim") -> Path:
    """Do all that is not done yet; returns the directory with the outcome.

    Args:
        options: what is to be done.
        command: what was typed, to be written down.
    """
    check_extra()
    if options.publish is not None:
        make_directory(options.publish)
    open_plan(make_directory(options.out), _plan(options))
    _record(options)
    rates, tuning = _train(options)
    drives, timing = _drive(options, rates)
    conditions = _suite(options).conditions()
    names = list(options.cores)
    baseline = "feedforward" if "feedforward" in names else names[0]
    findings = find(drives, make_table([], BlockRow), conditions, baseline)
    found_clocks = [
        clock for label in names for clock in clocks(timing, options.timing, options.timing_severities, label)
    ]
    judged = claims(drives, conditions, names)
    if options.timing:
        judged.append(clock_claim(found_clocks))
    write_outcome(
        options.out,
        Material(
            command=command,
            versions=versions(),
            machine={"processor": machine()["processor"], "processor cores": machine()["cores"]},
            options={name: value for name, value in to_json(options).items() if name not in ("out", "publish")},
            findings=findings,
            claims=tuple(claim for claim in judged if claim.comparisons),
            clocks=tuple(found_clocks),
            tuning=tuning,
            chosen=rates,
            parameters={label: _parameters(options, label, rates[label]) for label in names},
        ),
    )
    if options.publish is not None:
        for path in sorted(options.out.iterdir()):
            if path.name in ("summary.json", "README.md") or path.suffix == ".png":
                shutil.copyfile(path, options.publish / path.name)
        say(f"published: {options.publish}")
    say(f"outcome: {options.out / 'README.md'}")
    return options.out


def _plan(options: LiquidClaim) -> dict[str, Any]:
    """Return what every number depends on; cores, seeds and perturbations may be added later."""
    free = ("out", "publish", "workers", "films", "quick", "cores", "seeds", "perturbations", "timing")
    values = {name: value for name, value in to_json(options).items() if name not in free}
    return {"format": "wormwheel-liquid-claim", "format_version": 1, "wormwheel": versions()["wormwheel"], **values}


def _record(options: LiquidClaim) -> None:
    """Record the expert, as far as that is not done."""
    world = replace(
        options.world,
        variety=options.recorded_variety,
        elapsed_jitter=options.elapsed_jitter,
        episode_s=min(WORLD.episode_s, options.frames * options.world.period_s / 4),
        start_offset=WORLD.start_offset,
        start_heading_rad=WORLD.start_heading_rad,
    )
    with progress("recording the expert", options.frames) as bar:

        def note(made: RecordingProgress) -> None:
            bar.advance(made.frames)

        kept = record(
            options.out / "recording",
            world,
            RecorderConfig(frames=options.frames, seed=options.seed),
            options.workers,
            note,
        ).kept_frames
        bar.update(max(bar.done, kept))
    training, validation = load_sets(options.out / "recording")
    seen = {episode.meta.seed for episode in (*training, *validation)}
    if seen & set(range(options.road_seed, options.road_seed + options.roads)):
        raise ValueError("a road of the test is in the recording: give another --road-seed.")


def _train(options: LiquidClaim) -> tuple[dict[str, float], dict[str, dict[float, float | None]]]:
    """Train everybody; returns the chosen rates, and the validation errors that chose them."""
    common: dict[str, Any] = {
        "root": options.out / "training",
        "data": options.out / "recording",
        "learning": ImitationConfig(epochs=options.epochs),
    }
    tuning = plan_tuning(options.cores, options.rates, **common)
    _train_all("choosing learning rates", tuning, options.workers)
    rates = choose_rates(tuning)
    # Seed by seed, so that a run that is stopped early has as many of each.
    later = range(1, options.seeds)
    rest = [Training(label, rates[label], seed, **common) for seed in later for label in options.cores]
    _train_all("training the other seeds", rest, options.workers)
    for training in rest:
        outcome = training.outcome()
        if outcome is None or outcome.validation_rmse is None:
            raise ValueError(
                f"{training.label} diverged from seed {training.seed} with the rate {training.rate:g} that its first "
                "seed chose: give lower --rates, and another --out."
            )
    errors: dict[str, dict[float, float | None]] = {label: {} for label in options.cores}
    for training in tuning:
        outcome = training.outcome()
        errors[training.label][training.rate] = None if outcome is None else outcome.validation_rmse
    return rates, errors


def _train_all(title: str, trainings: Sequence[Training], workers: int) -> None:
    waiting = [training for training in trainings if training.outcome() is None]
    if not waiting:
        return
    if len(waiting) < len(trainings):
        say(f"{len(trainings) - len(waiting)} of {len(trainings)} trainings are done already.")
    total = steps_of(waiting[0]) * len(waiting)
    with progress(title, total, "steps") as bar:
        run_jobs(train_some, waiting, workers, bar.advance)


def _suite(options: LiquidClaim) -> Suite:
    return Suite(options.perturbations, options.severities, options.roads, options.episode_s)


def _drive(options: LiquidClaim, rates: dict[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drive the suite and the timing test; returns the tables of both."""
    root = options.out / "training"
    # Named one by one: where more seeds were trained before, only those that are asked for now count.
    policies = tuple(
        f"{label}={root / label / f'rate-{rate:g}' / f'seed-{seed}'}"
        for label, rate in rates.items()
        for seed in range(options.seeds)
    )
    policy_runs = find_policy_runs(policies)
    test = verb.RobustnessOptions(
        policy=policies,
        perturbations=options.perturbations,
        severities=options.severities,
        roads=options.roads,
        seed=options.road_seed,
        baseline=choose_baseline(policy_runs, None),
        world=options.world,
        workers=options.workers,
        films=options.films,
        out=options.out / "suite",
    )
    verb.run(test)
    rows = read_table(test.out / "results.parquet")
    if not options.timing:
        return rows, rows[:0]
    timing = replace(
        test,
        perturbations=tuple(f"{name}{end}" for name in options.timing for end in ("", HIDDEN)),
        severities=options.timing_severities,
        films=0,
        out=options.out / "timing",
    )
    verb.run(timing)
    return rows, read_table(timing.out / "results.parquet")


def _parameters(options: LiquidClaim, label: str, rate: float) -> int:
    path = options.out / "training" / label / f"rate-{rate:g}" / "seed-0" / "outcome.json"
    return int(json.loads(path.read_text(encoding="utf-8"))["parameters"])
