"""A million random steps: no NaN, nothing outside the space, memory and open files flat.

    python -m tests.reliability.steps --steps 1000000

Each vehicle drives LaneKeeping with actions drawn anew every few steps, extremes among them, each episode with a
start of its own, five to a road and its look, every third one under a perturbation. Observations, rewards and figures
are checked at every step. Memory and open files are compared between the second tenth of the way, when caches are
filled, and the last: medians over moments on one and the same road, since roads differ in size, and of what is in use,
after the C library has given back what is free (else its reserve is counted, which goes up and down by a third).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np

from envs import LANE_KEEPING
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import PERTURBATIONS, PerturbedEnv

FLAT = 0.01
"""Growth of memory that counts as none."""

LOOKS = 50
"""Ends of episodes in a tenth of the way at which memory is looked at."""

LOOK_SEED = 1
"""Of the road on which it is."""


@dataclass(frozen=True)
class Driven:
    """What was seen."""

    steps: int
    episodes: int
    crashes: int
    memory_growth: float
    """Share by which resident memory grew from the second tenth of the steps to the last."""
    file_growth: int
    """Files that were open in the last tenth and not in the second."""
    memory_mib: tuple[float, ...]
    """Resident memory in use, MiB, in each tenth of the way."""


def drive(vehicle: str, steps: int, seed: int) -> Driven:
    """Step at random.

    Raises:
        AssertionError: if something is not finite or outside its space; says at which step.
    """
    gc.collect()
    gc.freeze()  # What was there before is not looked through each time.
    rng = np.random.default_rng(seed)
    names = [name for name, made in PERTURBATIONS.items() if made.family != "adversarial"]
    config = LaneKeepingConfig(vehicle=vehicle, height=24, width=48, episode_s=10.0, resets_per_road=5)
    env = gymnasium.make(LANE_KEEPING, config=config, disable_env_checker=True)
    made = episodes = crashes = 0
    used: list[list[tuple[int, int]]] = [[] for _ in range(10)]  # by tenth of the way
    next_look = 0
    action = env.action_space.sample()
    while made < steps:
        disturbed = PerturbedEnv(env, f"{rng.choice(names)}:{rng.integers(1, 6)}") if episodes % 3 == 2 else env
        seeded = episodes % config.resets_per_road == 0
        observation, info = disturbed.reset(seed=int(rng.integers(1 << 31)) if seeded else None)
        _check(disturbed, observation, 0.0, info, made)
        over = False
        while not over and made < steps:
            if rng.random() < 0.1:
                assert isinstance(env.action_space, gymnasium.spaces.Box)
                low, high = env.action_space.low, env.action_space.high
                action = rng.choice([low, high, rng.uniform(low, high)]).astype(np.float32)
            observation, reward, terminated, truncated, info = disturbed.step(action)
            made += 1
            _check(disturbed, observation, float(reward), info, made)
            over = terminated or truncated
            crashes += bool(terminated)
        episodes += 1
        road_ends = episodes % config.resets_per_road == 0
        if (made >= next_look and road_ends) or made >= steps:
            env.reset(seed=LOOK_SEED)
            used[10 * made // (steps + 1)].append(_used())
            next_look = made + steps // (10 * LOOKS)
    env.close()
    gc.unfreeze()
    tenths = [np.median(np.asarray(seen), axis=0) for seen in used if seen]
    before, after = tenths[min(1, len(tenths) - 1)], tenths[-1]
    memory_mib = tuple(round(float(seen[0]) / 2**20, 1) for seen in tenths)
    return Driven(made, episodes, crashes, float(after[0] / before[0] - 1), int(after[1] - before[1]), memory_mib)


def _check(env: gymnasium.Env, observation: object, reward: float, info: dict[str, object], step: int) -> None:
    assert env.observation_space.contains(observation), f"step {step}: the observation is outside its space"
    assert np.isfinite(reward), f"step {step}: the reward is {reward}"
    for name, value in info.items():
        if isinstance(value, (float, np.floating)):
            assert np.isfinite(value), f"step {step}: {name} is {value}"


def _used() -> tuple[int, int]:
    """Return bytes of resident memory in use and the number of open files."""
    gc.collect()
    if sys.platform == "linux" and hasattr(trim := ctypes.CDLL(None), "malloc_trim"):
        trim.malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))


def main() -> int:
    """Run from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000, help="of each vehicle")
    parser.add_argument("--vehicles", nargs="*", default=["bicycle", "bullet"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    code = 0
    for vehicle in options.vehicles:
        begun_s = time.monotonic()
        seen = drive(vehicle, options.steps, options.seed)
        flat = seen.memory_growth <= FLAT and seen.file_growth <= 0
        code, words = code | (not flat), "flat" if flat else "NOT FLAT"
        print(
            f"{vehicle}: {seen.steps:,} steps in {seen.episodes:,} episodes, {seen.crashes:,} crashes, all in their "
            f"spaces; memory {seen.memory_growth:+.2%} ({' '.join(map(str, seen.memory_mib))} MiB by tenths), "
            f"open files {seen.file_growth:+d}, {words}, "
            f"{time.monotonic() - begun_s:.0f} s",
            flush=True,
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
