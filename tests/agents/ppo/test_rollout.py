"""What a rollout stores is what the update computes again: states, starts, chunks, advantages, values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.buffer import RolloutBuffer
from agents.ppo.replay import make_vector_env
from agents.ppo.update import evaluate_actions
from tests.agents.ppo.toys import Constant, Drifting, learner

RATIO_TOLERANCE = 2e-5
KINDS: list[dict[str, Any]] = [{}, {"visual": True}, {"discrete": True}]


class Quiet(BaseCallback):
    """Does nothing."""

    def _on_step(self) -> bool:
        return True


def collect(model: LiquidPPO, rollouts: int = 1, learn: bool = False) -> None:
    """Fill the buffer, several times, with updates between if asked for."""
    model.learn(0)  # Sets up; makes no step.
    quiet = Quiet()
    quiet.init_callback(model)
    for number in range(rollouts):
        if number and learn:
            model.train()
        model.collect_rollouts(quiet)


def largest_error(model: LiquidPPO, **broken: Any) -> float:
    """Compare probability ratios with 1 and values with the stored ones, with some fields of the batch broken."""
    buffer = model.rollout_buffer
    batch = buffer.pick(torch.arange(buffer.envs * buffer.steps // buffer.chunk))
    for name, value in broken.items():
        object.__setattr__(batch, name, value(getattr(batch, name)))
    with torch.no_grad():
        features, motors, values = evaluate_actions(model.policy, batch)
        ratio = (model.policy.actions.log_prob(motors, features, batch.actions) - batch.log_prob).exp()
    return max(float((ratio - 1).abs().max()), float((values - batch.values).abs().max()))


CORES, CRITICS = ("ltc", "cfc", "lstm", "feedforward"), ("features", "shared", "own")
COMBINED = [
    pytest.param(core, KINDS[world], CRITICS[(i + world) % 3], id=f"{core}-{('vector', 'camera', 'discrete')[world]}")
    for i, core in enumerate(CORES)
    for world in range(3)
]
"""Each core in each world and with each critic, each world with each critic."""


@pytest.mark.parametrize(("core", "world", "critic"), COMBINED)
def test_ratio_is_one_before_the_update(core: str, world: dict[str, Any], critic: str) -> None:
    model = learner(core, critic=critic, **world)
    collect(model, 2, learn=True)  # The second rollout starts in the middle of episodes, with other weights.
    assert model.rollout_buffer.starts[:, 1:].any() and not model.rollout_buffer.starts[:, 0].all()
    assert largest_error(model) < RATIO_TOLERANCE


@pytest.mark.parametrize("core", ["ltc", "cfc", "lstm", "gru"])
def test_ratio_is_not_one_when_something_is_dropped(core: str) -> None:
    model = learner(core, visual=True)
    collect(model, 2, learn=True)
    assert largest_error(model, starts=torch.zeros_like) > 100 * RATIO_TOLERANCE
    assert largest_error(model, state=torch.zeros_like) > 100 * RATIO_TOLERANCE
    assert largest_error(model, elapsed=lambda elapsed: elapsed.roll(1, 1)) > 100 * RATIO_TOLERANCE
    assert largest_error(model, content=lambda content: content.roll(1, 0)) > 100 * RATIO_TOLERANCE


def slow_advantages(
    rewards: np.ndarray, values: np.ndarray, ends: np.ndarray, last: np.ndarray, gamma: float, lam: float
) -> np.ndarray:
    """Plain notation: A_t = Σ_l (gamma · lambda)^l · delta_{t+l} up to the episode's end, one env after another."""
    advantages = np.zeros_like(rewards)
    for env in range(len(rewards)):
        for t in range(rewards.shape[1]):
            for ahead in range(t, rewards.shape[1]):
                following = last[env] if ahead + 1 == rewards.shape[1] else values[env, ahead + 1]
                worth = 0.0 if ends[env, ahead] else following
                delta = rewards[env, ahead] + gamma * worth - values[env, ahead]
                advantages[env, t] += (gamma * lam) ** (ahead - t) * delta
                if ends[env, ahead]:
                    break
    return advantages


def test_advantages_equal_the_slow_ones() -> None:
    rng = np.random.default_rng(0)
    buffer = RolloutBuffer(3, 24, 8, ((2,), torch.float32), ((1,), torch.float32), 5)
    rewards, values = rng.normal(size=(2, 3, 24))
    ends, last = rng.random((3, 24)) < 0.2, rng.normal(size=3)
    ends[0, -1] = True
    for name, array in (("rewards", rewards), ("values", values), ("ends", ends)):
        getattr(buffer, name).copy_(torch.as_tensor(array))
    buffer.finish(torch.as_tensor(last, dtype=torch.float32), 0.97, 0.9)
    expected = slow_advantages(rewards, values, ends, last, 0.97, 0.9)
    np.testing.assert_allclose(buffer.advantages.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(buffer.returns.numpy(), expected + values, atol=1e-5)
    wrong = slow_advantages(rewards, values, np.zeros_like(ends), last, 0.97, 0.9)
    assert np.abs(buffer.advantages.numpy() - wrong).max() > 0.1


@pytest.mark.parametrize("critic", ["features", "own"])
def test_a_time_limit_earns_the_value_behind_it_and_an_end_earns_nothing(critic: str) -> None:
    model = learner("ltc", envs=4, n_steps=64, critic=critic)
    seen: list[tuple[int, int, bool, Any, torch.Tensor, float]] = []

    class Look(BaseCallback):
        def _on_step(self) -> bool:
            for env, done in enumerate(self.locals["dones"]):
                if done:
                    info = self.locals["infos"][env]
                    cut = bool(info["TimeLimit.truncated"])
                    state = model.learner.state[env : env + 1].clone()
                    reward = float(self.locals["rewards"][env])
                    seen.append((env, self.locals["step"], cut, info["terminal_observation"], state, reward))
            return True

    model.learn(0)
    look = Look()
    look.init_callback(model)
    model.collect_rollouts(look)
    assert {cut for _, _, cut, *_ in seen} == {True, False}
    for env, step, cut, observation, state, reward in seen:
        with torch.no_grad():
            features = model.policy.head(torch.as_tensor(observation)[None])[:, None]
            ones, zeros = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.bool)
            value = float(model.policy(features, state, ones, zeros)[1])
        expected = reward + (model.config.gamma * value if cut else 0.0)
        assert float(model.rollout_buffer.rewards[env, step]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("ends", [False, True])
def test_value_of_a_constant_reward(ends: bool) -> None:
    gamma = 0.8
    sizes = {"n_steps": 40, "chunk": 8, "batch_size": 80, "n_epochs": 4}
    # Lambda 1: targets are sums of rewards, so the critic's mean is that of the values, whatever it can tell apart.
    rates = {"learning_rate": 2e-2, "learning_rate_end": 0.1, "gae_lambda": 1.0}
    model = LiquidPPO("feedforward", make_vector_env(lambda: Constant(ends), 4), gamma=gamma, **sizes, **rates)
    model.learn(2080)
    values = model.rollout_buffer.values
    known = 1 / (1 - gamma)
    if ends:  # Five steps and no more: the mean of the values of its states, 1 + … + gamma⁴ down to 1.
        known = float(np.mean([(1 - gamma**left) / (1 - gamma) for left in range(1, 6)]))
    assert float(values.mean()) == pytest.approx(known, rel=0.03)


@pytest.mark.parametrize("exploration", [{}, {"use_sde": True, "sde_sample_freq": 4}], ids=["own", "gSDE"])
def test_predict_in_a_loop_equals_the_rollout(exploration: dict[str, Any]) -> None:
    model = learner("ltc", visual=True, n_steps=32, **exploration)
    model.learn(96)
    vector = make_vector_env(lambda: Drifting(visual=True), 3)
    model.generator.manual_seed(5)
    model.set_env(vector)
    vector.seed(7)
    collect(model)
    drawn = model.rollout_buffer.actions.clone()

    model.generator.manual_seed(5)
    vector = make_vector_env(lambda: Drifting(visual=True), 3)
    vector.seed(7)
    observation, state, starts = vector.reset(), None, np.ones(3, bool)
    for step in range(32):
        action, state = model.predict(observation, state, starts)
        np.testing.assert_allclose(action, model.policy.actions.to_env(drawn[:, step]), atol=1e-6)
        observation, _, starts, _ = vector.step(action)
