"""An action with another steering."""

from __future__ import annotations

import numpy as np

from envs.perturbations.perturbation import Action


def steered(action: Action, steering: float) -> Action:
    """The action with another steering, clipped to [−1, 1]; a new array."""
    changed = np.array(action, np.float32)
    changed[0] = min(max(steering, -1.0), 1.0)
    return changed
