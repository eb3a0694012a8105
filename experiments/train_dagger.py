"""`wormwheel train dagger`: the driver drives, the expert says what it should have done, and the data set grows.

    wormwheel train dagger --out runs/dagger --core ltc --rounds 4 --frames 2000
    wormwheel train dagger --env Recorded --data tub --out runs/dagger-tub

In LaneKeeping the expert keeps the middle of the lane; along a recording, the recorded line. Interventions per
kilometre, round by round, are in results.json; `policy/` is that of the last round. A run that was stopped resumes by
--resume: complete episodes and rounds are kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.car import car_of_episodes
from agents.driving.driver import PolicyDriver
from agents.driving.expert import Expert, ExpertConfig
from agents.driving.record import with_vehicle
from agents.driving.recorded_world import RecordedWorld, RigOptions, World, episodes_of, recorded_world
from agents.imitation.dagger import (
    DaggerConfig,
    MixedDriver,
    collect,
    count_interventions,
    data_of,
    episodes_of_round,
    share_of_round,
)
from agents.imitation.train import ImitationConfig, ImitationResult, Progress, train_imitation
from agents.recordings import load_episodes
from agents.recordings.options import ReadOptions
from agents.recordings.splits import split_by_episode
from agents.runs.checkpoints import new_checkpoint, newest_whole
from agents.runs.device import check_device
from agents.runs.directory import RunDirectory, check_directory, open_run
from agents.runs.files import write_json
from agents.runs.reading import damaged, read_object
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.console import check_json, new_directory, progress, say, table, with_tracks, write_results
from experiments.options import check_resume, parse_core_options
from experiments.policy_paths import refuse_lane_keeping
from experiments.robustness.provenance import fingerprint_roads
from experiments.training_sets import FrameOptions, choose_preprocessing, crop_by_view, fit_frames
from policies.checkpoint import load_policy, save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

VERB = "train dagger"
FREE = ("out", "resume", "json", "device")
"""Options that may change when a run is resumed."""
WORLD = LaneKeepingConfig(episode_s=6.0, start_offset=0.4, start_heading_rad=0.25)
"""Where it drives unless told otherwise: as `wormwheel record`."""
VALIDATION = 0.1
"""Share of the episodes that chooses the best epoch."""
KEPT = ("data", "round-*")
"""What is worth keeping of a run."""


@dataclass(frozen=True, config={"extra": "forbid"})
class TrainDaggerOptions:
    """Train a driver on its own mistakes: it drives, an expert labels every frame, and the data set grows (DAgger)."""

    out: Path | None = None
    """Run directory; runs/dagger-CORE, with a number added if that is taken, when not given."""
    env: Literal["LaneKeeping", "Recorded"] = "LaneKeeping"
    """Where it drives: on simulated roads, or along --data."""
    data: tuple[Path, ...] = ()
    """With --env Recorded: recordings to drive along."""
    core: str = "ltc"
    """Recurrent core; `wormwheel info cores` lists them."""
    core_options: tuple[str, ...] = ()
    """NAME=VALUE for fields of the core's own config, such as units=19."""
    dagger: Annotated[DaggerConfig, arg(name="")] = DaggerConfig()
    """How the data set grows."""
    learning: ImitationConfig = ImitationConfig()
    """How each round learns from all data so far."""
    expert: ExpertConfig = ExpertConfig()
    """How the expert looks ahead."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = WORLD
    """LaneKeeping's world."""
    rig: RigOptions = RigOptions()
    """With --env Recorded: camera and car of the recordings."""
    reading: ReadOptions = ReadOptions()
    """With --env Recorded: how they are read."""
    fit: FrameOptions = FrameOptions()
    """With --env Recorded: how their frames are cropped and resized."""
    device: str = "cpu"
    """Where the networks train: cpu, cuda or cuda:N."""
    resume: bool = False
    """Resume the run in --out: complete episodes and rounds are kept."""
    json: Path | None = None
    """File for the figures, as JSON; they go to results.json in the run directory anyway."""

    def __post_init__(self) -> None:
        """Check that options go together."""
        if (self.env == "Recorded") != bool(self.data):
            raise ValueError("--env Recorded and --data go together: give both or none.")
        if self.env == "Recorded":
            refuse_lane_keeping(self.env, self.world, ("episode_s",), WORLD)
        elif (self.rig, self.reading, self.fit) != (RigOptions(), ReadOptions(), FrameOptions()):
            raise ValueError(
                "--rig…, --reading… and --fit… are for recordings: leave them out, or give --env Recorded."
            )
        if self.world.throttle:
            raise ValueError("the expert steers and leaves the speed to the cruise controller: leave out --throttle.")


def run(options: TrainDaggerOptions) -> Path:
    """Collect and learn, round by round; returns the run directory."""
    check_json(options.json)
    check_device(options.device)
    if options.resume and options.out is None:
        raise ValueError("--resume needs --out: the directory of the run.")
    core_options = parse_core_options(options.core, options.core_options)
    world = world_of(options)
    out = new_directory(options.out, f"runs/dagger-{options.core}")
    check_directory(out, VERB, options.resume, KEPT)
    if options.resume:
        check_resume(out, options, FREE)
    frames = Preprocessing(world.height, world.width, height=world.height, width=world.width)
    if isinstance(world, RecordedWorld):
        fit, why = crop_by_view(episodes_of(world), options.fit)
        if why:
            say(f"--fit.crop-top {fit.crop_top} --fit.crop-bottom {fit.crop_bottom} is taken{why}")
        frames = choose_preprocessing((world.height, world.width), fit)
    config = PolicyConfig(
        core=options.core, core_options=core_options, preprocessing=frames, nominal_period_s=world.period_s
    )
    code = world.code if isinstance(world, RecordedWorld) else fingerprint_roads(world)
    with open_run(out, VERB, options, options.resume, KEPT, code) as directory:
        directory.begin()
        return _run_in(directory, options, world, config)


def world_of(options: TrainDaggerOptions) -> World:
    """Return where the options say to drive."""
    if options.env == "Recorded":
        return recorded_world(options.data, options.rig, options.reading, say, episode_s=options.world.episode_s)
    return with_vehicle(with_tracks(options.world))


def _run_in(directory: RunDirectory, options: TrainDaggerOptions, world: World, config: PolicyConfig) -> Path:
    """Run all rounds in a directory; returns it."""
    out, dagger = directory.path, options.dagger
    rounds: list[dict[str, Any]] = []
    policy: DrivingPolicy | None = None
    for number in range(dagger.rounds + 1):
        place = out / f"round-{number}"
        if options.resume and (place / "round.json").is_file():
            rounds.append(_read_round(place / "round.json"))
            policy = load_policy(place / "policy")
            say(f"round {number}: done already, in {place}")
            continue
        _collect(out, options, world, policy, number)
        mine = [one for one in load_episodes(data_of(out)) if one.meta.extra.get("round") == number]
        met = count_interventions(mine)  # from what was written, so that a round that was stopped counts whole
        result = _learn(place, options, config, out)
        policy = result.policy
        frames = load_episodes(data_of(out)).frame_count
        figures = {"round": number, "frames": frames, "interventions": met.to_json()}
        figures["validation_rmse"] = result.progress.best_rmse
        write_json(place / "round.json", figures)
        rounds.append(figures)
    assert policy is not None
    with new_checkpoint(directory.policy) as kept:
        save_policy(policy, kept, {"seed": options.learning.seed, "rounds": dagger.rounds})
    rows = [_row(one) for one in rounds]
    columns = ["round", "labelled frames so far", "interventions per km", "crashes", "validation RMSE, full locks"]
    table("what each round met, before it was learnt from", columns, rows)
    figures_all = {"directory": str(out), "rounds": rounds, "policy": str(directory.policy)}
    write_results(out / "results.json", VERB, options, figures_all)
    write_results(options.json, VERB, options, figures_all)
    say(f"policy: {directory.policy}")
    return out


def _row(figures: Mapping[str, Any]) -> list[str]:
    """Write the figures of a round as a row of the table."""
    met = figures["interventions"]
    per_km = f"{met['per_km']:.1f}" if met["driven_m"] else "expert alone"
    frames, rmse = f"{figures['frames']:,}", f"{figures['validation_rmse']:.3f}"
    return [str(figures["round"]), frames, per_km, str(met["crashes"]), rmse]


def _read_round(path: Path) -> dict[str, Any]:
    """Read the figures of a round that was done before."""
    figures = read_object(path)
    with damaged(path, "remove the directory of this round and resume"):
        _row(figures)
    return figures


def _collect(out: Path, options: TrainDaggerOptions, world: World, policy: DrivingPolicy | None, number: int) -> None:
    """Drive the episodes of a round."""
    dagger = options.dagger
    driver = None if policy is None else PolicyDriver(policy)
    mixed = MixedDriver(driver, Expert(options.expert), dagger, share_of_round(dagger, number), (dagger.seed, number))
    numbers = episodes_of_round(dagger, world, number)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the batches are small
    try:
        with progress(f"driving round {number}", dagger.frames, "frames") as bar:
            collect(data_of(out), world, mixed, numbers, dagger.seed, number, on_frames=bar.advance)
    finally:
        torch.set_num_threads(threads)


def _learn(place: Path, options: TrainDaggerOptions, config: PolicyConfig, out: Path) -> ImitationResult:
    """Learn from all data so far, from fresh weights: what a round begins with does not colour the next."""
    episodes = fit_frames(load_episodes(data_of(out)), config.preprocessing, place / "frames")
    config = replace(config, car=car_of_episodes(episodes))
    training, validation = split_by_episode(episodes, VALIDATION, options.dagger.seed)
    run_directory = RunDirectory(place, VERB, options, resume=True)
    resume = options.resume and newest_whole(run_directory.last) is not None
    with progress(f"training {config.core}", 1, "steps") as bar:

        def on_step(state: Progress, total: int, loss: float) -> None:
            bar.update(state.step, f"epoch {state.epoch + 1} of {options.learning.epochs}, loss {loss:.4f}", total)

        result = train_imitation(
            options.learning,
            config,
            training,
            validation,
            run_directory,
            resume,
            on_step,
            device=options.device,
        )
    shutil.rmtree(place / "frames", ignore_errors=True)
    return result
