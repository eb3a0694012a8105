"""The state of a training run in one file: weights, optimizer, generator, progress.

safetensors with a JSON header: nothing that is loaded can run code. One file, moved into place, so that a kill never
leaves weights of one moment beside an optimizer of another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from agents.files import write_bytes


def save_training_state(
    path: Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    progress: dict[str, Any],
) -> None:
    """Write everything that a resumed run needs.

    Args:
        path: file to write.
        model: its `state_dict` is saved.
        optimizer: any whose state is tensors and numbers by parameter (Adam, SGD).
        generator: owner of the run's random draws.
        progress: JSON values.
    """
    tensors = {f"model.{name}": value.detach().contiguous() for name, value in model.state_dict().items()}
    tensors["generator"] = generator.get_state()
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value).detach().contiguous()
    write_bytes(path, safetensors.torch.save(tensors, {"progress": json.dumps(progress)}))


def load_training_state(
    path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Any]:
    """Put a saved state back.

    Returns:
        The progress that was saved.

    Raises:
        ValueError: if there is nothing to resume, or the file is corrupt or belongs to another driver.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ValueError(f"there is no run to resume: {path} does not exist. Train without --resume first.") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path} is corrupt and cannot be resumed ({error}). Train anew without --resume.") from error
    try:
        model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    except RuntimeError as error:
        raise ValueError(
            f"{path} belongs to another driver than the options describe; resume with the options of the first run."
        ) from error
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    return progress
