"""Which device the networks train on, checked before anything is written; and whether it gains by bfloat16."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

FAST_BFLOAT16 = {"amx_bf16", "avx512_bf16"}
"""Flags of processors that multiply bfloat16 matrices faster than float32 ones, as Linux writes them."""


def check_device(name: str) -> torch.device:
    """Return the device of a name such as "cpu", "cuda" or "cuda:1".

    Raises:
        ValueError: if there is no such device, or torch cannot use it on this machine.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}.") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}.")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            found = f"it finds {count}" if count else "it finds none"
            raise ValueError(
                f"--device {name}: torch {torch.__version__} has no such GPU on this machine ({found}): leave it out "
                "to train on the CPU."
            )
    return device


def gains_by_bfloat16(device: torch.device | str) -> bool:
    """Say whether convolutions are faster in bfloat16 there, by what the processor says of itself."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(FAST_BFLOAT16 & _flags())


@cache
def _flags() -> frozenset[str]:
    """Return the flags of this machine's processor; none where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(word for line in lines if line.startswith("flags") for word in line.split(":", 1)[-1].split())
