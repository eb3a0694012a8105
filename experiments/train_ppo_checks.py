"""What `wormwheel train ppo` checks before it writes anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from agents.ppo_config import PPOConfig
from agents.ppo_policy import ActorCritic, ActorCriticConfig
from agents.run_directory import to_json
from envs.lane_keeping import LaneKeepingConfig
from policies.policy import DrivingPolicy

if TYPE_CHECKING:
    from experiments.train_ppo import TrainPPOOptions

SHAPING = (
    *("env", "core", "core_options", "envs", "seed", "learning", "critic", "log_std_init", "normalize_reward"),
    *("use_sde", "retry"),
    *("init_from", "world", "noise_variance", "perturbations", "largest_severity"),
    *("evaluate_s", "evaluate_episodes"),  # Else the best so far and what comes could not be compared.
)
"""Options that a resumed run shares with the first one."""
ABSENT = {"perturbations": [], "largest_severity": 3, "use_sde": False, "retry": 0.0}
"""What runs did that were started before there were these options."""
NESTED = {"learning": PPOConfig(), "world": LaneKeepingConfig()}
"""Likewise for the options inside these: a field that is new stands, by default, at what was done before it."""


def check_learnable(
    make_env: Callable[[], gymnasium.Env[Any, Any]], parts: ActorCriticConfig, driver: DrivingPolicy | None
) -> None:
    """Check that a world can be made and be learnt in by networks of some parts, from a driver if there is one.

    Raises:
        ValueError: if it cannot, its observations or actions are of a kind that no driver has, or the driver is used to
            others.
    """
    env = make_env()
    try:
        networks = ActorCritic(parts, env.observation_space, env.action_space)
    finally:
        env.close()
    if driver is not None:
        shown, used_to = networks.adapter.shape[:2], driver.config.preprocessing
        if networks.adapter.is_visual and shown != (used_to.source_height, used_to.source_width):
            raise ValueError(
                f"the driver to start from sees {used_to.source_height}×{used_to.source_width} pixels, this world "
                f"shows {shown[0]}×{shown[1]}: start from a driver of this world."
            )
        networks.adopt(driver)


def check_resume(out: Path, options: TrainPPOOptions) -> None:
    """Check that a run that is gone on with was started with the same options, as far as they shape it.

    Raises:
        ValueError: if it was not, or there is no such run.
    """
    try:
        before = json.loads((out / "config.json").read_text(encoding="utf-8"))["options"]
        before = {**ABSENT, **before}
        before |= {name: _filled(before[name], to_json(default)) for name, default in NESTED.items()}
        shaped = {name: before[name] for name in SHAPING}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{out} holds no PPO run to resume: its config.json is missing or damaged ({error})."
        ) from error
    now = json.loads(json.dumps(to_json(options)))
    for name in SHAPING:
        for place, old, new in _differing(name, shaped[name], now[name]):
            raise ValueError(
                f"{out} was started with {place} = {old}, not {new}; resume with the options of the first run."
            )


def _filled(old: Any, default: Any) -> Any:
    """Add the fields that JSON values of an earlier version lack."""
    if not (isinstance(old, dict) and isinstance(default, dict)):
        return old
    return {**default, **{name: _filled(value, default.get(name)) for name, value in old.items()}}


def _differing(place: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """List the places where two JSON values differ."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        return [one for name in old for one in _differing(f"{place}.{name}", old[name], new[name])]
    return [] if old == new else [(place, old, new)]
