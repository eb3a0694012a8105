"""Actions: their probabilities against torch's distributions, and exploration that depends on the state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Categorical, Normal, kl_divergence

from agents.ppo.distributions import CategoricalActions, GaussianActions, make_actions
from agents.ppo.update import evaluate_actions
from tests.agents.ppo.test_rollout import RATIO_TOLERANCE, collect, largest_error
from tests.agents.ppo.toys import learner

RANGE = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))


def draws(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_gaussian_is_torchs() -> None:
    actions = GaussianActions(RANGE, -0.3)
    assert actions.log_std is not None
    actions.log_std.data += torch.tensor([0.2, -0.4])
    motors, others, features, chosen = draws(5, 2), draws(5, 2) + 1, draws(5, 4), draws(5, 2)
    known = Normal(motors, actions.log_std.exp())
    torch.testing.assert_close(actions.log_prob(motors, features, chosen), known.log_prob(chosen).sum(-1))
    torch.testing.assert_close(actions.entropy(motors, features), known.entropy().sum(-1))
    apart = kl_divergence(known, Normal(others, torch.full((2,), np.exp(-0.3), dtype=torch.float32))).sum(-1)
    torch.testing.assert_close(actions.divergence(motors, features, others), apart)


def test_categorical_is_torchs_and_is_drawn_as_often_as_it_says() -> None:
    actions = CategoricalActions(spaces.Discrete(3, start=4))
    motors, others, features, chosen = draws(5, 3), draws(5, 3) + 1, draws(5, 4), torch.tensor([0, 1, 2, 2, 0])
    known = Categorical(logits=motors)
    torch.testing.assert_close(actions.log_prob(motors, features, chosen), known.log_prob(chosen))
    torch.testing.assert_close(actions.entropy(motors, features), known.entropy())
    apart = kl_divergence(known, Categorical(logits=others))
    torch.testing.assert_close(actions.divergence(motors, features, others), apart)
    many = motors[:1].expand(40_000, 3)
    drawn = actions.act(many, features, actions.draw_noise(len(many), torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / len(many), known.probs[0].numpy(), atol=0.01)
    assert set(np.unique(actions.to_env(drawn))) <= {4, 5, 6}


def test_actions_reach_the_env_in_its_own_range() -> None:
    actions = GaussianActions(RANGE, 0.0)
    sent = actions.to_env(torch.tensor([[0.0, 0.0], [5.0, 5.0], [-0.5, -5.0]]))
    np.testing.assert_allclose(sent, [[0.0, 0.5], [2.0, 1.0], [-1.0, 0.0]])


def test_spread_that_depends_on_the_state_is_that_of_its_draws() -> None:
    actions = GaussianActions(RANGE, -0.5, features=4)
    assert actions.log_std is not None
    actions.log_std.data += 0.5 * draws(5, 2)
    features, motors = draws(1, 4), draws(1, 2)
    noise = actions.draw_noise(40_000, torch.Generator().manual_seed(1))
    drawn = actions.act(motors.expand(len(noise), 2), features.expand(len(noise), 4), noise)
    known = Normal(motors[0], actions.log_spread(features)[0].exp())
    torch.testing.assert_close(drawn.mean(0), known.mean, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), known.stddev, atol=0.02, rtol=0)
    torch.testing.assert_close(actions.log_prob(motors, features, drawn[:1]), known.log_prob(drawn[0]).sum()[None])
    other = actions.log_spread(features + 1.0)
    assert not torch.allclose(other, actions.log_spread(features), atol=1e-3)


def test_how_far_is_explored_teaches_the_spread_and_not_what_is_seen() -> None:
    actions, features = GaussianActions(RANGE, -0.3, 4), draws(5, 4).requires_grad_()
    assert actions.log_std is not None
    (actions.log_prob(draws(5, 2), features, draws(5, 2)) + actions.entropy(draws(5, 2), features)).sum().backward()
    assert features.grad is None and actions.log_std.grad is not None


def test_with_equal_spreads_the_state_does_not_matter() -> None:
    actions = GaussianActions(RANGE, -0.7, features=4)
    torch.testing.assert_close(actions.log_spread(draws(6, 4)), torch.full((6, 2), -0.7))


@pytest.mark.parametrize("held", [1, 4])
def test_a_push_is_held_and_the_ratio_is_one(held: int) -> None:
    model = learner("ltc", visual=True, use_sde=True, sde_sample_freq=held)
    collect(model, 2, learn=True)
    assert largest_error(model) < RATIO_TOLERANCE
    buffer = model.rollout_buffer
    batch = buffer.pick(torch.arange(buffer.envs * buffer.steps // buffer.chunk))
    with torch.no_grad():
        features, motors, _ = evaluate_actions(model.policy, batch)
        scaled = (batch.actions - motors) / model.policy.actions.log_spread(features).exp()  # type: ignore[operator]
    # What is seen changes slowly, so a push that is held keeps its sign more often than not.
    same = (scaled[:, 1:] * scaled[:, :-1] > 0).float().mean()
    assert (same > 0.65) == (held == 4)


def test_state_dependent_exploration_is_for_continuous_actions() -> None:
    with pytest.raises(ValueError, match="use_sde is for continuous actions"):
        make_actions(spaces.Discrete(3), 0.0, features=4)
