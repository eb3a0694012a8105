"""Several shifts at once: a factorial test of 0 to 3 families, and which pairs are worse together than they add up to.

    python -m experiments.liquid_claim.interactions --policy ltc=runs/liquid_claim/training/ltc-ncp/rate-*/seed-* ff=...

One perturbation stands for each family of shift. Drivers meet every one alone, every pair, and a drawn choice of
triples, on the same roads. Two questions are asked of the lane errors E, road by road:

    order         how E grows with the number of families at once, and who bears it better
    interaction   I_ab = E_ab − E_a − E_b + E_clean; above 0, a and b together are worse than the sum of both

Roads are driven in stages (`experiments.gate.sequential`). After each stage the comparisons of all drivers with the
baseline are looked at, with that stage's share of the error rate; when every one is decided, or the budget of roads is
used, it ends. The same command resumes, and more roads may be added.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass as checked_dataclass
from tyro.conf import arg

from agents.driving.record import with_vehicle
from agents.driving.statistics import ENOUGH_VALUES, Estimate, student_mean
from agents.runs.directory import claim
from agents.runs.files import write_json
from envs.lane_keeping.config import LaneKeepingConfig
from envs.perturbations import FAMILIES
from experiments.cli import guarded, parse_options, show_help
from experiments.console import check_json, say, table, write_results
from experiments.gate.sequential import Plan, mean_bounds
from experiments.liquid_claim.pairs import VERDICTS, Pair
from experiments.liquid_claim.plots import matrix
from experiments.outputs import check_outputs
from experiments.reports.plots import check_plot, save
from experiments.robustness import verb
from experiments.robustness.analysis import Drives
from experiments.robustness.drivers import choose_baseline, find_policy_runs
from experiments.robustness.store import check_extra, read_table

PROGRAM = "python -m experiments.liquid_claim.interactions"

ONE_OF_EACH = {
    "noise": "gaussian",
    "blur": "motion_blur",
    "weather": "fog",
    "light": "night",
    "digital": "jpeg",
    "occlusion": "lens_dirt",
    "pose": "camera_pitch",
    "timing": "latency",
    "dynamics": "steering_lag",
    "actuation": "action_noise",
    "road": "worn_markings",
    "adversarial": "fgsm",
}
"""What stands for a family; the first of its perturbations for one that is not here."""


def _families() -> tuple[str, ...]:
    return tuple(ONE_OF_EACH.get(family, names[0]) for family, names in FAMILIES.items())


@checked_dataclass(frozen=True, config={"extra": "forbid"})
class Interactions:
    """Drive policies under none, one, two and three families of shift at once."""

    policy: tuple[str, ...] = ()
    """Drivers, as `wormwheel robustness` takes them: NAME=DIRECTORY, a name again for each training run."""
    perturbations: tuple[str, ...] = ()
    """One perturbation for each family, without severity; one of every family when left out."""
    severity: Annotated[int, Field(ge=1, le=5)] = 3
    """How strong each is."""
    triples: NonNegativeInt = 20
    """Triples, drawn from all of them."""
    roads: Annotated[int, Field(ge=ENOUGH_VALUES)] = 12
    """Most roads; they are driven in stages."""
    first_roads: Annotated[int, Field(ge=ENOUGH_VALUES)] = 4
    """Roads before the first look."""
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """With which probability any of the comparisons with the baseline may be decided wrongly, over all looks."""
    baseline: str | None = None
    """Driver that the others are compared with; one without memory (feedforward) if there is one, else the first."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = LaneKeepingConfig(vehicle="bicycle", episode_s=20.0)
    """Where they drive; the frame's size is the policy's own."""
    road_seed: NonNegativeInt = 1_000_000
    """Seed of the first road; the next ones follow it."""
    seed: NonNegativeInt = 0
    """Of the choice of triples."""
    workers: PositiveInt = 2
    """Processes that drive; they do not change the figures."""
    out: Path = Path("runs/interactions")
    """Directory of drives and outcome; the same command resumes there."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Where to write the figures as well."""
    plot: Annotated[Path | None, arg(metavar="FILE")] = None
    """Picture of the interactions, a matrix for each driver."""

    def __post_init__(self) -> None:
        """Check what must be given."""
        if not self.policy:
            raise ValueError("nothing to test: give --policy with one or more policy directories.")
        if len(self.perturbations) == 1:
            raise ValueError(f"perturbations must be two or more to make a pair, got {self.perturbations[0]} alone.")

    @property
    def shifts(self) -> tuple[str, ...]:
        """One perturbation a family, with severity."""
        return tuple(f"{name}:{self.severity}" for name in self.perturbations or _families())


@dataclass(frozen=True)
class Order:
    """How a driver fares under so many families at once.

    Attributes:
        driver: its name.
        families: 0 to 3.
        error: mean lane error, share of the lane, with its interval over roads.
        runs: mean of each training run.
    """

    driver: str
    families: int
    error: Estimate
    runs: tuple[float, ...]


@dataclass(frozen=True)
class Decision:
    """A driver against the baseline under two families and more.

    Attributes:
        driver: its name.
        difference: its lane error minus that of the baseline, with the bounds of the last look.
    """

    driver: str
    difference: Estimate

    @property
    def decided(self) -> bool:
        """Whether the bounds leave zero out."""
        return self.difference.low > 0 or self.difference.high < 0


def conditions_of(options: Interactions) -> dict[int, tuple[str, ...]]:
    """Return the conditions by the number of families at once, 1 to 3."""
    shifts = options.shifts
    triples = list(itertools.combinations(shifts, 3))
    chosen = np.random.default_rng(options.seed).permutation(len(triples))[: options.triples]
    return {
        1: shifts,
        2: tuple("+".join(pair) for pair in itertools.combinations(shifts, 2)),
        3: tuple("+".join(triples[number]) for number in sorted(chosen)),
    }


def run(options: Interactions) -> dict[str, Any]:
    """Drive in stages until all is decided, and write down what came out."""
    check_extra()
    check_json(options.json)
    check_plot(options.plot)
    with claim(options.out, "liquid_claim interactions", options):
        return _run(options)


def _run(options: Interactions) -> dict[str, Any]:
    conditions = conditions_of(options)
    baseline = choose_baseline(find_policy_runs(options.policy), options.baseline)
    plan = Plan.upto(options.roads, options.first_roads)
    tables: list[pd.DataFrame] = []
    decisions: list[Decision] = []
    done = 0
    for look, roads in enumerate(plan.roads):
        tables.append(_drive(options, conditions, baseline, done, roads))
        done = roads
        drives = pd.concat(tables, ignore_index=True)
        decisions = decide(drives, conditions, baseline, plan.level(options.error_rate, look))
        settled = sum(decision.decided for decision in decisions)
        say(f"{roads} of at most {options.roads} roads: {settled} of {len(decisions)} comparisons are decided.")
        if settled == len(decisions):
            break
    orders, pairs = judge(drives, conditions)
    figures = {
        "roads": done,
        "budget": options.roads,
        "baseline": baseline,
        "conditions": {str(count): list(names) for count, names in conditions.items()},
        "orders": [asdict(order) for order in orders],
        "interactions": [{**asdict(pair), "verdict": pair.verdict} for pair in pairs],
        "decisions": [{**asdict(decision), "decided": decision.decided} for decision in decisions],
    }
    show(orders, pairs, decisions, done)
    write_json(options.out / "interactions.json", figures)
    write_results(options.json, "liquid_claim interactions", options, figures)
    if options.plot is not None:
        save(matrix(pairs), options.plot)
        say(f"plot: {options.plot}")
    return figures


def _drive(
    options: Interactions, conditions: dict[int, tuple[str, ...]], baseline: str, done: int, roads: int
) -> pd.DataFrame:
    """Drive the roads from `done` to `roads`; returns their table."""
    place = options.out / f"roads-{done}-{roads}"
    verb.run(
        verb.RobustnessOptions(
            policy=options.policy,
            perturbations=tuple(itertools.chain.from_iterable(conditions.values())),
            roads=roads - done,
            seed=options.road_seed + done,
            baseline=baseline,
            world=with_vehicle(options.world),
            workers=options.workers,
            films=0,
            out=place,
        )
    )
    return read_table(place / "results.parquet")


def judge(drives: pd.DataFrame, conditions: dict[int, tuple[str, ...]]) -> tuple[list[Order], list[Pair]]:
    """Work out errors by the number of families, and interactions of all pairs, for every driver.

    Intervals are those of Student's t over roads, at 95 %, of the mean over training runs.
    """
    orders, pairs = [], []
    for driver, mine in drives.groupby("driver", sort=False):
        errors = {name: _errors(mine, (name,)) for names in conditions.values() for name in names}
        clean = Drives(mine, ()).clean("lane_error")[:, :, 0]
        by_order = {0: clean} | {
            count: np.mean([errors[name] for name in names], axis=0) for count, names in conditions.items() if names
        }
        for count, values in by_order.items():
            orders.append(Order(str(driver), count, *_mean(values)))
        for text in conditions[2]:
            first, second = text.split("+")
            beyond = errors[text] - errors[first] - errors[second] + clean
            pairs.append(Pair(str(driver), first, second, *_mean(beyond)))
    return orders, pairs


def decide(drives: pd.DataFrame, conditions: dict[int, tuple[str, ...]], baseline: str, level: float) -> list[Decision]:
    """Compare every driver with the baseline under two families and more.

    Args:
        drives: of all drivers on the same roads.
        conditions: by the number of families.
        baseline: name of a driver.
        level: with which probability this look may err; shared by the comparisons and the two sides of each.
    """
    together = (*conditions[2], *conditions[3])
    by_road = {
        str(driver): _errors(mine, together).mean(axis=0) for driver, mine in drives.groupby("driver", sort=False)
    }
    others = [driver for driver in by_road if driver != baseline]
    found = []
    for driver in others:
        away = by_road[driver] - by_road[baseline]
        found.append(Decision(driver, Estimate(float(away.mean()), *mean_bounds(away, level / (2 * len(others))))))
    return found


def _errors(drives: pd.DataFrame, conditions: Sequence[str]) -> NDArray[np.float64]:
    """Return `[runs, roads]` lane errors, the mean over conditions and draws."""
    return np.asarray(Drives(drives, conditions).perturbed("lane_error").mean(axis=2))


def _mean(values: NDArray[np.float64]) -> tuple[Estimate, tuple[float, ...]]:
    """Return the mean with its interval over roads, and the mean of each run, of `[runs, roads]`."""
    return student_mean(values.mean(axis=0)), tuple(float(run) for run in values.mean(axis=1))


def show(orders: Sequence[Order], pairs: Sequence[Pair], decisions: Sequence[Decision], roads: int) -> None:
    """Print three tables: errors by the number of families, the pairs that stand out, the comparisons."""
    drivers = list(dict.fromkeys(order.driver for order in orders))
    counts = sorted({order.families for order in orders})
    cells = {(order.driver, order.families): order.error.text(1, 100) for order in orders}
    rows = [[driver, *(cells[driver, count] for count in counts)] for driver in drivers]
    table(f"lane error, %, {roads} roads", ["driver", *(f"{count} families" for count in counts)], rows)
    rows = []
    for driver in drivers:
        mine = [pair for pair in pairs if pair.driver == driver]
        worst = max(mine, key=lambda pair: pair.interaction.value)
        rows.append([driver, *(str(sum(pair.verdict == verdict for pair in mine)) for verdict in VERDICTS)])
        rows[-1] += [f"{worst.first} + {worst.second}", worst.interaction.text(1, 100)]
    table("pairs of families", ["driver", *VERDICTS, "most beyond the sum", "points"], rows)
    chance = 0.025 * sum(pair.driver == drivers[0] for pair in pairs)
    say(f"Each interval is one pair's own: about {chance:.1f} pairs of a driver lie above 0 by chance, as many below.")
    rows = [[one.driver, one.difference.text(1, 100), "yes" if one.decided else "no"] for one in decisions]
    table("two families and more, minus the baseline, points", ["driver", "difference", "decided"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; what cannot be done as asked is one line and exit code 2."""
    words = list(sys.argv[1:] if arguments is None else arguments)

    def work() -> int:
        if not show_help(PROGRAM, "experiments.liquid_claim.interactions", "Interactions", words):
            options = parse_options(Interactions, PROGRAM, words)
            check_outputs(options)
            run(options)
        return 0

    return guarded("interactions", work)


if __name__ == "__main__":
    sys.exit(main())
