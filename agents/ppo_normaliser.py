"""A `VecNormalize` on disk: how it normalises as JSON values, what it has measured as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

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
