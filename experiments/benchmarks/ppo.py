"""How fast PPO learns from frames: a liquid core beside the recurrent and the feed-forward PPO of Stable-Baselines3.

    python -m experiments.benchmarks.ppo --json ppo.json
    python -m experiments.benchmarks.ppo --vector-envs --world racecar [--training]  # in which processes?

Steps of the env a second, updates included. Every contestant has the same env, the same conv head, a critic of 64
hidden units, the same minibatches and the same number of passes; they take turns. Our critic and that of the
feed-forward peer sit on the head's features, the recurrent peer's on an LSTM. That peer comes twice: with the LSTMs
that it makes if nothing is said (256 units each for actor and critic), and with one of `--hidden` units that actor and
critic share, as many cores as ours has. No speed is shown before the heads have
been seen to agree, the learner's probabilities to be those of its rollout, and every contestant to have made the same
number of steps and updates; vector envs have to show the same.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import gymnasium
import torch
import tyro
from gymnasium import spaces
from pydantic import NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.ppo.algorithm import LiquidPPO
from agents.ppo.replay import make_vector_env
from agents.ppo.update import evaluate_actions
from experiments.benchmarks.ppo_envs import make_env, measure_vector_envs
from experiments.cli import run_script
from experiments.console import check_json, progress, table, write_results
from policies.perception import HEADS, ConvHead, whiten

RECURRENT, RECURRENT_SMALL = "sb3-contrib RecurrentPPO, its LSTMs", "sb3-contrib RecurrentPPO, one small LSTM"
FEED_FORWARD = "SB3 PPO, feed-forward"
BARS = {RECURRENT: 4.0, FEED_FORWARD: 0.9}
"""Least ratio of the liquid learner's speed to each peer's."""
LIQUID = "LiquidPPO, LTC"
RATIO_TOLERANCE = 1e-4


@dataclass(frozen=True, config={"extra": "forbid"})
class PPOBenchmark:
    """What to measure."""

    world: Literal["trivial", "lane_keeping", "racecar"] = "trivial"
    """"trivial" (64×96 frames that cost nothing), "lane_keeping" (48×96, bicycle, one look), or "racecar" (LaneKeeping
    as its preset trains it, but with the racecar; new roads are rare, as they are once it drives, except for our
    learner, which has a new one in each episode)."""
    envs: PositiveInt = 8
    """Envs side by side."""
    n_steps: PositiveInt = 128
    """Steps that each env makes between two updates; RecurrentPPO's own default, as the size of a minibatch."""
    batch_size: PositiveInt = 128
    """Steps in a minibatch."""
    n_epochs: PositiveInt = 4
    """Passes over a rollout."""
    chunk: PositiveInt = 16
    """Steps of a sequence of ours."""
    hidden: PositiveInt = 64
    """Units of our LSTM and of the peer's small one."""
    rounds: PositiveInt = 9
    """Turns that each contestant takes, one rollout and its update each, after one to warm up; on a machine whose speed
    comes and goes five left the ratios uncertain by a tenth."""
    threads: NonNegativeInt = 0
    """Threads of torch; 0 leaves its own choice."""
    cpu_time: bool = False
    """Count the processor's time instead of the clock's; for machines that others use too, with --threads 1."""
    vector_envs: bool = False
    """Measure vector envs instead of learners: one process for all, one each, or a few that share memory."""
    training: bool = False
    """With --vector-envs: let our learner act in them, and learn by LaneKeeping's preset, instead of chance."""
    workers: PositiveInt = 2
    """Processes of the vector env with shared memory."""
    json: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write the figures as JSON; nowhere when left out."""


class PeerHead(BaseFeaturesExtractor):
    """Our head for Stable-Baselines3, which hands over float `[N, 3, H, W]` in [0, 255]."""

    def __init__(self, observation_space: spaces.Space[Any]):
        """Build the small head for the frames of a space that has been transposed."""
        assert isinstance(observation_space, spaces.Box)
        _, height, width = observation_space.shape
        generator = torch.Generator().manual_seed(0)
        head = ConvHead(HEADS["small"], height, width, generator)
        super().__init__(observation_space, head.output_size)
        self.conv = head

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """Frames to features `[N, F]`."""
        return self.conv.encode(whiten(observations.permute(0, 2, 3, 1)))


def make_contestants(options: PPOBenchmark) -> dict[str, BaseAlgorithm]:
    """Make the learners, each with envs of its own."""
    from sb3_contrib import RecurrentPPO

    def maker() -> gymnasium.Env[Any, Any]:
        return make_env(options.world)

    def vector() -> DummyVecEnv:
        return DummyVecEnv([maker] * options.envs)

    learning: dict[str, Any] = {name: getattr(options, name) for name in ("n_steps", "batch_size", "n_epochs")} | {
        "seed": 0,
        "device": "cpu",
    }
    parts: dict[str, Any] = {
        "features_extractor_class": PeerHead,
        "net_arch": {"pi": [], "vf": [64]},
        "normalize_images": False,
    }
    small = {"lstm_hidden_size": options.hidden, "enable_critic_lstm": False, "shared_lstm": True}
    ours = {**learning, "chunk": options.chunk}
    lstm_options: dict[str, Any] = {"core_options": {"hidden_size": options.hidden}}
    return {
        LIQUID: LiquidPPO("ltc", make_vector_env(maker, options.envs), **ours),
        "LiquidPPO, LSTM": LiquidPPO("lstm", make_vector_env(maker, options.envs), **ours, **lstm_options),
        RECURRENT: RecurrentPPO("CnnLstmPolicy", vector(), policy_kwargs=parts, **learning),
        RECURRENT_SMALL: RecurrentPPO("CnnLstmPolicy", vector(), policy_kwargs={**parts, **small}, **learning),
        FEED_FORWARD: PPO("CnnPolicy", vector(), policy_kwargs=parts, **learning),
    }


def check(contestants: dict[str, BaseAlgorithm], options: PPOBenchmark) -> None:
    """Check that the contestants do the same work; raises AssertionError if not."""
    ours: Any = contestants[LIQUID]
    peer: Any = contestants[FEED_FORWARD]
    height, width, _ = ours.policy.adapter.shape
    frames = torch.randint(0, 256, (4, height, width, 3), dtype=torch.uint8)
    head = ours.policy.head
    before = {name: tensor.clone() for name, tensor in head.conv.state_dict().items()}
    head.conv.load_state_dict(peer.policy.features_extractor.conv.state_dict())
    with torch.no_grad():
        mine, theirs = (
            head(frames),
            peer.policy.extract_features(peer.policy.obs_to_tensor(frames.permute(0, 3, 1, 2).numpy())[0]),
        )
    head.conv.load_state_dict(before)
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)
    updates = {name: model._n_updates for name, model in contestants.items()}
    steps = {name: model.num_timesteps for name, model in contestants.items()}
    assert len(set(updates.values())) == 1 and len(set(steps.values())) == 1, (updates, steps)


def check_ratio(model: Any) -> None:
    """Check that probabilities computed from a fresh rollout are the rollout's; raises AssertionError if not."""
    from stable_baselines3.common.callbacks import CallbackList

    callback = CallbackList([])
    callback.init_callback(model)
    model.collect_rollouts(callback)
    buffer = model.rollout_buffer
    batch = buffer.pick(torch.arange(buffer.envs * buffer.steps // buffer.chunk))
    with torch.no_grad():
        features, motors, _ = evaluate_actions(model.policy, batch)
        ratio = (model.policy.actions.log_prob(motors, features, batch.actions) - batch.log_prob).exp()
    assert float((ratio - 1).abs().max()) < RATIO_TOLERANCE, "the update does not see what the rollout saw"


def measure(options: PPOBenchmark) -> dict[str, list[float]]:
    """Let the contestants take turns; returns the steps a second of each turn."""
    contestants = make_contestants(options)
    now_s = time.process_time if options.cpu_time else time.perf_counter
    steps = options.envs * options.n_steps
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    try:
        with progress("measuring", (options.rounds + 1) * len(contestants), "turns") as bar:
            for turn in range(options.rounds + 1):
                for name, model in contestants.items():
                    started_s = now_s()
                    model.learn(steps, reset_num_timesteps=turn == 0)
                    if turn:
                        speeds[name].append(steps / (now_s() - started_s))
                    bar.advance()
        check(contestants, options)
        for name in (LIQUID, "LiquidPPO, LSTM"):
            check_ratio(contestants[name])
    finally:
        for model in contestants.values():
            if model.env is not None:
                model.env.close()
    return speeds


def main(options: PPOBenchmark) -> None:
    """Measure, show, write."""
    check_json(options.json)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.vector_envs:
        sizes = options.envs, options.workers, options.n_steps, options.rounds
        speeds = measure_vector_envs(options.world, *sizes, options.training)
    else:
        speeds = measure(options)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    first = next(iter(speeds))
    # Turns are taken one after another, so a ratio within a round is not hurt by what else the machine does.
    ratios = {
        name: statistics.median(mine / theirs for mine, theirs in zip(speeds[first], values, strict=True))
        for name, values in speeds.items()
    }
    rows = [
        [name, f"{medians[name]:,.0f}", f"{min(values):,.0f} to {max(values):,.0f}", f"{ratios[name]:.2f}×"]
        + ([] if options.vector_envs else [f"at least {BARS[name]}×" if name in BARS else ""])
        for name, values in speeds.items()
    ]
    columns = ["", "steps a second", "range", f"{first} is"] + ([] if options.vector_envs else ["wanted"])
    clock = "processor time, " if options.cpu_time and not options.vector_envs else ""
    title = f"{clock}{options.world}, {options.envs} envs × {options.n_steps} steps"
    if not options.vector_envs:
        title += f", batch {options.batch_size}, {options.n_epochs} epochs, {torch.get_num_threads()} threads"
    table(title, columns, rows)
    met = None if options.vector_envs else all(ratios[name] >= bar for name, bar in BARS.items())
    figures = {"speeds": speeds, "medians": medians, "ratios": ratios, "met": met}
    write_results(options.json, "benchmark ppo", options, figures)


if __name__ == "__main__":
    run_script(PPOBenchmark, main)
