"""Who drives in a robustness test: the training runs of each driver, found by name, directory or pattern.

find_policy_runs(["ltc=runs/ltc-*", "runs/lstm"])
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.open_driver import open_driver
from envs.foreign_code import split_object
from experiments.evaluate.options import EXPERT
from experiments.policy_paths import check_motors, find_policy, name_drivers, name_policies
from experiments.robustness.jobs import PolicyRun, fingerprint
from policies.checkpoint import read_config

MEMORYLESS = "feedforward"
"""The core that remembers nothing: what others are compared with by default."""
FOREIGN = "foreign"
"""Core of drivers that others made: nothing is known of their inside."""
_NAME, _NO_NAME = r"[\w.+-]+", r"[^\w.+-]+"


def find_policy_runs(
    given: Sequence[str],
    expert: bool = False,
    throttle: bool = False,
    options: DriverOptions | None = None,
    fitted: bool = True,
) -> list[PolicyRun]:
    """Find the training runs of each driver.

    Args:
        given: `DIRECTORY` of a run, or of runs with several seeds (`seed-*` in it), or `NAME=DIRECTORY`, or
            `NAME=PATTERN`; instead of a directory, anything that `agents.driving.open_driver.open_driver` takes.
        expert: add the geometric expert.
        throttle: whether a driver has a second motor, for the speed.
        options: what drivers of others cannot say.
        fitted: let our policies drive with the crop and the gain of the options too, where there are any; nobody looks
            into them then. Not where crop and gain are for recordings beside the driving.

    Raises:
        ValueError: if a directory holds no policy, a pattern finds nothing, something is given twice, or a driver has
            another number of motors.
    """
    foreign = {text: _split_name(text) for text in given if _is_foreign(_split_name(text)[1])}
    given = [_seeds_pattern(text) for text in given if text not in foreign]
    named: list[tuple[str, Path]] = []
    plain = [text for text in given if "=" not in text or Path(text).exists()]
    for text in given:
        if text in plain:
            continue
        name, _, place = text.partition("=")
        if not re.fullmatch(_NAME, name):
            raise ValueError(f"a driver's name is made of letters, digits and . + - _, got {name!r} in {text!r}.")
        paths = sorted(glob.glob(place))
        if not paths:
            raise ValueError(f"{text!r} finds no directory: give NAME=DIRECTORY, or a pattern in quotes.")
        named += [(name, find_policy(Path(path))) for path in paths]
    taken = {name for name, _ in named} | {EXPERT}
    for name, path in name_policies([Path(text) for text in plain]).items():
        name = re.sub(_NO_NAME, "_", name)
        if name in taken:
            raise ValueError(f"the name {name!r} of {path} is taken: give it another one, NAME={path}.")
        named.append((name, path))
    check_motors({str(path): path for _, path in named}, throttle)
    found: list[PolicyRun] = []
    prints: dict[tuple[str, str], Path] = {}
    for name, path in named:
        config, number = read_config(path), sum(policy_run.driver == name for policy_run in found)
        print_of = fingerprint(path)
        twin = prints.setdefault((name, print_of), path)
        if twin is not path:
            raise ValueError(f"{path} and {twin} hold the same policy: give each training run of {name} once.")
        seed = config.get("notes", {}).get("seed")
        core, training_seed = str(config["policy"]["core"]), seed if isinstance(seed, int) else None
        trust = options is not None and options.trust
        policy_run = PolicyRun(name, number, core, training_seed, path, print_of, trust=trust)
        if fitted and options is not None and (options.resolved().crops or options.resolved().steering_gain):
            spec = DriverSpec(str(path), options.resolved())
            policy_run = replace(policy_run, policy=None, foreign=spec, fingerprint=spec.fingerprint())
        found.append(policy_run)
    for name, spec in name_drivers([source for _, source in foreign.values()], options or DriverOptions()).items():
        wanted = next(label for label, source in foreign.values() if source == spec.source)
        label = re.sub(_NO_NAME, "_", wanted or name)
        number = sum(policy_run.driver == label for policy_run in found)
        open_driver(spec)
        found.append(PolicyRun(label, number, FOREIGN, None, None, spec.fingerprint(), spec))
        named.append((label, spec.path))
    # Runs of a driver beside one another, drivers in the order in which they are named first.
    order = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in named))}
    found.sort(key=lambda policy_run: (order[policy_run.driver], policy_run.run))
    return [*found, PolicyRun(EXPERT, core=EXPERT)] if expert else found


def _split_name(text: str) -> tuple[str, str]:
    """Split `NAME=SOURCE`; the name is empty where there is none."""
    name, equals, source = text.partition("=")
    return (name, source) if equals and not Path(text).exists() else ("", text)


def _is_foreign(source: str) -> bool:
    return split_object(source) is not None or Path(source).is_file()


def _seeds_pattern(text: str) -> str:
    """Return NAME=PATTERN for the directory of one driver's runs with several seeds, anything else as it is."""
    name, equals, place = text.partition("=") if not Path(text).exists() else (Path(text).resolve().name, "=", text)
    if equals and any(Path(place).glob("seed-*/policy")):
        return f"{re.sub(_NO_NAME, '_', name)}={glob.escape(place)}/seed-*"
    return text


def choose_baseline(policy_runs: Sequence[PolicyRun], wanted: str | None) -> str:
    """Return the driver that the others are compared with.

    Raises:
        ValueError: if there is no driver of the name that was asked for.
    """
    names = list(dict.fromkeys(policy_run.driver for policy_run in policy_runs))
    if wanted is not None:
        if wanted not in names:
            raise ValueError(f"there is no driver {wanted!r} to compare with. There is: {', '.join(names)}.")
        return wanted
    without_memory = [policy_run.driver for policy_run in policy_runs if policy_run.core == MEMORYLESS]
    return without_memory[0] if without_memory else names[0]
