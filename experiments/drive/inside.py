"""The inside of a policy while it drives or watches: saliency, circuit, and the account of a moment.

    inside = Inside(driver)
    seen = inside.look(frame)         # after the driver has seen the frame
    accounts = Accounts("runs/mine/policy", executor)
    accounts.offer(inside)            # begins an account of the last frames, if none is under way
    accounts.take()                   # the newest account that is ready, once

An account takes longer than a frame, so it is made in another process and is about a moment that has passed. That
process rests most of the time: it shares the caches and, on a small computer, the core with whoever drives.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.driver import PolicyDriver
from policies.checkpoint import load_policy
from policies.cores import LTC
from policies.explain.account import explain_decision
from policies.explain.saliency import look_inside
from policies.policy import DrivingPolicy

FRAMES = 8
"""Frames that an account goes back."""
GRID = (4, 8)
"""Rows and columns of the picture's regions."""
POINTS = 2
"""Intervals of an account's path through the conv head: fewer than on the page of `wormwheel explain`, for speed."""
REST = 3.0
"""Rest between two accounts, as a multiple of the time that the first one took."""
REST_MOST_S = 2.0
"""The longest rest, s: the first account of a process takes much longer than the others."""


@dataclass(frozen=True)
class Glimpse:
    """What went on inside at one frame.

    Attributes:
        time_s: moment of the drive, s.
        saliency: uint8 `[h, w]`, where the features come from.
        states: `[S]` after the frame.
        time_constants_s: `[N]`; None for cores other than LTC.
        sensory: `[S_in]` currents; None likewise.
        recurrent: `[S_rec]` currents; None likewise.
    """

    time_s: float
    saliency: NDArray[np.uint8]
    states: NDArray[np.float32]
    time_constants_s: NDArray[np.float32] | None = None
    sensory: NDArray[np.float32] | None = None
    recurrent: NDArray[np.float32] | None = None


class Inside:
    """Looks into a driver, and remembers what an account needs."""

    def __init__(self, driver: PolicyDriver):
        """Look into a driver of one car."""
        self.driver = driver
        self.period_s = driver.policy.config.nominal_period_s
        self._past: deque[tuple[NDArray[np.uint8], torch.Tensor, float]] = deque(maxlen=FRAMES)

    def begin(self) -> None:
        """Forget what was seen, as when an episode begins."""
        self._past.clear()

    def note(self, frame: NDArray[np.uint8], elapsed: float) -> None:
        """Remember a frame that the driver is about to see."""
        state = self.driver.state
        size = self.driver.policy.core.state_size
        before = torch.zeros(1, size) if state is None or not self._past else state.clone()
        self._past.append((frame, before, elapsed))

    def look(self, frame: NDArray[np.uint8], time_s: float) -> Glimpse:
        """Say what went on at the frame that the driver has just seen, at `time_s` of the drive."""
        policy = self.driver.policy
        state = self.driver.state
        assert state is not None
        with torch.no_grad():
            insight = look_inside(policy, self.driver.preprocessing(torch.from_numpy(frame)), state, preprocessed=True)
            saliency = (255 * insight.saliency).to(torch.uint8).numpy()
            if not isinstance(policy.core, LTC):
                return Glimpse(time_s, saliency, state[0].numpy())
            tau = policy.core.time_constants(insight.features[None], state)[0] * self.period_s
        currents = insight.sensory_currents.numpy(), insight.recurrent_currents.numpy()
        return Glimpse(time_s, saliency, state[0].numpy(), tau.numpy(), *currents)

    def past(self) -> tuple[NDArray[np.uint8], torch.Tensor, NDArray[np.float32]] | None:
        """Return the last `FRAMES` frames, the state before them and their elapsed times; None for fewer."""
        if len(self._past) < FRAMES:
            return None
        frames = np.stack([frame for frame, _, _ in self._past])
        return frames, self._past[0][1], np.array([elapsed for _, _, elapsed in self._past], np.float32)


class Accounts:
    """Accounts of the decisions of one policy, made elsewhere, one at a time."""

    def __init__(
        self,
        executor: Executor,
        explain: Callable[..., dict[str, Any]],
        clock: Callable[[], float] = time.monotonic,
    ):
        """Make accounts.

        Args:
            executor: where.
            explain: makes one from frames, state and elapsed times, such as `explain_there`.
            clock: seconds that only ever grow.
        """
        self._executor, self._explain, self._clock = executor, explain, clock
        self._began_s, self._rests_until_s = 0.0, -np.inf
        self._future: Future[dict[str, Any]] | None = None
        self._moment: dict[str, Any] = {}

    def offer(self, inside: Inside, time_s: float, drive: int = 0) -> bool:
        """Begin an account of the moment; returns whether it began.

        It does not while one is under way, while the process rests, or where too little was seen.
        """
        if self._future is not None or self._clock() < self._rests_until_s:
            return False
        past = inside.past()
        if past is None:
            return False
        frames, state, elapsed = past
        self._moment, self._began_s = {"time_s": time_s, "drive": drive}, self._clock()
        self._future = self._executor.submit(self._explain, frames, state.numpy(), elapsed)
        return True

    def take(self) -> dict[str, Any] | None:
        """Return the account that has become ready, with `time_s` and `drive` of its moment; None for no new one.

        Raises:
            Exception: whatever went wrong in making it.
        """
        if self._future is None or not self._future.done():
            return None
        future, self._future = self._future, None
        now_s = self._clock()
        self._rests_until_s = now_s + min(REST_MOST_S, REST * (now_s - self._began_s))
        return {**self._moment, **future.result()}


_policy: DrivingPolicy | None = None


def open_there(path: Path, trust: bool = False) -> None:
    """Load the policy in the process that makes accounts; its initializer.

    It makes an account of nothing too: the first one takes much longer than the others.
    """
    global _policy
    torch.set_num_threads(1)
    _policy = load_policy(path, trust=trust).eval()
    fit = _policy.config.preprocessing
    frames = np.zeros((FRAMES, fit.source_height, fit.source_width, 3), np.uint8)
    explain_there(frames, np.zeros((1, _policy.core.state_size), np.float32), np.ones(FRAMES, np.float32))
    if hasattr(os, "nice"):
        os.nice(10)  # from here on, whoever drives comes first


def explain_there(
    frames: NDArray[np.uint8], state: NDArray[np.float32], elapsed: NDArray[np.float32]
) -> dict[str, Any]:
    """Make an account in that process."""
    assert _policy is not None
    return account_json(_policy, frames, state, elapsed)


def account_json(
    policy: DrivingPolicy, frames: NDArray[np.uint8], state: NDArray[np.float32], elapsed: NDArray[np.float32]
) -> dict[str, Any]:
    """Return the account of the last frame as JSON values.

    Args:
        policy: the driver.
        frames: uint8 `[K, H, W, 3]`.
        state: `[1, S]` before them.
        elapsed: `[K]` in frame periods.
    """
    given = torch.from_numpy(frames), torch.from_numpy(state), torch.from_numpy(elapsed)
    account = explain_decision(policy, *given, "held", GRID, POINTS)
    ways: list[tuple[str, float]] = []
    if account.layers and isinstance(policy.core, LTC):
        wiring = policy.core.wiring
        for layer in ("inter", "command"):
            shares = account.layers[layer].sum(0).tolist()
            for number, share in zip(account.synapses[layer], shares, strict=True):
                source, target, _ = wiring.recurrent[number]
                way = f"{wiring.layer_of(source)} {source} → {wiring.layer_of(target)} {target}"
                ways.append((way, share))
    else:
        ways = [(f"feature {k}", share) for k, share in enumerate(account.features.sum(0).tolist())]
    ways.sort(key=lambda way: -abs(way[1]))
    return {
        "steering": round(account.steering, 4),
        "reference": round(account.reference_steering, 4),
        "change": round(account.change, 5),
        "gap": round(account.gap, 5),
        "regions": np.round(account.regions.sum(0).numpy(), 5).tolist(),
        "back": np.round(account.regions.sum((1, 2)).numpy(), 5).tolist(),
        "ways": [(name, round(share, 4)) for name, share in ways[:6]],
    }
