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
"""The core's parameters in the order of a table (see `packing`), then the output map."""


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
        self, inputs: Tensor, state: Tensor | None, elapsed: Tensor | None, starts: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Run the circuit with the parameters last given to `adopt`.

        Args:
            inputs: `[B, T, I]` float32 on the CPU, contiguous, and so are the others.
            state: `[B, N]` or None.
            elapsed: `[B, T]` or None.
            starts: `[B, T]` bool or None.

        Returns:
            `[B, T, M]` outputs and `[B, N]` state.
        """
        structure, motors, pointers = self._structure, self._motors, self._pointers
        assert pointers is not None
        batch, steps, features = inputs.shape
        refresh_pack(*self._refresh_arguments)
        outputs, final = torch.empty(batch, steps, motors), torch.empty(batch, structure.neurons)
        sizes = (*(steps, features, structure.neurons, structure.sensory, structure.recurrent), motors, self._substeps)
        addresses = (
            inputs.data_ptr(),
            0 if state is None else state.data_ptr(),
            0 if elapsed is None else elapsed.data_ptr(),
            0 if starts is None else starts.data_ptr(),
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

    def takes(self, inputs: Tensor, state: Tensor | None, elapsed: Tensor | None, starts: Tensor | None) -> bool:
        """Return whether `run` can have the arguments of `Core.forward` as they are, without checks and copies."""
        if inputs.ndim != 3 or not _usual(inputs, torch.float32):
            return False
        batch, steps, features = inputs.shape
        if features != self._features or not (steps and batch):
            return False
        if state is not None and (state.shape != (batch, self._structure.neurons) or not _usual(state, torch.float32)):
            return False
        if starts is not None and (starts.shape != (batch, steps) or not _usual(starts, torch.bool)):
            return False
        if elapsed is None:
            return True
        usual = elapsed.shape == (batch, steps) and _usual(elapsed, torch.float32)
        return usual and bool(all_positive(elapsed.data_ptr(), batch * steps))

    def adopt(self, parameters: Mapping[str, Tensor | None]) -> bool:
        """Take over a core's parameters, by the names in NAMES, which are kept; return whether they are plain."""
        try:
            held = [parameters[name] for name in NAMES]
        except KeyError:
            return False
        pointers = tuple([0 if p is None else p.data_ptr() for p in held])
        if pointers == self._pointers:
            return True
        if not are_plain(parameters):
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


def are_plain(parameters: Mapping[str, Tensor | None]) -> bool:
    """Return whether all of NAMES are there, each None or a contiguous float32 tensor on the CPU.

    A parametrisation takes some away, a conversion changes the dtype, a subclass of Tensor does what it wants.
    """
    return all(
        name in parameters
        and ((p := parameters[name]) is None or (type(p.data) is Tensor and _usual(p, torch.float32)))
        for name in NAMES
    )


def _usual(tensor: Tensor, dtype: torch.dtype) -> bool:
    return tensor.dtype is dtype and tensor.is_cpu and tensor.is_contiguous() and not tensor.is_neg()
