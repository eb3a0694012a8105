"""What a learner sees: one tensor and one clock, whatever the env calls its observation.

Three kinds of observation spaces are understood:

- `Dict(camera: uint8 [H, W, 3], elapsed: float32 [1])`, that of Wormwheel's own envs;
- `Box` uint8 `[H, W, C]` or `[C, H, W]` with C = 1 or 3: an image, always on time;
- `Box` `[D]`: a vector, always on time.

    adapter = ObservationAdapter(env.observation_space)
    content, elapsed = adapter(observation)  # uint8 [N, H, W, 3] or float32 [N, D], and [N]
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

CAMERA, IMAGE, VECTOR = "camera", "image", "vector"


class ObservationAdapter:
    """Turns a batch of an env's observations into tensors.

    Attributes:
        kind: "camera", "image" or "vector".
        shape: shape of one observation's content: `(H, W, 3)` or `(D,)`.
        dtype: dtype of the content.
    """

    def __init__(self, space: spaces.Space[Any]):
        """Find out what kind of space it is.

        Raises:
            ValueError: if it is none that a driver can see.
        """
        self.space = space
        self.kind, self.shape = _kind_and_shape(space)
        self.dtype = torch.float32 if self.kind == VECTOR else torch.uint8
        self._channels_first = self.kind == IMAGE and _is_channels_first(space)

    @property
    def is_visual(self) -> bool:
        """Whether the content is frames."""
        return self.kind != VECTOR

    def __call__(self, observation: Any, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Convert N observations.

        Args:
            observation: array `[N, …]`, or for a camera a dict of arrays `[N, …]`.
            device: where the tensors go.

        Returns:
            content, uint8 `[N, H, W, 3]` or float32 `[N, D]`, and the elapsed time `[N]` in nominal periods.
        """
        if self.kind == CAMERA:
            content = torch.as_tensor(observation["camera"], device=device)
            return content, torch.as_tensor(observation["elapsed"], dtype=torch.float32, device=device)[:, 0]
        content = torch.as_tensor(np.asarray(observation), dtype=self.dtype, device=device)
        if self.kind == IMAGE:
            if self._channels_first:
                content = content.permute(0, 2, 3, 1)  # [N, C, H, W] → [N, H, W, C]
            content = content.expand(*content.shape[:3], 3)
        else:
            content = content.flatten(1)
        return content, torch.ones(content.shape[0], device=device)

    def is_single(self, observation: Any) -> bool:
        """Return whether an observation lacks the leading dimension N."""
        array = observation["camera"] if self.kind == CAMERA else observation
        one = self.space["camera"] if isinstance(self.space, spaces.Dict) else self.space
        assert one.shape is not None
        return np.ndim(array) == len(one.shape)

    def batched(self, observation: Any) -> Any:
        """Add the leading dimension to a single observation."""
        if self.kind == CAMERA:
            return {name: np.asarray(value)[None] for name, value in observation.items()}
        return np.asarray(observation)[None]


def _kind_and_shape(space: spaces.Space[Any]) -> tuple[str, tuple[int, ...]]:
    if isinstance(space, spaces.Dict) and set(space) == {"camera", "elapsed"}:
        camera = space["camera"]
        if isinstance(camera, spaces.Box) and camera.dtype == np.uint8 and camera.shape[2:] == (3,):
            return CAMERA, camera.shape
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) == 3:
            channels_first = _is_channels_first(space)
            height, width = space.shape[1:] if channels_first else space.shape[:2]
            if (space.shape[0] if channels_first else space.shape[2]) in (1, 3):
                return IMAGE, (height, width, 3)
        elif len(space.shape) == 1:
            return VECTOR, space.shape
    raise ValueError(
        "a driver sees Dict(camera: uint8 [H, W, 3], elapsed: [1]), a uint8 image Box with 1 or 3 channels, or a Box "
        f"vector; this env's observation space is {space}. Wrap the env to give one of these, such as by "
        'envs.driving.env.DrivingEnv(env, camera="observation.NAME").'
    )


def _is_channels_first(space: spaces.Space[Any]) -> bool:
    assert space.shape is not None
    return space.shape[0] in (1, 3) and space.shape[2] not in (1, 3)


def space_to_json(space: spaces.Space[Any]) -> dict[str, Any]:
    """Describe a Box, Discrete or Dict space with JSON values.

    Raises:
        ValueError: if it is another space.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "spaces": {name: space_to_json(inner) for name, inner in space.items()}}
    if isinstance(space, spaces.Discrete):
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.Box):
        limits = {name: _limit_to_json(getattr(space, name)) for name in ("low", "high")}
        return {"kind": "Box", "shape": list(space.shape), "dtype": np.dtype(space.dtype).name, **limits}
    raise ValueError(f"only Box, Discrete and Dict spaces can be saved, got {space}.")


MOST_VALUES = 1 << 25
"""Most values of a saved observation or action."""
MOST_ACTIONS = 1 << 16
"""Most choices of a saved discrete space."""


def space_from_json(values: dict[str, Any]) -> spaces.Space[Any]:
    """Build the space that `space_to_json` described."""
    if values["kind"] == "Dict":
        return spaces.Dict({name: space_from_json(inner) for name, inner in values["spaces"].items()})
    if values["kind"] == "Discrete":
        if not 0 < values["n"] <= MOST_ACTIONS:
            raise ValueError(f"a space of {values['n']} choices is none of a learner's.")
        return spaces.Discrete(values["n"], start=values["start"])
    shape, dtype = tuple(values["shape"]), np.dtype(values["dtype"])
    if math.prod(shape) > MOST_VALUES or any(length < 0 for length in shape) or dtype.kind not in "biuf":
        raise ValueError(f"a space of shape {list(shape)} and type {dtype} is none of a learner's.")
    low, high = (np.broadcast_to(np.array(values[name], float), shape).astype(dtype) for name in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


def _limit_to_json(limit: np.ndarray) -> Any:
    """One number if all are equal, else a nested list; infinities become strings, which `float` reads."""
    if limit.size and np.all(limit == limit.flat[0]):
        return _number(limit.flat[0])
    return [_limit_to_json(row) if np.ndim(row) else _number(row) for row in limit]


def _number(value: Any) -> float | str:
    number = float(value)
    return number if np.isfinite(number) else str(number)
