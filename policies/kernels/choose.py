"""Which kernel runs: the one that is named, or raises and says why it cannot; for "auto" the fastest that fits.

CELL = Kernels("cell", {"cpu": (torch.float32, torch.float64)})
chosen = choose_kernel(CELL, "auto", "cpu", torch.float32)  # "cpu"
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

_log = logging.getLogger(__name__)
_PACKAGES = {"cpu": "numba", "cuda": "triton"}
_INSTALL = {"cpu": "pip install numba", "cuda": "pip install -e '.[cuda]' in a checkout, on Linux"}
_INSTALLED = {device: importlib.util.find_spec(package) is not None for device, package in _PACKAGES.items()}
_CHOSEN: dict[tuple[str, str, str, torch.dtype], str] = {}
"""What was chosen before, so that it is logged once."""


@dataclass(frozen=True)
class Kernels:
    """The kernels that compute the same thing, each named after the device that it is for.

    Attributes:
        what: what they compute, for the log.
        dtypes: the dtypes that each one takes; beside them there is always "reference", torch for any device and dtype.
    """

    what: str
    dtypes: Mapping[str, tuple[torch.dtype, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Values that a `kernel` option may have."""
        return "auto", "reference", *self.dtypes


def check_kernel(kernels: Kernels, kernel: str) -> None:
    """Raise ValueError unless `kernel` is one of the names."""
    if kernel not in kernels.names:
        raise ValueError(f"kernel must be one of {', '.join(kernels.names)}, got {kernel!r}.")


def choose_kernel(kernels: Kernels, kernel: str, device: str, dtype: torch.dtype) -> str:
    """Return the kernel that runs, "reference" or one of `kernels.dtypes`; the choice of "auto" is logged once.

    Args:
        kernels: what there is.
        kernel: "auto", "reference" or the name of one.
        device: type of the tensors' device, such as "cpu" or "cuda".
        dtype: of the tensors.

    Raises:
        ValueError: if the kernel is unknown or cannot run on such tensors.
        ModuleNotFoundError: if the package that the named kernel needs is not installed.
    """
    key = kernels.what, kernel, device, dtype
    known = _CHOSEN.get(key)
    if known is not None:
        return known
    chosen, why = _choose(kernels, kernel, device, dtype)
    if not torch.compiler.is_compiling():
        _CHOSEN[key] = chosen
        if kernel == "auto":
            name = str(dtype).removeprefix("torch.")
            _log.info("%s kernel for %s tensors on %s: %s (%s).", kernels.what, name, device, chosen, why)
    return chosen


def _choose(kernels: Kernels, kernel: str, device: str, dtype: torch.dtype) -> tuple[str, str]:
    """Return the kernel and the reason."""
    check_kernel(kernels, kernel)
    if kernel == "reference":
        return kernel, "asked for"
    if kernel == "auto":
        if device not in kernels.dtypes:
            return "reference", f"there is no kernel for {device}"
        if dtype not in kernels.dtypes[device]:
            return "reference", f"that kernel computes in {_listed(kernels.dtypes[device])}"
        missing = _missing(device)
        if missing:
            return "reference", missing
        return device, "the fastest"
    missing = _missing(kernel)
    if missing:
        raise ModuleNotFoundError(f"kernel {kernel!r} needs the package {_PACKAGES[kernel]}, but {missing}.")
    if device != kernel or dtype not in kernels.dtypes[kernel]:
        raise ValueError(
            f"kernel {kernel!r} runs {_listed(kernels.dtypes[kernel])} tensors on the {kernel} device, got {dtype} on "
            f"{device}. Move the tensors, or leave the choice to kernel='auto'."
        )
    return kernel, "asked for"


def _missing(device: str) -> str:
    """Return why a device's kernels cannot run here, and what helps; "" when they can."""
    if not _INSTALLED[device]:
        return f"it is not installed: {_INSTALL[device]}"
    if device == "cpu" and os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "NUMBA_DISABLE_JIT is set: unset it"
    return ""


def is_exporting() -> bool:
    """Return whether torch writes the program down for other runtimes, which know nothing of our kernels."""
    exporting = getattr(torch.compiler, "is_exporting", lambda: False)
    return exporting() or torch.onnx.is_in_onnx_export() or torch.jit.is_tracing()


def is_traced(*tensors: Tensor) -> bool:
    """Return whether something other than plain eager torch watches: a compiler, a tracer, a mode, a transform."""
    if (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return True
    for tensor in tensors:  # a loop: a generator costs as much as the four calls above
        if type(tensor) is not Tensor:
            return True
    return False


def _listed(dtypes: tuple[torch.dtype, ...]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
