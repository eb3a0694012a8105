"""Liquid-S4: both forms against the equation in loops, and against each other over 16,384 steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from policies.cores.hippo import legs
from policies.cores.liquid_s4 import DIRECT_STEPS, LiquidS4, LiquidS4Config
from policies.cores.segments import cut_at_starts

INPUTS = 3


def build(form: str = "auto", seed: int = 0, **options) -> LiquidS4:
    config = {"model_size": 4, "states": 6, "layers": 2, "degree": 3, "form": form, **options}
    return LiquidS4(INPUTS, 2, LiquidS4Config(**config), seed=seed)


def case(batch: int, steps: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, steps, INPUTS, generator=generator), torch.rand(batch, steps, generator=generator) < 0.1


def by_hand(core: LiquidS4, inputs: np.ndarray, elapsed: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """One sample `[T, F]` by the equations, in complex numbers and loops."""
    h = inputs @ core.embed.weight.detach().numpy().T + core.embed.bias.detach().numpy()
    for block in core.blocks:
        p = {name: value.detach().numpy() for name, value in block.named_parameters()}
        u = torch.nn.functional.layer_norm(torch.from_numpy(h), h.shape[1:]).numpy()
        u = u * p["norm.weight"] + p["norm.bias"]
        a = -np.exp(p["log_decay"]) + 1j * p["frequency"]
        b, c = (p[name][..., 0] + 1j * p[name][..., 1] for name in "bc")
        x, history, y = np.zeros_like(a), [], np.zeros_like(u)
        for t in range(len(u)):
            if starts[t]:
                x, history = np.zeros_like(a), []
            step = np.exp(p["log_step"])[:, None] * elapsed[t]
            held = np.exp(step * a)
            drive = (held - 1) / a * b
            x = held * x + drive * u[t][:, None]
            history.append(u[t])
            y[t] = 2 * (c * x).sum(1).real
            for degree in range(2, core.config.degree + 1):
                if len(history) >= degree:
                    y[t] += 2 * (c * drive**degree).sum(1).real * np.prod(history[-degree:], axis=0)
        z = torch.nn.functional.gelu(torch.from_numpy(y + p["skip"] * u)).numpy()
        mixed = z @ p["mix.weight"].T + p["mix.bias"]
        left, gate = np.split(mixed, 2, axis=1)
        h = h + left / (1 + np.exp(-gate))
    return core.readout(core.norm(torch.from_numpy(h))).detach().numpy()


@pytest.mark.parametrize("form", ["convolution", "scan"])
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_both_forms_are_the_equation(form, degree):
    core = build(form, degree=degree).double()
    inputs, starts = case(2, 40)
    outputs, _ = core(inputs.double(), None, None, starts)
    for row in range(2):
        wanted = by_hand(core, inputs[row].double().numpy(), np.ones(40), starts[row].numpy())
        np.testing.assert_allclose(outputs[row].detach().numpy(), wanted, atol=1e-10)


def test_irregular_times_are_the_equation():
    core = build().double()
    inputs, starts = case(1, 30)
    elapsed = 10 ** np.random.default_rng(1).uniform(-2, 3, 30)
    outputs, _ = core(inputs.double(), None, torch.from_numpy(elapsed)[None], starts)
    wanted = by_hand(core, inputs[0].double().numpy(), elapsed, starts[0].numpy())
    np.testing.assert_allclose(outputs[0].detach().numpy(), wanted, atol=1e-10)


@pytest.mark.parametrize(("degree", "share"), [(2, 0.001), (3, 0.0)])
def test_the_forms_agree_in_single_precision_over_16384_steps(degree, share):
    options = {"model_size": 8, "states": 16, "degree": degree, "shortest_step": 1e-4}
    inputs, _ = case(1, 16384)
    starts = torch.rand(1, 16384, generator=torch.Generator().manual_seed(2)) < share
    found = []
    with torch.no_grad():
        for form in ("convolution", "scan"):
            core = build(form, **options)
            first = core(inputs[:, :50])[1]
            found.append(core(inputs, first, None, starts))
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-4, rtol=0)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-4 * float(found[1][1].abs().max()), rtol=0)


@pytest.mark.parametrize("steps", [7, DIRECT_STEPS + 3])
def test_gradients_are_those_of_the_loop_in_double_precision(steps):
    """Inputs, first state and every parameter, with starts, in both forms."""
    inputs, starts = case(3, steps)
    found: dict[str, list[torch.Tensor]] = {}
    for name, form, kernel, dtype in (
        ("truth", "scan", "reference", torch.float64),
        ("convolution", "convolution", "auto", torch.float32),
        ("scan", "scan", "auto", torch.float32),
    ):
        core = build(form, kernel=kernel).to(dtype)
        x = inputs.to(dtype).requires_grad_()
        state = torch.linspace(-1, 1, 3 * core.state_size, dtype=dtype).view(3, -1).requires_grad_()
        outputs, last = core(x, state, None, starts)
        loss = outputs.square().mean() + last.square().mean()
        found[name] = [g.double() for g in torch.autograd.grad(loss, [x, state, *core.parameters()])]
    for form in ("convolution", "scan"):
        for got, wanted in zip(found[form], found["truth"], strict=True):
            assert (got - wanted).abs().max() <= 2e-5 * max(float(wanted.abs().max()), 1e-2), form


def test_pieces_of_a_sequence_in_either_form_are_the_whole():
    inputs, starts = case(2, 60)
    for forms in (("convolution", "scan"), ("scan", "convolution")):
        state, pieces = None, []
        for form, part in zip(forms, (slice(0, 23), slice(23, 60)), strict=True):
            outputs, state = build(form)(inputs[:, part], state, None, starts[:, part])
            pieces.append(outputs)
        whole, last = build("auto")(inputs, None, None, starts)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(state, last, atol=1e-5, rtol=1e-4)


def test_a_convolution_that_was_asked_for_refuses_late_frames():
    with pytest.raises(ValueError, match="on time"):
        build("convolution")(torch.zeros(1, 3, INPUTS), None, torch.full((1, 3), 1.5))


def test_the_liquid_term_is_there():
    inputs, _ = case(1, 12)
    core = build(degree=2)
    plain = build(degree=1)
    plain.load_state_dict(core.state_dict())
    assert (core(inputs)[0] - plain(inputs)[0]).abs().max() > 1e-3
    assert (core(inputs)[0] - plain(inputs)[0])[:, 0].abs().max() < 1e-6  # the first input has none before it


def test_hippo_is_the_matrix_it_comes_from():
    values, drive = legs(8)
    n = np.arange(16)
    root = np.sqrt(2 * n + 1)
    normal = np.where(n[:, None] > n, -0.5, 0.5) * np.outer(root, root)
    np.fill_diagonal(normal, -0.5)
    found = np.sort_complex(np.concatenate((values, values.conj())))
    np.testing.assert_allclose(found.imag, np.sort(np.linalg.eigvals(normal).imag), atol=1e-8)
    np.testing.assert_allclose(values.real, -0.5)
    np.testing.assert_allclose(2 * np.square(np.abs(drive)).sum(), np.square(root).sum())


def test_stretches_lie_in_rows_of_their_own():
    starts = torch.tensor([[False, False, True, False], [True, True, False, False]])
    cut = cut_at_starts(starts)
    assert cut.lengths.tolist() == [2, 2, 1, 3] and cut.first.tolist() == [0, 2] and cut.last.tolist() == [1, 3]
    x = torch.arange(1.0, 9.0).view(2, 4, 1)
    rows = cut.lay_out(x)
    assert rows[..., 0].tolist() == [[1, 2, 0], [3, 4, 0], [5, 0, 0], [6, 7, 8]]
    assert torch.equal(cut.take_back(rows), x)
