"""The scan's kernels against its loop: states and every gradient, at awkward sizes, with starts, in pieces of time."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from policies.kernels.scan.cpu import CHUNK
from policies.kernels.scan.reference import reference_scan
from policies.kernels.scan.sequence import scan

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
KERNELS = ["cuda"] if INTERPRETED or torch.cuda.is_available() else []
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
"""Largest error relative to the largest number of a tensor, against the loop in float64."""


def make_case(batch: int, steps: int, units: int, dtype: torch.dtype, pairs: bool, seed: int = 0):
    """Return a, b, state with gradients, and starts; |a| up to 1, so that some memories are long."""
    generator = torch.Generator().manual_seed(seed + batch + steps + units)
    more = (2,) if pairs else ()
    a = torch.randn(batch, steps, units, *more, generator=generator, dtype=torch.float64)
    size = a.norm(dim=-1, keepdim=True) if pairs else a.abs()
    a = a / size * (1 - torch.rand(size.shape, generator=generator, dtype=torch.float64) ** 3)
    b = torch.randn(batch, steps, units, *more, generator=generator, dtype=torch.float64)
    state = torch.randn(batch, units, *more, generator=generator, dtype=torch.float64)
    starts = torch.rand(batch, steps, generator=generator) < 0.02
    return [x.to(dtype).requires_grad_() for x in (a, b, state)], starts


def results(run, arguments, starts):
    states = run(*arguments, starts)
    weights = torch.linspace(-3, 3, states.numel(), dtype=states.dtype).view_as(states).sin()
    return [states.detach(), *torch.autograd.grad((states * weights).sum(), arguments)]


def check(run, arguments, starts, dtype):
    truth = results(reference_scan, [x.detach().double().requires_grad_() for x in arguments], starts)
    for name, found, wanted in zip(("states", "a", "b", "state"), results(run, arguments, starts), truth, strict=True):
        error = float((found.double() - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-3)
        assert error <= TOLERANCE[dtype], name


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 63, 2), (5, 100, 19), (2, 130, 33)], ids=str)
def test_the_kernel_is_the_loop(sizes, dtype, pairs):
    arguments, starts = make_case(*sizes, dtype, pairs)
    check(lambda *x: scan(*x, kernel="cpu"), arguments, starts, dtype)


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.002])
def test_time_in_pieces_is_the_loop(pairs, share):
    steps = 3 * CHUNK + 17
    arguments, starts = make_case(1, steps, 3, torch.float64, pairs)
    starts = torch.rand(1, steps, generator=torch.Generator().manual_seed(4)) < share
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        check(lambda *x: scan(*x, kernel="cpu"), arguments, starts, torch.float64)
    finally:
        torch.set_num_threads(threads)


def test_complex_tensors_are_pairs():
    arguments, starts = make_case(2, 9, 4, torch.float32, True)
    pairs = [x.detach() for x in arguments]
    found = scan(*(torch.view_as_complex(x) for x in pairs), starts)
    torch.testing.assert_close(torch.view_as_real(found), scan(*pairs, starts))


def test_a_penalty_on_the_gradient_is_refused_by_the_kernel_and_taken_by_the_loop():
    arguments, starts = make_case(2, 5, 3, torch.float64, False)
    for kernel in ("cpu", "reference"):
        states = scan(*arguments, starts, kernel)
        (slope,) = torch.autograd.grad(states.square().sum(), arguments[0], create_graph=True)
        if kernel == "reference":
            slope.square().sum().backward()
            continue
        with pytest.raises(NotImplementedError, match="kernel='reference'"):
            slope.square().sum().backward()


def test_torch_func_and_the_compiler_agree():
    arguments, starts = make_case(2, 7, 3, torch.float32, True)
    plain = [x.detach() for x in arguments]
    wanted = results(lambda *x: scan(*x, kernel="cpu"), arguments, starts)[1]
    weights = torch.linspace(-3, 3, plain[1].numel()).view_as(plain[1]).sin()
    found = torch.func.grad(lambda a: (scan(a, *plain[1:], starts) * weights).sum())(plain[0])
    torch.testing.assert_close(found, wanted)
    torch.library.opcheck(torch.ops.wormwheel.scan_cpu.default, (*arguments, starts), test_utils="test_schema")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": torch.zeros(2, 5, 3)}, r"a must have shape \(2, 4, 3\)"),
        ({"state": torch.zeros(2, 4)}, r"state must have shape \(2, 3\)"),
        ({"starts": torch.zeros(2, 4)}, "starts must be bool"),
        ({"b": torch.zeros(2, 4)}, "b must have shape"),
        ({"kernel": "tpu"}, "kernel must be one of"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given = {"a": torch.zeros(2, 4, 3), "b": torch.zeros(2, 4, 3), "state": torch.zeros(2, 3), "starts": None}
    with pytest.raises(ValueError, match=message):
        scan(**{**given, **change})


@pytest.mark.skipif(not KERNELS, reason="runs in test_interpreted.py, or on a GPU")
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 5, 3)] if INTERPRETED else [(2, 130, 19), (3, 64, 3)], ids=str)
def test_triton_is_the_loop(sizes, pairs, monkeypatch):
    from policies.kernels.scan.triton import op

    if INTERPRETED:  # several blocks of time and of units, but few
        monkeypatch.setattr(op, "ROWS", 4)
        monkeypatch.setattr(op, "COLUMNS", 2)

    device = "cpu" if INTERPRETED else "cuda"
    arguments, starts = make_case(*sizes, torch.float32, pairs)
    arguments = [x.detach().to(device).requires_grad_() for x in arguments]
    check(op.triton_scan, arguments, starts.to(device), torch.float32)


def test_long_sequences_keep_their_memory():
    """A factor of 1 sums up, over 16,384 steps, what was given."""
    b = torch.from_numpy(np.random.default_rng(0).integers(-3, 4, (1, 16384, 2)).astype(np.float32))
    torch.testing.assert_close(scan(torch.ones_like(b), b, torch.zeros(1, 2)), b.cumsum(1), atol=0, rtol=0)
