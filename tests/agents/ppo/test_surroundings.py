"""What users of Stable-Baselines3 know works: callbacks, evaluation, normalisers, logs, single envs, plain images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize, VecTransposeImage

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.config import PPOConfig, scheduled
from agents.ppo.envs import PEDAL_FRAMES, NoisyCamera, WithoutVelocities, make_world
from agents.ppo.observations import ObservationAdapter, space_from_json, space_to_json
from agents.ppo.presets import PRESETS, preset_for
from agents.ppo.replay import make_vector_env
from tests.agents.ppo.toys import Drifting, learner

SIZES: dict[str, Any] = {"n_steps": 16, "chunk": 8, "batch_size": 32, "n_epochs": 1}
LOGGED = {
    *("rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "time/total_timesteps", "train/approx_kl"),
    *("train/clip_fraction", "train/entropy_loss", "train/explained_variance", "train/learning_rate", "train/loss"),
    *("train/policy_gradient_loss", "train/value_loss", "train/std", "train/clip_range", "train/n_updates"),
}


def test_callbacks_evaluation_and_checkpoints(tmp_path: Path) -> None:
    model = learner("ltc", visual=True)
    other = make_vector_env(lambda: Drifting(visual=True), 2)
    best = EvalCallback(other, best_model_save_path=str(tmp_path), eval_freq=16, n_eval_episodes=2, verbose=0)
    kept = CheckpointCallback(16, str(tmp_path / "kept"))
    model.learn(96, callback=[best, kept])
    mean, deviation = evaluate_policy(model, other, n_eval_episodes=3)
    assert np.isfinite([mean, deviation]).all()
    assert LiquidPPO.load(tmp_path / "best_model").num_timesteps > 0
    assert LiquidPPO.load(tmp_path / "kept" / "rl_model_96_steps.zip").num_timesteps == 96


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_a_progress_bar_and_a_callback_that_stops(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tqdm")
    model = learner("gru")
    model.learn(96, progress_bar=True)
    assert "96/96" in "".join(capsys.readouterr())
    model = learner("gru")
    model.learn(480, callback=StopTrainingOnMaxEpisodes(2))
    assert 0 < model.num_timesteps < 96


def test_log_has_the_names_that_users_know(tmp_path: Path) -> None:
    model = learner("ltc")
    model.set_logger(configure(str(tmp_path), ["json", "tensorboard"]))
    model.learn(144)
    model.logger.close()
    (line, *_) = reversed((tmp_path / "progress.json").read_text().splitlines())
    assert LOGGED <= set(json.loads(line))
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_schedules_and_the_target_of_the_divergence() -> None:
    assert [scheduled(0.2, 0.5, left) for left in (1.0, 0.5, 0.0)] == pytest.approx([0.2, 0.15, 0.1])
    model = learner("ltc", learning_rate=1e-2, core_learning_rate=2e-2, learning_rate_end=0.0)
    model.learn(96)
    rates = [group["lr"] for group in model.optimizer.param_groups]
    assert rates == [0.0, 0.0, 0.0]  # Head, core, critic; at the last update nothing is left.
    model = learner("ltc", target_kl=1e-9, n_epochs=50, core_learning_rate=0.1)
    model.learn(48)
    assert model._n_updates < 5


def test_schedules_are_not_functions() -> None:
    for name in ("learning_rate", "core_learning_rate", "clip_range"):
        with pytest.raises(ValueError, match=rf"{name}\n +Input should be a valid number"):
            learner("gru", **{name: lambda left: 1e-3 * left})


def test_a_last_minibatch_of_one_step() -> None:
    model = learner("gru", envs=1, n_steps=9, chunk=1, batch_size=4)
    model.learn(9)
    assert all(torch.isfinite(tensor).all() for tensor in model.policy.parameters())


def test_values_that_have_moved_too_far_are_not_moved_further() -> None:
    for limit, moves in ((0.0, True), (0.1, False)):
        model = learner("gru", clip_range_vf=limit)
        model.learn(48)
        model.rollout_buffer.values += 10.0  # As if all values had fallen by 10 since the rollout.
        model.optimizer.state.clear()
        before = [tensor.clone() for tensor in model.policy.critic.parameters()]
        model.train()
        after = model.policy.critic.parameters()
        assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True)) is moves


def test_single_env_by_id_and_single_observation() -> None:
    model = LiquidPPO("cfc", "Pendulum-v1", **SIZES)
    model.learn(32)
    action, state = model.predict(np.array([1.0, 0.0, 0.0], np.float32), deterministic=True)
    assert action.shape == (1,) and abs(action[0]) <= 2.0 and state.shape == (1, model.policy.state_size)


class Picture(gymnasium.Env[Any, Any]):
    """A plain image Box, optionally channels first or grey."""

    action_space = spaces.Discrete(3, start=4)

    def __init__(self, shape: tuple[int, ...]):
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return self.observation_space.sample(), 1.0, bool(self.np_random.random() < 0.1), False, {}


@pytest.mark.parametrize("shape", [(16, 24, 3), (3, 16, 24), (16, 24, 1)])
def test_plain_images(shape: tuple[int, ...]) -> None:
    env: Any = make_vector_env(lambda: Picture(shape), 2)
    model = LiquidPPO("lstm", VecTransposeImage(env) if shape == (16, 24, 3) else env, **SIZES)
    model.learn(32)
    assert model.rollout_buffer.content.dtype.itemsize == 1
    assert model.rollout_buffer.content.shape[2:] == (16, 24, 3)


def test_channels_first_is_turned_not_shuffled() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3), np.uint8)
    first = ObservationAdapter(spaces.Box(0, 255, (3, 16, 24), np.uint8))
    content, elapsed = first(frames.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(content.numpy(), frames)
    assert elapsed.tolist() == [1.0, 1.0]


def test_spaces_survive_json() -> None:
    for space in (
        Drifting(visual=True).observation_space,
        spaces.Box(np.array([-1.0, -np.inf], np.float32), np.array([2.0, np.inf], np.float32)),
        spaces.Discrete(3, start=2),
    ):
        assert space_from_json(json.loads(json.dumps(space_to_json(space)))) == space


def test_spaces_that_are_not_supported_are_named() -> None:
    with pytest.raises(ValueError, match="observation space is Discrete"):
        ObservationAdapter(spaces.Discrete(3))
    env = Drifting()
    env.action_space = spaces.MultiBinary(2)
    with pytest.raises(ValueError, match="actions must be Discrete or a Box"):
        LiquidPPO("gru", env)


def test_normalised_rewards_and_observations() -> None:
    env = VecNormalize(make_vector_env(Drifting, 3), gamma=0.9)
    model = LiquidPPO("ltc", env, **SIZES)
    model.learn(96)
    assert env.ret_rms.count > 90 and model.get_vec_normalize_env() is env


def test_worlds() -> None:
    masked = make_world("CartPole-memory")
    assert isinstance(masked, WithoutVelocities)
    plain = gymnasium.make("CartPole-v1")
    shown, (place_m, _, angle_rad, _) = masked.reset(seed=0)[0], plain.reset(seed=0)[0]
    for action in (0, 0, 1, 0):
        assert masked.observation_space.contains(shown)
        assert shown == pytest.approx([place_m / 2.4, angle_rad / 0.2095], rel=1e-5), "place and angle, no velocity"
        shown, (place_m, _, angle_rad, _) = masked.step(action)[0], plain.step(action)[0]
    with pytest.raises(ValueError, match="there is no world 'Nowhere-v0'"):
        make_world("Nowhere-v0")
    noisy = NoisyCamera(Drifting(visual=True), 0.3)
    frames = [noisy.reset(seed=3)[0]["camera"] for _ in range(2)]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], noisy.reset()[0]["camera"])
    with pytest.raises(ValueError, match="needs an env with a camera"):
        make_world("CartPole-v1", noise_variance=0.1)


def test_car_racing_with_one_pedal() -> None:
    pytest.importorskip("Box2D")
    last = 2 * PEDAL_FRAMES + 1  # It ends while an action is held.
    env, plain = make_world("CarRacing-v3"), gymnasium.make("CarRacing-v3", max_episode_steps=last)
    env.env._max_episode_steps = last  # type: ignore[attr-defined]
    frame, seen = env.reset(seed=1)[0], plain.reset(seed=1)[0]
    for steering, gas, brake in ((0.5, 1.0, 0.0), (-0.5, 0.0, 0.75), (0.0, 0.25, 0.0)):
        frame, reward, *ends, _ = env.step(np.array([steering, gas - brake], np.float32))
        total, over = 0.0, False
        for _ in range(PEDAL_FRAMES):
            if not over:
                seen, gained, *others, _ = plain.step(np.array([-steering, gas, brake]))
                total, over = total + float(gained), any(others)
        assert frame.shape == (64, 64, 3) and frame.dtype == np.uint8
        np.testing.assert_array_equal(frame, cv2.resize(seen, (64, 64), interpolation=cv2.INTER_AREA))
        assert reward == pytest.approx(total, abs=1e-5) and ends == others
    assert ends == [False, True]
    env.close()
    plain.close()


def test_presets_are_complete() -> None:
    assert preset_for("LaneKeeping") is PRESETS["LaneKeeping"]
    assert preset_for("Acrobot-v1").learning == PPOConfig()
    for name, preset in PRESETS.items():
        assert preset.envs * preset.learning.n_steps % preset.learning.batch_size == 0, name
