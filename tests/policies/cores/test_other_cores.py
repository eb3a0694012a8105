"""What each of the other cores promises beyond the contract: its equation, its solver's order, its window."""

from __future__ import annotations

import math

import pytest
import torch

from policies.cores import CORES, make_config, make_core
from policies.cores.ctrnn import CTRNN, CTRNNConfig, largest_eigenvalue
from policies.cores.feedforward import FeedForward, FeedForwardConfig
from policies.cores.gated import GRU, LSTM, LSTMConfig
from policies.cores.lrc import LRC, LRCConfig
from policies.cores.neural_ode import NeuralODE, NeuralODEConfig
from policies.cores.reservoir import Reservoir
from policies.cores.segments import split_at_starts, start_columns
from policies.cores.transformer import Transformer, TransformerConfig
from policies.wiring.wiring import Wiring

INPUTS = 5


def inputs_and_elapsed(batch_size: int = 3, steps: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(batch_size, steps, INPUTS, generator=generator, dtype=torch.float64)
    return inputs, 0.5 + torch.rand(batch_size, steps, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------- registry


def test_an_unknown_core_or_option_is_told():
    with pytest.raises(ValueError, match="core must be one of cfc, ctrnn, .*; got 'rnn'"):
        make_core("rnn", INPUTS, 1)
    with pytest.raises(ValueError, match=r"core os:path has not been imported, .*import_core\('os:path'\) first"):
        make_core("os:path", INPUTS, 1)
    with pytest.raises(ValueError, match="core 'lstm' has no option 'units'. It has: hidden_size, elapsed_input"):
        make_core("lstm", INPUTS, 1, {"units": 3})
    with pytest.raises(ValueError, match="core 'gru' takes a GRUConfig or a mapping, got LSTMConfig"):
        make_core("gru", INPUTS, 1, LSTMConfig())


def test_every_config_documents_each_of_its_fields():
    import ast
    import inspect

    for name, spec in CORES.items():
        (body,) = ast.parse(inspect.getsource(spec.config)).body
        assert isinstance(body, ast.ClassDef)
        for field, doc in zip(body.body[1:], body.body[2:], strict=False):
            if isinstance(field, ast.AnnAssign):
                assert isinstance(doc, ast.Expr), f"{name}: {ast.unparse(field.target)} has no docstring"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {"hidden_size": 0}),
        ("gru", {"hidden_size": -1}),
        ("feedforward", {"hidden_layers": -1}),
        ("feedforward", {"activation": "step"}),
        ("ctrnn", {"tau_init": 0.0}),
        ("ctrnn", {"substeps": 0}),
        ("neural_ode", {"layers": 1}),
        ("neural_ode", {"solver": "magic"}),
        ("neural_ode", {"rtol": 0.0}),
        ("lrc", {"elastance": "odd"}),
        ("lrc", {"wiring": "spaghetti"}),
        ("reservoir", {"core": "reservoir"}),
        ("reservoir", {"features": 0}),
        ("transformer", {"window": 1}),
        ("transformer", {"model_size": 30}),
    ],
)
def test_bad_options_are_told(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        make_config(name, options)


@pytest.mark.parametrize("name", ["cfc", "lrc", "lstm", "transformer"])
def test_an_exported_step_holds_no_op_of_ours(name):
    core = make_core(name, INPUTS, 1).eval()
    inputs = torch.randn(1, 1, INPUTS)
    state = core.initial_state(1, inputs)
    program = torch.export.export(core, (inputs, state, torch.ones(1, 1)), strict=False)
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert targets and not [target for target in targets if "wormwheel" in target]
    torch.testing.assert_close(program.module()(inputs, state, torch.ones(1, 1)), core(inputs, state))


# ---------------------------------------------------------------- LSTM, GRU, feed-forward


@pytest.mark.parametrize(("kind", "peer", "states"), [(LSTM, torch.nn.LSTM, 2), (GRU, torch.nn.GRU, 1)])
def test_lstm_and_gru_are_torchs(kind, peer, states):
    inputs, _ = inputs_and_elapsed()
    core = kind(INPUTS, 2, make_config(kind.__name__.lower(), {"hidden_size": 7, "elapsed_input": False})).double()
    layer = peer(INPUTS, 7, batch_first=True).double()
    layer.load_state_dict({f"{name}_l0": p for name, p in core.named_parameters() if not name.startswith("readout")})
    state = torch.randn(3, 7 * states, dtype=torch.float64)
    outputs, last = core(inputs, state)
    packed = tuple(part[None].contiguous() for part in state.split(7, dim=1))
    hidden, peer_last = layer(inputs, packed if states == 2 else packed[0])
    torch.testing.assert_close(outputs, core.readout(hidden))
    torch.testing.assert_close(last, torch.cat(peer_last if states == 2 else (peer_last,), dim=2)[0])


def test_the_elapsed_feature_starts_without_effect_and_can_learn():
    inputs, elapsed = inputs_and_elapsed()
    for kind in (LSTM, GRU, FeedForward):
        core = kind(INPUTS, 1).double()
        torch.testing.assert_close(core(inputs, None, elapsed)[0], core(inputs)[0], atol=0, rtol=0)
        core(inputs, None, elapsed)[0].square().sum().backward()
        weight = next(core.parameters())
        assert (weight.grad[:, -1] != 0).any()


def test_the_feed_forward_core_is_its_layers():
    inputs, _ = inputs_and_elapsed()
    core = FeedForward(INPUTS, 2, FeedForwardConfig(hidden_size=4, elapsed_input=False)).double()
    first, _, second = core.layers
    torch.testing.assert_close(core(inputs)[0], second(torch.relu(first(inputs))))
    linear = FeedForward(INPUTS, 2, FeedForwardConfig(hidden_layers=0))
    assert linear.cost_per_step().multiply_adds == 2 * (INPUTS + 1)


def test_stretches_between_starts_are_laid_out_longest_first():
    starts = torch.tensor([[False, False, True, False], [True, False, False, False], [False, True, True, False]])
    cut = split_at_starts(starts)
    # Lengths by sample: 2 + 2, 4, 1 + 1 + 2; the step numbers are 0 to 11.
    assert cut.batch_sizes.tolist() == [6, 4, 1, 1]
    assert cut.order.tolist() == [4, 0, 2, 10, 8, 9, 5, 1, 3, 11, 6, 7]
    assert cut.order[cut.place].tolist() == list(range(12))
    assert cut.first.tolist() == [1, 0, 4] and cut.last.tolist() == [2, 0, 3]
    assert start_columns(starts) == [0, 1, 2, 4]


@pytest.mark.parametrize("with_starts", [False, True])
@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_compiled_training_is_training(kind, with_starts):
    """Torch's compiler has no gradient for the library call behind an LSTM on a CPU: there the graph breaks."""
    torch.compiler.reset()
    core = kind(INPUTS, 1)
    inputs = torch.randn(3, 6, INPUTS, generator=torch.Generator().manual_seed(0))
    starts = torch.arange(18).reshape(3, 6) % 5 == 3 if with_starts else None
    results = []
    for run in (core, torch.compile(core, backend="aot_eager")):
        core.zero_grad()
        outputs, _ = run(inputs, None, None, starts)
        outputs.square().sum().backward()
        results.append((outputs, *(p.grad.clone() for p in core.parameters())))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


# ---------------------------------------------------------------- CT-RNN


def test_ctrnn_is_its_equation():
    inputs, elapsed = inputs_and_elapsed()
    core = CTRNN(INPUTS, 2, CTRNNConfig(units=4, substeps=3, tau_init=0.7)).double()
    w, b = core.inputs_to_units.weight, core.inputs_to_units.bias
    h = torch.zeros(3, 4, dtype=torch.float64)
    for t in range(inputs.shape[1]):
        for _ in range(3):
            target = torch.tanh(inputs[:, t] @ w.T + h @ core.recurrent.T + b)
            h = h + elapsed[:, t, None] / 3 / core.tau * (target - h)
    outputs, state = core(inputs, None, elapsed)
    torch.testing.assert_close(state, h)
    torch.testing.assert_close(outputs[:, -1], core.readout(h))


def test_ctrnn_time_constants_start_as_told_and_stay_positive():
    core = CTRNN(INPUTS, 1, CTRNNConfig(units=4, tau_init=0.3, spectral_radius=0.8))
    torch.testing.assert_close(core.tau, torch.full((4,), 0.3))
    assert largest_eigenvalue(core.recurrent.detach()) == pytest.approx(0.8, rel=1e-4)
    with torch.no_grad():
        core.raw_tau -= 20
    assert (core.tau > 0).all()


def test_ctrnn_steps_converge_with_order_one():
    inputs, _ = inputs_and_elapsed(steps=1)
    errors = []
    finest = CTRNN(INPUTS, 1, CTRNNConfig(substeps=512)).double()(inputs)[1]
    for substeps in (4, 8, 16):
        errors.append(
            (CTRNN(INPUTS, 1, CTRNNConfig(substeps=substeps)).double()(inputs)[1] - finest).abs().max().item()
        )
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.2)


# ---------------------------------------------------------------- neural ODE


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("rk4", 4)])
def test_neural_ode_solvers_have_their_order(solver, order):
    inputs, elapsed = inputs_and_elapsed(steps=2)
    size = {"units": 4, "width": 8, "layers": 3}
    exact = NeuralODE(INPUTS, 1, NeuralODEConfig(**size, solver="adaptive", rtol=1e-11, atol=1e-12)).double()
    truth = exact(4 * inputs, None, elapsed)[1]
    errors = []
    for substeps in (4, 8, 16):
        core = NeuralODE(INPUTS, 1, NeuralODEConfig(**size, solver=solver, substeps=substeps)).double()
        errors.append((core(4 * inputs, None, elapsed)[1] - truth).abs().max().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)
    assert math.log2(errors[1] / errors[2]) == pytest.approx(order, abs=0.3)


def test_neural_ode_adaptive_gradients_are_those_of_fine_steps():
    inputs, elapsed = inputs_and_elapsed(steps=2)
    gradients = []
    for options in ({"solver": "adaptive", "rtol": 1e-7, "atol": 1e-9}, {"solver": "rk4", "substeps": 16}):
        core = NeuralODE(INPUTS, 1, NeuralODEConfig(units=4, width=8, **options)).double()
        core(inputs, None, elapsed)[0].square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in core.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


def test_without_torchdiffeq_the_extra_is_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install -e '\.\[ode\]'"):
        NeuralODE(INPUTS, 1, NeuralODEConfig(solver="adaptive"))


# ---------------------------------------------------------------- LRC


@pytest.mark.parametrize("elastance", ["asymmetric", "symmetric"])
def test_lrc_is_its_equation(elastance):
    inputs, elapsed = inputs_and_elapsed(batch_size=1, steps=3)
    core = LRC(INPUTS, 2, LRCConfig(units=9, elastance=elastance, substeps=2)).double()
    v = torch.zeros(9, dtype=torch.float64)
    for t in range(3):
        for _ in range(2):
            f, g = core.gleak.clone(), core.gleak.clone()
            for prefix, before, synapses in (
                ("sensory_", inputs[0, t], core.wiring.sensory),
                ("", v, core.wiring.recurrent),
            ):
                sigma, mu, w, h = (getattr(core, prefix + name) for name in ("sigma", "mu", "w", "h"))
                for k, (source, target, _) in enumerate(synapses):
                    s = torch.sigmoid(sigma[k] * (before[source] - mu[k]))
                    f[target] = f[target] + w[k] * s
                    g[target] = g[target] + h[k] * s
            slope = -v * torch.sigmoid(f) + core.vleak * torch.tanh(g)
            e = core.elastance(torch.cat((inputs[0, t], v)))
            if elastance == "symmetric":
                k = torch.nn.functional.softplus(core.width)
                eps = torch.sigmoid(e + k) - torch.sigmoid(e - k)
            else:
                eps = torch.sigmoid(e)
            v = v + eps * elapsed[0, t] / 2 * slope
    outputs, state = core(inputs, None, elapsed)
    torch.testing.assert_close(state[0], v)
    torch.testing.assert_close(outputs[0, -1], v[:2] * core.output_w + core.output_b)


def test_lrc_polarity_is_the_sign_of_h():
    core = LRC(INPUTS, 1)
    assert torch.equal(core.h.sign(), torch.tensor(core.wiring.recurrent_array[:, 2]).float())


def test_lrc_runs_without_recurrent_synapses():
    wiring = Wiring(INPUTS, (("motor", 2),), ((0, 0, 1), (3, 1, -1)), ())
    outputs, _ = LRC(INPUTS, 2, wiring=wiring)(torch.randn(2, 4, INPUTS))
    assert outputs.shape == (2, 4, 2)


# ---------------------------------------------------------------- reservoir


def make_reservoir(inputs: int, outputs: int, features: int, units: int = 32) -> Reservoir:
    core = make_core("reservoir", inputs, outputs, {"features": features, "core_options": {"units": units}})
    assert isinstance(core, Reservoir)
    return core


def test_only_the_read_out_of_a_reservoir_learns():
    core = make_reservoir(INPUTS, 2, features=8)
    trained = {name for name, p in core.named_parameters() if p.requires_grad}
    assert trained == {"readout.weight", "readout.bias"}
    inputs = torch.randn(2, 5, INPUTS, requires_grad=True)
    core(inputs)[0].sum().backward()
    assert (inputs.grad != 0).any()  # what comes before it can learn through it
    assert all(p.grad is None for p in core.frozen.parameters())


def test_ridge_regression_finds_the_known_answer():
    core = make_reservoir(INPUTS, 2, features=4).double()
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 30, 4, generator=generator, dtype=torch.float64)
    weight = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    targets = features @ weight.T + torch.tensor([0.5, -2.0])
    assert core.fit_readout(features, targets, ridge=0.0) < 1e-20
    torch.testing.assert_close(core.readout.weight.detach(), weight)
    torch.testing.assert_close(core.readout.bias.detach(), torch.tensor([0.5, -2.0], dtype=torch.float64))
    # The gradient of the punished error is zero at the fit.
    error = core.fit_readout(features, targets, ridge=0.3)
    loss = (core.readout(features) - targets).square().sum(dim=-1).mean() + 0.3 * core.readout.weight.square().sum()
    gradient = torch.autograd.grad(loss, list(core.readout.parameters()))
    assert max(g.abs().max().item() for g in gradient) < 1e-12
    assert error == pytest.approx((core.readout(features) - targets).square().mean().item())


def test_a_fitted_reservoir_remembers_its_input():
    core = make_reservoir(1, 1, features=40, units=40)
    signal = torch.rand(1, 600, 1, generator=torch.Generator().manual_seed(0))
    targets = signal.roll(1, dims=1)
    features, _ = core.features(signal)
    core.fit_readout(features[:, 50:500], targets[:, 50:500], ridge=1e-9)
    error = (core(signal)[0] - targets)[:, 500:].square().mean()
    assert error < 0.05 * targets.var()


def test_a_read_out_that_does_not_fit_is_told():
    core = make_reservoir(INPUTS, 2, features=4)
    with pytest.raises(ValueError, match=r"features must be \[..., 4\]"):
        core.fit_readout(torch.zeros(3, 5), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="targets must have 2 columns, got 3"):
        core.fit_readout(torch.zeros(3, 4), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="ridge must not be negative"):
        core.fit_readout(torch.zeros(3, 4), torch.zeros(3, 2), ridge=-1.0)


# ---------------------------------------------------------------- Transformer


def plain_transformer(core: Transformer, inputs: torch.Tensor, elapsed: torch.Tensor, starts: torch.Tensor):
    """Attend with a full matrix, one sample at a time, positions as complex numbers."""
    config, samples = core.config, []
    for x, delta, start in zip(inputs, elapsed, starts, strict=True):
        times, episode = delta.cumsum(0), start.cumsum(0)
        lag = torch.arange(len(x))[:, None] - torch.arange(len(x))
        sees = (lag >= 0) & (lag < config.window) & (episode[:, None] == episode)
        pairs = config.model_size // config.heads // 2
        speed = (4 * config.window) ** -(torch.arange(pairs, dtype=x.dtype) / max(pairs - 1, 1))
        wheel = torch.polar(torch.ones(1, dtype=x.dtype), times[:, None] * speed)[:, None]  # [T, 1, pairs]
        tokens = core.embed(x)
        for block in core.blocks:
            normed = block.attention_norm(tokens)
            key, value = block.key_value(normed).chunk(2, dim=1)
            query, key, value = (y.unflatten(1, (config.heads, -1)) for y in (block.query(normed), key, value))
            query, key = (torch.complex(*y.chunk(2, dim=2)) * wheel for y in (query, key))
            score = torch.einsum("thd,shd->hts", query, key.conj()).real / math.sqrt(2 * pairs)
            share = score.masked_fill(~sees, -math.inf).softmax(dim=-1)
            tokens = tokens + block.project(torch.einsum("hts,shd->thd", share, value).flatten(1))
            hidden = torch.nn.functional.gelu(block.widen(block.feedforward_norm(tokens)))
            tokens = tokens + block.narrow(hidden)
        samples.append(core.readout(core.norm(tokens)))
    return torch.stack(samples)


@pytest.mark.parametrize("window", [2, 5, 64])
@pytest.mark.parametrize("steps", [1, 16, 41])
def test_blocks_of_attention_equal_the_full_matrix(window, steps):
    inputs, elapsed = inputs_and_elapsed(steps=steps)
    starts = torch.rand(3, steps, generator=torch.Generator().manual_seed(1)) < 0.1
    core = Transformer(INPUTS, 2, TransformerConfig(model_size=8, heads=2, window=window)).double()
    outputs, _ = core(inputs, None, elapsed, starts)
    torch.testing.assert_close(outputs, plain_transformer(core, inputs, elapsed, starts))


def test_a_token_hears_its_window_and_nothing_before():
    inputs, elapsed = inputs_and_elapsed(steps=30)
    core = Transformer(INPUTS, 1, TransformerConfig(window=7, layers=1)).double()
    inputs.requires_grad_()
    (gradient,) = torch.autograd.grad(core(inputs, None, elapsed)[0][:, 20].sum(), inputs)
    heard = (gradient != 0).any(dim=-1).all(dim=0)
    assert heard.nonzero().flatten().tolist() == list(range(14, 21))


def test_only_differences_of_time_count():
    inputs, elapsed = inputs_and_elapsed()
    core = Transformer(INPUTS, 1).double()
    later = elapsed.clone()
    later[:, 0] += 5  # when the first frame came does not matter, it has no past
    torch.testing.assert_close(core(inputs, None, later)[0], core(inputs, None, elapsed)[0])


def test_a_long_drive_stays_exact():
    torch.manual_seed(0)
    core = Transformer(2, 1, TransformerConfig(model_size=8, heads=2, window=4))
    inputs = torch.randn(1, 6, 2)
    _, state = core(torch.randn(1, 20_000, 2), None, torch.full((1, 20_000), 1.1))
    start = torch.tensor([[True, False, False, False, False, False]])
    torch.testing.assert_close(core(inputs, state, None, start)[0], core(inputs)[0])


def test_the_cost_of_a_window_is_linear_in_time():
    from torch.utils.flop_counter import FlopCounterMode

    core = Transformer(2, 1, TransformerConfig(window=16))
    counts = []
    for steps in (256, 1024):
        with FlopCounterMode(display=False) as counter:
            core(torch.zeros(1, steps, 2))
        counts.append(counter.get_total_flops())
    assert counts[1] / counts[0] == pytest.approx(4, rel=0.01)
