"""Frames of every kind that is accepted, under every perturbation; the rest refused in one line."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from envs.frames import FrameKind
from envs.lane_keeping.env import LaneKeepingEnv
from envs.perturbations import PERTURBATIONS, CameraInfo, Moment, PerturbedEnv, parse, perturb_recording

HEIGHT, WIDTH, STEPS = 24, 40, 8
FRAMES = [name for name, kind in PERTURBATIONS.items() if kind.frames and not kind.changes_time]
KINDS: dict[str, tuple[tuple[int, ...], str, float, float]] = {
    "uint8 HWC RGB": ((HEIGHT, WIDTH, 3), "uint8", 0, 255),
    "uint8 CHW RGB": ((3, HEIGHT, WIDTH), "uint8", 0, 255),
    "uint8 HWC grey": ((HEIGHT, WIDTH, 1), "uint8", 0, 255),
    "uint8 CHW grey": ((1, HEIGHT, WIDTH), "uint8", 0, 255),
    "uint8 HW grey": ((HEIGHT, WIDTH), "uint8", 0, 255),
    "float32 HWC RGB": ((HEIGHT, WIDTH, 3), "float32", 0.0, 1.0),
    "float32 CHW RGB": ((3, HEIGHT, WIDTH), "float32", 0.0, 1.0),
    "float32 HWC grey": ((HEIGHT, WIDTH, 1), "float32", 0.0, 1.0),
    "float64 HW grey": ((HEIGHT, WIDTH), "float64", 0.0, 1.0),
    "float32 CHW RGB, -1 to 1": ((3, HEIGHT, WIDTH), "float32", -1.0, 1.0),
    "float16 HWC RGB, 0 to 255": ((HEIGHT, WIDTH, 3), "float16", 0.0, 255.0),
}


@lru_cache(maxsize=1)
def drive() -> np.ndarray:
    """Frames of a real drive, uint8 `[STEPS, H, W, 3]`."""
    env = LaneKeepingEnv(vehicle="bicycle", height=HEIGHT, width=WIDTH, variety=0.0)
    frames = [env.reset(seed=5)[0]["camera"]]
    for step in range(STEPS - 1):
        frames.append(env.step(np.array([0.3 * math.sin(step)], np.float32))[0]["camera"])
    return np.stack(frames)


class Camera(gymnasium.Env[Any, Any]):
    """Shows the frames of a drive as frames of some kind."""

    def __init__(self, shape: tuple[int, ...], dtype: str, low: float, high: float):
        self.kind = FrameKind.of_space(spaces.Box(low, high, shape, np.dtype(dtype).type))
        self.observation_space = spaces.Dict(
            {
                "camera": spaces.Box(low, high, shape, np.dtype(dtype).type),
                "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.low, self.high = low, high
        self.shift = 0.0

    def frame(self) -> np.ndarray:
        shown: np.ndarray = drive()[self.step_number].astype(np.float64)
        if self.kind.grey:
            shown = shown.mean(2, keepdims=True).round()
        if self.kind.dtype != "uint8":
            shown = self.low + shown / 255.0 * (self.high - self.low)
        if self.kind.channels_first:
            shown = shown.transpose(2, 0, 1)
        return (shown + self.shift).astype(self.kind.dtype).reshape(self.kind.shape)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.step_number = 0
        return {"camera": self.frame(), "elapsed": np.ones(1, np.float32)}, {"time_s": 0.0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        observation = {"camera": self.frame(), "elapsed": np.ones(1, np.float32)}
        return observation, 0.0, False, self.step_number == STEPS - 1, {"time_s": 0.05 * self.step_number}


def frames_of(env: gymnasium.Env[Any, Any]) -> list[np.ndarray]:
    shown = [env.reset(seed=2)[0]["camera"]]
    truncated = False
    while not truncated:
        observation, _, _, truncated, _ = env.step(np.zeros(1, np.float32))
        shown.append(observation["camera"])
    return shown


def plain(frames: list[np.ndarray], kind: FrameKind) -> np.ndarray:
    return np.stack([kind.to_rgb(frame) for frame in frames])


@pytest.mark.parametrize("kind", KINDS)
def test_every_perturbation_changes_frames_of_every_kind_and_keeps_the_kind(kind: str) -> None:
    camera = Camera(*KINDS[kind])
    clean = frames_of(camera)
    for name in FRAMES:
        if PERTURBATIONS[name].needs_colour and camera.kind.grey:
            with pytest.raises(ValueError, match=f"{name} changes colours alone, and these frames are grey"):
                PerturbedEnv(camera, f"{name}:5")
            continue
        env = PerturbedEnv(camera, f"{name}:5")
        shown = frames_of(env)
        assert all(env.observation_space["camera"].contains(frame) for frame in shown), name  # type: ignore[index]
        changed = np.abs(plain(shown, camera.kind).astype(int) - plain(clean, camera.kind)).mean()
        assert changed > 0.3, (name, changed)


@pytest.mark.parametrize("kind", ["uint8 CHW RGB", "float32 HWC RGB", "float32 CHW RGB, -1 to 1"])
def test_the_same_seed_does_the_same_to_every_kind_of_the_same_picture(kind: str) -> None:
    expected = frames_of(PerturbedEnv(Camera(*KINDS["uint8 HWC RGB"]), "fog:4+gaussian:3"))
    camera = Camera(*KINDS[kind])
    np.testing.assert_array_equal(
        plain(frames_of(PerturbedEnv(camera, "fog:4+gaussian:3")), camera.kind), np.stack(expected)
    )


def test_frames_that_are_not_changed_stay_to_the_last_bit() -> None:
    camera = Camera(*KINDS["float32 CHW RGB"])
    camera.shift = 1e-5  # between two grey levels
    for text in ("", "action_noise:3"):
        for clean, shown in zip(frames_of(camera), frames_of(PerturbedEnv(camera, text)), strict=True):
            np.testing.assert_array_equal(clean, shown)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 255, (24, 40, 4), np.uint8), r"got uint8 \(24, 40, 4\)"),
        (spaces.Box(0, 255, (4, 24, 40), np.uint8), r"got uint8 \(4, 24, 40\)"),
        (spaces.Box(0, 255, (2, 24, 40, 3), np.uint8), r"got uint8 \(2, 24, 40, 3\)"),
        (spaces.Box(0, 200, (24, 40, 3), np.uint8), r"in \[0, 200\]"),
        (spaces.Box(0, 65535, (24, 40, 3), np.uint16), "got uint16"),
        (spaces.Box(-np.inf, np.inf, (24, 40, 3), np.float32), r"got the bounds \[-inf, inf\]"),
        (spaces.Discrete(3), "got the space Discrete"),
    ],
)
def test_other_frames_are_refused_in_one_line(space: Any, message: str) -> None:
    class Other(Camera):
        def __init__(self) -> None:
            super().__init__(*KINDS["uint8 HWC RGB"])
            self.observation_space = spaces.Dict(
                {"camera": space, "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}  # type: ignore[dict-item]
            )

    with pytest.raises(ValueError, match=f"frames must be uint8 in .*{message}") as error:
        PerturbedEnv(Other(), "fog:3")
    assert "\n" not in str(error.value)


def test_frames_that_leave_their_space_are_refused() -> None:
    camera = Camera(*KINDS["float32 HWC RGB"])
    env = PerturbedEnv(camera, "fog:3")
    camera.shift = 100.0
    with pytest.raises(ValueError, match=r"expected float frames in \[0, 1\], got values from"):
        env.reset(seed=0)
    camera.shift = math.nan
    with pytest.raises(ValueError, match="got values from nan"):
        env.reset(seed=0)
    running = parse("fog:3").begin(0, CameraInfo(HEIGHT, WIDTH, 0.05))
    running.see(drive()[0], Moment(0.0))
    with pytest.raises(ValueError, match=r"expected frames uint8 \(24, 40, 3\), got uint8 \(12, 40, 3\)"):
        running.see(drive()[0][:12], Moment(0.05))


def test_recordings_of_every_kind_are_perturbed_and_stay_of_their_kind() -> None:
    elapsed = np.ones(STEPS, np.float32)
    expected = perturb_recording(drive(), elapsed, "fog:4+night:2", 7, 0.05).frames
    for name in ("uint8 CHW RGB", "float32 HWC RGB", "float32 CHW RGB"):
        camera = Camera(*KINDS[name])
        given = np.stack(frames_of(camera))
        got = perturb_recording(given, elapsed, "fog:4+night:2", 7, 0.05).frames
        assert got.dtype == given.dtype and got.shape == given.shape
        np.testing.assert_array_equal(plain(list(got), camera.kind), expected)
    with pytest.raises(ValueError, match="frames must be uint8"):
        perturb_recording(drive().astype(np.int64), elapsed, "fog:4", 7, 0.05)
    with pytest.raises(ValueError, match="saturation changes colours alone"):
        perturb_recording(drive()[..., :1], elapsed, "saturation:4", 7, 0.05)
