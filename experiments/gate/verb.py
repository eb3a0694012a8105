"""`wormwheel gate`: may this policy be released?

    wormwheel gate --policy runs/new --against runs/released
    wormwheel gate --policy runs/new --against runs/released --suite ci.json --out runs/gate \
        --require "crashes <= 0 @ severity <= 2" --require "fog.lane_error <= 0.15"
    wormwheel gate --policy runs/new --require "crash_share <= 0.05"
    wormwheel gate --policy runs/new --against runs/released --env Recorded --data tub

Both policies drive the same roads under the same disturbances, some roads at a time. After each part the gate looks:
it ends as soon as every question is answered, or one is answered with no, and drives on where none is, up to its
budget. Exit code 0: as good as the released one, and every requirement met. 1: worse, or a requirement broken. 3: not
decided within the budget. 2: what was asked for cannot be done.
"""

from __future__ import annotations

import time
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from tyro.conf import UseAppendAction, arg

from agents.driving.driver_options import DriverOptions
from agents.driving.recorded_world import RECORDED_WORLD, RecordedWorld, RigOptions
from agents.runs.directory import command, open_run, versions
from envs.driving.names import DrivingNames
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import check_json, progress, say, write_results
from experiments.evaluate.options import check_rig
from experiments.evaluate.recordings import RecordingOptions
from experiments.gate.requirements import check_requirements, out_of_reach, parse_requirement
from experiments.gate.sequential import Plan
from experiments.options import refuse_unused
from experiments.policy_paths import check_frame_size, refuse_scale
from experiments.robustness.drivers import find_policy_runs
from experiments.robustness.jobs import PolicyRun
from experiments.robustness.store import check_extra
from experiments.robustness.suites import choose_suite
from experiments.robustness.verb import choose_world, find_recorded_world, without_attacks, without_roads

POLICY, AGAINST = "policy", "released"
"""Names of the two drivers in tables."""


@dataclass(frozen=True, config={"extra": "forbid"})
class GateOptions:
    """Judge a policy: as good as the released one, and within what is required? Exit code 0 yes, 1 no, 3 undecided."""

    policy: str
    """Policy or run directory that is judged, or any driver that `wormwheel evaluate` takes."""
    against: str | None = None
    """What it is compared with, drive by drive."""
    require: Annotated[tuple[str, ...], UseAppendAction] = ()
    """What must hold, such as "crashes <= 0 @ severity <= 2" or "fog.lane_error <= 0.15"; may be given several times.
    The part before the dot is a perturbation, a family or clean; without it every drive counts."""
    suite: str = "quick"
    """"quick" (one disturbance of each family at severities 2 and 4, drives of 10 s), "standard", "noise", or a JSON
    file such as {"perturbations": ["fog", "rain+latency:1"], "severities": [2, 4], "episode_s": 10}."""
    perturbations: tuple[str, ...] = ()
    """Instead of the suite's: names with or without a severity, such as fog rain:4."""
    severities: tuple[int, ...] = ()
    """Instead of the suite's: severities, 1 to 5, of perturbations that name none."""
    budget: Annotated[int, Field(ge=3, le=100_000)] = 16
    """Roads at most, the same for both; the gate looks after 4, 6, 9, 14, … of them."""
    margin: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Lane error by which it may be worse and still count as good, share of the lane width."""
    response_tolerance: Annotated[float, Field(gt=0, lt=1)] | None = 0.2
    """Share by which it may steer more or less than the released policy on that one's own frames, unless it drives
    better; None does not ask."""
    response_delay_s: Annotated[float, Field(ge=0, le=1)] = 0.07
    """Time by which it may steer later than the released policy on that one's own frames, unless it drives better."""
    error_rate: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """Probability of a false alarm in the comparison, whole gate; likewise for each requirement."""
    seed: NonNegativeInt = 1000
    """Seed of the first road; the next ones follow it."""
    effect_seed: NonNegativeInt = 0
    """Seed of the perturbations, together with that of the road."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=10.0))
    """Where they drive, before anything is perturbed; the suite gives the length of a drive unless --episode-s does."""
    env: Literal["LaneKeeping", "Recorded"] = "LaneKeeping"
    """Where they drive: simulated roads, or along the recordings of --data in closed loop. There a road is a start
    drawn along them: starts of one recording are less independent than roads are."""
    recordings: Annotated[RecordingOptions, arg(name="")] = RecordingOptions()
    """With --env Recorded: which recordings."""
    rig: RigOptions = RigOptions()
    """With --env Recorded: camera and car of the recordings, where they do not know them."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What drivers of others cannot say of themselves."""
    workers: Annotated[int, Field(gt=0, le=1024)] = 2
    """Processes that drive; they do not change the figures."""
    films: Annotated[int, Field(ge=0, le=1000)] = 3
    """Drives of what failed that are filmed."""
    out: Path = Path("runs/gate")
    """Directory for summary.md, junit.xml, summary.json, drives.parquet and films; what an earlier gate left there is
    replaced."""
    json: Path | None = None
    """File for the summary, with the options, as JSON; it goes to summary.json in the directory anyway."""

    def __post_init__(self) -> None:
        """Check that world and recordings go together."""
        check_rig(self.env, self.rig)
        if self.against is None:
            compared = ("margin", "response_tolerance", "response_delay_s")
            refuse_unused(self, compared, "without --against nothing is compared")
        if self.response_tolerance is None:
            refuse_unused(self, ("response_delay_s",), "--response-tolerance None does not ask how it steers")
        if (self.env == RECORDED_WORLD) != bool(self.recordings.data):
            raise ValueError("--env Recorded and --data go together: it drives along recordings.")


def defaults_for(options: GateOptions) -> GateOptions:
    """Return the options with the defaults that the suite brings."""
    episode_s = choose_suite(options.suite).episode_s
    return GateOptions(policy=options.policy, world=LaneKeepingConfig(episode_s=episode_s))


def run(options: GateOptions) -> int:
    """Judge a policy; returns the exit code."""
    check_json(options.json)
    check_extra()
    from experiments.gate.drives import GatePlan, drive_gate  # these need pandas
    from experiments.gate.judge import EXIT_CODES, Rules
    from experiments.gate.report import write_report

    if options.against is None and not options.require:
        raise ValueError("nothing to judge by: give --against with a released policy, or --require, or both.")
    world = _find_world(options)
    policy_runs = _policy_runs(options, world.throttle)
    suite = without_attacks(choose_suite(options.suite, options.perturbations, options.severities), policy_runs)
    if isinstance(world, RecordedWorld):
        suite = without_roads(suite, world)
    plan = GatePlan(
        policy_runs=policy_runs,
        perturbations=suite.conditions(),
        world=replace(world),
        looks=Plan.upto(options.budget),
        rules=Rules(
            POLICY,
            AGAINST if options.against else None,
            options.margin,
            options.error_rate,
            options.response_tolerance,
            options.response_delay_s,
        ),
        requirements=tuple(parse_requirement(text) for text in options.require),
        seed=options.seed,
        effect_seeds=(options.effect_seed,),
    )
    if isinstance(world, LaneKeepingConfig):
        check_frame_size({one.driver: one.policy for one in plan.policy_runs if one.policy is not None}, world)
    check_requirements(plan.requirements, plan.conditions)
    for requirement in plan.requirements:
        if (words := out_of_reach(requirement, plan.looks, options.error_rate)) is not None:
            say(f"note: {words}")
    begun_s = time.monotonic()
    with open_run(options.out, "gate", options, resume=options.out.exists(), results=()) as directory:
        looks = range(len(plan.looks.roads))
        most = sum(sum(job.weight for job in plan.jobs(look)) for look in looks)
        most += sum(sum(job.weight for job in plan.response_jobs(look)) for look in looks)
        with progress("driving", most, "steps at most") as bar:
            result = drive_gate(
                plan,
                options.workers,
                bar.advance,
                lambda so_far: bar.update(bar.done, f"{so_far.roads} roads: {so_far.outcome.value}"),
            )
        directory.begin()
        origin = {"command": command(), "seconds": round(time.monotonic() - begun_s, 1), **versions()}
        keep = partial(write_results, options.json, "gate", options)
        write_report(options.out, plan, result, origin, options.films, keep)
    say(f"summary: {options.out / 'summary.md'}")
    return EXIT_CODES[result.outcome]


def _find_world(options: GateOptions) -> LaneKeepingConfig | RecordedWorld:
    """Return where they drive."""
    if options.env != RECORDED_WORLD:
        return choose_world(options.world)
    usual_s = choose_suite(options.suite).episode_s
    return find_recorded_world(options.world, options.recordings, options.rig, DrivingNames(), usual_s)


def _policy_runs(options: GateOptions, throttle: bool) -> tuple[PolicyRun, ...]:
    """Return who drives."""
    given = {POLICY: options.policy} | ({AGAINST: options.against} if options.against else {})
    refuse_scale(given.values(), options.driver)
    found = []
    for name, source in given.items():
        (one,) = find_policy_runs([source], throttle=throttle, options=options.driver)
        found.append(replace(one, driver=name, run=0))
    return tuple(found)
