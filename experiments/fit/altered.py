"""What a fit is worth: crashes at home, in altered cameras and cars, and there with what `wormwheel fit` finds.

    python -m experiments.fit.altered --policy runs/mine --vehicle bicycle --variety 0.15

For each alteration the expert records a few minutes in the altered world, `fit` finds crop and gain from its frames and
steering, and the policy drives the same roads at home, altered with its frames merely resized, and altered with crop
and gain. Nothing is trained. The expert drives there, too: what it cannot do, no fit can.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from tyro.conf import arg

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.fit import CameraFit, fit_camera
from agents.driving.record import RecorderConfig, record
from agents.driving.statistics import proportion
from agents.driving.trials import Run, Trial, drive_trials, expected_steps
from agents.recordings import load_episodes
from agents.runs.directory import command, versions
from agents.runs.files import make_directory, write_json
from envs.camera.lens import STANDARD_CAMERA
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.cli import run_script
from experiments.console import progress, say, screen, table
from experiments.fit.verb import to_json
from experiments.policy_paths import find_policy
from experiments.robustness.verb import choose_world

HOME = "home"


@dataclass(frozen=True, config={"extra": "forbid"})
class Altered:
    """Count crashes at home, in altered worlds, and there with crop and gain."""

    policy: Path
    """Policy or run directory; it should stay on the road at home."""
    roads: PositiveInt = 20
    """Drives in each world."""
    frames: PositiveInt = 800
    """Recorded frames of each altered world that `fit` gets."""
    seed: NonNegativeInt = 7000
    """Of the first road."""
    only: tuple[str, ...] = ()
    """Alterations to try; all when none is named."""
    world: Annotated[LaneKeepingConfig, arg(name="")] = field(default_factory=lambda: LaneKeepingConfig(episode_s=20.0))
    """Home; its variety must be above 0, or its camera cannot be altered."""
    workers: PositiveInt = 1
    """Processes; they do not change the figures."""
    out: Path = Path("runs/fit_altered")
    """Directory for altered.json."""


def alterations(home: LaneKeepingConfig) -> dict[str, LaneKeepingConfig]:
    """Return the altered worlds by what is altered."""
    wider = (1.4 * home.roads.lane_width_m[0], 1.4 * home.roads.lane_width_m[1])
    fast = (1.3 * home.speed_mps[0], 1.3 * home.speed_mps[1])
    worlds = {
        "camera 0.3 m high": with_camera(home, height_m=0.3),
        "camera 0.4 m high": with_camera(home, height_m=0.4),
        "field of view 110°": with_camera(home, hfov_deg=110.0),
        "field of view 80°": with_camera(home, hfov_deg=80.0),
        "horizon at 0.45": with_camera(home, horizon=0.45),
        "lanes 1.4 times as wide": replace(home, roads=replace(home.roads, lane_width_m=wider)),
        "full lock 0.8 rad": replace(home, vehicle_params=replace(home.vehicle_params, steering_limit_rad=0.8)),
        "speed 1.3 times": replace(home, speed_mps=fast),
    }
    both = with_camera(home, height_m=0.3, hfov_deg=110.0, horizon=0.45)
    worlds["0.3 m, 110°, horizon 0.45, 0.8 rad, 1.3 times the speed"] = replace(
        both, vehicle_params=replace(home.vehicle_params, steering_limit_rad=0.8), speed_mps=fast
    )
    # A car that turns this little cannot take LaneKeeping's tightest bends: --min-lane-radius-m 1.6.
    weak = replace(home.vehicle_params, steering_limit_rad=0.25)
    worlds["full lock 0.25 rad"] = replace(home, vehicle_params=weak)
    worlds["0.3 m, 110°, horizon 0.45, full lock 0.25 rad"] = replace(both, vehicle_params=weak)
    return worlds


def with_camera(world: LaneKeepingConfig, **wanted: float) -> LaneKeepingConfig:
    """Return a world whose camera has certain values, whatever its variety: the env goes only a part of the way there.

    Raises:
        ValueError: if the variety is 0, or so small that the value is out of its range.
    """
    if not world.variety:
        raise ValueError("at variety 0 every camera is the standard one: give --variety, such as 0.15.")
    usual = {name: getattr(STANDARD_CAMERA, name, 0.3) for name in wanted}  # 0.3 is its horizon
    drawn = {name: usual[name] + (value - usual[name]) / world.variety for name, value in wanted.items()}
    if "hfov_deg" in drawn:
        drawn["lens"] = 1.0
    return replace(world, camera=replace(world.camera, **{name: (value, value) for name, value in drawn.items()}))


def run(options: Altered) -> None:
    """Drive, record, fit, drive again; print how many drives left the road."""
    home = choose_world(options.world)
    spec = DriverSpec(str(find_policy(options.policy)))
    worlds = alterations(home)
    unknown = [name for name in options.only if name not in worlds]
    if unknown:
        raise ValueError(f"there is no alteration {', '.join(unknown)}. There is: {', '.join(worlds)}.")
    worlds = {name: worlds[name] for name in options.only or worlds}
    runs = tuple(Run(options.seed + number) for number in range(options.roads))
    (at_home,) = _crashes([Trial(spec, home, runs)], options)
    rows = [[HOME, "", "", "–", "–", _share(at_home, options)]]
    kept: dict[str, dict[str, Any]] = {}
    for name, world in worlds.items():
        found = _fit(spec, world, options)
        resized = DriverSpec(spec.source, DriverOptions(crop_top=0))
        fitted = DriverSpec(spec.source, found.options(DriverOptions()))
        crashes = _crashes([Trial(who, world, runs) for who in (None, resized, fitted)], options)
        kept[name] = {
            "crashes": dict(zip(("expert", "resized", "fitted"), crashes, strict=True)),
            "fit": to_json(found),
        }
        shares = [_share(count, options) for count in crashes]
        crop = " ".join(str(value) for value in found.crops.values())
        rows.append([name, f"{crop} ({found.by})", found.steering_gain.text(2), *shares])
        say(f"{name}: {', '.join(shares)} (expert, resized, fitted); crop {crop}, gain {found.steering_gain.text(2)}")
    table(
        f"drives of {home.episode_s:g} s that left the road, of {options.roads}",
        ["world", "crop: top bottom left right", "gain", "expert", "resized", "fitted, or home"],
        rows,
    )
    path = make_directory(options.out) / "altered.json"
    figures = {"home": at_home, "roads": options.roads, "altered": kept}
    write_json(path, {"command": command(), "versions": versions(), "figures": figures})
    screen().print(f"figures: {path}", markup=False)


def _share(count: int, options: Altered) -> str:
    return f"{count} {proportion(count, options.roads).interval(lambda end: f'{100 * end:.0f} %')}"


def _fit(spec: DriverSpec, world: LaneKeepingConfig, options: Altered) -> CameraFit:
    """Let the expert record in an altered world, and fit to its frames."""
    with tempfile.TemporaryDirectory() as place:
        short = replace(world, episode_s=4.0, start_offset=0.3, start_heading_rad=0.2)
        record(
            Path(place) / "data", short, RecorderConfig(frames=options.frames, seed=options.seed + 1), options.workers
        )
        return fit_camera(spec, load_episodes([Path(place) / "data"]))


def _crashes(trials: Sequence[Trial], options: Altered) -> list[int]:
    """Drive; the drives of each trial that left the road."""
    with progress("driving", sum(expected_steps(trial) for trial in trials), "steps") as bar:
        driven = drive_trials(trials, options.workers, bar.advance)
    return [sum(drive.crashed for drive in drives) for drives in driven]


if __name__ == "__main__":
    run_script(Altered, run)
