"""`wormwheel robustness`: what do drivers do when the world is not as they know it?

    wormwheel robustness --policy runs/ltc runs/lstm --suite quick
    wormwheel robustness --policy ltc=runs/ltc-0 ltc=runs/ltc-1 lstm=runs/lstm-* --baseline feedforward
    wormwheel robustness --policy runs/ltc --suite noise                      # the published protocol
    wormwheel robustness --policy runs/ltc --suite mine.json --data tub       # on the road and on a recording
    wormwheel robustness --policy runs/ltc --world none --data tub            # recordings alone, their last fifth
    wormwheel robustness --policy runs/ltc --env racetrack-v1 --fit fit.json   # in an env of others
    wormwheel robustness --policy runs/ltc --ray auto                         # on a cluster

Drivers × perturbations × severities × roads × seeds, everything paired: every driver, clean and perturbed, meets the
same roads, looks, starts and draws. The same command resumes what was killed; the numbers depend neither on that nor on
the number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.driver_options import DriverOptions
from agents.driving.frame_format import fit_preprocessing
from agents.driving.open_driver import open_driver
from agents.driving.other_world import OtherWorld, look_at_world
from agents.driving.record import with_vehicle
from agents.driving.recorded_world import RECORDED_WORLD, RecordedWorld, RigOptions
from agents.driving.trials import Place, open_for
from agents.runs.directory import RunDirectory, open_run, versions
from agents.runs.workers import run_jobs
from envs.driving.names import DrivingNames
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import parse
from experiments.console import check_json, progress, say, with_tracks, write_results
from experiments.evaluate.options import check_rig
from experiments.evaluate.recorded import world_along
from experiments.evaluate.recordings import RecordingOptions
from experiments.options import refuse_unused
from experiments.policy_paths import (
    LANE_KEEPING,
    check_frame_size,
    has_gradient,
    refuse_lane_keeping,
    refuse_scale,
    say_unknown,
)
from experiments.robustness.drivers import choose_baseline, find_policy_runs
from experiments.robustness.jobs import CLEAN, DriveJob, DriveRow, JobResult, PolicyRun, drive_jobs
from experiments.robustness.provenance import fingerprint_perturbation, fingerprint_world
from experiments.robustness.publish import publish
from experiments.robustness.recorded_jobs import BlockRow, RecordedData, RecordedJob
from experiments.robustness.store import Store, check_extra, make_table, write_table
from experiments.robustness.suites import Suite, choose_suite
from experiments.training_sets import SplitOptions

FORMAT_VERSION = 1
HELD_OUT = SplitOptions.hold_out
"""Share of a recording that counts when recordings are all there is: what training holds out, from its end."""


@dataclass(frozen=True, config={"extra": "forbid"})
class RobustnessOptions:
    """Drive policies under everything that can go wrong, and say with intervals which of them bear it."""

    policy: tuple[str, ...] = ()
    """Drivers to compare: policy or run directories. NAME=DIRECTORY gives a name; directories of one name, or those
    that a pattern such as 'ltc=runs/ltc-*' finds, are training runs of one driver."""
    suite: str = "quick"
    """"standard" (every perturbation, 5 severities, 4 roads of 20 s), "quick" (one of each family, 2 severities, 2
    roads of 10 s), "noise" (the published variances 0, .1, .2, .3), or a JSON file such as {"perturbations": ["fog",
    "rain+latency:1"], "severities": [1, 3, 5], "roads": 4, "episode_s": 20}."""
    perturbations: tuple[str, ...] = ()
    """Instead of the suite's: names with or without a severity, such as fog rain:4 night+latency:2. `wormwheel info
    perturbations` lists them."""
    severities: tuple[int, ...] = ()
    """Instead of the suite's: severities, 1 to 5, of perturbations that name none."""
    roads: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Instead of the suite's: roads, each with a look and a start of its own; random ones, or drawn from the files of
    --track."""
    seeds: Annotated[int, Field(gt=0, le=100_000)] = 1
    """Draws of each perturbation on each road."""
    seed: NonNegativeInt = 1000
    """Seed of the first road; the next ones follow it."""
    effect_seed: NonNegativeInt = 0
    """Seed of the first draw of the perturbations; the next ones follow it."""
    baseline: str | None = None
    """Driver that the others are compared with: errors are counted in its own. Without it, a driver whose core has no
    memory (feedforward) if there is one, else the first."""
    expert: bool = False
    """Let the geometric expert drive too, which sees the true road: what can be done at all."""
    drive_in: Annotated[Literal["lane_keeping", "none"], arg(name="world")] = "lane_keeping"
    """"lane_keeping": simulated roads. "none": nobody drives; the recordings of --data alone are what is tested on."""
    env: str = LANE_KEEPING
    """World to drive in, as in `wormwheel evaluate`: LaneKeeping, CarRacing, racetrack-v1, any id of Gymnasium,
    module:function or file.py:function, or Recorded: along --data in closed loop. What an env cannot do (roads and cars
    of its own) is left out."""
    env_names: DrivingNames = DrivingNames()
    """Where picture, steering, speed and road are in that env; what is left out is as a known env has it."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=20.0))
    """Where they drive, before anything is perturbed; the frame's size is the policy's own. The suite gives the length
    of a drive unless --episode-s does."""
    driver: Annotated[DriverOptions, arg(name="")] = DriverOptions()
    """What drivers cannot say of themselves."""
    recordings: Annotated[RecordingOptions, arg(name="")] = RecordingOptions()
    """Recordings on which the same perturbations are tried too, as far as they can be. With --world none, --last is the
    share that training holds out unless it is given."""
    rig: RigOptions = RigOptions()
    """With --env Recorded: camera and car of the recordings, where they do not know them."""
    workers: Annotated[int, Field(gt=0, le=1024)] = 2
    """Processes that drive; they do not change the figures."""
    ray: str | None = None
    """Drive on a Ray cluster instead: "auto" for the one that this machine belongs to, or the address of one."""
    films: Annotated[int, Field(ge=0, le=1000)] = 4
    """Failures that are filmed for the report."""
    out: Path = Path("runs/robustness")
    """Directory for results.parquet, summary.json and report.html; the same command resumes there."""
    json: Path | None = None
    """File for the summary, with the options, as JSON; it goes to summary.json in the directory anyway."""

    def __post_init__(self) -> None:
        """Check what must be given."""
        check_rig(self.env, self.rig)
        if not self.policy:
            raise ValueError("nothing to test: give --policy with one or more policy directories.")
        if self.env == RECORDED_WORLD and not self.recordings.data:
            raise ValueError(f"--env {RECORDED_WORLD} drives along a recording: name it with --data.")
        if self.drive_in == "none" and not self.recordings.data:
            raise ValueError("with --world none there is nothing to test on: give --data with recordings.")
        if self.drive_in == "none":
            refuse_unused(self, ("roads", "seed"), "with --world none nobody drives")
            refuse_lane_keeping("--world none", replace(self.world, episode_s=LaneKeepingConfig().episode_s))
        if self.drive_in == "none" and self.expert:
            raise ValueError("--expert sees the true road, and recordings have none: leave it out, or --world none.")
        if self.env not in (LANE_KEEPING, RECORDED_WORLD) and (self.expert or self.drive_in == "none"):
            raise ValueError(f"--expert and --world none do not go with --env {self.env}: leave out one or the other.")


def defaults_for(options: RobustnessOptions) -> RobustnessOptions:
    """Return the options with the defaults that the suite and recordings alone bring."""
    suite = choose_suite(options.suite)
    usual = RobustnessOptions(policy=options.policy, world=LaneKeepingConfig(episode_s=suite.episode_s))
    if options.drive_in == "none":
        data = RecordingOptions(data=options.recordings.data, last=HELD_OUT)
        return replace(usual, drive_in="none", recordings=data)
    return usual


def run(options: RobustnessOptions) -> Path:
    """Test drivers; returns the directory with the results."""
    check_json(options.json)
    with open_run(options.out, "robustness", options, resume=options.out.exists(), results=()) as directory:
        return _run_in(directory, options)


def _run_in(directory: RunDirectory, options: RobustnessOptions) -> Path:
    """Test drivers in a directory; returns it."""
    check_extra()
    from experiments.robustness.analysis import find  # these need pandas
    from experiments.robustness.recorded import find_recorded, publish_recorded

    world = _find_world(options)
    refuse_scale([text.partition("=")[2] or text for text in options.policy], options.driver)
    # Else crop and gain are for the recordings.
    fitted = not options.recordings.data or options.env == RECORDED_WORLD
    policy_runs = find_policy_runs(options.policy, options.expert, world.throttle, options.driver, fitted)
    if options.drive_in != "none" and isinstance(world, LaneKeepingConfig):
        framed = {one.key: one.policy for one in policy_runs if one.policy is not None}
        check_frame_size(framed, world)
    if options.ray is not None:
        _refuse_luggage(policy_runs, world)
        from agents.runs.ray_cluster import check_cluster

        check_cluster(options.ray)
    baseline = choose_baseline(policy_runs, options.baseline)
    for one in policy_runs if options.drive_in != "none" else ():
        if one.source is not None:
            open_for(one.source, world)  # what does not fit is told before anything is written
    suite = choose_suite(options.suite, options.perturbations, options.severities, options.roads)
    suite = without_attacks(replace(suite, episode_s=world.episode_s), policy_runs)
    if not isinstance(world, LaneKeepingConfig):
        suite = without_roads(suite, world)
    if isinstance(world, OtherWorld):
        say_unknown(world)
    jobs = make_jobs(policy_runs, suite, options, world)
    plan = make_plan(policy_runs, suite, options, world)
    store = Store(options.out, plan)
    directory.begin()
    RunDirectory(options.out, "robustness", options, resume=True)
    done, stale = store.finished({job.key: job.code for job in jobs})
    waiting = [job for job in jobs if job.key not in done]
    if stale:
        changed = dict.fromkeys(job.perturbation or "clean" for job in jobs if job.key in stale)
        say(
            f"{len(stale)} of {len(jobs)} jobs were done by other code of the env, or with other doses or code of "
            f"their perturbation, other road files or another fit, and are done again: {', '.join(changed)}."
        )
    if done:
        say(f"{len(done)} of {len(jobs)} jobs are done already" + ("; doing the rest." if waiting else "."))
    if waiting:
        _drive(waiting, options, store, done)
    results = [done[job.key] for job in jobs]
    drives = [
        row for job, result in zip(jobs, results, strict=True) if isinstance(job, DriveJob) for row in result.rows
    ]
    blocks = [
        row for job, result in zip(jobs, results, strict=True) if isinstance(job, RecordedJob) for row in result.rows
    ]
    keep = partial(write_results, options.json, "robustness", options)
    drive_table, block_table = make_table(drives, DriveRow), make_table(blocks, BlockRow)
    if blocks:
        write_table(options.out / "recordings.parquet", block_table)
    if options.drive_in == "none":
        found = find_recorded(block_table, suite.conditions())
        publish_recorded(options.out, found, plan, options.recordings, keep)
    else:
        write_table(options.out / "results.parquet", drive_table)
        findings = find(drive_table, block_table, suite.conditions(), baseline)
        publish(options.out, findings, plan, policy_runs, world, options.films, drive_table, keep)
    return options.out


def _find_world(options: RobustnessOptions) -> Place:
    """Return where they drive."""
    if options.env == LANE_KEEPING:
        if options.env_names != DrivingNames():
            raise ValueError("--env-names say where things are in another env: give --env, or leave them out.")
        return choose_world(options.world)
    usual = choose_suite(options.suite).episode_s
    if options.env == RECORDED_WORLD:
        return find_recorded_world(options.world, options.recordings, options.rig, options.env_names, usual)
    refuse_lane_keeping(options.env, replace(options.world, episode_s=LaneKeepingConfig().episode_s))
    own = options.env_names.episode_s if options.env_names.episode_s != DrivingNames().episode_s else None
    length = options.world.episode_s if options.world.episode_s != usual or own is None else own
    return look_at_world(options.env, options.env_names, length)


def find_recorded_world(
    given: LaneKeepingConfig, recordings: RecordingOptions, rig: RigOptions, names: DrivingNames, usual_s: float
) -> RecordedWorld:
    """Return recordings as a world to drive in.

    Args:
        given: options of LaneKeeping, of which the length of a drive alone counts.
        recordings: which, and how they are read.
        rig: camera and car.
        names: of things in envs of others; none of them counts.
        usual_s: length of a drive by the suite.

    Raises:
        ValueError: if an option is set that a recording does not have, or one cannot be driven along.
    """
    if names != DrivingNames():
        raise ValueError("--env-names say where things are in another env; a recording has none: leave them out.")
    refuse_lane_keeping(RECORDED_WORLD, replace(given, episode_s=LaneKeepingConfig().episode_s))
    return world_along(recordings, rig, given.episode_s or usual_s)


def without_roads(suite: Suite, world: OtherWorld | RecordedWorld) -> Suite:
    """Leave out what changes the road or the car: an env of others has its own, and so has a recording.

    Raises:
        ValueError: if nothing is left.
    """
    lost = [condition for condition in suite.conditions() if parse(condition).changes_scenario]
    left = tuple(condition for condition in suite.conditions() if condition not in lost)
    if not left:
        raise ValueError(f"{', '.join(lost)} change the road or the car, which {world.name} has of its own.")
    if lost:
        say(f"note: {', '.join(lost)} left out: {world.name} has roads and a car of its own")
    return replace(suite, perturbations=left)


def _refuse_luggage(policy_runs: Sequence[PolicyRun], world: Place) -> None:
    """Check that everything that drives can be carried to other machines.

    Raises:
        ValueError: if something cannot.
    """
    stay = [one.driver for one in policy_runs if one.foreign is not None]
    stay += [world.name] if isinstance(world, OtherWorld) and ".py:" in world.name else []
    if stay:
        raise ValueError(
            f"--ray carries the directories of our policies to the cluster and nothing else; {', '.join(stay)} would "
            "be looked for in a file that its machines need not have. Leave out --ray: --workers drives here."
        )


def choose_world(given: LaneKeepingConfig) -> LaneKeepingConfig:
    """Return the world with its vehicle and its road files named, after a look into each file.

    Raises:
        FileNotFoundError: if a road file is not there.
        ValueError: if one cannot be driven.
    """
    return with_vehicle(with_tracks(given))


def without_attacks(suite: Suite, policy_runs: Sequence[PolicyRun]) -> Suite:
    """Leave attacks out, for all, where a driver has no gradient that they could ask: drives are paired.

    Raises:
        ValueError: if nothing is left.
    """
    blind = [run.driver for run in policy_runs if run.foreign and not has_gradient(open_driver(run.foreign))]
    attacks = [condition for condition in suite.conditions() if parse(condition).attacks]
    if not blind or not attacks:
        return suite
    left = tuple(condition for condition in suite.conditions() if condition not in attacks)
    if not left:
        raise ValueError(f"{', '.join(blind)} has no gradient to attack, and the suite holds nothing but attacks.")
    say(f"note: {', '.join(attacks)} left out for all drivers: {', '.join(blind)} has no gradient to attack")
    return replace(suite, perturbations=left)


def make_jobs(
    policy_runs: Sequence[PolicyRun],
    suite: Suite,
    options: RobustnessOptions,
    world: Place,
) -> list[DriveJob | RecordedJob]:
    """List the jobs, one training run after the other; recordings come last."""
    roads = tuple(range(options.seed, options.seed + suite.roads))
    seeds = tuple(range(options.effect_seed, options.effect_seed + options.seeds))
    conditions = [CLEAN, *suite.conditions()]
    jobs: list[DriveJob | RecordedJob] = []
    for policy_run in policy_runs if options.drive_in != "none" else ():
        jobs += [DriveJob(policy_run, condition, world, roads, seeds) for condition in conditions]
    if not options.recordings.data or isinstance(world, RecordedWorld):
        return jobs
    wanted = options.recordings
    left_out = [condition for condition in conditions if not parse(condition).frames]
    if len(left_out) == len(conditions) - 1:
        raise ValueError(f"none of {', '.join(left_out)} can be applied to recordings: give others.")
    if left_out and options.drive_in == "none":
        say(f"left out, because a recording cannot answer: {', '.join(left_out)}.")
    data = RecordedData(wanted.data, wanted.last, wanted.nominal_period_s, wanted.recording)
    frame_size, fitted = data.load().frame_size, options.driver.resolved()
    for policy_run in policy_runs:
        if policy_run.is_expert:
            continue
        if policy_run.policy is None:
            assert policy_run.foreign is not None
            open_driver(policy_run.foreign, camera=frame_size)  # likewise
            tried = [condition for condition in conditions if parse(condition).frames]
            jobs += [RecordedJob(policy_run, condition, data, None, seeds) for condition in tried]
            continue
        own = policy_run.opened().config.preprocessing
        fit = fit_preprocessing(own, policy_run.driver, frame_size, fitted.crops)
        jobs += [
            RecordedJob(policy_run, condition, data, fit, seeds, fitted.steering_gain or 1.0)
            for condition in conditions
            if parse(condition).frames
        ]
    return jobs


def make_plan(
    policy_runs: Sequence[PolicyRun],
    suite: Suite,
    options: RobustnessOptions,
    world: Place,
) -> dict[str, Any]:
    """Return everything that the numbers depend on."""
    return {
        "format": "wormwheel-robustness",
        "format_version": FORMAT_VERSION,
        "wormwheel": versions()["wormwheel"],
        "policies": [
            {"driver": policy_run.driver, "run": policy_run.run, "fingerprint": policy_run.fingerprint}
            for policy_run in policy_runs
        ],
        "perturbations": list(suite.conditions()),
        "code": {"env": fingerprint_world(world)}
        | {name: fingerprint_perturbation(name) for name in suite.conditions()},
        "roads": suite.roads,
        "seed": options.seed,
        "seeds": options.seeds,
        "effect_seed": options.effect_seed,
        "world": world if isinstance(world, LaneKeepingConfig) else replace(world, code=""),
        "recordings": options.recordings,
        **({"drive_in": options.drive_in} if options.drive_in == "none" else {}),
    }


def _drive(
    jobs: Sequence[DriveJob | RecordedJob], options: RobustnessOptions, store: Store, done: dict[str, JobResult]
) -> None:
    """Do the jobs and keep each as soon as it is finished."""
    # Attacks take longest: begun first, they keep nobody waiting at the end.
    jobs = sorted(jobs, key=lambda job: not parse(job.perturbation).attacks)
    total, begun_s = sum(job.weight for job in jobs), time.monotonic()
    finished = 0
    with progress("driving", total, "steps") as bar:

        def note(news: int | JobResult) -> None:
            nonlocal finished
            if isinstance(news, int):
                bar.advance(news)
                return
            store.save(news)
            done[news.key] = news
            finished += 1
            rate = bar.done / max(time.monotonic() - begun_s, 1e-6)
            bar.update(bar.done, f"{finished} of {len(jobs)} jobs, {rate:,.0f} steps/s")

        if options.ray is None:
            run_jobs(drive_jobs, jobs, options.workers, note)
        else:
            from agents.runs.ray_cluster import run_jobs_on_ray

            run_jobs_on_ray(drive_jobs, jobs, options.ray, note)
