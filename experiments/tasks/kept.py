"""A training of a task that is complete, in one file: a run that is resumed reads it instead of training again.

keep(place / "ltc-seed-0.safetensors", model, outcome)
outcome = recall(place / "ltc-seed-0.safetensors", model)
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
from pydantic import TypeAdapter
from torch import nn

from agents.runs.files import make_directory, write_bytes
from agents.runs.reading import damaged, read_tensors
from experiments.tasks.training import Problem

_HEADER = "training"


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        score: on the test sequences.
        losses: of every step.
        curve: (step, score) on the validation sequences.
        seconds: how long it took.
    """

    score: float
    losses: list[float]
    curve: list[tuple[int, float]]
    seconds: float


_OUTCOME = TypeAdapter(Outcome)


def fingerprint(problem: Problem) -> str:
    """Return a SHA-256 sum of all sequences, so that a resumed run knows whether they are those of the first start."""
    digest = hashlib.sha256()
    for part in (problem.train, problem.validation, problem.test):
        for tensor in () if part is None else (part.inputs, part.targets, part.elapsed, part.last):
            if tensor is not None:
                digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def keep(path: Path, model: nn.Module, outcome: Outcome, data: str) -> None:
    """Write a training; one whose figures are not all finite is left out, since JSON has no word for them.

    Args:
        path: the file.
        model: as trained.
        outcome: its figures.
        data: fingerprint of what it learnt from and was scored on.
    """
    if not all(map(math.isfinite, (outcome.score, *outcome.losses, *(score for _, score in outcome.curve)))):
        return
    make_directory(path.parent)
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    header = json.dumps({"data": data, "outcome": asdict(outcome)})
    write_bytes(path, safetensors.torch.save(tensors, {_HEADER: header}))


def recall(path: Path, model: nn.Module, data: str) -> Outcome | None:
    """Put the weights of a training into a model and return its figures; None if there is none.

    Raises:
        ValueError: if the file is damaged, of another model or of other data.
    """
    if not path.exists():
        return None
    values, tensors = read_tensors(path, _HEADER)
    with damaged(path, "remove it, and it is trained again"):
        if (other := values["data"]) == data:
            model.load_state_dict(tensors)
            return _OUTCOME.validate_python(values["outcome"])
    raise ValueError(
        f"{path} was trained on other data: their fingerprint was {other} and is {data} now; resume with the same "
        "data, or give --out a directory of its own."
    )
