"""Saving, loading, going on: bit for bit."""

from __future__ import annotations

import json
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import safetensors.torch
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.checkpoint import FILE, LearnerError
from agents.ppo.replay import ReplayableEpisodes, episode_seed, make_vector_env
from policies.checkpoint import load_policy
from policies.policy import DrivingPolicy
from tests.agents.ppo.toys import Drifting, learner

SIZES = {"n_steps": 16, "chunk": 8, "batch_size": 16, "n_epochs": 2}
FALLING = {"learning_rate_end": 0.0, "clip_range_end": 0.5}


def vector(visual: bool, normalised: bool) -> Any:
    made = make_vector_env(lambda: Drifting(visual=visual), 3)
    return VecNormalize(made, norm_obs=not visual, norm_reward=True) if normalised else made


def same(one: LiquidPPO, two: LiquidPPO) -> None:
    """Compare weights and optimizer bit for bit."""
    for (name, mine), (_, theirs) in zip(one.policy.state_dict().items(), two.policy.state_dict().items(), strict=True):
        assert torch.equal(mine, theirs), name
    mine, theirs = (model.optimizer.state_dict()["state"] for model in (one, two))
    for index in mine:
        for name in mine[index]:
            assert torch.equal(mine[index][name], theirs[index][name])


@pytest.mark.parametrize(
    ("core", "visual", "normalised"),
    [("ltc", True, True), ("ltc", False, False), ("lstm", False, True), ("lstm", True, False)],
)
def test_a_resumed_run_equals_one_that_was_not_interrupted(
    core: str, visual: bool, normalised: bool, tmp_path: Path
) -> None:
    options: dict[str, Any] = {**SIZES, **FALLING, "critic": "own", "target_kl": 0.5}
    if core == "lstm" and normalised:  # its end comes after the kill: how many rollouts there were is known again
        options["critic_warmup"] = 3
    whole = LiquidPPO(core, vector(visual, normalised), seed=3, **options)
    whole.learn(192)
    half = LiquidPPO(core, vector(visual, normalised), seed=3, **options)

    class KillInTheMiddle(BaseCallback):
        def _on_rollout_start(self) -> None:
            if self.num_timesteps == 96:
                half.save(tmp_path)
                raise KeyboardInterrupt

        def _on_step(self) -> bool:
            return True

    with pytest.raises(KeyboardInterrupt):
        half.learn(192, callback=KillInTheMiddle())
    random.random(), np.random.random(), torch.rand(3)  # What others draw in between changes nothing.
    resumed = LiquidPPO.load(tmp_path, vector(visual, normalised))
    resumed.learn(192 - resumed.num_timesteps, reset_num_timesteps=False)
    assert resumed.num_timesteps == whole.num_timesteps == 192
    same(whole, resumed)
    assert torch.equal(whole.rollout_buffer.content, resumed.rollout_buffer.content)
    assert [info["r"] for info in whole.ep_info_buffer] == [info["r"] for info in resumed.ep_info_buffer]


def test_two_runs_are_equal_and_another_seed_is_not() -> None:
    one, two, other = (learner("ltc", visual=True, seed=seed) for seed in (1, 1, 2))
    for model in (one, two, other):
        model.learn(96)
    same(one, two)
    assert not torch.equal(one.policy.head.conv.readout_weight, other.policy.head.conv.readout_weight)  # type: ignore[union-attr]


@pytest.mark.parametrize("world", [{}, {"visual": True}, {"discrete": True}])
def test_a_loaded_learner_acts_alike(world: dict[str, bool], tmp_path: Path) -> None:
    model = learner("ltc", **world)
    model.learn(96)
    model.save(tmp_path / "learner")
    loaded = LiquidPPO.load(tmp_path / "learner")
    assert loaded.num_timesteps == 96
    observation, state = model.env.reset(), None
    state_2 = None
    for _ in range(4):
        action, state = model.predict(observation, state)
        action_2, state_2 = loaded.predict(observation, state_2)
        np.testing.assert_array_equal(action, action_2)
        np.testing.assert_array_equal(state, state_2)


def test_a_driver_is_saved_as_an_ordinary_policy(tmp_path: Path) -> None:
    model = learner("ltc", visual=True)
    model.learn(96)
    model.save(tmp_path)
    policy = load_policy(tmp_path)
    frames = torch.randint(0, 256, (1, 5, 16, 24, 3), dtype=torch.uint8)
    with torch.no_grad():
        steering, _ = policy(frames)
    state = None
    for step in range(5):
        action, state = model.predict(
            {"camera": frames[0, step].numpy(), "elapsed": np.ones(1, np.float32)}, state, deterministic=True
        )
        assert action == pytest.approx(2.0 * float(steering[0, step, 0]), abs=1e-5)  # Its actions reach from −2 to 2.


def test_start_from_a_driver_and_stay_near_it(tmp_path: Path) -> None:
    from agents.ppo.actor_critic import config_for

    first = learner("ltc", visual=True)
    driver = first.policy.driver()

    def env() -> Any:
        return make_vector_env(lambda: Drifting(visual=True), 3)

    # Envs of their own, so that nothing but the divergence differs.
    free, held = (
        LiquidPPO(
            config_for(driver),
            env(),
            init_from=driver,
            seed=5,
            imitator_kl_coef=coef,
            imitator_kl_coef_end=1.0,
            **SIZES,
        )
        for coef in (0.0, 30.0)
    )
    for model in (free, held):
        for mine, theirs in zip(model.policy.driver().parameters(), driver.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    frames = torch.randint(0, 256, (4, 16, 16, 24, 3), dtype=torch.uint8)
    before = driver.motors(frames)[0].detach().clone()
    far = {}
    for name, model in (("free", free), ("held", held)):
        model.learn(240)
        far[name] = float((model.policy.driver().motors(frames)[0] - before).detach().square().mean())
    assert far["held"] < 0.5 * far["free"]
    assert held.logger.name_to_value["train/imitator_kl_coef"] == 30.0
    held.save(tmp_path)
    again = LiquidPPO.load(tmp_path, env())
    held.learn(48, reset_num_timesteps=False)
    again.learn(48, reset_num_timesteps=False)
    same(held, again)


def test_the_critic_warms_up_alone() -> None:
    model = learner("ltc", visual=True, critic="shared", critic_warmup=2)
    before = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(96)
    changed = {
        name.split(".")[0] for name, old in before.items() if not torch.equal(old, model.policy.state_dict()[name])
    }
    assert changed == {"critic"}
    model.learn(48, reset_num_timesteps=False)
    assert not torch.equal(before["actions.log_std"], model.policy.actions.log_std)  # type: ignore[arg-type]


def test_an_env_goes_back_where_it_was() -> None:
    env = ReplayableEpisodes(Drifting())
    env.reset(seed=4)
    env.reset()
    for _ in range(3):
        env.step(np.zeros(1))
    there = env.snapshot()
    ahead = [env.step(np.ones(1))[:2] for _ in range(3)]
    other = ReplayableEpisodes(Drifting())
    other.restore(there)
    for mine, (observation, reward) in zip((other.step(np.ones(1)) for _ in range(3)), ahead, strict=True):
        np.testing.assert_array_equal(mine[0], observation)
        assert mine[1] == reward


@pytest.mark.parametrize("last", [-1.0, 1.0])
def test_an_env_that_ends_on_the_way_back_is_not_the_same(last: float) -> None:
    """Ended or cut short: in the saved run it did neither."""
    env = ReplayableEpisodes(Levels())
    env.reset(seed=4)
    env.step(np.zeros(1))
    there = env.snapshot()
    with pytest.raises(RuntimeError, match="ended its episode at step 2 of the 2"):
        env.restore(there | {"actions": [np.zeros(1), np.array([last])]})


class Levels(gymnasium.Env[np.ndarray, np.ndarray]):
    """Shows what it was seeded with; the action decides whether it ends well or badly."""

    observation_space = gymnasium.spaces.Box(0, 2.0**31, (1,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.array([float(seed)]), {}

    def step(self, action):
        return np.zeros(1), 0.0, bool(action[0] < 0), bool(action[0] > 0), {}


def test_each_episode_has_the_seed_of_its_number() -> None:
    env = ReplayableEpisodes(Levels())
    assert [env.reset(seed=seed)[0][0] for seed in (3, None, None)] == [episode_seed(3, n) for n in range(3)]


def test_what_ended_badly_is_met_again() -> None:
    env = ReplayableEpisodes(Levels(), replay_failed_prob=0.7)
    levels = {-1.0: [env.reset(seed=3)[0][0]], 1.0: []}
    for outcome in (-1.0, 1.0):
        for _ in range(400):
            env.step(np.array([outcome]))
            levels[outcome].append(env.reset()[0][0])
    again = {outcome: np.mean(np.diff(seen) == 0) for outcome, seen in levels.items()}
    assert abs(again[-1.0] - 0.7) < 0.07 and again[1.0] == 0.0
    assert len(set(levels[-1.0]) & set(levels[1.0][1:])) == 0  # Every other level is a new one.
    # An env that goes back into a repeated episode meets the same ones from there.
    other = ReplayableEpisodes(Levels(), replay_failed_prob=0.7)
    while env.snapshot()["level"] == env.snapshot()["episode"]:
        env.step(np.array([-1.0]))
        env.reset()
    other.restore(env.snapshot())
    ahead = []
    for one in (env, other):
        ahead.append([])
        for _ in range(9):
            one.step(np.array([-1.0]))
            ahead[-1].append(one.reset()[0][0])
    assert ahead[0] == ahead[1]


def test_errors_say_what_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LearnerError, match="holds no learner"):
        LiquidPPO.load(tmp_path)
    model = learner("gru")
    model.learn(48)
    model.save(tmp_path)
    with pytest.raises(LearnerError, match="observation space"):
        LiquidPPO.load(tmp_path, make_vector_env(lambda: Drifting(visual=True), 3))
    with pytest.raises(LearnerError, match="no VecNormalize"):
        LiquidPPO.load(tmp_path, vector(False, True))
    LiquidPPO.load(tmp_path, DummyVecEnv([Drifting] * 3))
    assert "new episodes" in caplog.text
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(LearnerError, match="is damaged"):
        LiquidPPO.load(tmp_path)
    foreign = {"format": "wormwheel-ppo", "format_version": 1, "ppo": {"colour": 1}}
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / FILE, {"learner": json.dumps(foreign)})
    with pytest.raises(LearnerError, match="does not have the fields of this version"):
        LiquidPPO.load(tmp_path)
    newer = {"learner": json.dumps({"format": "wormwheel-ppo", "format_version": 99})}
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / FILE, newer)
    with pytest.raises(LearnerError, match="version 99"):
        LiquidPPO.load(tmp_path)
    with pytest.raises(ValueError, match="multiple of chunk"):
        learner("gru", n_steps=20)
    with pytest.raises(ValueError, match="no option colour"):
        learner("gru", colour=1)
    with pytest.raises(ValueError, match="init_from"):
        learner("gru", imitator_kl_coef=1.0)


def test_what_may_change_when_a_learner_is_loaded(tmp_path: Path) -> None:
    model = learner("gru")
    model.learn(48)
    model.save(tmp_path)
    changed = LiquidPPO.load(tmp_path, make_vector_env(Drifting, 3), n_steps=32, learning_rate=1e-5)
    assert (changed.config.n_steps, changed.config.learning_rate) == (32, 1e-5)
    assert changed.config.chunk == model.config.chunk
    changed.learn(96, reset_num_timesteps=False)
    assert changed.num_timesteps == 48 + 96
    for options, words in (
        ({"critic": "own"}, "critic cannot be changed"),
        ({"imitator_kl_coef": 1.0}, "was not held near a driver"),
        ({"n_steps": 20}, "multiple of chunk"),
    ):
        with pytest.raises(ValueError, match=words):
            LiquidPPO.load(tmp_path, **options)


def test_a_normaliser_goes_on_as_it_was(tmp_path: Path) -> None:
    model = LiquidPPO("gru", vector(False, True), **SIZES)
    model.learn(48)
    model.save(tmp_path)
    for options, words in (({"norm_obs": False}, "norm_obs = True, not False"), ({"gamma": 0.5}, "gamma = 0.99, not")):
        with pytest.raises(LearnerError, match=words):
            LiquidPPO.load(tmp_path, VecNormalize(make_vector_env(Drifting, 3), **options))
    again = VecNormalize(make_vector_env(Drifting, 3))
    LiquidPPO.load(tmp_path, again)
    before = model.get_vec_normalize_env()
    assert before is not None
    np.testing.assert_array_equal(again.obs_rms.mean, before.obs_rms.mean)  # type: ignore[union-attr]
    np.testing.assert_array_equal(again.returns, before.returns)


@pytest.mark.parametrize("moment", ["_on_rollout_start", "_on_step", "_on_rollout_end"])
def test_saved_in_the_middle_of_a_rollout_says_so(
    moment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Save(BaseCallback):
        def _on_step(self) -> bool:
            return True

    def save(callback: BaseCallback) -> bool:
        callback.model.save(tmp_path)
        return True

    setattr(Save, moment, save)
    learner("gru").learn(96, callback=Save())
    LiquidPPO.load(tmp_path, make_vector_env(Drifting, 3))
    assert ("in the middle of a rollout" in caplog.text) == (moment != "_on_rollout_start")


class Bomb:
    """What a pickle can do."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("exploded"),)


def test_nothing_that_is_loaded_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = learner("ltc", visual=True)
    model.learn(48)
    model.save("learner")
    for file in (tmp_path / "learner").rglob("*"):
        assert not zipfile.is_zipfile(file), "a zip may hold pickles"

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was unpickled")

    with monkeypatch.context() as patch:
        for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
            patch.setattr(module, name, refuse)
        LiquidPPO.load("learner", make_vector_env(lambda: Drifting(visual=True), 3))
    for content in (pickle.dumps(Bomb()), b"PK" + pickle.dumps(Bomb())):
        (tmp_path / "learner" / FILE).write_bytes(content)
        with pytest.raises(LearnerError, match="is damaged"):
            LiquidPPO.load("learner")
    assert not Path("exploded").exists()


def test_the_imitator_needs_the_same_parts() -> None:
    model = learner("ltc", visual=True)
    other = learner("gru", visual=True).policy.driver()
    assert isinstance(other, DrivingPolicy)
    with pytest.raises(ValueError, match="differs in core"):
        model.policy.adopt(other)
