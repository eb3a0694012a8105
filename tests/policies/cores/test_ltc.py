"""The LTC core: the reference package's numbers, the paper's theorems, the solvers' orders, and its quick ways."""

from __future__ import annotations

import copy
import io
import json
import sys
from dataclasses import asdict

import ncps.torch
import ncps.wirings
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from policies.cores import make_core
from policies.cores.from_ncps import ltc_from_ncps
from policies.cores.ltc import LTC, LTCConfig, inverse_softplus
from policies.kernels.ltc import reference
from policies.wiring.wiring import Wiring

SMALL = Wiring.auto_ncp(12, 2, 5)


def sequence(batch: int, steps: int, inputs: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw inputs, state for 12 neurons, elapsed and starts."""
    rng = torch.Generator().manual_seed(seed)
    elapsed = torch.rand(batch, steps, generator=rng) + 0.5
    starts = torch.rand(batch, steps, generator=rng) < 0.2
    return torch.randn(batch, steps, inputs, generator=rng), torch.rand(batch, 12, generator=rng) - 0.5, elapsed, starts


# ---------------------------------------------------------------------- the reference package


def peer_wiring(kind: str, seed: int) -> ncps.wirings.Wiring:
    if kind == "ncp":
        return ncps.wirings.NCP(9, 6, 2, 4, 3, 5, 4, seed=seed)
    if kind == "auto":
        return ncps.wirings.AutoNCP(19, 1, seed=seed)
    if kind == "dense":
        return ncps.wirings.FullyConnected(7, 3, erev_init_seed=seed)
    return ncps.wirings.Random(8, 2, sparsity_level=0.6, random_seed=seed)


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("kind", ["ncp", "auto", "dense", "random"])
def test_outputs_and_gradients_are_the_peers(kind: str, softplus: bool, kernel: str) -> None:
    torch.manual_seed(3)
    peer = ncps.torch.LTC(6, peer_wiring(kind, seed=5), implicit_param_constraints=softplus)
    with torch.no_grad():
        for name in ("input_w", "input_b", "output_w", "output_b"):
            getattr(peer.rnn_cell, name).add_(0.2 * torch.randn_like(getattr(peer.rnn_cell, name)))
    core = ltc_from_ncps(peer, kernel=kernel)
    inputs, weights = torch.randn(3, 8, 6), torch.randn(3, 8, core.output_size)
    want, last = peer(inputs)
    outputs, state = core(inputs)
    torch.testing.assert_close(outputs, want, atol=1e-6, rtol=0)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=0)
    (want * weights).sum().backward()
    (outputs * weights).sum().backward()
    sensory, recurrent = torch.tensor(core.wiring.sensory), torch.tensor(core.wiring.recurrent)
    for name, parameter in core.named_parameters():
        plain = name.removeprefix("raw_")
        gradient = getattr(peer.rnn_cell, plain).grad
        if gradient.ndim == 2:
            array = sensory if plain.startswith("sensory") else recurrent
            gradient = gradient[array[:, 0], array[:, 1]]
        if plain != name and not softplus:  # The peer's raw values are the conductances themselves.
            gradient = gradient * torch.sigmoid(parameter.detach())
        scale = float(gradient.abs().max())
        torch.testing.assert_close(parameter.grad, gradient, atol=2e-5 * scale + 1e-7, rtol=0, msg=name)


def test_elapsed_is_the_peers_where_it_has_no_fault() -> None:
    """The peer divides `[B]` times into `[N]` neurons; with one sample that is right."""
    peer = ncps.torch.LTC(5, ncps.wirings.AutoNCP(9, 1))
    inputs, _, elapsed, _ = sequence(1, 6)
    torch.testing.assert_close(ltc_from_ncps(peer)(inputs, None, elapsed)[0], peer(inputs, timespans=elapsed)[0])


def test_cell_and_zero_conductances_of_the_peer() -> None:
    cell = ncps.torch.LTCCell(ncps.wirings.AutoNCP(9, 1), 5, input_mapping="linear", output_mapping=None, ode_unfolds=3)
    with torch.no_grad():
        cell.w.mul_(2).sub_(1)
    with pytest.raises(ValueError, match=r"w of the ncps cell has negative values; call apply_weight_constraints\(\)"):
        ltc_from_ncps(cell)
    cell.apply_weight_constraints()
    core = ltc_from_ncps(cell)
    assert (core.config.substeps, core.config.input_mapping, core.config.output_mapping) == (3, "linear", "none")
    inputs = torch.randn(4, 1, 5)
    want, last = cell(inputs[:, 0], torch.zeros(4, 9))
    torch.testing.assert_close(core(inputs)[0][:, 0], want, atol=1e-6, rtol=0)
    torch.testing.assert_close(core(inputs)[1], last, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (lambda: ncps.torch.LTC(5, 7, mixed_memory=True), "mixed memory"),
        (lambda: ncps.torch.LTC(5, 7, epsilon=1e-5), "epsilon = 1e-05"),
        (lambda: torch.nn.Linear(2, 2), "expected an ncps.torch.LTC or LTCCell, got Linear"),
    ],
)
def test_what_cannot_be_taken_over_is_refused(module, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ltc_from_ncps(module())


# ---------------------------------------------------------------------- the maths


def exact_and_error(core: LTC, drive_seed: int, substeps: int, solver: str, truth: Tensor) -> float:
    wiring, config = core.wiring, LTCConfig(solver=solver, substeps=substeps)
    other = LTC(wiring, config).double()
    other.load_state_dict(core.state_dict())
    inputs, state, elapsed, _ = (x.double() if x.is_floating_point() else x for x in sequence(2, 2, seed=drive_seed))
    return float((other(inputs, state, elapsed)[1] - truth).abs().max())


@pytest.fixture(scope="module")
def exact() -> tuple[LTC, Tensor]:
    """A core and the state to which an adaptive solver with small tolerances comes."""
    core = LTC(SMALL, LTCConfig(solver="adaptive", rtol=1e-10, atol=1e-12), seed=1).double()
    inputs, state, elapsed, _ = (x.double() if x.is_floating_point() else x for x in sequence(2, 2, seed=2))
    with torch.no_grad():
        return core, core(inputs, state, elapsed)[1]


@pytest.mark.parametrize(("solver", "order", "steps"), [("fused", 1, 64), ("euler", 1, 64), ("rk4", 4, 24)])
def test_order_of_convergence(exact: tuple[LTC, Tensor], solver: str, order: int, steps: int) -> None:
    core, truth = exact
    with torch.no_grad():
        errors = [exact_and_error(core, 2, steps * factor, solver, truth) for factor in (1, 2, 4)]
    observed = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(np.abs(observed - order) < 0.25), (errors, observed)


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
@settings(max_examples=40, deadline=None)
@given(
    scale=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    seed=st.integers(0, 10_000),
    elapsed=st.sampled_from([1e-3, 1.0, 50.0]),
    spread=st.sampled_from([1.0, 5.0]),
)
def test_voltages_and_time_constants_are_bounded(kernel, scale, seed, elapsed, spread) -> None:
    """Theorems 1 and 2 of Hasani et al. 2021, for any circuit, any input, any frame time."""
    rng = torch.Generator().manual_seed(seed)
    core = LTC(SMALL, LTCConfig(kernel=kernel), seed=rng)
    with torch.no_grad():
        for parameter in core.parameters():
            parameter.mul_(spread * torch.rand(parameter.shape, generator=rng))
        circuit = core.circuit()
        inputs = scale * (2 * torch.rand(3, 5, 5, generator=rng) - 1)
        low, high = torch.zeros(12), torch.zeros(12)
        for target, erev in ((circuit.sensory_target, circuit.sensory_erev), (circuit.target, circuit.erev)):
            low = low.scatter_reduce(0, target, erev, "amin")
            high = high.scatter_reduce(0, target, erev, "amax")
        low, high = torch.minimum(low, circuit.vleak), torch.maximum(high, circuit.vleak)
        state = low + (high - low) * torch.rand(3, 12, generator=rng)
        voltages = core.voltages(inputs, state, torch.full((3, 5), elapsed))
        slack = 1e-5 * spread
        assert bool((voltages >= low - slack).all() and (voltages <= high + slack).all())
        tau = core.time_constants(inputs, voltages)
        total = circuit.gleak.index_add(0, circuit.sensory_target, circuit.sensory_w)
        total = total.index_add(0, circuit.target, circuit.w)
        assert bool((tau <= circuit.cm / circuit.gleak * (1 + 1e-5)).all())
        assert bool((tau >= circuit.cm / total * (1 - 1e-5)).all())


def test_currents_add_up_to_the_derivative() -> None:
    core = LTC(SMALL).double()
    inputs, state, _, _ = sequence(4, 1)
    inputs, state = inputs[:, 0].double(), state.double()
    with torch.no_grad():
        core.input_w.mul_(1.5)
        sensory, recurrent = core.synaptic_currents(inputs, state)
        circuit = core.circuit()
        total = (circuit.gleak * (circuit.vleak - state)).index_add(1, circuit.sensory_target, sensory)
        total = total.index_add(1, circuit.target, recurrent)
        derivative = circuit.derivative(state, circuit.sensory_drive(1.5 * inputs))
        torch.testing.assert_close(total / circuit.cm, derivative)


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
def test_times_belong_to_samples(kernel: str) -> None:
    """As many samples as neurons, each with its own times: the same as one after the other."""
    core = LTC(SMALL, LTCConfig(kernel=kernel))
    inputs, state, elapsed, starts = sequence(12, 4)
    outputs, last = core(inputs, state, elapsed, starts)
    for b in range(12):
        one = slice(b, b + 1)
        alone, alone_last = core(inputs[one], state[one], elapsed[one], starts[one])
        torch.testing.assert_close(alone, outputs[one], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone_last, last[one], atol=1e-6, rtol=0)


def test_adaptive_solver_names_its_extra(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"pip install -e '\.\[ode\]' in a checkout, or choose solver='fused'"
    ):
        LTC(SMALL, LTCConfig(solver="adaptive"))(torch.zeros(1, 1, 5))


# ---------------------------------------------------------------------- parameters


def test_parameters_start_in_their_ranges_and_come_from_the_seed() -> None:
    before = torch.random.get_rng_state()
    core = LTC(Wiring.fully_connected(40, 1, 40))
    assert torch.equal(torch.random.get_rng_state(), before)
    config, circuit = core.config, core.circuit()
    for name in ("gleak", "vleak", "cm", "w", "sigma", "mu", "sensory_w", "sensory_sigma", "sensory_mu"):
        low, high = getattr(config, f"{name.removeprefix('sensory_')}_init")
        values = getattr(circuit, name).detach()
        assert low - 1e-5 <= values.min() and values.max() <= high + 1e-5
        assert values.max() - values.min() > 0.8 * (high - low)
    assert torch.equal(core.erev.detach(), torch.tensor(core.wiring.recurrent_array[:, 2]).float())
    again, other = LTC(core.wiring), LTC(core.wiring, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(core.parameters(), again.parameters(), strict=True))
    assert not torch.equal(core.raw_w, other.raw_w)


def test_parameters_are_counted_per_synapse() -> None:
    core = LTC(Wiring.published_driver())
    circuit = sum(p.numel() for name, p in core.named_parameters() if not name.startswith(("input_", "output_")))
    assert circuit == 4 * 253 + 3 * 19
    assert sum(p.numel() for p in core.parameters()) == circuit + 2 * 32 + 2
    assert core.cost_per_step().synapses == 253 and core.state_size == 19
    heard = len(core.wiring.sensory)
    for solver, evaluations in (("fused", 1), ("euler", 1), ("rk4", 4)):
        steps = LTC(core.wiring, LTCConfig(solver=solver, substeps=5)).cost_per_step()
        assert steps.multiply_adds == 4 * (heard + 5 * evaluations * (253 - heard)), "four a synapse and evaluation"


def test_inverse_softplus() -> None:
    values = torch.tensor([1e-6, 1e-3, 0.5, 1.0, 30.0, 1e4])
    torch.testing.assert_close(torch.nn.functional.softplus(inverse_softplus(values)), values, rtol=2e-6, atol=0)
    assert inverse_softplus(torch.zeros(1)).isfinite()


def test_registry_and_config_round_trip() -> None:
    for options in ({}, {"wiring": "random", "units": 9}, {"wiring": SMALL.to_json(), "w_init": [0.1, 0.2]}):
        inputs, outputs = (5, 2) if isinstance(options.get("wiring"), dict) else (4, 1)
        core = make_core("ltc", inputs, outputs, options, seed=3)
        again = make_core("ltc", inputs, outputs, json.loads(json.dumps(asdict(core.config))), seed=3)
        assert core.wiring == again.wiring and core.config == again.config
        assert all(torch.equal(a, b) for a, b in zip(core.parameters(), again.parameters(), strict=True))
    assert make_core("ltc", 32, 1, {"wiring": "published_driver"}).wiring == Wiring.published_driver()
    with pytest.raises(ValueError, match="the wiring has 5 inputs and 2 outputs, needed are 4 and 2"):
        make_core("ltc", 4, 2, {"wiring": SMALL.to_json()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wiring": "worm"}, "wiring must be one of ncp, fully_connected, random, published_driver, or .* got 'worm'"),
        ({"solver": "heun"}, "solver\n.*'fused', 'euler', 'rk4' or 'adaptive'.*'heun'"),
        ({"kernel": "gpu"}, "kernel must be one of auto"),
        ({"solver": "rk4", "kernel": "cpu"}, "kernel 'cpu' runs the fused solver only"),
        ({"substeps": 0}, "substeps\n.*greater than or equal to 1"),
        ({"input_mapping": "quadratic"}, "input_mapping\n.*'affine', 'linear' or 'none'"),
        ({"cm_init": (0.0, 1.0)}, "cm_init.0\n.*greater than 0"),
        ({"mu_init": (1.0, 0.0)}, "mu_init must be a range"),
        ({"rtol": 0.0}, "rtol\n.*greater than 0"),
    ],
)
def test_impossible_configs_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LTCConfig(**options)


# ---------------------------------------------------------------------- the quick ways through


@pytest.mark.parametrize("maps", [("affine", "affine"), ("linear", "none"), ("none", "linear"), ("none", "none")])
def test_training_on_the_cpu_kernel_is_training_on_the_reference(maps: tuple[str, str]) -> None:
    options = {"input_mapping": maps[0], "output_mapping": maps[1]}
    inputs, state, elapsed, starts = sequence(18, 11)
    rng = torch.Generator().manual_seed(4)
    weights, last_weights = torch.randn(18, 11, 2, generator=rng), torch.randn(18, 12, generator=rng)
    found = {}
    for kernel in ("reference", "cpu"):
        core = LTC(SMALL, LTCConfig(kernel=kernel, **options), seed=2)
        with torch.no_grad():
            for parameter in core.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        leaves = [x.clone().requires_grad_() for x in (inputs, state, elapsed)]
        outputs, last = core(*leaves, starts)
        ((outputs * weights).sum() + (last * last_weights).sum()).backward()
        found[kernel] = [outputs, last, *(x.grad for x in (*leaves, *core.parameters()))]
    for first, second in zip(found["reference"], found["cpu"], strict=True):
        scale = float(first.detach().abs().max())
        torch.testing.assert_close(second, first, atol=1e-5 * scale + 1e-6, rtol=0)


def test_one_loss_of_two() -> None:
    """Only the outputs or only the last state in the loss: the other gradient is absent, not garbage."""
    core, other = (LTC(SMALL, LTCConfig(kernel=kernel)) for kernel in ("cpu", "reference"))
    inputs, state, elapsed, starts = sequence(3, 5)
    for which in (0, 1):
        for model in (core, other):
            model.zero_grad()
            model(inputs, state, elapsed, starts)[which].square().sum().backward()
        for (name, a), b in zip(core.named_parameters(), other.parameters(), strict=True):
            expected = torch.zeros_like(b) if b.grad is None else b.grad
            got = torch.zeros_like(a) if a.grad is None else a.grad
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4, msg=f"{name} of loss {which}")


@pytest.mark.parametrize("maps", ["affine", "none"])
def test_inference_is_training_without_gradients(maps: str) -> None:
    core = LTC(SMALL, LTCConfig(kernel="cpu", input_mapping=maps, output_mapping=maps))
    inputs, state, elapsed, starts = sequence(37, 6)
    for arguments in ((), (state,), (state, elapsed), (state, elapsed, starts), (None, None, starts)):
        want = core(inputs, *arguments)
        with torch.no_grad():
            got = core(inputs, *arguments)
        assert core._inference is not None and core._inference._pointers is not None
        for first, second in zip(got, want, strict=True):
            torch.testing.assert_close(first, second.detach(), atol=2e-7, rtol=0)


def test_inference_checks_like_training() -> None:
    core = LTC(SMALL)
    inputs, state, elapsed, starts = sequence(3, 4)
    for arguments, message in (
        ((inputs[..., :4],), r"F = 5 and T >= 1, got \(3, 4, 4\)"),
        ((inputs[0],), r"got \(4, 5\)"),
        ((inputs, state[:2]), r"state must have shape \[B, S\] = \(3, 12\), got \(2, 12\)"),
        ((inputs, state, elapsed.T), r"elapsed must have shape"),
        ((inputs, state, -elapsed), "elapsed must be positive"),
        ((inputs, state, elapsed * torch.nan), "elapsed must be positive"),
        ((inputs, state, elapsed, starts.float()), "starts must be bool"),
    ):
        with torch.no_grad(), pytest.raises(ValueError, match=message):
            core(*arguments)


def change_in_place(core: LTC) -> None:
    with torch.no_grad():
        core.raw_w.add_(0.5)


def change_behind_the_version_counter(core: LTC) -> None:
    core.raw_w.data.add_(0.5)


def change_storage(core: LTC) -> None:
    core.raw_w.data = core.raw_w.data + 0.5


def change_parameter(core: LTC) -> None:
    core.raw_w = torch.nn.Parameter(core.raw_w.detach() + 0.5)


def change_by_loading(core: LTC) -> None:
    core.load_state_dict({name: x + 0.5 * (name == "raw_w") for name, x in core.state_dict().items()})


def change_by_training(core: LTC) -> None:
    optimizer = torch.optim.SGD([core.raw_w], lr=1.0)
    with torch.enable_grad():
        (core.raw_w * -0.5).sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    "change",
    [
        change_in_place,
        change_behind_the_version_counter,
        change_storage,
        change_parameter,
        change_by_loading,
        change_by_training,
    ],
)
def test_inference_sees_every_change(change) -> None:
    inputs, state, _, _ = sequence(3, 4)
    core, other = LTC(SMALL), LTC(SMALL, LTCConfig(kernel="reference"))
    with torch.no_grad():
        before = core(inputs, state)[0]
        other.raw_w.add_(0.5)
        want = other(inputs, state)[0]
    change(core)
    with torch.no_grad():
        torch.testing.assert_close(core(inputs, state)[0], want, atol=1e-6, rtol=0)
    assert (before - want).abs().max() > 1e-3


def test_inference_of_copies_and_substitutes() -> None:
    inputs, state, _, _ = sequence(3, 4)
    core = LTC(SMALL)
    with torch.no_grad():
        before = core(inputs, state)[0]
        twin = copy.deepcopy(core)
        buffer = io.BytesIO()
        torch.save(core, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        twin.raw_w.add_(0.5)
        loaded.raw_w.add_(0.5)
        after = twin(inputs, state)[0]
        assert torch.equal(core(inputs, state)[0], before) and not torch.equal(after, before)
        assert torch.equal(loaded(inputs, state)[0], after)
        parameters = {**dict(core.named_parameters()), "raw_w": core.raw_w + 0.5}
        assert torch.equal(torch.func.functional_call(core, parameters, (inputs, state))[0], after)
        assert torch.equal(core(inputs, state)[0], before)
        double = core.double()(inputs.double(), state.double())[0]
        torch.testing.assert_close(double.float(), before, atol=1e-6, rtol=0)
        torch.testing.assert_close(core.float()(inputs, state)[0], before, atol=1e-6, rtol=0)
        assert core(inputs.requires_grad_(), state)[0].requires_grad is False


def test_the_route_is_chosen_once_and_says_why() -> None:
    inputs = torch.zeros(2, 3, 5)
    core = LTC(SMALL)
    assert core.choose_route(inputs) == ("training", "gradients are on")
    with torch.no_grad():
        assert core.choose_route(inputs) == ("inference", "gradients are off")
        assert core.choose_route(inputs[:0])[0] == "op"
        assert LTC(SMALL, LTCConfig(solver="rk4")).choose_route(inputs) == ("op", "the CPU kernel has no rk4 solver")
        assert (
            LTC(SMALL, LTCConfig(kernel="reference")).choose_route(inputs)[1]
            == "the CPU kernel is not wanted or not there"
        )
        assert core.double().choose_route(inputs.double()) == (
            "op",
            "a parameter is no plain float32 tensor on the CPU",
        )
    assert core.float().choose_route(inputs.bfloat16())[0] == "training"
    assert core.choose_route(inputs.to("meta"))[0] == "op"


def test_parametrised_cores_work() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    core = LTC(SMALL)
    inputs, state, _, _ = sequence(3, 4)
    other = copy.deepcopy(core)
    with torch.no_grad():
        other.mu.mul_(2)
    torch.nn.utils.parametrize.register_parametrization(core, "mu", Twice())
    torch.testing.assert_close(core(inputs, state)[0], other(inputs, state)[0])
    with torch.no_grad():
        torch.testing.assert_close(core(inputs, state)[0], other(inputs, state)[0])


# ---------------------------------------------------------------------- torch's machinery


def test_function_transforms() -> None:
    core = LTC(SMALL, LTCConfig(kernel="cpu"))
    inputs, state, elapsed, starts = sequence(3, 4)
    parameters = dict(core.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(core, parameters, (inputs, state, elapsed, starts))[0].square().sum()

    gradients = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in core.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_compiled_core_is_one_graph() -> None:
    core = LTC(SMALL, LTCConfig(kernel="cpu"))
    inputs, state, elapsed, starts = sequence(3, 4)
    torch.compiler.reset()
    compiled = torch.compile(core, backend="aot_eager", fullgraph=True)
    want, last = core(inputs, state, elapsed, starts)
    got, got_last = compiled(inputs, state, elapsed, starts)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=0)
    torch.testing.assert_close(got_last, last, atol=1e-6, rtol=0)
    gradients = []
    for outputs in (want, got):
        core.zero_grad()
        outputs.square().sum().backward()
        gradients.append([p.grad.clone() for p in core.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(inputs, state, elapsed, starts)[0], want, atol=1e-6, rtol=0)


def test_mixed_precision_computes_in_float32() -> None:
    core = LTC(SMALL)
    inputs, state, elapsed, starts = sequence(3, 4)
    rough = inputs.bfloat16()
    want, _ = core(rough.float(), state, elapsed, starts)
    for context in (torch.no_grad(), torch.enable_grad()):
        with context, torch.autocast("cpu", dtype=torch.bfloat16):
            outputs, last = core(rough, state, elapsed, starts)
        assert outputs.dtype == last.dtype == torch.float32
        torch.testing.assert_close(outputs, want, atol=1e-6, rtol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        core(rough, state, elapsed, starts)[0].sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in core.parameters())


def test_double_precision_takes_the_reference() -> None:
    core = LTC(SMALL).double()
    inputs, state, elapsed, starts = (x.double() if x.is_floating_point() else x for x in sequence(2, 3))
    outputs, _ = core(inputs, state, elapsed, starts)
    mapped = inputs * core.input_w + core.input_b
    want = reference.ltc_sequence(mapped, state, elapsed, starts, core.circuit(), 6)
    assert torch.equal(outputs, want[..., :2] * core.output_w + core.output_b)


def test_saved_core_has_weights_only() -> None:
    core = LTC(SMALL)
    assert set(core.state_dict()) == {name for name, _ in core.named_parameters()}
    assert sum(p.numel() for p in core.parameters()) == 3 * 12 + 4 * SMALL.synapse_count + 2 * 5 + 2 * 2


def test_every_synapse_shortens_the_time_constant_of_its_neuron() -> None:
    """It is cm / (gleak + Σ a), each a from the current a · (erev − v) that the synapse sends."""
    rng = torch.Generator().manual_seed(3)
    core = LTC(SMALL).double()
    inputs, voltages = torch.randn(5, generator=rng).double(), torch.rand(12, generator=rng).double()
    with torch.no_grad():
        circuit = core.circuit()
        sensory, recurrent = core.synaptic_currents(inputs, voltages)
        total = circuit.gleak.index_add(
            0, circuit.sensory_target, sensory / (circuit.sensory_erev - voltages[circuit.sensory_target])
        )
        total = total.index_add(0, circuit.target, recurrent / (circuit.erev - voltages[circuit.target]))
        torch.testing.assert_close(core.time_constants(inputs, voltages), circuit.cm / total)
