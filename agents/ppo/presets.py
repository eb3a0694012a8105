"""Hyperparameters of PPO for each world, in one place, with what each reached.

    wormwheel train ppo --env LaneKeeping --core ltc

takes the preset of that name; every number can be given on the command line instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agents.ppo.config import PPOConfig


@dataclass(frozen=True)
class Preset:
    """How to learn in one world."""

    steps: int
    """Steps of all envs together."""
    envs: int
    """N, envs side by side."""
    learning: PPOConfig
    """How to learn."""
    networks: dict[str, Any] = field(default_factory=dict)
    """Fields of `ActorCriticConfig` that differ from its defaults."""
    normalize_reward: bool = False
    """Divide rewards by the running deviation of the discounted return (`VecNormalize`)."""
    replay_failed_prob: float = 0.0
    """Probability that an episode which was terminated is replayed (`ReplayableEpisodes`)."""
    world: dict[str, Any] = field(default_factory=dict)
    """Fields of `LaneKeepingConfig` that differ from its defaults while training."""
    evaluate_every: int = 20_000
    """Steps between two evaluations; the best and the last learner are kept then."""
    evaluate_episodes: int = 10
    """Episodes of an evaluation."""
    reached: str = "not measured yet"
    """Score, steps, seeds and command."""


PRESETS: dict[str, Preset] = {
    "LaneKeeping": Preset(
        steps=2_000_000,
        envs=32,  # Each env has a look of its own: an update should see many.
        learning=PPOConfig(
            n_steps=64,
            chunk=32,
            batch_size=512,
            n_epochs=2,  # With four, updates go so far (KL 0.02) that good drivers were lost again.
            learning_rate=4e-4,  # At 1e-3 and 5e-3 updates end early and gain nothing on their own data.
            core_learning_rate=1.5e-3,
            learning_rate_end=0.1,
            gamma=0.96,
            target_kl=0.03,
        ),
        networks={"log_std_init": -1.0},
        normalize_reward=True,
        replay_failed_prob=0.9,  # Odd looks end in a second, plain ones last: else they would make up few steps.
        world={
            "vehicle": "bicycle",
            "variety": 0.5,  # The test is at 0.35. At 0.9, 300,000 steps left 12 to 15 crashes of 40, at 0.5 8.
            "episode_s": 20.0,
            "start_offset": 0.4,
            "height": 32,
            "width": 64,
        },
        evaluate_every=100_000,
        evaluate_episodes=20,
        reached="LTC, seeds 0 to 2, crashes of 20 unseen roads of 60 s, PyBullet's racecar: 1, 1, 1 after half an hour "
        "of one thread, 0, 0, 0 after a million steps more among odder looks (python -m experiments.ppo_curves)",
    ),
    "CarRacing": Preset(
        steps=500_000,
        envs=8,
        learning=PPOConfig(
            n_steps=256, chunk=32, batch_size=512, learning_rate_end=0.1, core_learning_rate=5e-3, target_kl=0.03
        ),
        networks={"log_std_init": -1.0, "nominal_period_s": 0.02},
        normalize_reward=True,
        evaluate_every=50_000,
    ),
    "CarRacing-v3": Preset(
        steps=400_000,
        envs=16,
        learning=PPOConfig(
            n_steps=128,
            chunk=32,
            batch_size=512,
            n_epochs=4,
            learning_rate=5e-4,
            core_learning_rate=2e-3,
            learning_rate_end=0.1,
            target_kl=0.03,
        ),
        networks={"log_std_init": -0.5, "nominal_period_s": 0.08},
        normalize_reward=True,
        evaluate_every=25_000,
        evaluate_episodes=5,
        reached="LTC 827 [803, 849], 100 episodes, seed 0, after 376,832 of 400,000 steps (1.5 million frames), an "
        "hour of one core (wormwheel train ppo --env CarRacing-v3; wormwheel evaluate --episodes 100)",
    ),
    "Pendulum-v1": Preset(
        steps=200_000,
        envs=4,
        learning=PPOConfig(n_steps=256, chunk=16, batch_size=256, n_epochs=10, gamma=0.9, learning_rate_end=0.1),
        networks={"log_std_init": 0.0},
        normalize_reward=True,
        reached="LTC −158 [−210, −105] after 20,000 steps, 10 episodes, seed 0 (wormwheel train ppo --env Pendulum-v1 "
        "--steps 20000 --evaluate-every 10000)",
    ),
    "CartPole-v1": Preset(
        steps=50_000,
        envs=8,
        learning=PPOConfig(n_steps=64, chunk=16, batch_size=128, n_epochs=8, gamma=0.98),
        evaluate_every=10_000,
        reached="LTC 500 of 500 after 50,000 steps, 10 episodes, seed 0 (wormwheel train ppo --env CartPole-v1)",
    ),
    "CartPole-memory": Preset(
        steps=200_000,
        envs=8,
        learning=PPOConfig(n_steps=128, chunk=32, batch_size=256, n_epochs=8, gamma=0.98),
        networks={"critic": "own"},
        evaluate_every=10_000,
        reached="475 and more of 500 in 3 of 3 seeds: LTC after 57,000 to 115,000 steps, CfC 25,000 to 41,000, LSTM "
        "25,000 to 33,000; feed-forward at most 46 (python -m experiments.tasks.memory_cartpole --seeds 3)",
    ),
}
"""By the name that `--env` takes."""

DEFAULT = Preset(steps=100_000, envs=8, learning=PPOConfig(), normalize_reward=True)
"""For worlds that are not in `PRESETS`."""


def preset_for(world: str) -> Preset:
    """Return the preset of a world, or the default one."""
    return PRESETS.get(world, DEFAULT)
