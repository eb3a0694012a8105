"""One update: its loss against plain notation, what each pass sees, how far a gradient reaches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.ppo import update
from agents.ppo.actor_critic import config_for
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.buffer import Chunks
from agents.ppo.replay import make_vector_env
from agents.ppo.update import Weights, evaluate_actions, objective
from tests.agents.ppo.test_rollout import collect, slow_advantages
from tests.agents.ppo.toys import Drifting, learner

CLIP_RANGE = 0.1


def whole(model: LiquidPPO) -> Chunks:
    """The rollout as one minibatch, as if the policy and the critic had moved away from it."""
    buffer = model.rollout_buffer
    batch = buffer.pick(torch.arange(buffer.envs * buffer.steps // buffer.chunk))
    generator = torch.Generator().manual_seed(4)
    moved = {name: getattr(batch, name) for name in ("log_prob", "values")}
    return replace(batch, **{n: v + 0.2 * torch.randn(v.shape, generator=generator) for n, v in moved.items()})


def slow_loss(model: LiquidPPO, batch: Chunks) -> tuple[float, float, float]:
    """The loss, the share of ratios that are clipped and the divergence in plain notation, step by step."""
    config = model.config
    with torch.no_grad():
        _, motors, values = evaluate_actions(model.policy, batch)
    assert model.policy.actions.log_std is not None
    log_std = model.policy.actions.log_std.item()
    advantages = batch.advantages.flatten().tolist()
    if config.normalize_advantage:
        mean = sum(advantages) / len(advantages)
        deviation = math.sqrt(sum((a - mean) ** 2 for a in advantages) / (len(advantages) - 1))
        advantages = [(a - mean) / deviation for a in advantages]
    entropy = log_std + 0.5 * math.log(2 * math.pi * math.e)
    total, clipped, divergence = 0.0, 0, 0.0
    flat = (motors, batch.actions, batch.log_prob, values, batch.values, batch.returns)
    for *step, advantage in zip(*(part.flatten().tolist() for part in flat), advantages, strict=True):
        motor, action, old_log_prob, value, old_value, target = step
        log_prob = -0.5 * ((action - motor) / math.exp(log_std)) ** 2 - log_std - 0.5 * math.log(2 * math.pi)
        ratio = math.exp(log_prob - old_log_prob)
        nearest = min(max(ratio, 1 - CLIP_RANGE), 1 + CLIP_RANGE)
        clipped += nearest != ratio
        divergence += ratio - 1 - (log_prob - old_log_prob)
        gain = min(ratio * advantage, nearest * advantage)
        if config.clip_range_vf:
            value = min(max(value, old_value - config.clip_range_vf), old_value + config.clip_range_vf)
        total += -gain + config.vf_coef * (value - target) ** 2 - config.ent_coef * entropy
    assert 0.2 * len(advantages) < clipped < len(advantages)
    return total / len(advantages), clipped / len(advantages), divergence / len(advantages)


@pytest.mark.parametrize("options", [{}, {"normalize_advantage": False}, {"clip_range_vf": 0.1}])
def test_the_loss_is_that_of_the_formula(options: dict[str, Any]) -> None:
    model = learner("ltc", visual=True, ent_coef=0.3, vf_coef=0.7, **options)
    collect(model)
    batch = whole(model)
    loss, figures = objective(model.policy, batch, model.config, Weights(CLIP_RANGE))
    told = float(loss.detach()), float(figures["clip_fraction"]), float(figures["approx_kl"])
    assert told == pytest.approx(slow_loss(model, batch), rel=1e-4)


def test_a_pass_sees_every_step_once_in_another_order() -> None:
    model = learner("gru", n_steps=24, n_epochs=3)
    collect(model)
    buffer = model.rollout_buffer
    buffer.returns.copy_(torch.arange(72.0).view(3, 24))
    passes = [
        torch.cat([batch.returns for batch in buffer.minibatches(16, model.generator)]).flatten() for _ in range(2)
    ]
    for seen in passes:
        assert seen.sort().values.tolist() == list(range(72))
    assert not torch.equal(*passes)
    steps: list[None] = []
    model.optimizer.register_step_post_hook(lambda *_: steps.append(None))
    model.train()
    assert model._n_updates == 3 and len(steps) == 3 * 5  # Four minibatches of 16 steps and one of 8.


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_gradients_are_limited_group_by_group(limit: float) -> None:
    model = learner("ltc", visual=True, max_grad_norm=limit)
    collect(model)
    norms: list[list[float]] = []

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        grads = [[p.grad.flatten() for p in group["params"] if p.grad is not None] for group in optimizer.param_groups]
        norms.append([float(torch.cat(grad).norm()) for grad in grads])

    model.optimizer.register_step_pre_hook(note)
    model.train()
    largest = torch.tensor(norms).max(0).values
    assert largest.shape == (3,)
    if limit < 1:
        torch.testing.assert_close(largest, torch.full((3,), limit), rtol=1e-2, atol=0.0)
    else:
        assert ((largest > 1e-3) & (largest < limit)).all()


@pytest.mark.parametrize("critic", ["features", "own"])
def test_a_rollout_that_stops_in_an_episode_is_worth_what_comes_after_it(critic: str) -> None:
    model = learner("ltc", visual=True, critic=critic, n_steps=8)
    collect(model, 2)
    buffer = model.rollout_buffer
    content, elapsed, starts = model.learner.observe()
    assert model.learner.state is not None
    with torch.no_grad():
        features = model.policy.head(content)[:, None]
        _, values, _ = model.policy(features, model.learner.state, elapsed[:, None], starts[:, None])
    going = ~buffer.ends[:, -1]
    assert going.any()
    expected = buffer.rewards[:, -1] + model.config.gamma * values[:, 0] * going - buffer.values[:, -1]
    torch.testing.assert_close(buffer.advantages[:, -1], expected, atol=1e-5, rtol=0.0)


def test_the_clip_range_follows_its_schedule() -> None:
    model = learner("gru", clip_range=0.3, clip_range_end=0.5)
    model.learn(96)  # Two rollouts; the log of the last one's update has not been written yet.
    assert model.logger.name_to_value["train/clip_range"] == pytest.approx(0.15)
    assert "train/imitator_kl_coef" not in model.logger.name_to_value, "no driver to be held near"


def test_rates_and_weights_go_by_what_is_left_of_the_training() -> None:
    driver = learner("ltc", visual=True).policy.driver()
    env = make_vector_env(lambda: Drifting(visual=True), 3)
    rates: dict[str, Any] = {"learning_rate": 1e-3, "core_learning_rate": 4e-3, "learning_rate_end": 0.5}
    near: dict[str, Any] = {"imitator_kl_coef": 8.0, "imitator_kl_coef_end": 0.25, "clip_range_end": 0.1}
    sizes = {"n_steps": 16, "chunk": 8, "batch_size": 16, "n_epochs": 1}
    model = LiquidPPO(config_for(driver), env, init_from=driver, **rates, **near, **sizes)
    collect(model)
    figures, passes = update.train(model.learner, 0.2)
    rates = {group["name"]: group["lr"] for group in model.optimizer.param_groups}
    assert rates == pytest.approx({"head": 0.6e-3, "core": 2.4e-3, "critic": 0.6e-3}) and passes == 1
    assert figures["imitator_kl_coef"] == pytest.approx(8.0 * 0.4)
    assert (figures["learning_rate"], figures["core_learning_rate"]) == pytest.approx((0.6e-3, 2.4e-3))
    assert figures["clip_range"] == pytest.approx(0.2 * 0.28)


def test_figures_are_means_over_minibatches_of_what_they_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    model = learner("gru", core_learning_rate=2e-2)
    collect(model)
    seen: list[tuple[Chunks, dict[str, float]]] = []

    def noted(networks: Any, batch: Chunks, *more: Any) -> Any:
        loss, figures = objective(networks, batch, *more)
        with torch.no_grad():
            features, motors, _ = evaluate_actions(networks, batch)
            ratio = (networks.actions.log_prob(motors, features, batch.actions) - batch.log_prob).exp()
        assert float(figures["approx_kl"]) == pytest.approx(float((ratio - 1 - ratio.log()).mean()), abs=1e-6)
        seen.append((batch, {name: float(figure) for name, figure in figures.items()}))
        return loss, figures

    monkeypatch.setattr(update, "objective", noted)
    figures, _ = update.train(model.learner, 1.0)
    assert len(seen) == 6 and seen[-1][1]["approx_kl"] > 1e-4
    for name in seen[0][1]:
        assert figures[name] == pytest.approx(sum(one[name] for _, one in seen) / 6, rel=1e-4, abs=1e-7), name
    values, returns = model.rollout_buffer.values, model.rollout_buffer.returns
    assert figures["explained_variance"] == pytest.approx(
        1 - float((returns - values).var() / returns.var()), rel=1e-4, abs=1e-5
    )


def test_a_rollout_keeps_what_the_imitator_would_have_done_and_forgets_between_episodes() -> None:
    driver = learner("ltc", visual=True).policy.driver()
    env = make_vector_env(lambda: Drifting(visual=True), 3)
    sizes = {"n_steps": 24, "chunk": 8, "batch_size": 24, "n_epochs": 1}
    model = LiquidPPO(config_for(driver), env, init_from=driver, imitator_kl_coef=1.0, **sizes)
    collect(model)
    buffer = model.rollout_buffer
    assert buffer.starts[:, 1:].any()
    with torch.no_grad():
        expected, _ = driver.motors(buffer.content, None, buffer.elapsed, buffer.starts)
    torch.testing.assert_close(buffer.imitator, expected, rtol=1e-3, atol=1e-5)


def test_advantages_of_a_rollout_reach_as_far_as_lambda_says() -> None:
    model = learner("gru", gae_lambda=0.5, gamma=0.9)
    collect(model)
    buffer = model.rollout_buffer
    content, elapsed, starts = model.learner.observe()
    with torch.no_grad():
        features = model.policy.head(content)[:, None]
        _, values, _ = model.policy(features, model.learner.state, elapsed[:, None], starts[:, None])
    given = (one.numpy() for one in (buffer.rewards, buffer.values, buffer.ends, values[:, 0]))
    np.testing.assert_allclose(buffer.advantages.numpy(), slow_advantages(*given, 0.9, 0.5), atol=1e-5)
