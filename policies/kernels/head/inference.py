"""The quick way through a conv head on the CPU without gradients: bytes in, features out.

encoder = Encoder(48, 96, kernels=(5, 3), strides=(2, 2), channels=(16, 8), each=4)
if encoder.takes(frames) and encoder.adopt(parameters):
    features = encoder.run(frames)
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from policies.kernels.head.cpu import FIELDS, LANES, MOST, differ, encode
from policies.kernels.threads import scratch_addresses, side_by_side

LEAST_WORK = 500_000
"""Multiply-adds of a part below which a further thread costs more than it brings."""


class Encoder:
    """The plan of one head, and its weights as the kernel reads them, kept from call to call.

    A copy or a pickle of it is None: it points to the memory of the head that it was made for.
    """

    def __init__(
        self,
        height: int,
        width: int,
        kernels: Sequence[int],
        strides: Sequence[int],
        channels: Sequence[int],
        each: int,
    ):
        """Lay out maps and weights.

        Args:
            height: H of the frames, pixels.
            width: W of the frames, pixels.
            kernels: size of each convolution, pixels; padded by half of it on each side.
            strides: of each convolution, pixels.
            channels: that each convolution writes.
            each: features that each channel of the last map is reduced to.
        """
        self._size, self._each, self._channels = (height, width), each, tuple(channels)
        lines = []
        rows, columns, read, source, weights = height, width, 3, 0, 0
        self.work = 0
        for k, (kernel, stride, written) in enumerate(zip(kernels, strides, channels, strict=True)):
            margin = kernel // 2
            source_row = (columns + 2 * margin) * read
            out = [(side + 2 * margin - kernel) // stride + 1 for side in (rows, columns)]
            vectors = -(-written // LANES)
            next_margin = kernels[k + 1] // 2 if k + 1 < len(kernels) else 0
            target = source + (rows + 2 * margin) * source_row
            target_row = (out[1] + 2 * next_margin) * vectors * LANES
            first = target + next_margin * (target_row + vectors * LANES)
            bias = weights + kernel * kernel * read * vectors * LANES
            lines.append(
                [*out, stride, kernel, read, source_row, vectors, source, first, target_row, weights, bias, written]
            )
            self.work += out[0] * out[1] * kernel * kernel * read * vectors * LANES
            weights = bias + vectors * LANES
            (rows, columns), read, source = out, vectors * LANES, target
            end = target + (rows + 2 * next_margin) * target_row
        self._plan = np.array(lines, np.int64).reshape(-1, FIELDS)
        self._scratch, self._pack = end, np.zeros(weights, np.float32)
        self._pointers: tuple[int, ...] | None = None
        self._lock = threading.Lock()

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        return None

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()

    def takes(self, frames: Tensor) -> bool:
        """Return whether `run` can have these frames."""
        return frames.dtype is torch.uint8 and frames.is_cpu and frames.shape[1:] == (*self._size, 3)

    def adopt(self, parameters: Sequence[Tensor]) -> bool:
        """Take over a head's parameters, which are kept; return whether they are plain.

        Args:
            parameters: weight and bias of each convolution, then weight and bias of the read-out.
        """
        pointers = tuple([parameter.data_ptr() for parameter in parameters])
        if pointers == self._pointers:
            return True
        for p in parameters:
            if type(p.data) is not Tensor or p.dtype is not torch.float32 or not p.is_cpu or not p.is_contiguous():
                return False
        with self._lock:
            # Holding the storage: as long as an address is known here, nothing else can lie there.
            self._held = [parameter.detach() for parameter in parameters]
            self._addresses = np.array(pointers, np.int64)
            self._sizes = np.array([parameter.numel() for parameter in parameters], np.int64)
            self._copy = np.full(self._sizes.sum(), np.nan, np.float32)
            self._pointers = pointers
        return True

    def run(self, frames: Tensor) -> Tensor:
        """Encode frames with the parameters last given to `adopt`: uint8 `[N, H, W, 3]` → `[N, F]`."""
        frames = frames.contiguous()
        held, plan, count = self._held, self._plan, len(frames)
        # Comparing every number takes some microseconds and cannot be fooled, unlike version counters.
        with self._lock:  # two threads may use one policy
            if differ(self._addresses.ctypes.data, self._sizes.ctypes.data, len(held), self._copy.ctypes.data):
                self._write_pack()
        features = torch.empty(count, self._channels[-1] * self._each)
        threads = min(torch.get_num_threads(), count, 1 + count * self.work // LEAST_WORK)
        bounds = [count * k // threads for k in range(threads + 1)] if count else [0]
        scratch = scratch_addresses(self._scratch, max(threads, 1))
        sizes, readout = (*self._size, len(plan)), (held[-2].data_ptr(), held[-1].data_ptr())

        def part(k: int) -> None:
            encode(
                frames.data_ptr(), bounds[k], bounds[k + 1], *sizes, plan.ctypes.data, self._pack.ctypes.data,
                *readout, features.data_ptr(), self._each, scratch[k], self._scratch,
            )  # fmt: skip

        if count:
            side_by_side(part, threads)
        return features

    def maps(self, frame: Tensor) -> list[Tensor]:
        """Return the map after each convolution, `[1, C, h, w]`, of one frame, uint8 `[1, H, W, 3]`."""
        self.run(frame)
        (address,) = scratch_addresses(self._scratch, 1)
        scratch = np.ctypeslib.as_array((ctypes.c_float * self._scratch).from_address(address))
        found = []
        for line in self._plan.tolist():
            rows, columns, stored, first, row, written = line[0], line[1], line[6] * LANES, line[8], line[9], line[12]
            strides = (4 * row, 4 * stored, 4)
            view = np.lib.stride_tricks.as_strided(scratch[first:], (rows, columns, written), strides)
            found.append(torch.from_numpy(view.copy()).permute(2, 0, 1)[None])
        return found

    def _write_pack(self) -> None:
        """Lay the weights out as the kernel reads them: `[pass][kernel rows][kernel columns · C][vectors · 8]`."""
        held = [parameter.numpy() for parameter in self._held]
        self._copy[:] = np.concatenate([parameter.ravel() for parameter in held])
        for k, line in enumerate(self._plan):
            kernel, read, vectors = (int(line[field]) for field in (3, 4, 6))
            weight, bias = held[2 * k], held[2 * k + 1]  # [O, C, k, k], [O]
            wide = np.zeros((kernel, kernel, read, vectors * LANES), np.float32)
            wide[:, :, : weight.shape[1], : weight.shape[0]] = weight.transpose(2, 3, 1, 0)
            place, done = int(line[10]), 0
            passes = -(-vectors // MOST)
            for number in range(passes):
                some = -(-(vectors - done) // (passes - number))
                block = wide[..., done * LANES : (done + some) * LANES]
                self._pack[place : place + block.size] = block.ravel()
                place, done = place + block.size, done + some
            self._pack[int(line[11]) : int(line[11]) + vectors * LANES] = 0
            self._pack[int(line[11]) : int(line[11]) + len(bias)] = bias
