"""What the neurons of a circuit did over a drive: voltages, time constants, signed synaptic currents.

    activity = run_activity(policy, frames)     # frames uint8 [T, H, W, 3]
    activity.voltages                           # [T, N]
    activity.time_constants_s                   # [T, N], LTC only

For an LTC, the momentary time constant is cm / (gleak + Σ a), and the current of a synapse a · (erev − v): positive
where it pulls its target up. Both are taken at the voltages after the frame. Other cores have states only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.cores import LTC
from policies.policy import DrivingPolicy


@dataclass(frozen=True)
class Activity:
    """What went on frame by frame; tensors without gradients.

    Attributes:
        steering: `[T]` in [−1, 1], positive left.
        features: `[T, F]` of the head.
        states: `[T, S]` after each frame: an LTC's voltages.
        time_constants_s: `[T, N]` s; None for other cores.
        sensory_currents: `[T, S_in]`; None for other cores.
        recurrent_currents: `[T, S_rec]`; None for other cores.
    """

    steering: Tensor
    features: Tensor
    states: Tensor
    time_constants_s: Tensor | None = None
    sensory_currents: Tensor | None = None
    recurrent_currents: Tensor | None = None

    @property
    def voltages(self) -> Tensor:
        """The states under the name that they have in an LTC."""
        return self.states


def run_activity(
    policy: DrivingPolicy, frames: Tensor, elapsed: Tensor | None = None, state: Tensor | None = None
) -> Activity:
    """Show a drive to a policy and note what its circuit does.

    Args:
        policy: the driver.
        frames: uint8 `[T, H, W, 3]`.
        elapsed: `[T]` in frame periods; ones when None.
        state: `[1, S]` before the first frame; fresh when None.
    """
    policy.eval()
    with torch.no_grad():
        features = torch.cat([policy.features(part[None])[0] for part in frames.split(64)])
        times = torch.ones(len(frames)) if elapsed is None else elapsed
        steering, states = [], []
        for step in range(len(frames)):
            motors, state = policy.core(features[None, step : step + 1], state, times[None, step : step + 1])
            steering.append(motors[0, 0, 0].clamp(-1, 1))
            states.append(state[0])
        kept = torch.stack(states)
        core = policy.core
        if not isinstance(core, LTC):
            return Activity(torch.stack(steering), features, kept)
        sensory, recurrent = core.synaptic_currents(features, kept)
        tau = core.time_constants(features, kept) * policy.config.nominal_period_s
        return Activity(torch.stack(steering), features, kept, tau, sensory, recurrent)
