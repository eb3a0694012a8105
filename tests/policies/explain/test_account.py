"""The account of a decision: shares sum to the change, and predict what happens when a part is taken away."""

from __future__ import annotations

import pytest
import torch

from policies.cores import LTC
from policies.explain.account import (
    cut_change,
    explain_decision,
    measured_change,
    predicted_cut,
    predicted_removal,
    region_masks,
    synaptic_change,
)
from policies.explain.activity import run_activity
from policies.explain.roles import correlations, cut, largest_step, principal_components, silenced
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

HEAD = HeadConfig(channels=(4, 6, 4), kernels=(5, 3, 3), strides=(2, 2, 2))
FIT = Preprocessing(24, 48, height=24, width=48)
K = 5


def driver(core: str, **options: object) -> DrivingPolicy:
    config = PolicyConfig(core=core, core_options=dict(options), head=HEAD, preprocessing=FIT)
    return DrivingPolicy.create(config, seed=2).eval()


def drive(frames: int = 3 * K, seed: int = 0) -> torch.Tensor:
    """A bright bar that wanders over a dark floor."""
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.randint(0, 60, (frames, 24, 48, 3), generator=generator, dtype=torch.uint8)
    for k in range(frames):
        pictures[k, 8:, (7 * k) % 40 : (7 * k) % 40 + 6] = 220
    return pictures


def before(policy: DrivingPolicy, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The last K frames, and the state before them."""
    with torch.no_grad():
        _, state = policy(pictures[None, :-K])
    return pictures[-K:], state


@pytest.mark.parametrize("core", ["ltc", "lstm", "cfc", "feedforward", "transformer", "liquid_s4", "lrc_ssm"])
@pytest.mark.parametrize("reference", ["held", "blank"])
def test_shares_sum_to_the_change(core: str, reference: str):
    policy = driver(core)
    frames, state = before(policy, drive())
    elapsed = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.3])
    account = explain_decision(policy, frames, state, elapsed, reference, grid=(3, 4), points=8)
    with torch.no_grad():
        motors, _ = policy.motors(frames[None], state, elapsed[None])
    assert account.steering == pytest.approx(float(motors[0, -1, 0]), abs=1e-5)
    assert account.regions.shape == (K, 3, 4) and account.features.shape == (K, policy.head.output_size)
    assert abs(account.change) > 1e-4
    sums = {"regions": account.regions.sum(), "features": account.features.sum()}
    sums |= {name: shares.sum() for name, shares in account.layers.items()}
    for name, total in sums.items():
        assert float(total) == pytest.approx(account.change, rel=0.01, abs=2e-6), name
    assert set(account.layers) == ({"sensory", "inter", "command"} if core == "ltc" else set())
    if reference == "held":  # the oldest frame is its own reference
        assert float(account.regions[0].abs().max()) == 0.0 and float(account.regions[1:].abs().max()) > 0


def test_a_share_lies_where_the_picture_changed():
    policy = driver("feedforward")
    frames = drive(1)[None, 0].repeat(2, 1, 1, 1)
    frames[1, 16:, 36:] = frames[0, 16:, 36:].flip(1)  # the same grey levels, so that whitening changes nothing else
    account = explain_decision(policy, frames, torch.zeros(1, 0), grid=(3, 4))
    shares = account.regions.abs()
    assert float(shares[1, 2, 3]) > 1e-3
    shares[1, 2, 3] = 0
    assert float(shares.max()) < 1e-6


def test_layers_name_their_synapses():
    policy = driver("ltc")
    assert isinstance(policy.core, LTC)
    wiring = policy.core.wiring
    account = explain_decision(policy, *before(policy, drive()))
    for layer, onto in (("inter", "command"), ("command", "motor")):
        pairs = [wiring.recurrent[n][:2] for n in account.synapses[layer]]
        assert pairs and all(i in wiring.layer(layer) and j in wiring.layer(onto) for i, j in pairs)
        assert account.layers[layer].shape == (K, len(pairs))
    # What a feature sends through its synapses is its share.
    through = torch.zeros(K, wiring.inputs).index_add(1, policy.core.sensory_source, account.layers["sensory"])
    torch.testing.assert_close(through, account.features, rtol=1e-3, atol=1e-6)


def test_regions_taken_away_together_are_the_reference():
    policy = driver("lstm")
    frames, state = before(policy, drive())
    account = explain_decision(policy, frames, state)
    whole = measured_change(policy, frames, state, torch.ones(1, 24, 48, dtype=torch.bool))
    assert float(whole[0]) == pytest.approx(account.change, rel=1e-4)
    masks = region_masks(24, 48, (3, 4))
    assert masks.shape == (12, 24, 48) and bool((masks.sum(0) == 1).all())


@pytest.mark.parametrize("core", ["ltc", "lstm"])
def test_shares_predict_what_a_region_taken_away_changes(core: str):
    from scipy.stats import spearmanr

    policy = driver(core)
    masks = region_masks(24, 48, (2, 3))
    rows = []
    for seed in range(4):
        frames, state = before(policy, drive(seed=seed))
        # The picture hardly changes, so first order is all there is.
        noise = torch.randint(0, 9, frames.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        frames = frames[:1].repeat(K, 1, 1, 1).clamp_max(240) + noise
        account = explain_decision(policy, frames, state, grid=(2, 3))
        shares = account.regions.sum(0).flatten()
        rows.append(torch.stack((shares, account.effects.flatten(), measured_change(policy, frames, state, masks))))
    shares, effects, measured = torch.cat(rows, dim=1)
    assert spearmanr(shares, measured).statistic > 0.95 and spearmanr(effects, measured).statistic > 0.95


@pytest.mark.parametrize("core", ["ltc", "lstm"])
def test_a_removal_is_predicted_to_first_order_in_the_circuit(core: str):
    # The reference needs no compiling, which takes longer than the test.
    policy, frames = driver(core, **({"kernel": "reference"} if core == "ltc" else {})), drive()[:K]
    masks = region_masks(24, 48, (2, 4))
    state = torch.zeros(1, policy.core.state_size)
    # Of a faint change nothing but the first order is left.
    faint = frames[:1].repeat(K, 1, 1, 1).clamp(5, 200)
    faint[1:, 12:, 12:24] += 1
    small = predicted_removal(policy, faint, state, masks), measured_change(policy, faint, state, masks)
    assert small[0] == pytest.approx(small[1], rel=0.05, abs=2e-6) and float(small[1].abs().max()) > 1e-5


def test_gradients_predict_what_a_synapse_cut_changes():
    policy = driver("ltc")
    frames, state = before(policy, drive())
    predicted = predicted_cut(policy, frames, state)
    largest = predicted.abs().argsort(descending=True)[:6].tolist()
    for synapse in largest:
        change = cut_change(policy, frames, state, synapse)
        assert change * float(predicted[synapse]) > 0 and 0.4 < change / float(predicted[synapse]) < 2.5
        with cut(policy, [synapse]), torch.no_grad():
            without, _ = policy.motors(frames[None], state)
        with torch.no_grad():
            motors, _ = policy.motors(frames[None], state)
        assert change == pytest.approx(float(motors[0, -1, 0] - without[0, -1, 0]), abs=2e-6)
    with pytest.raises(ValueError, match="fused"):
        predicted_cut(driver("gru"), frames, state)


def test_the_change_of_a_voltage_is_the_charge_through_its_synapses():
    policy = driver("ltc")
    core = policy.core
    assert isinstance(core, LTC)
    frames, state = before(policy, drive())
    with torch.no_grad():
        features = policy.features(frames[None, :1])[0, 0]
        _, after = core(features[None, None], state, torch.full((1, 1), 1.7))
    leak, sensory, recurrent = synaptic_change(core, features, state[0], 1.7)
    total = leak.index_add(0, core.sensory_target, sensory).index_add(0, core.target, recurrent)
    torch.testing.assert_close(total, after[0] - state[0], rtol=1e-4, atol=3e-6)
    with pytest.raises(ValueError, match="fused"):
        synaptic_change(driver("ltc", solver="rk4").core, features, state[0])  # type: ignore[arg-type]


def test_references_are_checked():
    policy = driver("lstm")
    frames, state = before(policy, drive())
    with pytest.raises(ValueError, match="held, blank"):
        explain_decision(policy, frames, state, reference="black")
    with pytest.raises(ValueError, match="at least two frames"):
        explain_decision(policy, frames[:1], state)


def test_activity_is_that_of_the_drive():
    policy = driver("ltc")
    pictures, elapsed = drive(), torch.linspace(0.5, 1.5, 3 * K)
    activity = run_activity(policy, pictures, elapsed)
    with torch.no_grad():
        steering, state = policy(pictures[None], None, elapsed[None])
    torch.testing.assert_close(activity.steering, steering[0, :, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(activity.states[-1], state[0], rtol=1e-4, atol=1e-5)
    assert activity.time_constants_s is not None and bool((activity.time_constants_s > 0).all())
    assert activity.recurrent_currents is not None
    assert activity.recurrent_currents.shape == (3 * K, len(policy.core.wiring.recurrent))  # type: ignore[union-attr]
    assert run_activity(driver("gru"), pictures).time_constants_s is None


def test_roles():
    generator = torch.Generator().manual_seed(0)
    curvature, noise = torch.randn(200, generator=generator), torch.randn(200, generator=generator)
    states = torch.stack((2 * curvature + 5, -curvature + noise, torch.ones(200)), dim=1)
    roles = correlations(states, {"curvature": curvature, "still": torch.zeros(200)})
    assert float(roles[0, 0]) == pytest.approx(1.0, abs=1e-5) and -0.85 < float(roles[1, 0]) < -0.55
    assert float(roles[2].abs().max()) == 0.0 and float(roles[:, 1].abs().max()) == 0.0
    share, directions = principal_components(torch.outer(curvature, torch.tensor([3.0, 4.0])))
    assert float(share[0]) == pytest.approx(1.0, abs=1e-4)
    assert directions[0].abs().tolist() == pytest.approx([0.6, 0.8], abs=1e-4)
    assert largest_step(torch.tensor([[0.0], [1.0], [4.0], [4.5]])) == (2, 3.0)
    with pytest.raises(ValueError, match="200 frames"):
        correlations(states, {"curvature": curvature[1:]})


def test_a_silenced_neuron_is_not_heard_and_speaks_again():
    policy = driver("ltc")
    pictures = drive()
    with torch.no_grad():
        plain, _ = policy(pictures[None])
        (command,) = [n for n in policy.core.wiring.layer("command")][:1]  # type: ignore[union-attr]
        with silenced(policy, command):
            quiet, _ = policy(pictures[None])
        again, _ = policy(pictures[None])
    assert torch.equal(plain, again) and not torch.allclose(plain, quiet, atol=1e-4)
    with pytest.raises(ValueError, match="0 to 18"), silenced(policy, 19):
        pass
    with pytest.raises(ValueError, match="LTC"), silenced(driver("gru"), 0):
        pass
