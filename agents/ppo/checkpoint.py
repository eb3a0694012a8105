"""A learner on disk: everything that training needs to go on exactly, in one file.

`learner.safetensors` holds weights, optimizer, generators (the learner's own, python's, numpy's, torch's), the last
observation, recurrent states, the normaliser's figures and the actions since each episode's start as tensors, and the
rest as JSON in its header: nothing that is loaded can run code. The file is made beside its place and moved there. For
envs with frames the same directory is a policy directory, which `load_policy`, `wormwheel evaluate` and
`wormwheel render` take.

Going on is exact for a learner that was saved between two rollouts: between two calls of `learn`, or in
`on_rollout_start`, as `wormwheel train ppo` does. A rollout that is under way is not kept, so what was saved in a
callback's `on_step` or `on_rollout_end` goes on without having learnt from it, and says so.

A `VecNormalize` on disk: how it normalises as JSON values, what it has measured as tensors.
"""

from __future__ import annotations

import json
import logging
import random
from collections import deque
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.ppo.actor_critic import ActorCriticConfig
from agents.ppo.config import PPOConfig
from agents.ppo.observations import space_from_json, space_to_json
from agents.ppo.replay import is_replayable
from agents.runs.files import clear_errors, make_directory, write_bytes
from agents.runs.training_state import optimizer_tensors, part_of, restore_optimizer
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig

if TYPE_CHECKING:
    from agents.ppo.algorithm import LiquidPPO

SETTINGS = ("norm_obs", "norm_obs_keys", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
"""How a `VecNormalize` normalises."""


def normaliser_settings(normaliser: VecNormalize | None) -> dict[str, Any] | None:
    """Return how a normaliser normalises, as JSON values; None for none."""
    return None if normaliser is None else {name: getattr(normaliser, name) for name in SETTINGS}


def normaliser_difference(saved: dict[str, Any] | bool | None, normaliser: VecNormalize | None) -> str:
    """Return in which way a normaliser is not the saved one, nothing if it is.

    Args:
        saved: its settings; earlier versions only kept whether there was one.
        normaliser: the one to go on with, or None.
    """
    if bool(saved) != (normaliser is not None):
        return ("a" if saved else "no") + " VecNormalize around its envs"
    if isinstance(saved, dict):
        for name, value in saved.items():
            if value != getattr(normaliser, name):
                return f"a VecNormalize of {name} = {value}, not {getattr(normaliser, name)}"
    return ""


def normaliser_tensors(normaliser: VecNormalize) -> dict[str, Tensor]:
    """Return what a normaliser has measured."""
    measured = {"returns": np.array(normaliser.returns)}
    for name, one in _running(normaliser).items():
        measured |= {f"{name}.mean": np.array(one.mean), f"{name}.var": np.array(one.var)}
        measured[f"{name}.count"] = np.array(one.count, np.float64)
    return {name: torch.as_tensor(value) for name, value in measured.items()}


def restore_normaliser(normaliser: VecNormalize, tensors: dict[str, Tensor]) -> None:
    """Put back what `normaliser_tensors` returned; running returns only if there are as many envs as there were."""
    if len(tensors["returns"]) == normaliser.num_envs:
        normaliser.returns = tensors["returns"].numpy()
    for name, one in _running(normaliser).items():
        one.mean, one.var = tensors[f"{name}.mean"].numpy(), tensors[f"{name}.var"].numpy()
        one.count = float(tensors[f"{name}.count"])


def _running(normaliser: VecNormalize) -> dict[str, RunningMeanStd]:
    """Return the running figures of a normaliser by name."""
    found = {"return": normaliser.ret_rms}
    observed = getattr(normaliser, "obs_rms", None)
    if isinstance(observed, dict):
        found |= {f"observation.{name}": one for name, one in observed.items()}
    elif observed is not None:
        found["observation"] = observed
    return found


FORMAT = "wormwheel-ppo"
FORMAT_VERSION = 1
FILE = "learner.safetensors"
"""Name of the file in a learner's directory."""
COUNTERS = (
    "num_timesteps",
    "_total_timesteps",
    "_current_progress_remaining",
    "_n_updates",
    "_episode_num",
    "_rollouts",
)

logger = logging.getLogger(__name__)


class LearnerError(ValueError):
    """A learner that cannot be read or does not fit: missing, corrupt, foreign, newer, or of another env."""


def save_learner(model: LiquidPPO, directory: Path, notes: dict[str, Any] | None = None) -> None:
    """Write a learner's directory, replacing the files of an earlier one; `notes` are kept with the driver.

    Raises:
        OSError: if it cannot be written; an earlier learner there is still whole.
    """
    make_directory(directory)
    values, tensors = _pack(model)
    if model.policy.is_driver:
        with clear_errors(directory):
            save_policy(model.policy.driver(), directory, {"steps": model.num_timesteps, **(notes or {})})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(directory / FILE, safetensors.torch.save(tensors, {"learner": json.dumps(values)}))


def read_learner(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the JSON values and the tensors of a learner.

    Raises:
        LearnerError: if there is none, it is corrupt, foreign, or newer than this program.
    """
    path = directory / FILE
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["learner"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise LearnerError(f"{directory} holds no learner: it has no {FILE}. Give what PPO training wrote.") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise LearnerError(f"{path} is corrupt and cannot be resumed ({error}). Train anew or take a copy.") from error
    if values.get("format") != FORMAT or not isinstance(values.get("format_version"), int):
        raise LearnerError(f"{path} was not written by Wormwheel's PPO: expected format {FORMAT!r}.")
    if values["format_version"] > FORMAT_VERSION:
        raise LearnerError(
            f"{path} has format version {values['format_version']}, this program reads up to {FORMAT_VERSION}. "
            "Update Wormwheel."
        )
    return values, tensors


def read_record(directory: Path) -> dict[str, Any]:
    """Read what was kept with a learner for whoever trains it: `LiquidPPO.record`.

    Raises:
        LearnerError: as `read_learner` does.
    """
    record: dict[str, Any] = read_learner(directory)[0]["record"]
    return record


def load_learner(
    kind: type[LiquidPPO], directory: Path, env: Any, device: torch.device | str, **options: Any
) -> LiquidPPO:
    """Make a learner and put everything back.

    Args:
        kind: class of the learner.
        directory: of the learner.
        env: where to go on, or None.
        device: where the networks live.
        **options: `tensorboard_log`, `verbose`, and fields of `PPOConfig` that replace those of the file.

    Raises:
        LearnerError: if it cannot be read or the env does not fit it.
        ValueError: if an option is of another kind, or out of range.
    """
    values, tensors = read_learner(directory)
    changed = {name: options.pop(name) for name in [field.name for field in fields(PPOConfig)] if name in options}
    if unknown := sorted(set(options) - {"tensorboard_log", "verbose"}):
        raise ValueError(
            f"{', '.join(unknown)} cannot be changed when a learner is loaded: expected tensorboard_log, verbose or "
            "fields of PPOConfig."
        )
    try:
        config = PPOConfig(**{**values["ppo"], "leash": 0.0})  # The imitator comes from the file, not from a driver.
        leash = PPOConfig(**values["ppo"]).leash
        parts = ActorCriticConfig.from_json(values["actor_critic"])
        observations, actions = (space_from_json(values[name]) for name in ("observation_space", "action_space"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LearnerError(
            f"{directory / FILE} does not have the fields of this version ({error!r}): read it with the version that "
            "wrote it."
        ) from error
    model = kind(
        parts,
        env,
        config,
        seed=values["seed"],
        device=device,
        stats_window_size=values["stats_window_size"],
        observation_space=observations,
        action_space=actions,
        **options,
    )
    if env is None:
        model.n_envs = values["envs"]  # So that `set_env` takes as many as there were.
    for name, saved, mine in (
        ("observation", observations, model.observation_space),
        ("action", actions, model.action_space),
    ):
        if saved != mine:
            raise LearnerError(f"{directory} learnt with {name} space {saved}, this env has {mine}.")
    model.config = replace(config, **{"leash": leash, **changed})
    if model.config.leash and values["imitator"] is None:
        raise ValueError(f"{directory} was not tied to a driver: start anew with init_from, or leave out leash.")
    model.policy.load_state_dict(part_of(tensors, "policy."))
    restore_optimizer(model.optimizer, part_of(tensors, "optimizer."))
    model.generator.set_state(tensors["generator"])
    for name in COUNTERS:
        setattr(model, name, values["counters"][name])
    model.record = values["record"]
    if values["imitator"] is not None:
        imitator = DrivingPolicy.create(PolicyConfig.from_json(values["imitator"]))
        imitator.load_state_dict(part_of(tensors, "imitator."))
        model.imitator = imitator.to(model.device).eval().requires_grad_(False)
    if values["episodes"] is not None:
        model.ep_info_buffer = deque(values["episodes"]["infos"], maxlen=values["stats_window_size"])
        model.ep_success_buffer = deque(values["episodes"]["successes"], maxlen=values["stats_window_size"])
    if env is not None:
        _go_back(model, directory, values, tensors)
    return model


def _pack(model: LiquidPPO) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return everything as JSON values and tensors."""
    tensors = {f"policy.{name}": tensor for name, tensor in model.policy.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(model.optimizer).items()}
    numpy_kind, numpy_keys, *numpy_rest = np.random.get_state()
    tensors |= {
        "generator": model.generator.get_state(),
        "torch_generator": torch.get_rng_state(),
        "numpy_generator": torch.from_numpy(np.asarray(numpy_keys, np.int64)),
    }
    for name, tensor in (("state", model._state), ("imitator_state", model._imitator_state)):
        if tensor is not None:
            tensors[name] = tensor
    if model.imitator is not None:
        tensors |= {f"imitator.{name}": tensor for name, tensor in model.imitator.state_dict().items()}
    snapshots = None
    if model.env is not None and model._last_obs is not None:
        assert model._last_episode_starts is not None
        last = model._last_obs if isinstance(model._last_obs, dict) else {"": model._last_obs}
        tensors |= {f"last.{name}": torch.from_numpy(np.array(value)) for name, value in last.items()}
        tensors["last_starts"] = torch.from_numpy(np.array(model._last_episode_starts, bool))
        if is_replayable(model.env):
            snapshots = []
            for number, there in enumerate(model.env.env_method("snapshot")):
                tensors[f"episode.{number}"] = torch.from_numpy(there["actions"])
                snapshots.append({name: there[name] for name in ("seed", "episode", "level")})
    normaliser = model.get_vec_normalize_env()
    if normaliser is not None:
        tensors |= {f"normaliser.{name}": tensor for name, tensor in normaliser_tensors(normaliser).items()}
    episodes = None
    if model.ep_info_buffer is not None and model.ep_success_buffer is not None:
        infos = [{name: float(info[name]) for name in ("r", "l", "t")} for info in model.ep_info_buffer]
        episodes = {"infos": infos, "successes": [float(value) for value in model.ep_success_buffer]}
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "actor_critic": asdict(model.actor_critic_config),
        "ppo": asdict(model.config),
        "observation_space": space_to_json(model.observation_space),
        "action_space": space_to_json(model.action_space),
        "seed": model.seed,
        "envs": model.n_envs,
        "stats_window_size": model._stats_window_size,
        "counters": {name: getattr(model, name) for name in COUNTERS},
        "episodes": episodes,
        "record": model.record,
        "imitator": model.imitator.config.to_json() if model.imitator is not None else None,
        "snapshots": snapshots,
        "normalised": normaliser_settings(normaliser),
        "between_rollouts": model._between_rollouts,
        "python_generator": random.getstate(),
        "numpy_generator": [numpy_kind, *numpy_rest],
    }
    return values, tensors


def _go_back(model: LiquidPPO, directory: Path, values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put env, observation, states and the process's generators back where they were."""
    normaliser = model.get_vec_normalize_env()
    if difference := normaliser_difference(values["normalised"], normaliser):
        raise LearnerError(f"{directory} learnt with {difference}: give load the same.")
    if not values.get("between_rollouts", True):
        logger.warning("%s was saved in the middle of a rollout, which is not learnt from.", directory)
    if normaliser is not None:
        restore_normaliser(normaliser, part_of(tensors, "normaliser."))
    assert model.env is not None
    if values["snapshots"] is not None and is_replayable(model.env) and model.n_envs == values["envs"]:
        for number, there in enumerate(values["snapshots"]):
            actions = tensors[f"episode.{number}"].numpy()
            model.env.env_method("restore", {**there, "actions": actions}, indices=number)
        last = {name: tensor.numpy() for name, tensor in part_of(tensors, "last.").items()}
        model._last_obs = last[""] if "" in last else last
        model._last_episode_starts = tensors["last_starts"].numpy()
        model._state = tensors["state"].to(model.device)
        if "imitator_state" in tensors:
            model._imitator_state = tensors["imitator_state"].to(model.device)
    elif "state" in tensors:
        logger.warning("the envs cannot be put back where they were: learning goes on with new episodes.")
    version, internal, gauss = values["python_generator"]
    random.setstate((version, tuple(internal), gauss))
    kind, *rest = values["numpy_generator"]
    np.random.set_state((kind, tensors["numpy_generator"].numpy().astype(np.uint32), *rest))
    torch.set_rng_state(tensors["torch_generator"])
