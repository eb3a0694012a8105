"""The scan on the CPU, in numba.

A thread takes whole samples while there are enough of them. With fewer samples than threads, time is cut into chunks:
every chunk runs from zero and notes the product of its factors; the states that enter the chunks follow one from the
other; then every chunk adds what its entry leaves of itself, up to its first start.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.kernels.jit import compiled
from policies.kernels.scan.gradient import differentiable
from policies.kernels.threads import side_by_side

CHUNK = 256
"""Least steps of a chunk: shorter ones cost more to join than they gain."""


@compiled
def run_span(
    factors: Any, drive: Any, starts: Any, out: Any, carry: Any, product: Any, begin: int, end: int, backward: bool
) -> None:
    """Run x ← k x + drive over the steps `begin` to `end` of one sample, in either direction of time.

    Args:
        factors: `[T, N]` a_t. Backwards the factor of step t is a_{t+1}, and none beyond the last step.
        drive: `[T, N]`.
        starts: `[T]` bool: the factor of that step counts as 0.
        out: `[T, N]` x after each step, written.
        carry: `[N]` x that enters; afterwards the x that leaves.
        product: `[N]`, multiplied with every factor.
        begin: first step.
        end: one past the last step.
        backward: from the last step to the first.
    """
    steps, size = drive.shape
    for i in range(end - begin):
        t = end - 1 - i if backward else begin + i
        c = t + 1 if backward else t
        if c == steps or starts[c]:
            for n in range(size):
                carry[n] = drive[t, n]
                product[n] = 0
                out[t, n] = carry[n]
        else:
            for n in range(size):
                carry[n] = factors[c, n] * carry[n] + drive[t, n]
                product[n] *= factors[c, n]
                out[t, n] = carry[n]


@compiled
def run_complex_span(
    factors: Any, drive: Any, starts: Any, out: Any, carry: Any, product: Any, begin: int, end: int, backward: bool
) -> None:
    """Run `run_span` on complex numbers, pairs in a last dimension of 2; backwards the factors are conjugate."""
    steps, size = drive.shape[0], drive.shape[1]
    for i in range(end - begin):
        t = end - 1 - i if backward else begin + i
        c = t + 1 if backward else t
        if c == steps or starts[c]:
            for n in range(size):
                for part in range(2):
                    carry[n, part] = drive[t, n, part]
                    product[n, part] = 0
                    out[t, n, part] = carry[n, part]
        else:
            for n in range(size):
                kr, ki = factors[c, n, 0], -factors[c, n, 1] if backward else factors[c, n, 1]
                xr, xi = carry[n, 0], carry[n, 1]
                carry[n, 0] = kr * xr - ki * xi + drive[t, n, 0]
                carry[n, 1] = kr * xi + ki * xr + drive[t, n, 1]
                pr, pi = product[n, 0], product[n, 1]
                product[n, 0] = kr * pr - ki * pi
                product[n, 1] = kr * pi + ki * pr
                out[t, n, 0] = carry[n, 0]
                out[t, n, 1] = carry[n, 1]


@compiled
def run_samples(factors: Any, drive: Any, starts: Any, out: Any, carry: Any, product: Any, backward: bool) -> None:
    """Run whole sequences of several real samples, `[b, T, N]`."""
    for b in range(drive.shape[0]):
        run_span(factors[b], drive[b], starts[b], out[b], carry[b], product[b], 0, drive.shape[1], backward)


@compiled
def run_complex_samples(
    factors: Any, drive: Any, starts: Any, out: Any, carry: Any, product: Any, backward: bool
) -> None:
    """Run whole sequences of several complex samples, `[b, T, N, 2]`."""
    for b in range(drive.shape[0]):
        run_complex_span(factors[b], drive[b], starts[b], out[b], carry[b], product[b], 0, drive.shape[1], backward)


def _run(a: Tensor, drive: Tensor, entry: Tensor, starts: Tensor, backward: bool) -> Tensor:
    """Run x ← k x + drive in one direction of time and return x after every step."""
    out = drive.new_empty(drive.shape)
    factors, driven, written, started = (x.detach().contiguous().numpy() for x in (a, drive, out, starts))
    carry = entry.detach().contiguous().numpy().copy()
    batch_size, steps = drive.shape[:2]
    threads = torch.get_num_threads()
    chunks = min(threads // batch_size, steps // CHUNK)
    if chunks > 1:
        for b in range(batch_size):
            _run_chunks(factors[b], driven[b], started[b], written[b], carry[b], backward, chunks)
        return out
    run = run_samples if a.ndim == 3 else run_complex_samples
    product = np.ones_like(carry)  # of no use here
    parts = min(threads, batch_size) if drive.numel() > 1 << 15 else 1
    cuts = [batch_size * k // parts for k in range(parts + 1)]

    def share(k: int) -> None:
        some = slice(cuts[k], cuts[k + 1])
        run(factors[some], driven[some], started[some], written[some], carry[some], product[some], backward)

    side_by_side(share, parts)
    return out


def _run_chunks(factors: Any, driven: Any, started: Any, written: Any, entry: Any, backward: bool, chunks: int) -> None:
    """Run one sample, its time cut into chunks that are joined afterwards."""
    steps = len(driven)
    run = run_span if driven.ndim == 2 else run_complex_span
    cuts = [steps * k // chunks for k in range(chunks + 1)]
    spans = list(zip(cuts[:-1], cuts[1:], strict=True))
    if backward:
        spans.reverse()
    carries, products = np.zeros((chunks, *entry.shape), entry.dtype), np.zeros((chunks, *entry.shape), entry.dtype)
    products[...] = 1 if driven.ndim == 2 else (1, 0)
    carries[0] = entry

    def alone(k: int) -> None:
        run(factors, driven, started, written, carries[k], products[k], *spans[k], backward)

    side_by_side(alone, chunks)
    entries = np.zeros_like(carries)
    for k in range(1, chunks):
        leaves = carries[k - 1] if k == 1 else carries[k - 1] + _product(products[k - 1], entries[k - 1])
        entries[k] = leaves
    nothing = np.zeros_like(driven[:1])

    def join(k: int) -> None:
        if k == 0 or not entries[k].any():
            return
        begin, end = spans[k]
        echo = np.empty_like(driven[begin:end])
        silent = np.broadcast_to(nothing, echo.shape)
        _echo(run, factors, silent, started, echo, entries[k], begin, end, backward)
        written[begin:end] += echo

    side_by_side(join, chunks)


def _echo(
    run: Any, factors: Any, silent: Any, started: Any, echo: Any, entry: Any, begin: int, end: int, backward: bool
) -> None:
    """Write what an entry leaves of itself in the steps of a chunk."""
    # Backwards the factor of a step is that of the step after it, which for the last one lies beyond the chunk.
    last = min(end + 1, len(factors)) if backward else end
    length = last - begin
    drive = np.ascontiguousarray(np.broadcast_to(silent[:1], (length, *silent.shape[1:])))
    out = np.empty_like(drive)
    run(factors[begin:last], drive, started[begin:last], out, entry, np.ones_like(entry), 0, end - begin, backward)
    echo[...] = out[: end - begin]


def _product(x: Any, y: Any) -> Any:
    """Multiply elementwise; complex numbers are pairs in a last dimension of 2."""
    if x.ndim == 1:
        return x * y
    real = x[:, 0] * y[:, 0] - x[:, 1] * y[:, 1]
    return np.stack((real, x[:, 0] * y[:, 1] + x[:, 1] * y[:, 0]), axis=1)


numba_scan = differentiable("cpu", _run)
"""The scan; arguments as `reference.reference_scan`, float32 or float64 on the CPU."""
