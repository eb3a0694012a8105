"""What torch's compiler must leave alone; imported only while it compiles, because it brings all of the compiler along.

That import takes as long as torch's own, which everybody who does not compile would pay for.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


@torch.compiler.disable
def run_uncompiled(core: Any, *arguments: Tensor | None) -> tuple[Tensor, Tensor]:
    """Call `core._run` eagerly, as one call between two compiled graphs."""
    motors, state = core._run(*arguments)
    return motors, state
