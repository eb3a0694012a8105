"""Which device the networks train on, checked before anything is written."""

from __future__ import annotations

import torch


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
