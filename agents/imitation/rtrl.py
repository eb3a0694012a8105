"""Real-time recurrent learning: the exact gradient of a recurrent core, step by step, without going back in time.

Beside the state s the learner carries how it depends on every parameter, the influence J = ds/dθ `[S, P]`. One step
s' = f(s, x, θ) with outputs y' moves it along by the chain rule (Williams and Zipser, *A Learning Algorithm for
Continually Running Fully Recurrent Neural Networks*, Neural Computation 1989, equations 2.8 and 2.10):

    J' = (∂f/∂s) J + ∂f/∂θ,   dy'/dθ = (∂y/∂s) J + ∂y/∂θ

so the gradient of a loss that comes with the step is (dL/dy') (dy'/dθ), at once. Nothing is kept of the past. The cost
is S + M backward passes through one step and the product of `[S, S]` with `[S, P]`: nothing for 19 neurons, out of
question for large nets. With constant parameters the sum over the steps is the gradient of backpropagation through
time; where parameters are changed on the way, J is that of the parameters as they were (as it is with every online
rule).

    learner = RealTimeRecurrentLearning(policy.core)
    outputs = learner.step(features, elapsed=1.0)           # [F] → [M]
    gradients = learner.gradient(2 * (outputs - wanted))    # dL/d outputs → {name: dL/d parameter}
"""

from __future__ import annotations

import torch
from torch import Tensor

from policies.cores.core import Core

MOST_VALUES = 50_000_000
"""Values of the influence at most, S times P: beyond, the rule is the wrong one."""


class RealTimeRecurrentLearning:
    """Runs a core one step at a time and knows the gradient of its outputs.

    Attributes:
        core: whose parameters that require gradients count.
        state: `[S]` after the last step.
        influence: `[S, P]` how it depends on the parameters.
    """

    def __init__(self, core: Core, state: Tensor | None = None):
        """Begin an episode.

        Args:
            core: on the CPU; made of differentiable steps.
            state: `[S]` to begin with, taken as constant; fresh when None.

        Raises:
            ValueError: if the core has no state, or the influence would not fit into memory.
        """
        self.core = core
        self.names = [name for name, weight in core.named_parameters() if weight.requires_grad]
        self._weights = [weight for weight in core.parameters() if weight.requires_grad]
        self._count = sum(weight.numel() for weight in self._weights)
        if core.state_size == 0:
            raise ValueError("this core has no state, so there is nothing to carry: its own gradient is exact.")
        if core.state_size * self._count > MOST_VALUES:
            raise ValueError(
                f"{core.state_size} states × {self._count:,} parameters are too many for real-time recurrent learning: "
                "use batches."
            )
        self.begin(state)

    def begin(self, state: Tensor | None = None) -> None:
        """Begin another episode, from a state `[S]` or a fresh one."""
        size = self.core.state_size
        self.state = torch.zeros(size) if state is None else state.detach().clone()
        self._fresh = state is None
        self.influence = torch.zeros(size, self._count)
        self._outputs = torch.zeros(self.core.output_size, self._count)

    def step(self, features: Tensor, elapsed: float = 1.0) -> Tensor:
        """Run one step.

        Args:
            features: `[F]`, taken as constant.
            elapsed: time since the previous frame in nominal periods.

        Returns:
            `[M]` outputs.
        """
        before = self.state.detach().requires_grad_(True)
        outputs, after = self.core(
            features.detach()[None, None],
            None if self._fresh else before[None],
            torch.full((1, 1), elapsed),
        )
        outputs, after = outputs[0, 0], after[0]
        values = torch.cat([after, outputs])  # [S + M]
        rows = []
        for index in range(len(values)):
            wanted = [before, *self._weights]
            found = torch.autograd.grad(values[index], wanted, retain_graph=index + 1 < len(values), allow_unused=True)
            given = zip(found, wanted, strict=True)
            parts = [torch.zeros_like(w) if f is None else f for f, w in given]
            rows.append(torch.cat([part.reshape(-1) for part in parts]))
        jacobian = torch.stack(rows)  # [S + M, S + P]
        size = len(after)
        moved = jacobian[:, :size] @ self.influence + jacobian[:, size:]
        self.influence, self._outputs = moved[:size], moved[size:]
        self.state, self._fresh = after.detach(), False
        return outputs.detach()

    def gradient(self, of_outputs: Tensor) -> dict[str, Tensor]:
        """Return dL/dθ of the last step for each parameter by name, from dL/d outputs `[M]`."""
        flat = of_outputs.detach() @ self._outputs
        parts = torch.split(flat, [weight.numel() for weight in self._weights])
        shaped = zip(self.names, parts, self._weights, strict=True)
        return {name: part.view_as(weight) for name, part, weight in shaped}
