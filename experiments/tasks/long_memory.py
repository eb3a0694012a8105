"""What the tasks of long memory share: the cores that stand beside each other, and an answer read at the last step.

Every core gets the same sequences, batches, steps and schedule (`experiments.tasks.training`); the sizes are such that
none has more than some 30,000 parameters. The feed-forward core remembers nothing: it answers from the last input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from experiments.tasks.training import Batch, Contender


def contenders(published: Mapping[str, str], window: int) -> tuple[Contender, ...]:
    """Return the eight cores.

    Args:
        published: figure of a paper, by core.
        window: tokens that the Transformer attends to; as many as the longest sequence has, and no more.
    """
    made = (
        Contender("liquid_s4", "liquid_s4", {"model_size": 32, "states": 32, "layers": 2, "degree": 2}, 4e-3),
        Contender("lrc_ssm", "lrc_ssm", {"model_size": 32, "units": 64, "layers": 2}, 4e-3),
        Contender("ltc", "ltc", {"wiring": "fully_connected", "units": 32}, 1e-2, motors=32),
        Contender("cfc", "cfc", {"wiring": None, "units": 48, "backbone_units": 64}, 4e-3),
        Contender("lstm", "lstm", {"hidden_size": 64}, 4e-3),
        Contender("gru", "gru", {"hidden_size": 64}, 4e-3),
        Contender("transformer", "transformer", {"model_size": 32, "layers": 2, "window": window}, 2e-3),
        Contender("feedforward", "feedforward", {"hidden_size": 64}, 4e-3),
    )
    return tuple(
        Contender(one.label, one.core, one.config, one.learning_rate, one.motors, published.get(one.label, ""))
        for one in made
    )


def padded(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return numbers `[n, T]` with zeros after the ends, and the `[n]` index of each last one."""
    last = torch.tensor([len(sequence) - 1 for sequence in sequences])
    numbers = torch.zeros(len(sequences), int(last.max()) + 1, dtype=torch.int64)
    for row, sequence in zip(numbers, sequences, strict=True):
        row[: len(sequence)] = torch.as_tensor(sequence)
    return numbers, last


def at_the_end(predictions: Tensor, batch: Batch) -> Tensor:
    """Return the predictions `[B, M]` after the last real step."""
    if batch.last is None:
        return predictions[:, -1]
    return predictions[torch.arange(len(batch), device=predictions.device), batch.last]


def cross_entropy(predictions: Tensor, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of the answers at the end."""
    return functional.cross_entropy(at_the_end(predictions, batch), batch.targets)


def accuracy(predictions: Tensor, batch: Batch) -> Tensor:
    """Return the share of right answers at the end, per cent."""
    return 100 * (at_the_end(predictions, batch).argmax(dim=1) == batch.targets).double().mean()
