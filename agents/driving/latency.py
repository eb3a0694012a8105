"""A computer's measured latency, replayed while driving.

`wormwheel bench latency` measures how long a policy takes from picture to steering on a computer; here each decision of
a drive takes a time drawn from what was measured. Until the answer is there the car keeps the steering before
it; a driver that is later than its frame takes the next picture when it is done:

    held = max(1, L / period) periods a decision, of which the first L on the old steering

With a period of 50 ms an answer after 1 ms costs 2 % of every period on the old steering. Nothing is rounded to whole
periods, unlike the perturbation `latency`, which delays pictures.

    samples = read_latency("latency.json", "onnxruntime")
    env = ReplayedLatency(gymnasium.make(envs.LANE_KEEPING), Latency(samples))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.runs.reading import damaged, one_line, read_json
from envs.lane_keeping.env import LaneKeepingEnv

FORMAT = "wormwheel-latency"
LONGEST = 10.0
"""Nominal periods that one decision takes at most."""


@dataclass(frozen=True)
class Latency:
    """What is replayed.

    Attributes:
        samples_s: measured times from picture to steering, s; each decision draws one.
        reported: whether the driver is given the true elapsed time; if not, 1 always.
        seed: of the draws, together with that of the episode.
    """

    samples_s: tuple[float, ...]
    reported: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the samples."""
        if not self.samples_s or not all(0 <= value < float("inf") for value in self.samples_s):
            raise ValueError("a latency needs at least one measured time, all of them finite and at least 0 s.")


def read_latency(path: str | Path, engine: str | None = None, scale: float = 1.0) -> tuple[float, ...]:
    """Read what `wormwheel bench latency --json` wrote.

    Args:
        path: the file.
        engine: "torch", "onnxruntime" or "numpy"; may be left out where one was measured.
        scale: all times are multiplied by this: a slower computer.

    Raises:
        ValueError: if it is another kind of file, or does not hold that engine.
    """
    path = Path(path)
    content = read_json(path)
    try:
        engines = content["figures"]["engines"] if content["figures"]["format"] == FORMAT else None
    except (KeyError, TypeError, IndexError):
        engines = None
    if not isinstance(engines, dict) or not engines:
        raise ValueError(f"{path} does not hold latencies: expected what `wormwheel bench latency --json` writes.")
    if engine is None and len(engines) > 1:
        raise ValueError(f"{path} holds {one_line(', '.join(engines))}: name one of them.")
    engine = engine or next(iter(engines))
    if engine not in engines:
        raise ValueError(f"{path} holds {one_line(', '.join(engines))}, not {engine!r}.")
    with damaged(path, "measure again by `wormwheel bench latency`"):
        samples_s = tuple(1e-3 * scale * float(value) for value in engines[engine]["samples_ms"])
        Latency(samples_s)
    return samples_s


class ReplayedLatency(gymnasium.Wrapper[Any, Any, Any, Any]):
    """LaneKeeping in which every answer comes late by a measured time.

    It wraps LaneKeeping itself; perturbations go around it. A perturbation that changes how long an action is held
    keeps that length where the answer is sooner.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], latency: Latency):
        """Wrap an env.

        Raises:
            ValueError: if it is not LaneKeeping, or its periods are drawn.
        """
        super().__init__(env)
        inside = env.unwrapped
        if not isinstance(inside, LaneKeepingEnv):
            raise ValueError("measured latency can be replayed in LaneKeeping only.")
        if inside.config.elapsed_jitter:
            raise ValueError(
                "measured latency says itself when the next picture is taken: leave --elapsed-jitter out, or --latency."
            )
        self._inside, self._latency = inside, latency
        self._samples = np.asarray(latency.samples_s) / inside.config.period_s
        self._draws = np.random.default_rng(latency.seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the wheel straight; a seed fixes the draws too."""
        if seed is not None:
            self._draws = np.random.default_rng([self._latency.seed, seed])
        self._old: NDArray[np.float32] = np.zeros(self.action_space.shape or (1,), np.float32)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Drive until the next picture: on the old steering until the answer is there, then on the new."""
        inside = self._inside
        held = 1.0 if inside.next_periods is None else inside.next_periods
        late = min(float(self._draws.choice(self._samples)), LONGEST)
        parts = [(self._old, late), (np.asarray(action, np.float32), max(held - late, 0.0))]
        self._old = parts[1][0]
        elapsed, reward = 0.0, 0.0
        for steering, periods in parts:
            if periods < 1e-3:
                continue
            inside.next_periods = periods
            observation, gained, terminated, truncated, info = self.env.step(steering)
            elapsed += float(observation["elapsed"][0])
            reward += float(gained)
            if terminated or truncated:
                break
        reported = min(elapsed, LONGEST) if self._latency.reported else 1.0
        return {**observation, "elapsed": np.array([reported], np.float32)}, reward, terminated, truncated, info
