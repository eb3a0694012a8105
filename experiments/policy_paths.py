"""Where policies lie, which world they learnt in, and whether they fit the one that is asked for.

A verb takes a policy directory, a run directory that holds one, or any driver that `agents.driving.open_driver` opens.
What drives is a directory with `config.json` and weights, whoever trained it; a PPO learner for a world without frames
has `learner.safetensors` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.open_driver import HOW
from agents.driving.other_world import OtherWorld, look_at_world
from agents.driving.record import with_vehicle
from agents.driving.trials import open_for
from agents.ppo.checkpoint import FILE, read_record
from agents.ppo.envs import check_trust
from envs.driving.names import DrivingNames
from envs.foreign_code import split_object
from envs.lane_keeping.env import LaneKeepingConfig
from experiments.console import say, with_tracks
from policies.checkpoint import ADAPTED, read_config, refuse_adapted

LANE_KEEPING = "LaneKeeping"
"""The world of drivers that name no other."""


def find_policy(given: Path, frameless: bool = False) -> Path:
    """Find the policy directory.

    Args:
        given: a policy directory, or a run directory.
        frameless: take PPO learners too that see no frames.

    Raises:
        ValueError: if there is none, it is corrupt, or of a kind that was not asked for.
    """
    refuse_adapted(given)
    inner = given / "policy"
    if any((inner / name).is_file() for name in ("config.json", FILE)):
        path = inner
    elif (given / "metrics.jsonl").is_file() or (given / "tensorboard").is_dir():
        raise ValueError(f"{given} is the directory of a run that has not kept a policy yet; resume it by --resume.")
    else:
        path = given
    if (path / FILE).is_file() and not (path / "config.json").is_file():
        if not frameless:
            raise ValueError(
                f"{path} is a PPO learner for {world_of(path) or 'a world'} that shows no frames; this needs a driver "
                "that sees."
            )
        return path
    read_config(path)
    return path


def name_policies(paths: Iterable[Path], frameless: bool = False) -> dict[str, Path]:
    """Find the policy in each directory and give it a short name that no other one has; see `find_policy`.

    Raises:
        ValueError: if there is no policy, or one is named twice.
    """
    found: dict[str, Path] = {}
    for given in paths:
        path = find_policy(given, frameless)
        name = path.resolve().parent.name if path.name == "policy" else path.name
        if name in found:
            name = str(given)
        if name in found:
            raise ValueError(f"{given} was given twice; name each policy once.")
        found[name] = path
    return found


def name_drivers(sources: Iterable[str], options: DriverOptions) -> dict[str, DriverSpec]:
    """Give each driver a short name that no other one has, after a look at what it lies in.

    Args:
        sources: what `agents.driving.open_driver.open_driver` takes; run directories become policy directories.
        options: for all of them.

    Raises:
        ValueError: if there is no driver, or one is named twice.
        OSError: if a file is not there.
    """
    found: dict[str, DriverSpec] = {}
    for given in sources:
        place = Path(given)
        if split_object(given) is not None or place.is_file():
            source, name = given, place.name.removesuffix(".onnx").removesuffix(".zip")
            name = place.resolve().parent.name if name == ADAPTED else name
        elif not place.exists():
            raise FileNotFoundError(f"there is no driver {given}. {HOW}")
        else:
            policy = find_policy(place)
            source, name = str(policy), policy.resolve().parent.name if policy.name == "policy" else policy.name
        if name in found:
            name = given
        if name in found:
            raise ValueError(f"{given} was given twice; name each driver once.")
        found[name] = DriverSpec(source, options)
    refuse_scale([spec.source for spec in found.values()], options)
    return found


def refuse_scale(sources: Iterable[str], options: DriverOptions) -> None:
    """Check that nobody says side and unit of the steering where all drivers are policies of ours, which say them.

    Raises:
        ValueError: if somebody does.
    """
    sources = list(sources)
    words = [f"--positive {options.positive}"] if options.positive != DriverOptions.positive else []
    words += [f"--degrees {options.degrees:g}"] if options.degrees is not None else []
    if words and sources and all(Path(source).is_dir() for source in sources):
        raise ValueError(
            f"{' and '.join(words)}: policies of ours say what their steering means, and nobody else drives; leave it "
            "out. Another car is --steering-gain."
        )


def open_drivers(
    drivers: Mapping[str, DriverSpec], world: LaneKeepingConfig | OtherWorld, throttle: bool | None = None
) -> dict[str, OpenedDriver]:
    """Open drivers for a world, and check that they fit it.

    Args:
        drivers: by name.
        world: where they drive.
        throttle: whether there is a second action; as the world says when None.

    Raises:
        ValueError: if a driver cannot be opened, has another number of motors, or sees frames of another size than is
            asked for.
    """
    opened = {name: open_for(spec, world) for name, spec in drivers.items()}
    wanted = 2 if (world.throttle if throttle is None else throttle) else 1
    plain = LaneKeepingConfig()
    for name, driver in opened.items():
        if isinstance(driver, PolicyDriver) and driver.motors != wanted:
            where = world.name if isinstance(world, OtherWorld) else LANE_KEEPING
            _refuse_motors(name, driver.motors, wanted, Path(drivers[name].source), where)
        sees = driver.frame_size
        asked = (world.height, world.width)
        if isinstance(world, OtherWorld):
            continue  # its frames get the size that a driver takes
        if asked not in ((plain.height, plain.width), sees) and sees is not None:
            raise ValueError(
                f"{name} takes frames of {sees[1]}×{sees[0]} pixels, and --width and --height ask for "
                f"{asked[1]}×{asked[0]}: leave them out, every driver gets frames of its own size; or say how the "
                "camera's frames fit it (--crop-top …)."
            )
    return opened


def has_gradient(driver: OpenedDriver) -> bool:
    """Whether attacks can ask how its steering changes with its frame."""
    return getattr(driver, "steering_gradient", None) is not None


def world_of(directory: Path) -> str | None:
    """Return the name of the world that a policy learnt in: that of a PPO learner, LaneKeeping for the others.

    None for a learner that `wormwheel train ppo` has not made and that does not name its world (`LiquidPPO.record`).
    """
    if (directory / FILE).is_file():
        name: str | None = read_record(directory).get("env")
        return name
    return LANE_KEEPING


def common_world(directories: Sequence[Path], trust: bool) -> str:
    """Return the world that all policies learnt in.

    Args:
        directories: of the policies.
        trust: whether a world may be one that is made by importing a module.

    Raises:
        ValueError: if they differ, one does not name it, or it is not trusted.
    """
    named = {path: world_of(path) for path in directories}
    worlds = sorted({world for world in named.values() if world is not None})
    for path, world in named.items():
        if world is None:
            raise ValueError(
                f"{path} does not say in which world it learnt: name it, by --env or, before the learner is saved, by "
                "model.record['env'] = NAME."
            )
    if len(worlds) > 1:
        raise ValueError(f"the policies learnt in different worlds ({', '.join(worlds)}): name one of them with --env.")
    world = worlds[0] if worlds else LANE_KEEPING
    check_trust(world, trust)
    return world


def check_motors(policies: dict[str, Path], throttle: bool) -> None:
    """Check that drivers have as many motors as LaneKeeping has actions.

    Raises:
        ValueError: if one has not.
    """
    wanted = 2 if throttle else 1
    for name, path in policies.items():
        motors = read_config(path)["policy"].get("motors", 1)
        if motors != wanted:
            _refuse_motors(name, motors, wanted, path)


def _refuse_motors(name: str, motors: int, wanted: int, path: Path, where: str = LANE_KEEPING) -> None:
    """Say that a driver has another number of motors than a world has actions."""
    if where != LANE_KEEPING:
        raise ValueError(
            f"{name} has {motors} motor outputs, and {where} takes the steering alone here: a cruise controller works "
            "the pedals. Train one by `wormwheel train ppo --env CarRacing`, or evaluate it where it learnt."
        )
    hint = " Give --throttle." if motors == 2 else " Leave out --throttle." if motors == 1 else ""
    learnt = world_of(path)
    hint = f" It learnt {learnt}: give --env {learnt}." if learnt not in (None, LANE_KEEPING) else hint
    raise ValueError(f"{name} has {motors} motor outputs, LaneKeeping takes {wanted} here.{hint}")


def check_frame_size(policies: dict[str, Path], given: LaneKeepingConfig) -> None:
    """Check that nobody asks for frames of another size than the drivers see: the env gives each its own.

    Raises:
        ValueError: if --height or --width was set, and not to the size of every driver.
    """
    plain = LaneKeepingConfig()
    if (given.height, given.width) == (plain.height, plain.width):
        return
    for name, path in policies.items():
        fit = read_config(path)["policy"].get("preprocessing", {})
        sees = fit.get("source_height", plain.height), fit.get("source_width", plain.width)
        if sees != (given.height, given.width):
            raise ValueError(
                f"the policy {name} takes frames of {sees[1]}×{sees[0]} pixels, and --width and --height ask for "
                f"{given.width}×{given.height}: leave them out, every policy gets frames of its own size."
            )


def have_learnt_in(directories: Sequence[Path], env: str) -> bool:
    """Whether all are PPO learners of a world, do not say of which, or see no frames and so drive nowhere else."""
    return all(
        (path / FILE).is_file() and (world_of(path) in (env, None) or not (path / "config.json").is_file())
        for path in directories
    )


def find_world(env: str, world: LaneKeepingConfig, names: DrivingNames) -> LaneKeepingConfig | OtherWorld:
    """Return where drivers drive: LaneKeeping with vehicle and road files named, or an env that others made.

    Args:
        env: LaneKeeping, or what `agents.driving.other_world.look_at_world` takes.
        world: LaneKeeping's options; of them only the length of a drive counts for another env.
        names: where things are in another env.

    Raises:
        ValueError: if there is no such env, or an option does not go with it.
    """
    if env == LANE_KEEPING:
        if names != DrivingNames():
            raise ValueError("--env-names say where things are in another env: give --env, or leave them out.")
        return with_vehicle(with_tracks(world))
    refuse_lane_keeping(env, world, ("episode_s",))
    return look_at_world(env, names, world.episode_s)


def say_unknown(world: OtherWorld) -> None:
    """Say which figures an env does not give, and why."""
    lost = {
        "lateral_offset_m": "where in its lane the car is (no offsets; --env-names.lateral-offset names it)",
        "lane_width_m": "how wide the lane is (no offsets in lanes; --env-names.lane-width)",
        "progress_m": "the way made (no crashes per km; --env-names.speed, or a centre line)",
    }
    if world.unknown:
        say(f"note: {world.name} does not tell {'; '.join(lost[name] for name in world.unknown)}")


def refuse_lane_keeping(
    env: str, given: LaneKeepingConfig, but: Sequence[str] = (), plain: LaneKeepingConfig | None = None
) -> None:
    """Check that nobody sets LaneKeeping's options for another world.

    Args:
        env: the world.
        given: the options.
        but: those that may be set.
        plain: the defaults; LaneKeeping's own when None.

    Raises:
        ValueError: if an option differs from its default.
    """
    plain = plain or LaneKeepingConfig()
    names = [item.name for item in fields(plain) if item.name not in but]
    set_here = [name for name in names if getattr(given, name) != getattr(plain, name)]
    if set_here:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in set_here)
        raise ValueError(f"{options}: these are options of LaneKeeping, {env} has none of them; leave them out.")
