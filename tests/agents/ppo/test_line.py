"""From seeds to the best checkpoint: who sees which episode, what ends an update, what a resumed run counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.ppo import update
from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import FILE, read_learner
from agents.ppo.evaluate import EVALUATION_SEED, MiddleAction, evaluate
from agents.ppo.replay import make_vector_env
from agents.runs.directory import RunDirectory
from experiments.console import Bar
from experiments.train_ppo_callback import EvalCheckpointCallback
from tests.agents.ppo.test_rollout import collect
from tests.agents.ppo.toys import Drifting, learner


class Levels(gymnasium.Env[Any, Any]):
    """Shows the seed of its episode, scaled to [0, 1]; every episode has five steps."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    seeds: list[int] = []
    """Of all episodes of all envs, in order."""
    length, reward = 5, 1.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert seed is not None
        Levels.seeds.append(seed)
        self.steps, self.shown = 0, np.array([seed / 2**31], np.float32)
        return self.shown, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self.shown, Levels.reward, self.steps >= Levels.length, False, {}


def episodes_seen(seed: int) -> list[set[float]]:
    """What each of three envs shows in a rollout of a learner with a seed."""
    model = LiquidPPO("gru", make_vector_env(Levels, 3), seed=seed, n_steps=40, chunk=8, batch_size=24)
    collect(model)
    return [set(shown.flatten().tolist()) for shown in model.rollout_buffer.content]


def test_the_seed_decides_the_episodes_and_no_two_envs_or_runs_share_one() -> None:
    first, again, other = episodes_seen(0), episodes_seen(0), episodes_seen(1)
    assert first == again
    everyone = [*first, *other]
    assert all(len(seen) == 8 for seen in everyone)  # 40 steps of episodes of five.
    assert len(set.union(*everyone)) == 8 * len(everyone)


def test_a_learner_whose_envs_cannot_be_put_back_begins_episodes_that_it_has_not_seen(tmp_path: Path) -> None:
    class Drawn(Levels):
        """Draws what an episode shows from the generator that the first seed has set, as most envs do."""

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            gymnasium.Env.reset(self, seed=seed)
            self.steps, self.shown = 0, self.np_random.random(1, np.float32)
            return self.shown, {}

    def rollout(model: LiquidPPO) -> set[float]:
        model.learn(16, reset_num_timesteps=False)
        return set(model.rollout_buffer.content.flatten().tolist())

    plain, sizes = [Drawn, Drawn], {"n_steps": 8, "chunk": 8, "batch_size": 16}
    model = LiquidPPO("gru", DummyVecEnv(plain), seed=3, **sizes)
    seen = rollout(model)
    model.save(tmp_path / "saved")
    further = [rollout(LiquidPPO.load(tmp_path / "saved", DummyVecEnv(plain))) for _ in range(2)]
    assert further[0] == further[1] and not seen & further[0]


def test_an_evaluation_has_as_many_roads_as_episodes() -> None:
    Levels.seeds = []
    model = LiquidPPO("gru", Levels(), n_steps=8, chunk=8, batch_size=8)
    Levels.seeds = []
    news: list[tuple[int, int]] = []
    scores = evaluate(model, Levels, range(70, 80), side_by_side=4, on_step=lambda *one: news.append(one))
    assert [sum(one) for one in zip(*news, strict=True)] == [10 * Levels.length, 10], "steps made, episodes ended"
    assert sorted(Levels.seeds) == [score.seed for score in scores] == list(range(70, 80))


def keeper(path: Path, episodes: int = 3) -> EvalCheckpointCallback:
    return EvalCheckpointCallback(
        Levels, RunDirectory(path, "test", {}), Bar("", 1, "steps", None), 10, episodes, 2, {}
    )


def test_the_best_is_the_one_with_the_highest_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LiquidPPO("gru", make_vector_env(Levels, 1), n_steps=8, chunk=8, batch_size=8)
    model.learn(0)
    callback = keeper(tmp_path)
    Levels.seeds = []
    # In turn: short and worth 20, long and worth 10, shortest and worth 15.
    for steps, (length, total) in enumerate(((4, 20.0), (20, 10.0), (3, 15.0)), start=1):
        monkeypatch.setattr(Levels, "length", length)
        monkeypatch.setattr(Levels, "reward", total / length)
        model.num_timesteps = steps
        callback.finish(model)
    assert model.record["best_at"] == 1 and model.record["best"] == pytest.approx(20.0)
    assert LiquidPPO.load(tmp_path / "policy").num_timesteps == 1
    assert LiquidPPO.load(tmp_path / "last").num_timesteps == 3
    assert LiquidPPO.load(tmp_path / "last-1").num_timesteps == 2
    wanted = set(range(EVALUATION_SEED, EVALUATION_SEED + 3))
    assert set(Levels.seeds) == wanted, "the same roads in each evaluation, none of the training's"


def test_a_reward_that_is_no_number_is_said_and_not_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = LiquidPPO("gru", make_vector_env(Levels, 1), n_steps=8, chunk=8, batch_size=8)
    model.learn(0)
    callback = keeper(tmp_path)
    monkeypatch.setattr(Levels, "reward", float("nan"))
    with pytest.raises(ValueError, match="gave a reward of nan, which is not kept"):
        callback.finish(model)
    assert not (tmp_path / "metrics.jsonl").exists() and not (tmp_path / "policy").exists()


def divergences(target_kl: float) -> list[float]:
    """The divergence at each minibatch of an update that ends by it."""
    model = learner("gru", core_learning_rate=3e-3, n_epochs=10, target_kl=target_kl)
    collect(model)
    seen: list[float] = []
    objective = update.objective

    def noted(*arguments: Any) -> Any:
        loss, figures = objective(*arguments)
        seen.append(float(figures["approx_kl"]))
        return loss, figures

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update, "objective", noted)
        model.train()
    return seen


def test_an_update_ends_at_the_first_divergence_beyond_one_and_a_half_targets() -> None:
    free = divergences(0.0)
    assert len(free) == 10 * 3
    target = float(np.sort(free)[20]) / 1.5 * 0.999  # Some of the minibatches go beyond it.
    first = next(number for number, value in enumerate(free) if value > 1.5 * target)
    assert 0 < first < len(free) - 1
    assert divergences(target) == pytest.approx(free[: first + 1])


def test_a_resumed_run_knows_that_the_warm_up_is_over(tmp_path: Path) -> None:
    model = learner("gru", critic_warmup=2)
    model.learn(2 * 48)
    model.save(tmp_path)
    resumed = LiquidPPO.load(tmp_path, make_vector_env(Drifting, 3))
    assert resumed.learner.rollouts == 2
    before = [tensor.clone() for tensor in resumed.policy.core.parameters()]
    resumed.learn(48, reset_num_timesteps=False)
    assert any(not torch.equal(old, new) for old, new in zip(before, resumed.policy.core.parameters(), strict=True))


def test_a_learner_with_the_former_names_of_options_resumes(tmp_path: Path) -> None:
    model = learner("gru", critic_warmup=2)
    model.learn(48)
    model.save(tmp_path)
    saved = read_learner(tmp_path)
    values = json.loads(json.dumps(saved.values))
    values["ppo"]["leash"] = values["ppo"].pop("imitator_kl_coef")
    values["ppo"]["leash_end"] = 0.25
    del values["ppo"]["imitator_kl_coef_end"]
    safetensors.torch.save_file(saved.tensors, tmp_path / FILE, {"learner": json.dumps(values)})
    assert LiquidPPO.load(tmp_path).config.imitator_kl_coef_end == 0.25


def test_the_middle_of_the_actions_is_halfway_and_the_first_of_discrete_ones() -> None:
    space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 3.0], np.float32))
    actions, state = MiddleAction(space).predict(np.zeros((3, 5)))
    np.testing.assert_array_equal(actions, [[0.0, 1.5]] * 3)
    assert actions.dtype == np.float32 and state is None
    actions, _ = MiddleAction(spaces.Discrete(3, start=2)).predict({"seen": np.zeros((2, 4)), "more": np.zeros((2, 1))})
    np.testing.assert_array_equal(actions, [2, 2])
