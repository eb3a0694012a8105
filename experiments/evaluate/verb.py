"""`wormwheel evaluate`: how well do policies drive?

    wormwheel evaluate --policy runs/ltc runs/lstm --episodes 20 --noise-variance 0 .1 .2 .3   # closed loop
    wormwheel evaluate --policy runs/ltc --perturbations fog:3 rain:2+latency:1                # what else goes wrong
    wormwheel evaluate --policy runs/ltc --track data/tracks                                   # one lap of each circuit
    wormwheel evaluate --policy runs/ltc --data tub --crop-top 40                              # on a recording
    wormwheel evaluate --policy runs/ltc --env Recorded --data tub --crop-top 40               # along a recording
    wormwheel evaluate --policy net.py:make --frame 66x200 --range=-1..1 --colour yuv           # a network of your own
    wormwheel evaluate --policy runs/ltc --latency latency.json:onnxruntime                    # on a measured computer
    wormwheel evaluate --policy runs/ppo-CarRacing-v3-ltc --episodes 100                       # where PPO learnt
    wormwheel evaluate --policy runs/ltc --env racetrack-v1 --fit fit.json --perturbations fog:3  # in an env of others
    wormwheel evaluate --policy net.py:make --env sim.py:make_env --env-names.camera observation.rgb

Noise follows Lechner et al. 2020: Gaussian, of that variance on frames in [0, 1], clipped, with a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.driving.driver_options import DriverSpec
from agents.driving.latency import Latency, read_latency
from agents.driving.metrics import Drive, Estimate, closed_loop
from agents.driving.other_world import OtherWorld, look_at_world
from agents.driving.trials import Run, Trial, drive_trials, expected_steps
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import parse
from experiments.console import check_json, progress, say, table, write_results
from experiments.evaluate.options import EXPERT, RECORDED_WORLD, EvaluateOptions
from experiments.evaluate.recorded import EPISODE_S, recorded_trials
from experiments.evaluate.recordings import RecordingOptions, condition, condition_title, evaluate_recordings
from experiments.policy_paths import (
    LANE_KEEPING,
    common_world,
    find_policy,
    find_world,
    has_gradient,
    have_learnt_in,
    name_drivers,
    name_policies,
    open_drivers,
    refuse_lane_keeping,
    say_unknown,
)


@dataclass(frozen=True)
class Outcome:
    """What one driver did under one noise level or perturbation."""

    driver: str
    """Name in tables."""
    noise_variance: float
    """Variance of the noise."""
    drives: Sequence[Drive]
    """Every drive."""
    figures: dict[str, Estimate]
    """The figures of `agents.driving.metrics.CLOSED_LOOP`."""
    perturbation: str = ""
    """What else was wrong, in the syntax of `envs.perturbations.parse`."""
    latency: Latency | None = None
    """How late its answers came."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "driver": self.driver,
            "noise_variance": self.noise_variance,
            "perturbation": self.perturbation,
            "latency": None if self.latency is None else describe_latency(self.latency),
            "figures": {name: estimate.to_json() for name, estimate in self.figures.items()},
            "drives": [
                {
                    "seed": drive.seed,
                    "track": drive.track,
                    "crashed": drive.crashed,
                    "distance_m": drive.distance_m,
                    "duration_s": drive.duration_s,
                    "lane_width_m": drive.lane_width_m,
                    "mean_offset_m": float(np.abs(drive.lateral_offset_m).mean()),
                }
                for drive in self.drives
            ],
        }


def defaults_for(options: EvaluateOptions) -> EvaluateOptions:
    """Return the options with the length of a drive that the world brings."""
    if options.env not in (None, LANE_KEEPING, RECORDED_WORLD) and not _are_learners(options, options.env):
        own_s = look_at_world(options.env, options.env_names).episode_s
        return EvaluateOptions(world=LaneKeepingConfig(episode_s=own_s))
    if options.env != RECORDED_WORLD:
        return EvaluateOptions()
    along = RecordingOptions(data=options.recordings.data)
    return EvaluateOptions(env=options.env, recordings=along, world=LaneKeepingConfig(episode_s=EPISODE_S))


def run(options: EvaluateOptions) -> None:
    """Evaluate and show a table."""
    check_json(options.json)
    if not (options.policy or options.expert):
        raise ValueError("nothing to evaluate: give --policy with one or more policy directories, or --expert.")
    found = [find_policy(Path(text), frameless=True) for text in options.policy if Path(text).is_dir()]
    env = options.env or (LANE_KEEPING if options.recordings.data else common_world(found, options.driver.trust))
    if _are_learners(options, env):
        _run_learners(options, env)
        return
    drivers = name_drivers(options.policy, options.driver)
    if env == RECORDED_WORLD:
        outcomes = drive_outcomes(recorded_trials(drivers, options), options.workers)
        show_outcomes(outcomes)
        write_results(options.json, "evaluate", options, {"driving": [outcome.to_json() for outcome in outcomes]})
        return
    if options.recordings.data:
        refuse_lane_keeping("a recording", options.world)
        figures: Any = evaluate_recordings(
            drivers, options.recordings, options.noise_variance, options.noise_seed, options.perturbations
        )
        write_results(options.json, "evaluate", options, {"recordings": figures})
        return
    world = find_world(env, options.world, options.env_names)
    if isinstance(world, OtherWorld) and (options.expert or options.latency):
        raise ValueError(f"--expert and --latency are for LaneKeeping, not for {env}; leave them out.")
    outcomes = evaluate_driving(drivers, options, world)
    show_outcomes(outcomes)
    if isinstance(world, OtherWorld):
        say_unknown(world)
        write_results(options.json, "evaluate", options, {"driving": [outcome.to_json() for outcome in outcomes]})
        return
    if options.world.track != "random":
        _show_tracks(outcomes)
    write_results(options.json, "evaluate", options, {"driving": [outcome.to_json() for outcome in outcomes]})


def _are_learners(options: EvaluateOptions, env: str) -> bool:
    """Whether all policies are PPO's learners of a world other than LaneKeeping, which are judged by their reward."""
    found = [find_policy(Path(text), frameless=True) for text in options.policy if Path(text).is_dir()]
    others = len(found) < len(options.policy) or env in (LANE_KEEPING, RECORDED_WORLD)
    return not others and have_learnt_in(found, env)


def _run_learners(options: EvaluateOptions, env: str) -> None:
    """Evaluate PPO's learners by their reward in the world that they learnt in, other than LaneKeeping."""
    from experiments.evaluate.gym_envs import evaluate_worlds

    refuse_lane_keeping(env, options.world)
    if options.expert or options.latency:
        raise ValueError(f"--expert and --latency are for LaneKeeping, not for {env}; leave them out.")
    policies = name_policies([Path(text) for text in options.policy], frameless=True)
    seeds = range(options.seed, options.seed + options.episodes)
    conditions = [(variance, "") for variance in options.noise_variance] + [
        (0.0, text) for text in options.perturbations
    ]
    figures = evaluate_worlds(policies, env, seeds, conditions, options.noise_seed, options.driver.trust)
    write_results(options.json, "evaluate", options, {"worlds": figures})


def evaluate_driving(
    drivers: dict[str, DriverSpec], options: EvaluateOptions, world: LaneKeepingConfig | OtherWorld | None = None
) -> list[Outcome]:
    """Drive every driver, and the expert if asked for, under every noise level and perturbation on the same roads.

    Args:
        drivers: by name.
        options: what to drive.
        world: where; LaneKeeping as the options say when None.
    """
    world = world or find_world(LANE_KEEPING, options.world, options.env_names)
    opened = open_drivers(drivers, world)
    runs = make_runs(world, options)
    trials: list[tuple[str, Trial]] = []
    if options.expert:
        trials.append((EXPERT, Trial(None, world, runs)))  # it does not look at the frames, so noise is nothing to it
        for text in options.perturbations:
            wrong = parse(text)  # what is wrong with the frames alone is nothing to it
            if not wrong.attacks and (wrong.changes_time or not wrong.frames):
                trials.append((EXPERT, Trial(None, world, runs, 0.0, options.noise_seed, text)))
    for name, spec in drivers.items():
        for variance in options.noise_variance:
            trials.append((name, Trial(spec, world, runs, variance, options.noise_seed)))
        for text in options.perturbations:
            if parse(text).attacks and not has_gradient(opened[name]):
                say(f"note: {name} has no gradient to attack, so {text} is left out for it")
                continue
            trials.append((name, Trial(spec, world, runs, 0.0, options.noise_seed, text)))
        for latency in _latencies(options):
            trials.append((name, Trial(spec, world, runs, 0.0, options.noise_seed, latency=latency)))
    return drive_outcomes(trials, options.workers)


def drive_outcomes(trials: Sequence[tuple[str, Trial]], workers: int) -> list[Outcome]:
    """Drive trials, each with the name of its driver, and summarise each."""
    total = sum(expected_steps(trial) for _, trial in trials)
    with progress("driving", total, "steps") as bar:
        driven = drive_trials([trial for _, trial in trials], workers, bar.advance)
    return [
        Outcome(name, trial.noise_variance, drives, closed_loop(drives), trial.perturbation, trial.latency)
        for (name, trial), drives in zip(trials, driven, strict=True)
    ]


def make_runs(world: LaneKeepingConfig | OtherWorld, options: EvaluateOptions) -> tuple[Run, ...]:
    """List the drives: random roads by seed, or each road file once."""
    if isinstance(world, OtherWorld) or world.track == "random":
        return tuple(Run(options.seed + number) for number in range(options.episodes))
    files = [world.track] if isinstance(world.track, str) else list(world.track)
    return tuple(Run(options.seed + number, file, options.laps) for number, file in enumerate(files))


def show_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print one row for each driver and noise level or perturbation."""
    first = outcomes[0].drives
    perturbed = any(outcome.perturbation or outcome.latency for outcome in outcomes)
    rows = []
    for outcome in outcomes:
        one = outcome.figures
        rows.append(
            [
                outcome.driver,
                describe_latency(outcome.latency)
                if outcome.latency is not None
                else condition(outcome.noise_variance, outcome.perturbation, perturbed),
                f"{one['crashes'].value:.0f} of {len(outcome.drives)}",
                one["crashes_per_km"].text(2),
                one["autonomy"].text(1, 100),
                one["mean_offset_lane"].text(1, 100),
                one["rms_offset_m"].text(3),
                one["steering_rate_per_s"].text(2),
            ]
        )
    km = sum(drive.distance_m for drive in first) / 1000
    way = f", {km:.2f} km in the first row" if np.isfinite(km) else ""
    columns = [
        "driver",
        condition_title(perturbed),
        "crashes",
        "crashes per km",
        "autonomy, %",
        "mean offset, % of lane",
        "RMS offset, m",
        "steering, full locks/s",
    ]
    names = ("crashes_per_km", "mean_offset_lane", "rms_offset_m")
    unsaid = {place for place, name in zip((3, 5, 6), names, strict=True) if _unsaid(outcomes, name)}
    kept = [place for place in range(len(columns)) if place not in unsaid]
    table(
        f"{len(first)} roads{way}, with 95 % intervals",
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
    )

    for outcome in outcomes:
        if outcome.latency is not None:
            rate = outcome.figures["crashes_per_km"].text(2)
            say(
                f"{outcome.driver} on the measured computer, {describe_latency(outcome.latency)}: {rate} crashes per km"
            )


def _unsaid(outcomes: Sequence[Outcome], name: str) -> bool:
    """Whether nothing can be said of a figure in any drive."""
    return not any(np.isfinite(outcome.figures[name].value) for outcome in outcomes)


def _latencies(options: EvaluateOptions) -> list[Latency]:
    """Return the measured latency, with the true elapsed time and without; none where none was asked for."""
    if options.latency is None:
        return []
    file, colon, engine = options.latency.rpartition(":")
    if not colon or Path(options.latency).is_file():
        file, engine = options.latency, ""
    samples = read_latency(file, engine or None, options.latency_scale)
    return [Latency(samples, reported, options.noise_seed) for reported in (True, False)]


def describe_latency(latency: Latency) -> str:
    """Say what is replayed in a few words."""
    median, high = 1e3 * np.percentile(latency.samples_s, [50, 99])
    return f"{median:.3g} ms late (99 %: {high:.3g} ms), time {'reported' if latency.reported else 'not reported'}"


def _show_tracks(outcomes: Sequence[Outcome]) -> None:
    """Print what happened on each road."""
    wrong = [
        describe_latency(o.latency)
        if o.latency
        else o.perturbation or (f"{o.noise_variance:g}" if o.noise_variance else "")
        for o in outcomes
    ]
    columns = [f"{o.driver}, {what}" if what else o.driver for o, what in zip(outcomes, wrong, strict=True)]
    rows = []
    for number, drive in enumerate(outcomes[0].drives):
        cells = []
        for outcome in outcomes:
            here = outcome.drives[number]
            offset = np.abs(here.lateral_offset_m).mean() / here.lane_width_m
            cells.append(f"crashed at {here.distance_m:.0f} m" if here.crashed else f"{offset:.1%}")
        rows.append([drive.track, *cells])
    table("mean offset, % of lane width", ["road", *columns], rows)
