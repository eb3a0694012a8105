"""Does it steer as the released policy does, on the released policy's own frames?

A car on a road is a feedback loop: it forgives a policy that steers too little, which then looks hardly worse until a
bend comes that it does not forgive. So the gate looks at the steering itself as well. The released policy drives, on
clean frames; the other one is shown every frame of that drive, with a state of its own, and steers nothing:

    gain = ± sd(answers) / sd(released)    the sign is that of their correlation
    delay = the lag at which answers and released steering correlate most, by a parabola through the highest three

The ratio of the spreads, unlike the slope of a regression, is not drawn towards zero where the two policies disagree by
chance. Both are figures of a road; a policy has gain 1 and delay 0 against itself on every road.

    rows = []
    run_jobs(drive_jobs, [ResponseJob(policy_run, released_run, world, roads)], workers=2, ...)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.driving.recorded_world import RecordedWorld
from agents.driving.rollout import STEERING_STEP, Step
from agents.driving.trials import Trial, drive_together, expected_steps
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.robustness.jobs import CLEAN, DriveJob, PolicyRun, Row
from experiments.robustness.provenance import fingerprint_code

SETTLING_S = 0.5
"""Beginning of a drive that does not count, a quarter of it at most: states are fresh."""
LONGEST_DELAY_S = 0.3
"""Delays are looked for up to this one, earlier and later."""
LEAST_SPREAD = 0.02
"""Standard deviation of the released steering, full locks, below which a road says nothing of the response."""
SAME = STEERING_STEP
"""Answers that differ by no more than this, full locks, are the same, on straight roads too: what was steered reached
the car in such steps."""

Wrap = Callable[[Any], Any]
"""Puts a driver around a driver."""


@dataclass(frozen=True)
class ResponseRow(Row):
    """One road: a row of the table of responses."""

    road_seed: int
    """Seed of the road, the look and the start."""
    gain: float
    """How many times as much it steers as the released policy, negative to the other side; NaN on straight roads."""
    delay_s: float
    """How much later it steers, s; NaN where the gain is, or where it answers nothing."""
    frames: int
    """Frames that were compared."""


@dataclass(frozen=True)
class ResponseJob:
    """The released policy drives some roads, clean, and the other one is shown its frames."""

    policy_run: PolicyRun
    """Who is judged."""
    against: PolicyRun
    """The released one, which drives."""
    world: LaneKeepingConfig | RecordedWorld
    """Where."""
    roads: tuple[int, ...]
    """Seeds of the roads, looks and starts."""
    wrap: Wrap | None = None
    """Wraps the driver that is judged, to plant a fault; must pickle."""

    @property
    def key(self) -> str:
        """Short name that no other job of a gate has."""
        return f"{self.policy_run.key}/response"

    @property
    def code(self) -> str:
        """What it is made by; see `experiments.robustness.provenance`."""
        return fingerprint_code(CLEAN, self.world)

    @property
    def weight(self) -> int:
        """Steps that it takes at most."""
        return sum(2 * expected_steps(trial) for trial in self._trials(self.against))

    def run(self, report: Callable[[int], None]) -> list[dict[str, Any]]:
        """Drive, show the frames, compare; one row a road."""
        rows: list[ResponseRow] = []
        for released, shown in zip(self._trials(self.against), self._trials(self.policy_run), strict=True):
            steered: list[list[NDArray[Any]]] = [[] for _ in released.runs]

            def keep(step: Step, kept: list[list[NDArray[Any]]] = steered) -> None:
                kept[step.order].append(np.array(step.action, np.float32))

            drive_together(released, report, self.against.opened(), observer=keep)
            shadows: list[Shadow] = []

            def around(driver: Any, kept: list[Shadow] = shadows, actions: Any = steered) -> Shadow:
                kept.append(Shadow(driver if self.wrap is None else self.wrap(driver), actions))
                return kept[-1]

            drive_together(shown, report, self.policy_run.opened(), wrap=around)
            compare = partial(compare_steering, period_s=self.world.period_s)
            for slot, run in enumerate(released.runs):
                actions = np.array(steered[slot])[:, 0]
                gain, delay_s = compare(actions, np.array(shadows[0].answers)[: len(actions), slot])
                rows.append(ResponseRow(run.seed, gain, delay_s, len(actions)))
        return [asdict(row) for row in rows]

    def _trials(self, policy_run: PolicyRun) -> list[Trial]:
        return DriveJob(policy_run, CLEAN, self.world, self.roads, inside=False).trials()

    @property
    def directories(self) -> tuple[Path, ...]:
        """What it reads."""
        return tuple(one.policy for one in (self.policy_run, self.against) if one.policy is not None)


class Shadow:
    """Asks a driver what it would do and does what another one has done: the n-th row drives the n-th recorded drive.

    The same actions on the same road make the same drive, whatever the size of the frames that a driver gets.

    Attributes:
        answers: steering `[B]` that the driver would have given at each step.
    """

    def __init__(self, driver: Any, actions: Sequence[Sequence[NDArray[np.float32]]]):
        """Take the driver that is asked, and for each row the actions of a drive."""
        self.driver, self._actions, self._step = driver, actions, 0
        self.answers: list[NDArray[np.float32]] = []

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Ask one, do what the other did; see `agents.driving.driver.Driver.act`."""
        self.answers.append(np.array(self.driver.act(frames, elapsed, starts, envs))[:, 0])
        done = np.stack([drive[min(self._step, len(drive) - 1)] for drive in self._actions])
        self._step += 1
        return done


def compare_steering(
    released: NDArray[np.floating], answers: NDArray[np.floating], period_s: float
) -> tuple[float, float]:
    """Return gain and delay (s) of a policy's answers to the frames of a drive.

    Args:
        released: `[T]` what the released policy steered there.
        answers: `[T]` what the other one would have steered.
        period_s: time between two frames, s.

    Returns:
        1 and 0 for the same answers; else NaN and NaN where the released steering hardly varies, and gain 0 and NaN
        for answers that do not vary.
    """
    first = min(round(SETTLING_S / period_s), len(released) // 4)
    x, y = (np.asarray(values, np.float64)[first:] for values in (released, answers))
    if len(x) and np.abs(x - y).max() < SAME:
        return 1.0, 0.0
    furthest = min(round(LONGEST_DELAY_S / period_s), len(x) // 4)
    if furthest < 1 or x.std() < LEAST_SPREAD:
        return float("nan"), float("nan")
    if y.std() < 1e-6:
        return 0.0, float("nan")
    lags = range(-furthest, furthest + 1)
    alike = np.array([_correlation(*_shifted(x, y, lag)) for lag in lags])
    best = int(np.argmax(np.abs(alike)))
    moved, after = _shifted(x, y, lags[best])
    gain = float(np.sign(alike[best]) * after.std() / max(moved.std(), 1e-9))
    peak = 0.0
    if 0 < best < len(alike) - 1:
        left, middle, right = np.sign(alike[best]) * alike[best - 1 : best + 2]
        bend = left - 2 * middle + right
        peak = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return gain, float((lags[best] + peak) * period_s)


def _shifted(
    x: NDArray[np.float64], y: NDArray[np.float64], lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what is compared when y is `lag` steps late."""
    return (x[: len(x) - lag], y[lag:]) if lag >= 0 else (x[-lag:], y[:lag])


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    spread = x.std() * y.std()
    return float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 1e-12 else 0.0
