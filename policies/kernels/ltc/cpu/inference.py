"""The quick way through an LTC on the CPU without gradients: one frame in, one steering angle out.

For a small circuit the arithmetic of one step takes two microseconds, and a dozen torch calls around it take ten times
as long. Here the kernels read the raw parameters where they lie, apply input map, softplus and output map themselves,
and keep the packed parameters until a value changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from policies.kernels.ltc.cpu.forward import forward
from policies.kernels.ltc.cpu.layout import structure_of
from policies.kernels.ltc.cpu.op import in_parts
from policies.kernels.ltc.cpu.packing import TABLE, all_positive, refresh_pack
from policies.kernels.simd import WIDTH
from policies.kernels.threads import scratch_addresses

NAMES = (
    *("raw_gleak", "vleak", "raw_cm"),
    *("raw_sensory_w", "sensory_mu", "sensory_sigma", "sensory_erev"),
    *("raw_w", "mu", "sigma", "erev"),
    *("input_w", "input_b", "output_w", "output_b"),
)
"""The core's parameters in the order of a table (see `cpu_pack`), then the output map."""


def is_traced(*tensors: Tensor) -> bool:
    """Return whether something other than plain eager torch watches: a compiler, a tracer, a mode, a transform."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.jit.is_tracing()
        or any(type(x) is not Tensor for x in tensors)
    )


class Inference:
    """Packed parameters of one core, kept from call to call.

    A copy or a pickle of it is None: it points to the memory of the core that it was made for.
    """

    def __init__(self, neurons: int, lists: Sequence[Tensor], features: int, motors: int, substeps: int) -> None:
        """Take what never changes.

        Args:
            neurons: N.
            lists: sources and targets of the sensory and of the recurrent synapses.
            features: I.
            motors: M.
            substeps: K.
        """
        self._structure = structure_of(features, neurons, *(x.cpu().numpy().tobytes() for x in lists))
        self._features, self._motors, self._substeps = features, motors, substeps
        self._pointers: tuple[int, ...] | None = None

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        return None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def run(
        self,
        parameters: Mapping[str, Tensor | None],
        inputs: Tensor,
        state: Tensor | None,
        elapsed: Tensor | None,
        starts: Tensor | None,
    ) -> tuple[Tensor, Tensor] | None:
        """Run the circuit; arguments as in `Core.forward`.

        Args:
            parameters: by the names in NAMES; None for a map that the core has not.
            inputs: `[B, T, I]`.
            state: `[B, N]` or None.
            elapsed: `[B, T]` or None.
            starts: `[B, T]` bool or None.

        Returns:
            `[B, T, M]` outputs and `[B, N]` state; None if an argument is anything but the usual, whatever it is.
        """
        if is_traced(inputs):
            return None
        structure, motors = self._structure, self._motors
        try:
            held = [parameters[name] for name in NAMES]
        except KeyError:  # A parametrisation has taken one away.
            return None
        pointers = tuple([0 if p is None else p.data_ptr() for p in held])
        if pointers != self._pointers and not self._adopt(held, pointers):
            return None
        if inputs.ndim != 3 or not _usual(inputs, torch.float32):
            return None
        batch, steps, features = inputs.shape
        if features != self._features or not (steps and batch):
            return None
        state_address = elapsed_address = starts_address = 0
        if state is not None:
            if state.shape != (batch, structure.neurons) or not _usual(state, torch.float32):
                return None
            state_address = state.data_ptr()
        if elapsed is not None:
            if elapsed.shape != (batch, steps) or not _usual(elapsed, torch.float32):
                return None
            elapsed_address = elapsed.data_ptr()
            if not all_positive(elapsed_address, batch * steps):
                return None
        if starts is not None:
            if starts.shape != (batch, steps) or not _usual(starts, torch.bool):
                return None
            starts_address = starts.data_ptr()
        refresh_pack(*self._refresh_arguments)
        outputs, final = torch.empty(batch, steps, motors), torch.empty(batch, structure.neurons)
        sizes = (*(steps, features, structure.neurons, structure.sensory, structure.recurrent), motors, self._substeps)
        addresses = (
            *(inputs.data_ptr(), state_address, elapsed_address, starts_address),
            *(self._pack_address, structure.lists_address, pointers[-2], pointers[-1]),
            *(0, outputs.data_ptr(), final.data_ptr()),
        )
        rows = structure.forward_rows
        if batch <= WIDTH:
            forward(0, batch, *sizes, *addresses, scratch_addresses(rows * WIDTH, 1)[0])
        else:
            in_parts(
                lambda first, last, scratch: forward(first, last, *sizes, *addresses, scratch),
                batch,
                steps * (structure.sensory + self._substeps * structure.recurrent),
                rows,
            )
        return outputs, final

    def _adopt(self, held: Sequence[Tensor | None], pointers: tuple[int, ...]) -> bool:
        """Take over parameters that lie elsewhere than the last ones; return False if they are not the usual."""
        if not all(p is None or (type(p.data) is Tensor and _usual(p, torch.float32)) for p in held):
            return False
        structure = self._structure
        # Holding the storage: as long as an address is known here, nothing else can lie there.
        self._held = [None if p is None else p.detach() for p in held]
        self._table = np.array(pointers[:TABLE], np.int64)
        size = structure.pack_size
        self._pack, self._copy = np.zeros(size, np.float32), np.full(size, np.nan, np.float32)
        self._pack_address = self._pack.ctypes.data
        self._refresh_arguments = (
            *(self._table.ctypes.data, structure.order_address, structure.lists_address),
            *(structure.neurons, structure.sensory, structure.recurrent, self._features),
            *(self._copy.ctypes.data, self._pack_address),
        )
        self._pointers = pointers
        return True


def _usual(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and tensor.is_cpu and tensor.is_contiguous() and not tensor.is_neg()
