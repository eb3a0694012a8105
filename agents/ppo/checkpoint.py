"""A learner on disk: everything that training needs to resume exactly, in one file.

`learner.safetensors` holds weights, optimizer, generators (the learner's own, python's, numpy's, torch's), the last
observation, recurrent states, the normaliser's figures and the actions since each episode's start as tensors, and the
rest as JSON in its header: nothing that is loaded can run code. The file is made beside its place and moved there. For
envs with frames the same directory is a policy directory, which `load_policy`, `wormwheel evaluate` and
`wormwheel render` take.

Resuming is exact for a learner that was saved between two rollouts: between two calls of `learn`, or in
`on_rollout_start`, as `wormwheel train ppo` does. A rollout that is under way is not kept, so what was saved in a
callback's `on_step` or `on_rollout_end` resumes without having learnt from it, and says so.

A `VecNormalize` on disk: how it normalises as JSON values, what it has measured as tensors.
"""

from __future__ import annotations

import json
import logging
import random
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.torch
import torch
from gymnasium import spaces
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor

from agents.ppo.actor_critic import ActorCriticConfig
from agents.ppo.config import PPOConfig
from agents.ppo.learner import Learner
from agents.ppo.observations import space_from_json, space_to_json
from agents.ppo.replay import episode_seed, is_replayable, seed_envs
from agents.runs.files import clear_errors, make_directory, write_bytes
from agents.runs.reading import DamagedFile, damaged, one_line, read_tensors
from agents.runs.training_state import optimizer_tensors, part_of, restore_optimizer
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig

SETTINGS = ("norm_obs", "norm_obs_keys", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon")
"""How a `VecNormalize` normalises."""


def normaliser_settings(normaliser: VecNormalize | None) -> dict[str, Any] | None:
    """Return how a normaliser normalises, as JSON values; None for none."""
    return None if normaliser is None else {name: getattr(normaliser, name) for name in SETTINGS}


def normaliser_difference(saved: dict[str, Any] | bool | None, normaliser: VecNormalize | None) -> str:
    """Return in which way a normaliser is not the saved one, nothing if it is.

    Args:
        saved: its settings; earlier versions only kept whether there was one.
        normaliser: the one to continue with, or None.
    """
    if bool(saved) != (normaliser is not None):
        return ("a" if saved else "no") + " VecNormalize around its envs"
    if isinstance(saved, dict):
        for name, value in saved.items():
            if value != getattr(normaliser, name):
                return f"a VecNormalize of {name} = {value}, not {getattr(normaliser, name)}"
    return ""


def normaliser_tensors(normaliser: VecNormalize) -> dict[str, Tensor]:
    """Return the running means, variances and returns that a normaliser has measured."""
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
    """Return the statistics of returns, and of each observed array, by name."""
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

logger = logging.getLogger(__name__)


class LearnerError(ValueError):
    """A learner that cannot be read or does not fit: missing, corrupt, foreign, newer, or of another env."""


@dataclass(frozen=True)
class Books:
    """What Stable-Baselines3 knows of a run, besides the learner."""

    seed: int
    """Of weights, draws and envs."""
    envs: int
    """N."""
    observation_space: spaces.Space[Any]
    """Of one env."""
    action_space: spaces.Space[Any]
    """Of one env."""
    stats_window_size: int
    """Episodes that the logged means are taken over."""
    counters: dict[str, Any]
    """Its counts by the names of its attributes."""
    infos: list[dict[str, float]] | None
    """Reward `r`, length `l` and time `t` of the last episodes; None before the first `learn`."""
    successes: list[float] | None
    """Of the last episodes, in envs that tell."""
    record: dict[str, Any]
    """JSON values of whoever trains the learner."""


@checked_dataclass(frozen=True)
class _SavedBooks:
    """Ranges of what a file says about a run; networks, config and spaces are checked where they are built."""

    seed: Annotated[int, Field(ge=0, lt=1 << 63)]
    """As in `Books`, like the others."""
    envs: Annotated[int, Field(gt=0, le=1 << 16)]
    stats_window_size: Annotated[int, Field(gt=0, le=1 << 24)]
    counters: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    infos: list[dict[str, float]] | None
    successes: list[float] | None
    record: dict[str, Any]

    def __post_init__(self) -> None:
        # Earlier versions counted progress beyond the end as less than none.
        wrong = [name for name, value in self.counters.items() if value < 0 and name != "_current_progress_remaining"]
        if wrong:
            raise ValueError(f"{wrong[0]} must be at least 0, got {self.counters[wrong[0]]}.")


def save_learner(
    learner: Learner, books: Books, env: VecEnv | None, directory: Path, notes: dict[str, Any] | None = None
) -> None:
    """Write a learner's directory, replacing the files of an earlier one; `notes` are kept with the driver.

    Raises:
        OSError: if it cannot be written; an earlier learner there is still whole.
    """
    make_directory(directory)
    values, tensors = _pack(learner, books, env)
    if learner.networks.is_driver:
        with clear_errors(directory):
            steps = {"steps": books.counters["num_timesteps"]}
            save_policy(learner.networks.driver(), directory, {**steps, **(notes or {})})
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(directory / FILE, safetensors.torch.save(tensors, {"learner": json.dumps(values)}))


@dataclass(frozen=True)
class SavedLearner:
    """What `read_learner` found."""

    directory: Path
    """Where it was."""
    values: dict[str, Any]
    """JSON values."""
    tensors: dict[str, Tensor]
    """By name."""
    config: PPOConfig
    """How it learnt."""
    parts: ActorCriticConfig
    """What its networks are made of."""
    books: Books
    """Of Stable-Baselines3."""

    def check_spaces(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        """Check that an env has the spaces that the learner learnt with.

        Raises:
            LearnerError: if it has not.
        """
        for name, saved, given in (
            ("observation", self.books.observation_space, observations),
            ("action", self.books.action_space, actions),
        ):
            if saved != given:
                raise LearnerError(f"{self.directory} learnt with {name} space {saved}, this env has {given}.")

    def restore(self, learner: Learner) -> None:
        """Put weights, optimizer, generator and imitator back into a learner of the same parts.

        Raises:
            ValueError: if the learner's config holds it near a driver and none was saved.
        """
        values, tensors = self.values, self.tensors
        if learner.config.imitator_kl_coef and values["imitator"] is None:
            raise ValueError(
                f"{self.directory} was not held near a driver: start again with init_from, or leave out "
                "imitator_kl_coef."
            )
        with damaged(self.directory / FILE):
            _check_finite(part_of(tensors, "policy."))
            learner.networks.load_state_dict(part_of(tensors, "policy."))
            restore_optimizer(learner.optimizer, part_of(tensors, "optimizer."))
            learner.generator.set_state(tensors["generator"])
            learner.rollouts = int(values["counters"]["_rollouts"])
            if values["imitator"] is not None:
                imitator = DrivingPolicy.create(PolicyConfig.from_json(values["imitator"]))
                _check_finite(part_of(tensors, "imitator."))
                imitator.load_state_dict(part_of(tensors, "imitator."))
                learner.imitator = imitator.to(learner.device).eval().requires_grad_(False)

    def restore_env(self, learner: Learner, env: VecEnv) -> None:
        """Put env, observation, recurrent states and the process's generators back where they were.

        Raises:
            LearnerError: if rewards or observations are normalised otherwise than they were.
        """
        values = self.values
        normaliser = unwrap_vec_normalize(env)
        if difference := normaliser_difference(values["normalised"], normaliser):
            raise LearnerError(f"{self.directory} learnt with {difference}: give load the same.")
        if not values.get("between_rollouts", True):
            logger.warning("%s was saved in the middle of a rollout, which is not learnt from.", self.directory)
        with damaged(self.directory / FILE):
            self._restore_env(learner, env, normaliser)

    def _restore_env(self, learner: Learner, env: VecEnv, normaliser: VecNormalize | None) -> None:
        values, tensors = self.values, self.tensors
        if normaliser is not None:
            restore_normaliser(normaliser, part_of(tensors, "normaliser."))
        if values["snapshots"] is not None and is_replayable(env) and env.num_envs == values["envs"]:
            for number, snapshot in enumerate(values["snapshots"]):
                actions = tensors[f"episode.{number}"].numpy()
                env.env_method("restore", {**snapshot, "actions": actions}, indices=number)
            last = {name: tensor.numpy() for name, tensor in part_of(tensors, "last.").items()}
            learner.observation = last[""] if "" in last else last
            learner.starts = tensors["last_starts"].numpy()
            learner.state = tensors["state"].to(learner.device)
            if "imitator_state" in tensors:
                learner.imitator_state = tensors["imitator_state"].to(learner.device)
        elif "state" in tensors:
            logger.warning("the envs cannot be put back where they were: training continues with new episodes.")
            # Not those that it began with, which the seed of the run alone would give once more.
            seed_envs(env, episode_seed(self.books.seed, 1 + int(self.books.counters["num_timesteps"])))
        version, internal, gauss = values["python_generator"]
        random.setstate((version, tuple(internal), gauss))
        kind, *rest = values["numpy_generator"]
        np.random.set_state((kind, tensors["numpy_generator"].numpy().astype(np.uint32), *rest))
        torch.set_rng_state(tensors["torch_generator"])


def _check_finite(tensors: dict[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite: a loss that is none would be found much later."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


def read_learner(directory: Path) -> SavedLearner:
    """Read a learner's file.

    Raises:
        LearnerError: if there is none, it is corrupt, foreign, or newer than this program.
    """
    path = directory / FILE
    try:
        values, tensors = read_tensors(path, "learner")
    except FileNotFoundError as error:
        raise LearnerError(f"{directory} holds no learner: it has no {FILE}. Give what PPO training wrote.") from error
    except (DamagedFile, OSError) as error:
        raise LearnerError(f"{one_line(error)} It cannot be resumed: train again or take a copy.") from error
    if values.get("format") != FORMAT or not isinstance(values.get("format_version"), int):
        raise LearnerError(f"{path} was not written by Wormwheel's PPO: expected format {FORMAT!r}.")
    if values["format_version"] > FORMAT_VERSION:
        raise LearnerError(
            f"{path} has format version {values['format_version']}, this program reads up to {FORMAT_VERSION}. "
            "Update Wormwheel."
        )
    try:
        config = PPOConfig.from_json(values["ppo"])
        parts = ActorCriticConfig.from_json(values["actor_critic"])
        episodes = values["episodes"] or {"infos": None, "successes": None}
        books = Books(
            seed=values["seed"],
            envs=values["envs"],
            observation_space=space_from_json(values["observation_space"]),
            action_space=space_from_json(values["action_space"]),
            stats_window_size=values["stats_window_size"],
            counters=values["counters"],
            infos=episodes["infos"],
            successes=episodes["successes"],
            record=values["record"],
        )
        _SavedBooks(**{item.name: getattr(books, item.name) for item in fields(_SavedBooks)})
    except Exception as error:  # No value in a file is known to be of its type.
        raise LearnerError(
            f"{path} does not have the fields of this version ({type(error).__name__}: {one_line(error)}): read it "
            "with the version that wrote it."
        ) from error
    return SavedLearner(directory, values, tensors, config, parts, books)


def read_record(directory: Path) -> dict[str, Any]:
    """Read what was kept with a learner for whoever trains it: `LiquidPPO.record`.

    Raises:
        LearnerError: as `read_learner` does.
    """
    return read_learner(directory).books.record


def _pack(learner: Learner, books: Books, env: VecEnv | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return everything as JSON values and tensors."""
    tensors = {f"policy.{name}": tensor for name, tensor in learner.networks.state_dict().items()}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(learner.optimizer).items()}
    numpy_kind, numpy_keys, *numpy_rest = np.random.get_state()
    tensors |= {
        "generator": learner.generator.get_state(),
        "torch_generator": torch.get_rng_state(),
        "numpy_generator": torch.from_numpy(np.asarray(numpy_keys, np.int64)),
    }
    for name, tensor in (("state", learner.state), ("imitator_state", learner.imitator_state)):
        if tensor is not None:
            tensors[name] = tensor
    if learner.imitator is not None:
        tensors |= {f"imitator.{name}": tensor for name, tensor in learner.imitator.state_dict().items()}
    snapshots = None
    if env is not None and learner.observation is not None:
        assert learner.starts is not None
        last = learner.observation if isinstance(learner.observation, dict) else {"": learner.observation}
        tensors |= {f"last.{name}": torch.from_numpy(np.array(value)) for name, value in last.items()}
        tensors["last_starts"] = torch.from_numpy(np.array(learner.starts, bool))
        if is_replayable(env):
            snapshots = []
            for number, snapshot in enumerate(env.env_method("snapshot")):
                tensors[f"episode.{number}"] = torch.from_numpy(snapshot["actions"])
                snapshots.append({name: snapshot[name] for name in ("seed", "episode", "level")})
    normaliser = unwrap_vec_normalize(env) if env is not None else None
    if normaliser is not None:
        tensors |= {f"normaliser.{name}": tensor for name, tensor in normaliser_tensors(normaliser).items()}
    episodes = None
    if books.infos is not None and books.successes is not None:
        infos = [{name: float(info[name]) for name in ("r", "l", "t")} for info in books.infos]
        episodes = {"infos": infos, "successes": [float(value) for value in books.successes]}
    values = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "actor_critic": asdict(learner.networks.config),
        "ppo": asdict(learner.config),
        "observation_space": space_to_json(books.observation_space),
        "action_space": space_to_json(books.action_space),
        "seed": books.seed,
        "envs": books.envs,
        "stats_window_size": books.stats_window_size,
        "counters": {**books.counters, "_rollouts": learner.rollouts},
        "episodes": episodes,
        "record": books.record,
        "imitator": learner.imitator.config.to_json() if learner.imitator is not None else None,
        "snapshots": snapshots,
        "normalised": normaliser_settings(normaliser),
        "between_rollouts": learner.between_rollouts,
        "python_generator": random.getstate(),
        "numpy_generator": [numpy_kind, *numpy_rest],
    }
    return values, tensors
