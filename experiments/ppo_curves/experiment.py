"""Learning to keep the lane by PPO alone, from pixels: several cores, several seeds, curves with intervals.

    python -m experiments.ppo_curves --publish experiments/results/ppo_curves

Every run is `wormwheel train ppo --env LaneKeeping` with one core and seed, in a process of one thread; everything but
the core is the world's preset. Evaluations on other roads during training make the curves and choose the driver that is
kept. Cores of `--widen` then continue training, among looks that are odder still, and are judged among them. The kept
drivers drive unseen roads.

Seeds stand for weights, draws and roads: no two runs share an episode.

Finished runs are not repeated, and one that was stopped resumes at its last evaluation, when the same command is given
again. `--no-train` shows what all of them have reached so far.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.driving.driver_options import DriverSpec
from agents.driving.statistics import Estimate, student_mean
from agents.runs.directory import versions
from agents.runs.files import write_json
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import check_json, plain, say, table, write_results
from experiments.evaluate.options import EvaluateOptions
from experiments.evaluate.verb import Outcome, evaluate_driving
from experiments.options import claim_alike
from experiments.ppo_curves.runs import PPOCurves, Run, quickened, read_curve, seconds_of, train
from experiments.reports.plots import LIGHT, Curves, curves_figure, save

FREE = (
    *("cores", "seeds", "steps", "widen", "widen_steps", "roads", "road_seed", "workers", "out", "publish", "json"),
    *("train", "quick"),
)
"""Options that may change from one start to the next; not those of the points of a curve."""


def run(options: PPOCurves) -> None:
    """Train what is not trained yet, drive, show, draw, write."""
    if options.quick:
        options = quickened(options)
    check_json(options.json)
    with claim_alike(options.out, "ppo_curves", options, FREE):
        _compare(options)


def _compare(options: PPOCurves) -> None:
    if options.train:
        train(options)
    curves = {run: read_curve(options.directory(run)) for run in options.runs}
    for run in [run for run, curve in curves.items() if not curve]:
        if options.train or not run.wider:
            raise ValueError(
                f"{options.directory(run)} holds no evaluated run yet: give the command without --no-train first, or "
                f"leave {run.core} out of --cores."
            )
        del curves[run]
    drivers = {run.name: DriverSpec(str(options.directory(run) / "policy")) for run in curves}
    test = EvaluateOptions(
        policy=tuple(driver.source for driver in drivers.values()),
        episodes=options.roads,
        seed=options.road_seed,
        world=LaneKeepingConfig(episode_s=60.0),
        workers=options.workers,
    )
    outcomes = {outcome.driver: outcome for outcome in evaluate_driving(drivers, test)}
    _show(options, curves, outcomes)
    firsts = {
        core: [curve for run, curve in curves.items() if run.core == core and not run.wider] for core in options.cores
    }
    figures = {
        "curves": {run.name: curve for run, curve in curves.items()},
        "driving": {name: outcome.to_json() for name, outcome in outcomes.items()},
        "seconds": {run.name: seconds_of(options.directory(run)) for run in curves},
    }
    for path in filter(None, (options.out / "results.json", options.json)):
        write_results(path, "ppo_curves", options, figures)
    save(draw(firsts), options.out / "curves.png")
    if options.publish is not None:
        options.publish.mkdir(parents=True, exist_ok=True)
        save(draw(firsts), options.publish / "curves.png")
        # Without paths, and without every drive: for whoever reads it elsewhere.
        chosen = {name: value for name, value in plain(options).items() if name not in ("out", "publish", "json")}
        driving = {name: outcome.to_json()["figures"] for name, outcome in outcomes.items()}
        content = {"options": chosen, "versions": versions(), "figures": plain({**figures, "driving": driving})}
        write_json(options.publish / "summary.json", content)


def draw(curves: dict[str, list[list[dict[str, float]]]]) -> Any:
    """Plot reward and crashes against steps: mean over the seeds with Student's 95 % interval, and every seed.

    Mean and interval end where the first of the seeds does.

    Raises:
        ValueError: if the seeds of a core were judged after different steps.
    """
    series: dict[str, list[Curves]] = {}
    for core, runs in curves.items():
        steps = np.array([point["steps"] for point in max(runs, key=len)])
        places = {float(step): place for place, step in enumerate(steps)}
        reward, crashed = np.full((2, len(runs), len(steps)), np.nan)
        for number, run in enumerate(runs):
            for point in run:
                if point["steps"] not in places:
                    raise ValueError(
                        f"seeds of {core} were judged after different steps, one after {point['steps']:,} and another "
                        "not: train them again, in an --out of their own, with one --evaluate-every."
                    )
                reward[number, places[point["steps"]]] = point["reward"]
                crashed[number, places[point["steps"]]] = 100 * point["crashes"] / point["episodes"]
        series[core] = [
            _band(steps, reward, -np.inf, np.inf),
            _band(steps, crashed, 0.0, 100.0),
        ]
    return curves_figure(series, "steps of experience", ["reward of 60 s", "drives that crash, %"], LIGHT)


def _band(steps: Any, values: Any, least: float, most: float) -> Curves:
    points = [student_mean(column) for column in values.T]
    mean = np.array([point.value for point in points])
    ends = [(point.low, point.high) if point.bounded else (point.value, point.value) for point in points]
    low, high = np.clip(np.array(ends).T, least, most)
    return Curves(steps, mean, low, high, values)


def _show(options: PPOCurves, curves: dict[Run, list[dict[str, float]]], outcomes: dict[str, Outcome]) -> None:
    rows = []
    for run in sorted(curves, key=lambda run: (options.cores.index(run.core), run.wider, run.seed)):
        outcome, last = outcomes[run.name], curves[run][-1]
        seconds = seconds_of(options.directory(run))
        rows.append(
            [
                f"{run.core}, seed {run.seed}" + (", wider" if run.wider else ""),
                f"{outcome.figures['crashes'].value:.0f} of {options.roads}",
                _percent(outcome.figures["mean_offset_lane"]),
                f"{last['reward']:.0f}",
                f"{last['crashes']:.0f} of {last['episodes']:.0f}",
                f"{last['steps']:,.0f}",
                "–" if seconds is None else f"{seconds / 60:.0f}",
            ]
        )
    columns = ["run", "crashes, unseen roads", "mean offset, % of lane", "last reward", "last crashes"]
    table(f"LaneKeeping by PPO alone, {options.steps:,} steps planned", [*columns, "steps", "minutes"], rows)
    say(f"plot and figures: {options.out}")


def _percent(estimate: Estimate) -> str:
    return estimate.text(1, 100)
