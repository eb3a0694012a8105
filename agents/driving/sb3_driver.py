"""Models of Stable-Baselines3 and sb3-contrib as drivers.

driver = Sb3Driver(PPO.load("ppo.zip"), DriverOptions())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from agents.driving.driver_options import DriverOptions
from agents.driving.foreign import ForeignDriver, SteeringScale
from agents.driving.frame_format import FrameFormat
from agents.runs.reading import one_line
from envs.foreign_code import ForeignCodeError, foreign_code


class Sb3Driver(ForeignDriver):
    """A model of Stable-Baselines3 or sb3-contrib, acting without chance; recurrent ones keep their state.

    Its observation must be an image (uint8, or float in [0, 1], [-1, 1] or [0, 255]; channels first or last), or
    `Dict(camera, elapsed)`. Its steering counts in the range of its actions, unless degrees of full lock are given.
    """

    def __init__(self, model: Any, options: DriverOptions, name: str = "this model"):
        """Take a loaded model.

        Raises:
            ForeignCodeError: if it sees something else, or does not act continuously.
        """
        space, self._camera = model.observation_space, False
        if isinstance(space, spaces.Dict) and "camera" in space.spaces and set(space.spaces) <= {"camera", "elapsed"}:
            self._timed = "elapsed" in space.spaces
            space, self._camera = space["camera"], True
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ForeignCodeError(
                f"{name} sees {one_line(model.observation_space)}; a driver sees one image, or Dict(camera, elapsed)."
            )
        first = space.shape[0] in (1, 3) and space.shape[2] not in (1, 3)
        layout = options.layout or ("CHW" if first else "HWC")
        channels, height, width = space.shape if layout == "CHW" else (space.shape[2], *space.shape[:2])
        if channels not in (1, 3):
            raise ForeignCodeError(
                f"{name} sees images {list(space.shape)}; a driver sees 1 or 3 channels. Stacked frames need a "
                "wrapper: --policy file.py:factory."
            )
        integer = space.dtype == np.uint8
        frame_format = FrameFormat(
            height,
            width,
            layout,
            "0..255" if integer else options.range or _range_of(space, name),
            options.colour or ("grey" if channels == 1 else "rgb"),
            integer,
        ).with_crops(options.crops)
        scale, motors = SteeringScale.of(options), int(np.prod(model.action_space.shape or (0,)))
        if not isinstance(model.action_space, spaces.Box) or motors not in (1, 2):
            raise ForeignCodeError(
                f"{name} acts in {one_line(model.action_space)}; a driver gives 1 number (steering) or 2 (steering and "
                "throttle), of a Box. Anything else needs a wrapper: --policy file.py:factory."
            )
        low, high = (float(side.reshape(-1)[0]) for side in (model.action_space.low, model.action_space.high))
        if options.degrees is None and np.isfinite(high) and (low, high) != (-1.0, 1.0):
            if low != -high:
                raise ForeignCodeError(
                    f"{name} steers in [{low:g}, {high:g}], whose middle is not straight ahead: wrap it so that 0 is, "
                    "--policy file.py:factory."
                )
            scale = replace(scale, degrees=high)
        super().__init__(frame_format, scale, options.driver_period_s, motors, name)
        self.model = model
        self._state: Any = None
        self.steering_gradient: Callable[..., NDArray[np.float32]] | None = None
        if hasattr(model.policy, "get_distribution") and not self._camera and not hasattr(model.policy, "lstm_actor"):
            self.steering_gradient = self._gradient

    def act(
        self,
        frames: NDArray[np.uint8],
        elapsed: NDArray[np.float32],
        starts: NDArray[np.bool_],
        envs: Sequence[gymnasium.Env[Any, Any]],
    ) -> NDArray[np.float32]:
        """Steer by camera alone; see `agents.driving.driver.Driver.act`."""
        pixels = self.format(torch.from_numpy(frames)).numpy()
        seen: Any = pixels
        if self._camera:
            seen = {"camera": seen, **({"elapsed": elapsed[:, None]} if self._timed else {})}
        with foreign_code(self._shown(pixels)):
            # New episodes may be more or fewer than those before.
            before = None if starts.all() else self._state
            actions, self._state = self.model.predict(seen, before, starts, deterministic=True)
        return self.scale.actions(actions, len(frames), self.name)

    def _gradient(
        self, slot: int, frame: NDArray[np.float32], elapsed: float, start: bool, steps: int = 1
    ) -> NDArray[np.float32]:
        def steer(pixels: torch.Tensor) -> torch.Tensor:
            with foreign_code(f"the gradient of {self.name}"):
                seen = replace(self.format, integer=False)(pixels).to(self.model.policy.device)
                return self.model.policy.get_distribution(seen).mode()[0, 0]

        return self._frame_gradient(frame, self.model.policy, steer)


def is_sb3_model(made: Any) -> bool:
    """Whether an object is a model of Stable-Baselines3 or of one of its kind."""
    words = ("predict", "policy", "observation_space", "action_space")
    return all(hasattr(made, word) for word in words) and isinstance(made.observation_space, spaces.Space)


def _range_of(space: spaces.Box, name: str) -> str:
    """Return the range of the pixels of an image of floats.

    Raises:
        ForeignCodeError: if it is none that is known here.
    """
    low, high = float(space.low.min()), float(space.high.max())
    known = {(0.0, 1.0): "0..1", (-1.0, 1.0): "-1..1", (0.0, 255.0): "0..255"}
    if (low, high) not in known:
        raise ForeignCodeError(
            f"{name} sees images of floats in [{low:g}, {high:g}], from which the range of its pixels cannot be told: "
            f"give --range, one of {', '.join(known.values())}."
        )
    return known[low, high]
