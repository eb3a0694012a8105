"""`wormwheel info`: what is there?

wormwheel info cores
wormwheel info cores ltc
wormwheel info policy runs/mine/policy
wormwheel info data tub
wormwheel info perturbations
"""

from __future__ import annotations

import inspect
import re
from dataclasses import MISSING, dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.text import Text
from tyro.conf import Positional

from agents.runs.directory import versions
from experiments.console import check_json, duration, plain, screen, table, write_results
from experiments.help.advice import did_you_mean
from experiments.help.page import plain_words

Row = list[str]


@dataclass(frozen=True)
class InfoOptions:
    """Show the cores and their options, a policy, recordings, the env, the perturbations, or versions."""

    what: Positional[Literal["cores", "policy", "data", "env", "perturbations", "versions"]] = "versions"
    """What to show."""
    names: Positional[tuple[str, ...]] = ()
    """Cores to show in detail for "cores", policy directories for "policy", recordings for "data"."""
    json: Path | None = None
    """File for what was shown, as JSON."""


def run(options: InfoOptions) -> None:
    """Show it."""
    check_json(options.json)
    needs_paths = options.what in ("policy", "data")
    if needs_paths and not options.names:
        raise ValueError(f"wormwheel info {options.what} needs at least one path.")
    if options.names and not needs_paths and options.what != "cores":
        raise ValueError(f"wormwheel info {options.what} takes no name, got {options.names[0]}.")
    shown: Any
    if options.what == "cores":
        shown = _cores(options.names)
    elif options.what == "policy":
        shown = [_policy(Path(name)) for name in options.names]
    elif options.what == "data":
        shown = [_data(Path(name)) for name in options.names]
    elif options.what == "env":
        shown = _env()
    elif options.what == "perturbations":
        shown = _perturbations()
    else:
        shown = versions()
        table("", ["package", "version"], [[name, version] for name, version in shown.items()], left=2)
    write_results(options.json, "info", options, {options.what: shown})


def attribute_docs(kind: type[Any]) -> dict[str, str]:
    """Return what the docstring of each field of a dataclass says, by field; empty where it says nothing."""
    source = "\n".join(inspect.getsource(base) for base in reversed(kind.__mro__) if is_dataclass(base))
    docs = {item.name: "" for item in fields(kind)}
    # `name: type = default` and the string below it, or the lines of an Attributes section.
    for match in re.finditer(r'^    (\w+):[^\n]*(?:\n        [^\n]*|\n    \))*\n    """(.*?)"""', source, re.M | re.S):
        if match[1] in docs:
            docs[match[1]] = " ".join(match[2].split())
    for match in re.finditer(r"^        (\w+): (.*(?:\n            .*)*)", inspect.getdoc(kind) or "", re.M):
        docs.setdefault(match[1], " ".join(match[2].split()))
    return docs


def _cores(names: tuple[str, ...]) -> list[dict[str, Any]]:
    """Show the catalogue of cores, or the cores that are named with their options."""
    from policies.cores import CORES, ENTRY_POINTS, import_core, is_known

    for entry in entry_points(group=ENTRY_POINTS):
        is_known(entry.name)
    for name in names:
        if ":" in name:
            import_core(name)
    unknown = [name for name in names if name not in CORES]
    if unknown:
        raise ValueError(
            f"there is no core {unknown[0]!r}.{did_you_mean(unknown[0], CORES)} There is: {', '.join(CORES)}."
        )
    found = [_core(name) for name in names or CORES]
    if not names:
        rows = [[c["core"], c["about"], str(c["state"]), f"{c['parameters']:,}"] for c in found]
        table("cores, as a driver has them by default", ["core", "what it is", "state", "parameters"], rows, left=2)
        screen().print("One of them with its options: wormwheel info cores ltc", markup=False)
    for one in found if names else ():
        head = f"{one['core']}: {one['about']} {one['state']} state values, {one['parameters']:,} parameters."
        screen().print(Text(head, style="bold"))
        for paragraph in one["detail"].split("\n\n"):
            # What is indented is a formula or code and stays as it is.
            screen().print(Text(paragraph if paragraph.startswith(" ") else " ".join(paragraph.split())))
        rows = [[option, _short(about["default"]), about["about"]] for option, about in one["options"].items()]
        table(f"--core {one['core']} --core-options NAME=VALUE ...", ["name", "default", "meaning"], rows, left=3)
    return found


def _core(name: str) -> dict[str, Any]:
    """Describe one core as a driver has it by default."""
    from policies.cores import CORES
    from policies.policy import DrivingPolicy, PolicyConfig

    core = DrivingPolicy.create(PolicyConfig(core=name)).core
    kind = CORES[name].config
    docs = attribute_docs(kind)
    options = {
        item.name: {"default": plain(_default(item)), "about": plain_words(docs[item.name])} for item in fields(kind)
    }
    first, _, _ = (inspect.getdoc(type(core)) or "").partition("\n\n")
    detail = inspect.getdoc(inspect.getmodule(type(core))) or ""
    return {
        "core": name,
        "about": _sentence(first),
        "detail": plain_words(detail.partition("\n\n")[2].strip()),
        "state": core.state_size,
        "parameters": sum(value.numel() for value in core.parameters()),
        "options": options,
    }


def _sentence(docstring: str) -> str:
    """Return the first line of a docstring as a plain sentence: shapes such as `[B, N]` say nothing in a catalogue."""
    line = plain_words(" ".join(docstring.split()))
    parts = [part for part in re.split(r"(?<=[;:]) ", line.rstrip(".")) if not re.search(r"\[[A-Z]\w*(, \w+)*\]", part)]
    return " ".join(parts).rstrip(";: ") + "."


def _default(item: Any) -> Any:
    return item.default if item.default is not MISSING else item.default_factory()


def _policy(path: Path) -> dict[str, Any]:
    """Show what a policy is made of and how it was made."""
    from experiments.policy_paths import name_policies
    from policies.checkpoint import load_policy, read_config

    ((name, directory),) = name_policies([path]).items()
    policy = load_policy(directory)
    config, fit = policy.config, policy.config.preprocessing
    crops = [fit.crop_top, fit.crop_bottom, fit.crop_left, fit.crop_right]
    notes = read_config(directory).get("notes", {})
    facts = {
        "core": config.core,
        "core options": ", ".join(f"{key}={value}" for key, value in config.core_options.items()) or "defaults",
        "state values": policy.core.state_size,
        "core parameters": sum(value.numel() for value in policy.core.parameters()),
        "head parameters": sum(value.numel() for value in policy.head.parameters()),
        "camera frame": f"{fit.source_width}×{fit.source_height} pixels",
        "cropped": "top {}, bottom {}, left {}, right {} pixels".format(*crops) if any(crops) else "no",
        "seen at": f"{fit.width}×{fit.height} pixels",
        "nominal period": f"{1000 * config.nominal_period_s:.4g} ms",
        **{f"note: {key}": value for key, value in notes.items()},
    }
    table(f"{name} ({directory})", ["", ""], [[key, _cell(value)] for key, value in facts.items()], left=2)
    return {"directory": str(directory), **facts}


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _data(path: Path) -> dict[str, Any]:
    """Show what a recording holds."""
    from agents.recordings import load_episodes

    episodes = load_episodes(path, mixed_sizes=True)
    steering = np.concatenate([episode.steering for episode in episodes]).astype(np.float64)
    first = episodes[0]
    sizes = sorted({f"{episode.meta.width}×{episode.meta.height}" for episode in episodes})
    shares = [float((steering > 0.02).mean()), float((np.abs(steering) <= 0.02).mean())]
    facts = {
        "frames": episodes.frame_count,
        "episodes": len(episodes),
        "of driving": duration(episodes.duration_s),
        "frame size": " and ".join(sizes),
        "nominal period": f"{1000 * first.meta.nominal_period_s:.4g} ms",
        "vehicle": ", ".join(sorted({episode.meta.vehicle for episode in episodes})),
        "renderer": ", ".join(sorted({episode.meta.renderer for episode in episodes})),
        "steering, mean and spread": f"{steering.mean():+.3f} ± {steering.std():.3f} of full lock, positive left",
        "steers left, straight, right": f"{shares[0]:.0%}, {shares[1]:.0%}, {1 - sum(shares):.0%}",
        "extras": ", ".join(first.extras) or "none",
        "skipped": ", ".join(f"{count} × {reason}" for reason, count in episodes.skipped.items()) or "none",
    }
    table(str(path), ["", ""], [[key, _cell(value)] for key, value in facts.items()], left=2)
    return {"path": str(path), **facts}


def _env() -> dict[str, Any]:
    """Show the env's spaces and the options of its world."""
    from envs import LANE_KEEPING
    from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
    from envs.vehicle.bullet import has_bullet

    env = LaneKeepingEnv(LaneKeepingConfig(vehicle="bicycle"))
    try:
        facts = {
            "id": LANE_KEEPING,
            "observation": str(env.observation_space),
            "action": f"{env.action_space}: steering, positive left",
            "vehicles": "bullet, bicycle" if has_bullet() else "bicycle (PyBullet is not installed)",
        }
    finally:
        env.close()
    table("the env", ["", ""], [[key, value] for key, value in facts.items()], left=2)
    docs = attribute_docs(LaneKeepingConfig)
    rows = [[item.name, _short(_default(item)), docs[item.name]] for item in fields(LaneKeepingConfig)]
    table("LaneKeepingConfig", ["option", "default", "meaning"], rows, left=3)
    screen().print('gymnasium.make("wormwheel/LaneKeeping-v0", vehicle="bicycle")', markup=False)
    return {**facts, "options": {name: {"default": default, "about": about} for name, default, about in rows}}


def _perturbations() -> list[dict[str, Any]]:
    """Show what can go wrong, by family, with the doses of the five severities."""
    from envs.perturbations import FAMILIES, PERTURBATIONS

    found: list[dict[str, Any]] = []
    for family, names in FAMILIES.items():
        rows = []
        for name in names:
            made = PERTURBATIONS[name]
            about = (inspect.getdoc(made) or "").split("\n")[0]
            rows.append([name, about, made.unit, ", ".join(f"{dose:g}" for dose in made.doses)])
            found.append(
                {
                    "name": name,
                    "family": family,
                    "about": about,
                    "unit": made.unit,
                    "doses": made.doses,
                    "doses_of_large_frames": made.large_doses or made.doses,
                    "for_recordings": made.frames,
                    "attacks": made.attacks,
                }
            )
        table(family, ["name", "what it does", "dose", "severities 1 to 5"], rows, left=4)
    screen().print(
        "name:severity, joined by +: wormwheel evaluate --perturbations fog:3 rain:2+latency:1", markup=False
    )
    return found


def _short(value: Any) -> str:
    """Write a default; of a group of options only the name."""
    return type(value).__name__ if hasattr(value, "__dataclass_fields__") else str(value)
