"""Every core, in every variant, held to the one contract."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from torch.func import functional_call

from policies.cores import CORES, make_config, make_core
from tests.policies.cores.variants import INPUTS, MEMORYLESS, OUTPUTS, TIMELESS, VARIANTS, build, sequence

pytestmark = pytest.mark.parametrize("variant", VARIANTS)

# Adaptive solvers choose their steps for the whole batch, so they agree to their tolerances only.
TOLERANCE = {"neural-ode-adaptive": 2e-4, "ltc-adaptive": 2e-4}


def close(variant: str, a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=TOLERANCE.get(variant, 2e-6), rtol=TOLERANCE.get(variant, 1e-5))


def test_sizes(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(3, 4)
    outputs, state = core(inputs, None, elapsed, starts)
    assert outputs.shape == (3, 4, OUTPUTS)
    assert state.shape == (3, core.state_size)
    assert core.initial_state(3, inputs).shape == state.shape
    assert outputs.dtype == state.dtype == torch.float32


def test_a_sequence_equals_its_single_steps(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(4, 6)
    _, state = core(inputs)  # a state that something led to
    outputs, last = core(inputs, state, elapsed, starts)
    singles = []
    for t in range(6):
        output, state = core(inputs[:, t : t + 1], state, elapsed[:, t : t + 1], starts[:, t : t + 1])
        singles.append(output)
    close(variant, torch.cat(singles, dim=1), outputs)
    close(variant, state, last)


def test_a_row_of_the_output_map_scales_its_motor_output_and_no_other(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(3, 4)
    before, state = core(inputs, None, elapsed, starts)
    with torch.no_grad():
        for parameter in core.output_map():
            parameter[0].mul_(1.5)
    after, same = core(inputs, None, elapsed, starts)
    scaled = before.clone()
    scaled[..., 0] *= 1.5 if core.output_map() else 1.0
    close(variant, after, scaled)
    close(variant, same, state)


def test_a_start_is_a_fresh_state(variant):
    core = build(variant)
    inputs, elapsed, _ = sequence(3, 6)
    starts = torch.zeros(3, 6, dtype=torch.bool)
    starts[1, 4] = starts[2, 0] = True
    _, state = core(inputs)
    outputs, last = core(inputs, state, elapsed, starts)
    through, through_last = core(inputs[:1], state[:1], elapsed[:1])
    fresh, fresh_last = core(inputs[1:2, 4:], None, elapsed[1:2, 4:])
    whole, whole_last = core(inputs[2:], None, elapsed[2:])
    close(variant, outputs[:1], through)
    close(variant, last[:1], through_last)
    close(variant, outputs[1:2, 4:], fresh)
    close(variant, last[1:2], fresh_last)
    close(variant, outputs[2:], whole)
    close(variant, last[2:], whole_last)
    if variant not in MEMORYLESS:
        assert not torch.allclose(core(inputs, state, elapsed)[0][1, 4], outputs[1, 4])


def test_the_order_of_the_batch_does_not_matter(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(5, 6)
    _, state = core(inputs)
    order = torch.tensor([3, 0, 4, 2, 1])
    outputs, last = core(inputs, state, elapsed, starts)
    shuffled, shuffled_last = core(inputs[order], state[order], elapsed[order], starts[order])
    close(variant, shuffled, outputs[order])
    close(variant, shuffled_last, last[order])


def test_as_many_samples_as_units_do_not_confuse(variant):
    core = build(variant)
    for size in {7, OUTPUTS, INPUTS, min(core.state_size or 6, 19)}:
        inputs, elapsed, _ = sequence(size, 2)
        outputs, _ = core(inputs, None, elapsed)
        some = sorted({0, 1, size - 1})
        singles = [core(inputs[b : b + 1], None, elapsed[b : b + 1])[0] for b in some]
        close(variant, outputs[some], torch.cat(singles))


def test_gradients_flow_to_the_first_step_and_never_backwards_in_time(variant):
    core = build(variant)
    inputs, elapsed, _ = sequence(2, 4)
    inputs.requires_grad_()
    outputs, last = core(inputs, None, elapsed)
    (gradient,) = torch.autograd.grad(outputs[:, -1].sum(), inputs, retain_graph=True)
    assert (gradient[:, -1].abs().sum(dim=-1) > 0).all()
    if variant in MEMORYLESS:
        assert (gradient[:, :-1] == 0).all()
    else:
        assert (gradient[:, 0].abs().sum(dim=-1) > 0).all()
    (gradient,) = torch.autograd.grad(outputs[:, 1].sum(), inputs)
    assert (gradient[:, 2:] == 0).all()


def test_gradients_stop_at_a_start(variant):
    core = build(variant)
    inputs, elapsed, _ = sequence(2, 5)
    inputs.requires_grad_()
    starts = torch.zeros(2, 5, dtype=torch.bool)
    starts[0, 2] = True
    outputs, _ = core(inputs, None, elapsed, starts)
    (gradient,) = torch.autograd.grad(outputs[:, -1].sum(), inputs)
    # The steps that an adaptive solver chooses depend on all samples, if ever so little.
    assert gradient[0, :2].abs().max() <= (1e-6 if "adaptive" in variant else 0)
    assert variant in MEMORYLESS or (gradient[1, :2] != 0).any()


def test_gradients_reach_every_parameter(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(4, 6)
    core(inputs, None, elapsed, starts)[0].square().mean().backward()
    missing = [
        name
        for name, parameter in core.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not (parameter.grad != 0).any())
    ]
    assert not missing


def test_elapsed_left_out_is_one(variant):
    core = build(variant)
    inputs, elapsed, _ = sequence(3, 5)
    torch.testing.assert_close(core(inputs)[0], core(inputs, None, torch.ones(3, 5))[0], atol=0, rtol=0)
    late = elapsed.clone()
    late[1, 3] += 2.0
    # The steps that an adaptive solver chooses depend on all samples, if ever so little.
    difference = (core(inputs, None, late)[0] - core(inputs, None, elapsed)[0]).abs()
    changed = difference.amax(dim=-1) > (1e-4 if "adaptive" in variant else 0)
    assert not changed[[0, 2]].any() and not changed[1, :3].any()
    assert changed[1, 3] != (variant in TIMELESS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": torch.zeros(3, 4, INPUTS + 1)}, r"inputs must have shape \[B, T, F\]"),
        ({"inputs": torch.zeros(4, INPUTS)}, r"inputs must have shape"),
        ({"state": torch.zeros(3, 99999)}, r"state must have shape"),
        ({"elapsed": torch.ones(4, 3)}, r"elapsed must have shape \[B, T\] = \(3, 4\), got \(4, 3\)"),
        ({"elapsed": torch.zeros(3, 4)}, r"elapsed must be positive"),
        ({"elapsed": torch.full((3, 4), math.nan)}, r"elapsed must be positive"),
        ({"elapsed": torch.full((3, 4), math.inf)}, r"elapsed must be positive"),
        # More than 0 and finite as it is given, but not in the precision of the weights, or not once it is divided by.
        ({"elapsed": torch.full((3, 4), 1e-60, dtype=torch.float64)}, r"from 1e-30 to 1e\+30, got values from 1e-60"),
        ({"elapsed": torch.full((3, 4), 1e60, dtype=torch.float64)}, r"from 1e-30 to 1e\+30, got .* to 1e\+60"),
        ({"elapsed": torch.full((3, 4), 1e-38)}, r"from 1e-30 to 1e\+30, got values from 1e-38"),
        ({"starts": torch.zeros(3, 4)}, r"starts must be bool"),
        ({"starts": torch.zeros(3, dtype=torch.bool)}, r"starts must be bool"),
    ],
)
def test_bad_arguments_are_told(variant, change, message):
    core = build(variant)
    arguments = {"inputs": torch.zeros(3, 4, INPUTS), "state": None, "elapsed": None, "starts": None, **change}
    with pytest.raises(ValueError, match=message):
        core(**arguments)


def test_double_precision(variant):
    core = build(variant).double()
    inputs, elapsed, starts = sequence(3, 6)
    outputs, state = core(inputs.double(), None, elapsed.double(), starts)
    assert outputs.dtype == state.dtype == torch.float64
    single, _ = build(variant)(inputs, None, elapsed, starts)
    torch.testing.assert_close(outputs.float(), single, atol=TOLERANCE.get(variant, 1e-5), rtol=1e-4)


def test_mixed_precision_computes_in_single(variant):
    core = build(variant)
    inputs, elapsed, starts = sequence(3, 5)
    rough = inputs.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, state = core(rough, None, elapsed, starts)
    expected, expected_state = core(rough.float(), None, elapsed, starts)
    torch.testing.assert_close(outputs, expected, atol=0, rtol=0)
    torch.testing.assert_close(state, expected_state, atol=0, rtol=0)


def test_functional_call_sees_other_parameters(variant):
    core, other = build(variant), build(variant, seed=7)
    inputs, elapsed, starts = sequence(3, 5)
    parameters = dict(other.named_parameters())
    outputs, _ = functional_call(core, parameters, (inputs, None, elapsed, starts))
    torch.testing.assert_close(outputs, other(inputs, None, elapsed, starts)[0], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(outputs, core(inputs, None, elapsed, starts)[0])


def test_func_grad_equals_backward(variant):
    if "adaptive" in variant:
        pytest.skip("torchdiffeq's adaptive solvers do not go through torch.func")
    core = build(variant)
    inputs, elapsed, starts = sequence(3, 5)
    trained = {name: p for name, p in core.named_parameters() if p.requires_grad}

    def loss(parameters):
        return functional_call(core, parameters, (inputs, None, elapsed, starts))[0].square().mean()

    gradients = torch.func.grad(loss)({name: p.detach() for name, p in trained.items()})
    loss(trained).backward()
    for name, parameter in trained.items():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_the_seed_decides_and_the_global_generators_rest(variant):
    name, options = VARIANTS[variant]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, second, third = (make_core(name, INPUTS, OUTPUTS, options, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(torch.rand(4), expected, atol=0, rtol=0)
    for (key, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), key
    assert any(not torch.equal(a, c) for a, c in zip(first.parameters(), third.parameters(), strict=True))


def test_config_and_state_dict_rebuild_the_core(variant):
    name, _ = VARIANTS[variant]
    core = build(variant)
    values = json.loads(json.dumps(asdict(core.config)))
    again = make_core(name, INPUTS, OUTPUTS, values, seed=5)
    assert again.config == core.config == make_config(name, values)
    again.load_state_dict(core.state_dict())
    inputs, elapsed, starts = sequence(2, 5)
    torch.testing.assert_close(again(inputs, None, elapsed, starts), core(inputs, None, elapsed, starts))


def test_cost_is_told(variant):
    core = build(variant)
    cost = core.cost_per_step()
    assert cost.state_size == core.state_size
    assert cost.parameters == sum(p.numel() for p in core.parameters() if p.requires_grad)
    assert cost.synapses > 0 and cost.multiply_adds >= OUTPUTS


def test_the_variants_cover_the_registry(variant):
    assert {name for name, _ in VARIANTS.values()} == set(CORES)
