"""A released policy at the wheel, with corrections for worlds in which it steers wrongly, each only where it belongs.

    driver = AdaptedDriver(PolicyDriver(policy), [correction])
    actions = driver.act(frames, elapsed, starts, envs)
    driver.world  # [B]: 0 the old world, 1 that of the first correction

A correction redraws the frames as the camera from before would have seen them (`agents.driving.adapted.view`) and
multiplies the steering. Which world a drive is in, the driver finds out on the way (`agents.driving.adapted.signs`). It
begins in the old one, and stays there where it cannot tell: it steers exactly as the released policy does, then. The
policy follows every view all the time, each with a state of its own, so nothing has to settle when the world turns out
to be another one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from agents.driving.adapted.signs import Averages, Sign, Watch, sign_from_json
from agents.driving.adapted.view import Redrawing, ViewShift
from agents.driving.driver import PolicyDriver

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Correction:
    """What makes a policy's driving right in one other world."""

    view: ViewShift
    """How the camera sits there."""
    gain: float
    """What the steering is multiplied with there."""
    sign: Sign
    """By what that world is told from the old one."""
    enter: float
    """Average of the sign from which on a drive is taken to be there."""
    leave: float
    """Average of the sign below which it is no longer."""

    def text(self) -> str:
        """Say what it does in a few words."""
        words = [f"view {self.view.text()}"] if not self.view.is_none else []
        words += [f"gain {self.gain:.2f}"] if self.gain != 1.0 else []
        return ", ".join(words) or "nothing"

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        view = {"pitch_deg": self.view.pitch_deg, "yaw_deg": self.view.yaw_deg, "height": self.view.height}
        values = {"view": view, "steering_gain": self.gain, "enter": self.enter, "leave": self.leave}
        return {**values, "sign": self.sign.to_json()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Correction:
        """Build a correction from what `to_json` returned.

        Raises:
            ValueError: if a value is out of range.
            KeyError: if something is missing.
            TypeError: if a value is of another type.
        """
        numbers = [float(values[name]) for name in ("steering_gain", "enter", "leave")]
        if not np.isfinite(numbers).all() or numbers[0] <= 0 or numbers[2] > numbers[1]:
            raise ValueError("a correction has a gain above 0 and is left below where it is entered.")
        return cls(ViewShift(**values["view"]), numbers[0], sign_from_json(values["sign"]), *numbers[1:])


class AdaptedDriver:
    """A `PolicyDriver` with corrections; keeps the state of each row.

    Attributes:
        released: the policy as it drives in the old world.
        corrections: for other worlds.
        world: `[B]` in which world each drive is: 0 the old one, n that of the n-th correction.
        steered: `[B]` what the car was told last. Who takes the wheel from the driver sets it.
    """

    def __init__(self, released: PolicyDriver, corrections: Sequence[Correction]):
        """Take a policy and its corrections.

        Raises:
            ValueError: if frames are to be redrawn and the policy does not know its camera.
        """
        self.released, self.corrections = released, tuple(corrections)
        config = released.policy.config
        views = [ViewShift()]
        views += [one.view for one in self.corrections]
        self._views = list(dict.fromkeys(views))  # the policy's own comes first
        self._redrawings = [Redrawing(config, view) for view in self._views[1:]]
        self._watches = [
            Watch(Averages(one.sign, config.nominal_period_s), one.enter, one.leave) for one in corrections
        ]
        self._state: torch.Tensor | None = None
        self.world = np.zeros(0, np.intp)
        self.steered = np.zeros(0, np.float32)

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """Rows and columns of the frames that it takes."""
        return self.released.frame_size

    @property
    def period_s(self) -> float | None:
        """Time between two frames that `elapsed = 1` stands for, seconds."""
        return self.released.period_s

    @property
    def motors(self) -> int:
        """Number of actions: 1 is steering, 2 adds throttle."""
        return self.released.motors

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver`."""
        count, views = len(frames), len(self._views)
        if starts.all():  # new episodes may be more or fewer than those before
            self._state, self.steered = None, np.zeros(len(frames), np.float32)
        pictures = self.released.preprocessing(torch.from_numpy(frames)).numpy()  # [B, h, w, 3]
        drawn = np.concatenate([pictures, *(redraw(pictures) for redraw in self._redrawings)])  # [V·B, h, w, 3]
        with torch.inference_mode():
            motors, self._state = self.released.policy.motors(
                torch.from_numpy(drawn[:, None]),
                self._state,
                torch.from_numpy(np.tile(elapsed, views)[:, None]),
                torch.from_numpy(np.tile(starts, views)[:, None]),
                preprocessed=True,
            )
        by_view = motors[:, 0].numpy().reshape(views, count, -1).copy()
        by_view[:, :, 0] *= self.released.steering_gain
        self._look(pictures, elapsed, starts)
        actions = by_view[0]
        for number, correction in enumerate(self.corrections, start=1):
            there = self.world == number
            actions[there] = by_view[self._views.index(correction.view), there]
            actions[there, 0] *= correction.gain
        actions = np.clip(actions, -1.0, 1.0)
        self.steered = actions[:, 0].copy()
        return actions

    def _look(self, pictures: NDArray[np.uint8], elapsed: NDArray[np.float32], starts: NDArray[np.bool_]) -> None:
        """Say in which world each drive is: of several that it may be, the one that is the surest."""
        before = self.world if len(self.world) == len(pictures) else np.zeros(len(pictures), np.intp)
        world, surest = np.zeros(len(pictures), np.intp), np.zeros(len(pictures))
        for number, watch in enumerate(self._watches, start=1):
            inside = watch(pictures, elapsed, starts, self.steered)
            better = inside & (watch.value > surest)
            world[better], surest[better] = number, watch.value[better]
        for row in np.flatnonzero((world != before) | (starts & (world > 0))):
            _log.info("drive %d: %s", row, self.name_world(int(world[row])))
        self.world = world

    def name_world(self, number: int) -> str:
        """Return a world in words."""
        return self.corrections[number - 1].text() if number else "as released"
