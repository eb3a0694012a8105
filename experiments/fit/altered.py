"""What a fit is worth: crashes at home, in altered cameras and cars, and there with what `wormwheel fit` finds.

    python -m experiments.fit.altered --policy runs/mine --vehicle bicycle --variety 0.15

For each alteration the expert records a few hundred frames in the altered world, `fit` finds crop and gain from these
and their steering, and the policy drives the same roads at home, altered with its frames merely resized, and altered
with crop and gain. Nothing is trained. The expert drives there, too: what it cannot do, no fit can. Crashes with the
fit and at home are compared road by road. Worlds that stand in `--out` by the same options are not driven again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.fit import CameraFit, fit_camera
from agents.driving.paired_shares import paired_share_difference
from agents.driving.record import RecorderConfig, record
from agents.driving.statistics import Estimate, proportion
from agents.driving.trials import Run, Trial, drive_trials, expected_steps
from agents.recordings import load_episodes
from agents.runs.directory import claim, command, versions
from agents.runs.files import write_json
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.cli import run_script
from experiments.console import progress, say, screen, table
from experiments.fit.verb import to_json
from experiments.policy_paths import find_policy
from experiments.robustness.verb import choose_world

DRIVERS = ("expert", "resized", "fitted")
"""Who drives in an altered world: the expert, the policy with its frames resized, and the policy with the fit."""

COMPARED = ("fitted − home, %", "fitted − resized, %")
"""Differences of shares of the same roads, with their 95 % intervals."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Altered:
    """Count crashes at home, in altered worlds, and there with crop and gain."""

    policy: Path
    """Policy or run directory; it should stay on the road at home."""
    roads: PositiveInt = 20
    """Drives in each world."""
    frames: PositiveInt = 400
    """Recorded frames of each altered world that `fit` gets."""
    seed: NonNegativeInt = 7000
    """Of the first road."""
    only: tuple[str, ...] = ()
    """Alterations to try; all when none is named."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=20.0))
    """Home."""
    camera: Annotated[str, Field(pattern=r"^[1-9]\d*x[1-9]\d*$")] = "48x96"
    """Rows and columns of the frames of altered worlds; the policy's own size is home's."""
    workers: PositiveInt = 1
    """Processes; they do not change the figures."""
    out: Path = Path("runs/fit_altered")
    """Directory for altered.json."""


def alterations(home: LaneKeepingConfig) -> dict[str, LaneKeepingConfig]:
    """Return the altered worlds by what is altered."""
    return {
        "camera 0.4 m high": with_camera(home, height_m=0.4),
        "camera 0.6 m high": with_camera(home, height_m=0.6),
        "camera 0.12 m high": with_camera(home, height_m=0.12),
        "field of view 60°": with_camera(home, hfov_deg=60.0, lens=1.0),
        "field of view 110°": with_camera(home, hfov_deg=110.0, lens=1.0),
        "field of view 130°, lens 0.7": with_camera(home, hfov_deg=130.0, lens=0.7),
        "horizon at 0.05": with_camera(home, horizon=0.05),
        "horizon at 0.55": with_camera(home, horizon=0.55),
        "lanes 0.6 times as wide": with_car(home, lanes=0.6),
        "lanes 1.8 times as wide": with_car(home, lanes=1.8),
        "full lock 1 rad": with_car(home, full_lock_rad=1.0),
        "speed 1.5 times": with_car(home, speed=1.5),
        "0.4 m, horizon 0.5": with_camera(home, height_m=0.4, horizon=0.5),
        "0.4 m, 110°, horizon 0.5": with_camera(home, height_m=0.4, hfov_deg=110.0, lens=1.0, horizon=0.5),
        "0.6 m, 110°, horizon 0.5": with_camera(home, height_m=0.6, hfov_deg=110.0, lens=1.0, horizon=0.5),
        "0.6 m, 110°, horizon 0.5, full lock 1 rad": with_car(
            with_camera(home, height_m=0.6, hfov_deg=110.0, lens=1.0, horizon=0.5), full_lock_rad=1.0
        ),
        "0.4 m, horizon 0.5, lanes 1.5 times, speed 1.3 times, full lock 1 rad": with_car(
            with_camera(home, height_m=0.4, horizon=0.5), full_lock_rad=1.0, lanes=1.5, speed=1.3
        ),
        "60°, horizon 0.5, speed 1.3 times, full lock 1 rad": with_car(
            with_camera(home, hfov_deg=60.0, lens=1.0, horizon=0.5), full_lock_rad=1.0, speed=1.3
        ),
        "0.4 m, 110°, lanes 1.5, speed 1.3 times, full lock 0.8 rad": with_car(
            with_camera(home, height_m=0.4, hfov_deg=110.0, lens=1.0), full_lock_rad=0.8, lanes=1.5, speed=1.3
        ),
    }


def with_car(
    world: LaneKeepingConfig, full_lock_rad: float | None = None, lanes: float = 1.0, speed: float = 1.0
) -> LaneKeepingConfig:
    """Return a world with another car or road: lanes and speed in multiples of what they were."""
    low, high = world.roads.lane_width_m
    vehicle = world.vehicle_params
    return replace(
        world,
        roads=replace(world.roads, lane_width_m=(lanes * low, lanes * high)),
        speed_mps=(speed * world.speed_mps[0], speed * world.speed_mps[1]),
        vehicle_params=replace(vehicle, steering_limit_rad=full_lock_rad or vehicle.steering_limit_rad),
    )


def with_camera(world: LaneKeepingConfig, **wanted: float) -> LaneKeepingConfig:
    """Return a world whose camera has certain values, by their names in `CameraRanges`; the rest varies as before."""
    return replace(world, camera=replace(world.camera, **{name: (value, value) for name, value in wanted.items()}))


def run(options: Altered) -> None:
    """Drive, record, fit, drive again; print how many drives left the road."""
    home = choose_world(options.world)
    spec = DriverSpec(str(find_policy(options.policy)))
    rows, columns = map(int, options.camera.split("x"))
    worlds = alterations(replace(home, height=rows, width=columns))
    unknown = [name for name in options.only if name not in worlds]
    if unknown:
        raise ValueError(f"there is no alteration {', '.join(unknown)}. There is: {', '.join(worlds)}.")
    worlds = {name: worlds[name] for name in options.only or worlds}
    runs = tuple(Run(options.seed + number) for number in range(options.roads))
    with claim(options.out, "fit altered", options) as directory:
        _compare(options, home, worlds, spec, runs, directory.path / "altered.json")


def _compare(
    options: Altered,
    home: LaneKeepingConfig,
    worlds: Mapping[str, LaneKeepingConfig],
    spec: DriverSpec,
    runs: tuple[Run, ...],
    path: Path,
) -> None:
    asked = json.loads(json.dumps(asdict(replace(options, only=(), workers=1)), default=str))
    there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept: dict[str, dict[str, Any]] = {}
    if there.get("options") == asked:
        at_home, kept = there["figures"]["home"], there["figures"]["altered"]
    else:
        (at_home,) = _crashes([Trial(spec, home, runs)], options)
    say(f"home: {_share(at_home)}")
    for name, world in worlds.items():
        if name in kept:
            continue
        found = _fit(spec, world, options)
        resized = DriverSpec(spec.source, DriverOptions(crop_top=0))
        fitted = DriverSpec(spec.source, found.options(DriverOptions()))
        crashes = _crashes([Trial(who, world, runs) for who in (None, resized, fitted)], options)
        say(f"{name}: {', '.join(map(_share, crashes))} ({', '.join(DRIVERS)})")
        kept[name] = {
            "crashes": {who: [bool(one) for one in some] for who, some in zip(DRIVERS, crashes, strict=True)},
            "fitted_minus_home": paired_share_difference(crashes[2], at_home).to_json(),
            "fit": to_json(found),
        }
        figures = {"home": at_home, "altered": kept}
        write_json(path, {"command": command(), "versions": versions(), "options": asked, "figures": figures})
    table(
        f"drives of {home.episode_s:g} s that left the road, of {options.roads}; at home {_share(at_home)}",
        ["world", *DRIVERS, *COMPARED, "crop: top bottom left right", "gain", "by geometry", "correlation"],
        [_row(name, world) for name, world in kept.items()],
    )
    screen().print(f"figures: {path}", markup=False)


def _row(name: str, world: dict[str, Any]) -> list[str]:
    """Return the row of a world in the table, from what was written of it."""
    fit, crashes = world["fit"], world["crashes"]
    compared = (world["fitted_minus_home"], paired_share_difference(crashes["fitted"], crashes["resized"]).to_json())
    more = [Estimate(**one).text(0, 100) for one in compared]
    crop = " ".join(str(fit[f"crop_{side}"]) for side in ("top", "bottom", "left", "right"))
    geometric = "–" if fit["gain_by_geometry"] is None else f"{fit['gain_by_geometry']:.2f}"
    gain = Estimate(fit["steering_gain"], *fit["steering_gain_95"]).text(2)
    shares = [_share(crashes[who]) for who in DRIVERS]
    correlation = f"{fit['correlation']['value']:.2f}"
    return [name, *shares, *more, f"{crop} ({fit['by']})", gain, geometric, correlation]


def _share(crashed: Sequence[bool]) -> str:
    return f"{sum(crashed)} {proportion(sum(crashed), len(crashed)).interval(lambda end: f'{100 * end:.0f} %')}"


def _fit(spec: DriverSpec, world: LaneKeepingConfig, options: Altered) -> CameraFit:
    """Let the expert record in an altered world, and fit to its frames."""
    with tempfile.TemporaryDirectory() as place:
        short = replace(world, episode_s=4.0, start_offset=0.3, start_heading_rad=0.2)
        record(
            Path(place) / "data", short, RecorderConfig(frames=options.frames, seed=options.seed + 1), options.workers
        )
        return fit_camera(spec, load_episodes([Path(place) / "data"]))


def _crashes(trials: Sequence[Trial], options: Altered) -> list[list[bool]]:
    """Drive; whether each drive of each trial left the road."""
    with progress("driving", sum(expected_steps(trial) for trial in trials), "steps") as bar:
        driven = drive_trials(trials, options.workers, bar.advance)
    return [[drive.crashed for drive in drives] for drives in driven]


if __name__ == "__main__":
    run_script(Altered, run)
