"""The state of a training run in one file: weights, optimizer, generator, progress.

safetensors with a JSON header: nothing that is loaded can run code. One file, moved into place, so that a kill never
leaves weights of one moment beside an optimizer of another.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from agents.runs.files import write_bytes
from agents.runs.reading import DamagedFile, damaged, one_line, read_tensors

TRAINING_STATE = "training.safetensors"
"""Name of the file in a checkpoint's directory."""


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
    tensors |= {f"optimizer.{name}": value for name, value in optimizer_tensors(optimizer).items()}
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
        progress, tensors = read_tensors(path, "progress")
    except FileNotFoundError as error:
        raise ValueError(f"there is no run to resume: {path} does not exist. Train without --resume first.") from error
    except (DamagedFile, OSError) as error:
        raise ValueError(f"{one_line(error)} It cannot be resumed: train again without --resume.") from error
    try:
        model.load_state_dict(part_of(tensors, "model."))
    except RuntimeError as error:
        raise ValueError(
            f"{path} belongs to another driver than the options describe; resume with the options of the first run."
        ) from error
    with damaged(path, "train again without --resume"):
        restore_optimizer(optimizer, part_of(tensors, "optimizer."))
        generator.set_state(tensors["generator"])
    return progress


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the state of an optimizer whose state is tensors and numbers, as tensors named INDEX.KEY."""
    states = optimizer.state_dict()["state"].items()
    return {
        f"{index}.{key}": torch.as_tensor(value).detach().contiguous()
        for index, state in states
        for key, value in state.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` returned; the learning rates stay the optimizer's own."""
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        states.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def part_of(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
