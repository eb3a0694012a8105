"""`DrivingEnv`: any Gymnasium env with a picture, as an env to drive in.

names = DrivingNames(camera="render", positive="right", speed="info.speed", lateral_offset="env.vehicle.lane_offset.1")
env = DrivingEnv(make_env("racetrack-v1", render_mode="rgb_array"), names)
observation, info = env.reset(seed=7)
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import checked_action
from envs.camera.info import CameraInfo
from envs.driving.names import DrivingNames
from envs.driving.places import Roots, find, find_flag, find_number
from envs.foreign_code import ForeignCodeError, foreign_code
from envs.frames import ACCEPTED, FrameKind
from envs.protocol import Motion
from envs.road.track import Track, TrackCursor

_LOG = logging.getLogger(__name__)
PERIOD_S = 0.05
"""Time between two actions of envs that do not say it, s."""
CRASH_REWARD = -10.0
LEAST_POINTS = 8
"""Fewest points of a centre line."""
_LONGEST = 10.0


class DrivingEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """An env that others made, with the observation, the action and the info of the lane-keeping env.

    ## Observation space
    | Key | Space | Meaning |
    |---|---|---|
    | `camera` | `Box(0, 255, (height, width, 3), uint8)` | the picture, cropped, resized and as RGB |
    | `elapsed` | `Box(0.0, 10.0, (1,), float32)` | periods since the previous frame |

    ## Action space
    `Box(-1.0, 1.0, (1,), float32)`: steering as a share of full lock, positive to the left. A cruise controller works
    gas and brake where the env has them; the other numbers of its action stay in the middle of their range.

    ## Info
    `time_s`, `crashed`, `steering`, and, where the names say where they are, `lateral_offset_m`, `heading_error_rad`,
    `lane_width_m`, `speed_mps`, `progress_m`, `curvature_per_m`, each as in the lane-keeping env.

    ## Rewards
    The env's own, or that of `DrivingNames.reward`.

    ## Episode end
    - **Termination**: a crash: what the env calls one, or leaving the lane; or where the env terminates.
    - **Truncation**: after `episode_s` seconds, or where the env truncates.

    ## Other periods
    `next_periods`, when set, is for how many nominal periods the next action is held; it is rounded to whole periods,
    what is rounded off being carried over, since the env cannot be stopped between two of its own steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, env: gymnasium.Env[Any, Any], names: DrivingNames | None = None, **overrides: Any):
        """Adapt an env. One that renders its picture is reset once, with the seed 0, to see how large that is.

        Args:
            env: with an action of numbers (`Box`); made with render_mode="rgb_array" where the picture is rendered.
            names: where everything is; the defaults when None.
            **overrides: attributes of the names to replace.

        Raises:
            ValueError: if a name leads nowhere, the picture is no picture, or the action has no such numbers.
        """
        names = names or DrivingNames()
        unknown = sorted(set(overrides) - set(names.__dataclass_fields__))
        if unknown:
            raise ValueError(f"{type(names).__name__} has no attribute {', '.join(unknown)}.")
        self.names = self.config = names = replace(names, **overrides)
        self._inner: Any = env
        self.render_mode = env.render_mode
        self.period_s = names.period_s or period_of(env)
        self.metadata = {**self.metadata, "render_fps": max(1, round(1.0 / self.period_s))}
        self._box = self._action_box(env.action_space)
        self.next_periods: float | None = None
        self._debt = 0.0
        self._track: Track | None = None
        self._kind = self._frame_kind()
        shape = self._cut(np.zeros((*self._kind.size, 3), np.uint8)).shape
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {"camera": spaces.Box(0, 255, shape, np.uint8), "elapsed": spaces.Box(0.0, _LONGEST, (1,), np.float32)}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    @property
    def inner(self) -> gymnasium.Env[Any, Any]:
        """The env that is adapted."""
        return self._inner

    def renamed(self, names: DrivingNames | None = None, **overrides: Any) -> DrivingEnv:
        """The same env by other names; as it is where none are given."""
        return self if names is None and not overrides else DrivingEnv(self._inner, names or self.names, **overrides)

    @property
    def track(self) -> Track:
        """The road of this episode, whose two lanes together are the lane to keep; only with a centre line."""
        if self._track is None:
            raise gymnasium.error.ResetNeeded("No road yet: it needs a centre_line and a reset.")
        return self._track

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin an episode of the env with a seed drawn from this one."""
        super().reset(seed=seed)
        names = self.names
        observation, info = self._begin(int(self.np_random.integers(2**31)), options)
        self._roots = Roots(self._inner, observation, info)
        self.next_periods, self._debt = None, 0.0
        self._steps, self._steering, self._progress, self._crashed = 0, 0.0, 0.0, False
        self._yaw_rate = 0.0
        if names.centre_line:
            points = self._centre_line(find(names.centre_line, self._roots))
            half = 0.5 * self._width()
            self._track = Track(points, half, type(self._inner.unwrapped).__name__)
            self._cursor = TrackCursor(self._track)
            self._s, *self._place = self._cursor.start(*self._position())
            self._yaw = find_number(names.yaw, self._roots)
        return self._observe(1.0), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Drive for one period, or as many as `next_periods` says."""
        (steering,) = checked_action(action, 1)
        reward, terminated, truncated, made = 0.0, False, False, 0
        for _ in range(self._whole_periods()):
            earned, terminated, truncated = self._drive(steering)
            reward, made = reward + earned, made + 1
            if terminated or truncated:
                break
        return self._observe(float(made)), reward, terminated, truncated, self._info()

    def _begin(self, seed: int, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the env that is adapted."""
        with foreign_code("reset(seed=…, options=…) of the env"):
            given = self._inner.reset(seed=seed, options=options)
        if not isinstance(given, tuple) or len(given) != 2:
            raise ForeignCodeError(
                "reset() of the env must return observation and info, as Gymnasium has it since 0.26; got "
                f"{_described(given)}."
            )
        return given[0], {} if given[1] is None else given[1]

    def _drive(self, steering: float) -> tuple[float, bool, bool]:
        """Make one step of the env; its reward, and whether the episode is terminated or truncated."""
        names, roots = self.names, self._roots
        command = self._command(steering)
        with foreign_code("step() of the env"):
            given = self._inner.step(command)
        if not isinstance(given, tuple) or len(given) != 5:
            raise ForeignCodeError(
                "step() of the env must return observation, reward, terminated, truncated and info, as Gymnasium has "
                f"it since 0.26; got {_described(given)}."
            )
        roots.observation, earned, terminated, truncated, info = given
        roots.info = {} if info is None else info
        self._steering, self._steps = steering, self._steps + 1
        way = self._locate()
        self._crashed = self._has_crashed(bool(terminated))
        reward = _number(earned)
        if names.reward == "lane":
            share = self._place[0] / self.track.lane_width_m
            reward = way / (names.speed_mps * self.period_s) * (1.0 - min(share * share, 4.0))
            if self._crashed:
                reward += CRASH_REWARD
        elif not math.isfinite(reward):
            raise ForeignCodeError(f"the reward of the env must be a finite number, got {_described(earned)}.")
        over = self._steps * self.period_s >= names.episode_s - 1e-6
        ends = names.ends_with_env
        return reward, self._crashed or (ends and bool(terminated)), over or (ends and bool(truncated))

    def camera_info(self) -> CameraInfo:
        """Describe the camera as far as the names do; the rest is a guess."""
        names, space = self.names, self.observation_space
        height, width, _ = space["camera"].shape  # type: ignore[index]
        guess = CameraInfo(height, width, self.period_s)
        return replace(
            guess,
            fov_rad=guess.fov_rad if names.hfov_deg is None else math.radians(names.hfov_deg),
            horizon=guess.horizon if names.horizon is None else names.horizon,
            height_m=names.camera_height_m or guess.height_m,
        )

    def motion(self) -> Motion:
        """Tell how the car moves over the ground of its camera; a guess where the height of the camera is unknown."""
        if self.names.camera_height_m is None:
            return Motion(1.5, 0.0)
        return Motion(self._speed(), self._yaw_rate)

    def render(self) -> Any:
        """The env's own picture; None without a render mode."""
        return None if self.render_mode is None else self._inner.render()

    def picture(self, frame: NDArray[np.uint8] | None = None) -> Any:
        """The env's own picture, uint8 `[H, W, 3]`, with the frame that the driver gets in its corner when given."""
        picture = np.array(self._inner.render(), np.uint8)
        if frame is None:
            return picture
        rows = max(1, round(0.3 * picture.shape[0]))
        columns = min(picture.shape[1], max(1, round(rows * frame.shape[1] / frame.shape[0])))
        picture[:rows, :columns] = cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_NEAREST)
        return picture

    def close(self) -> None:
        """Close the env."""
        try:
            with foreign_code("close() of the env"):
                self._inner.close()
        except ForeignCodeError as error:
            _LOG.warning("%s", error)  # What was driven counts all the same.

    def _action_box(self, space: Any) -> spaces.Box:
        names = self.names
        used = {"steering": names.steering, "gas": names.gas, "brake": names.brake}
        places = {name: place for name, place in used.items() if place is not None}
        count = int(np.prod(space.shape)) if isinstance(space, spaces.Box) else 0
        if count <= max(places.values()):
            raise ValueError(
                f"steering, gas and brake are numbers 0 to {max(places.values())} of a Box action, this env has "
                f"{' '.join(str(space).split()):.200}. Wrap it so that it takes one, or say which number is which "
                "(--env-names.steering …)."
            )
        low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
        for name, place in places.items():
            if not (np.isfinite(low[place]) and np.isfinite(high[place]) and low[place] < high[place]):
                raise ValueError(
                    f"the range of {name} must be finite and not empty, it is {low[place]:g} to {high[place]:g}."
                )
        return space

    def _frame_kind(self) -> FrameKind:
        """The kind of the env's pictures: by its observation space, or by a picture where they are no part of it."""
        root, _, rest = self.names.camera.partition(".")
        space: Any = self._inner.observation_space
        if root != "observation":
            observation, info = self._begin(0)
            return FrameKind.of_frame(np.asarray(find(self.names.camera, Roots(self._inner, observation, info))))
        for step in rest.split(".") if rest else ():
            inside = _inside(space)
            if step not in inside:
                known = f" with {', '.join(inside)}" if inside else ""
                raise ValueError(f"{self.names.camera}: the observation is a {type(space).__name__}{known}.")
            space = inside[step]
        if inside := _inside(space):
            raise ValueError(
                f"{self.names.camera} is a {type(space).__name__} with {', '.join(inside)}: name the picture in it, "
                f"such as --env-names.camera {self.names.camera}.{next(iter(inside))}. It must be {ACCEPTED}."
            )
        return FrameKind.of_space(space)

    def _command(self, steering: float) -> NDArray[Any]:
        """The env's own action."""
        names, box = self.names, self._box
        low, high = box.low.reshape(-1).astype(np.float64), box.high.reshape(-1).astype(np.float64)
        finite = np.isfinite(low) & np.isfinite(high)
        command = np.where(finite, 0.5 * (low + high), 0.0)
        side = 1.0 if names.positive == "left" else -1.0
        middle, half = command[names.steering], 0.5 * (high - low)[names.steering]
        command[names.steering] = middle + side * min(max(names.steering_gain * steering, -1.0), 1.0) * half
        if names.gas is not None:
            behind = names.speed_mps - self._speed()
            gas = min(max(names.gas_per_mps * behind, 0.0), 1.0)
            brake = min(max(-names.brake_per_mps * behind, 0.0), names.most_brake)
            command[names.gas] = high[names.gas] * gas
            if names.brake == names.gas:
                command[names.gas] += low[names.gas] * brake
            elif names.brake is not None:
                command[names.brake] = high[names.brake] * brake
        command = np.rint(command) if np.issubdtype(box.dtype, np.integer) else command
        return np.asarray(np.clip(command.reshape(box.shape).astype(box.dtype), box.low, box.high))

    def _whole_periods(self) -> int:
        held = 1.0 if self.next_periods is None else self.next_periods
        self.next_periods = None
        if not 0.0 < held <= _LONGEST:
            raise ValueError(f"next_periods must lie in (0, {_LONGEST:.0f}], got {held}.")
        self._debt += held
        whole = min(max(1, math.floor(self._debt + 0.5)), round(_LONGEST))
        self._debt = max(self._debt - whole, -0.5)
        return whole

    def _position(self) -> tuple[float, float]:
        found = find(self.names.position, self._roots)
        try:
            x, y = (float(number) for number in list(found)[:2])
        except Exception:  # Whatever it is, it cannot be read as two numbers.
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ValueError(f"{self.names.position}: expected finite x and y, got {_described(found)}.")
        return x, y

    def _centre_line(self, rows: Any) -> NDArray[np.float64]:
        names = self.names
        try:
            points = np.array(
                [[float(row[column]) for column in names.centre_line_columns] for row in rows], np.float64
            )
        except Exception:  # Whatever it is, it cannot be read as rows of numbers.
            points = np.empty((0, 2))
        if len(points) < LEAST_POINTS or not np.isfinite(points).all():
            raise ValueError(
                f"{names.centre_line}: expected {LEAST_POINTS} or more rows of finite numbers, x and y at "
                f"{names.centre_line_columns}, got {_described(rows)}."
            )
        return points

    def _locate(self) -> float:
        """Find the car on its road; the way made since the last step, m."""
        names = self.names
        if not names.centre_line:
            way = self._speed() * self.period_s if names.speed else 0.0
            self._progress += way
            return way
        track = self.track
        s, *self._place = self._cursor.locate(*self._position())
        way = (s - self._s + 0.5 * track.length_m) % track.length_m - 0.5 * track.length_m
        yaw = find_number(names.yaw, self._roots)
        turned = (yaw - self._yaw + math.pi) % (2.0 * math.pi) - math.pi
        self._yaw, self._yaw_rate = yaw, turned / self.period_s
        self._s, self._progress = s, self._progress + way
        return way

    def _has_crashed(self, terminated: bool) -> bool:
        if self.names.crashed:
            return find_flag(self.names.crashed, self._roots)
        offset, width = self._offset(), self._lane_width()
        if not math.isnan(offset) and not math.isnan(width):
            return bool(abs(offset) > 0.5 * width)
        return terminated

    def _speed(self) -> float:
        return find_number(self.names.speed, self._roots, vector=True) if self.names.speed else self.names.speed_mps

    def _offset(self) -> float:
        names = self.names
        if names.centre_line:
            return self._place[0]
        if not names.lateral_offset:
            return math.nan
        return find_number(names.lateral_offset, self._roots) * (1.0 if names.offset_positive == "left" else -1.0)

    def _lane_width(self) -> float:
        if self._track is not None:
            return 2.0 * self._track.lane_width_m
        return self._width() if self.names.lane_width else math.nan

    def _width(self) -> float:
        width = find_number(self.names.lane_width, self._roots)
        if width <= 0.0:
            raise ValueError(f"{self.names.lane_width}: the width of a lane must be greater than 0 m, got {width:g}.")
        return width

    def _cut(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Crop and resize."""
        names = self.names
        rows = frame.shape[0] - names.crop_top - names.crop_bottom
        if rows < 1:
            raise ValueError(f"crop_top and crop_bottom leave nothing of {frame.shape[0]} rows.")
        picture: NDArray[Any] = frame[names.crop_top : names.crop_top + rows]
        size = (names.width or picture.shape[1], names.height or rows)
        if size != (picture.shape[1], picture.shape[0]):
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        return np.array(picture, np.uint8)

    def _observe(self, elapsed: float) -> dict[str, NDArray[Any]]:
        frame = self._kind.to_rgb(np.asarray(find(self.names.camera, self._roots)))
        return {"camera": self._cut(frame), "elapsed": np.array([elapsed], np.float32)}

    def _info(self) -> dict[str, Any]:
        names = self.names
        heading, curvature = math.nan, math.nan
        if names.centre_line:
            _, road, curvature = self._place
            yaw = find_number(names.yaw, self._roots) + names.yaw_offset_rad
            heading = (yaw - road + math.pi) % (2.0 * math.pi) - math.pi
        elif names.heading_error:
            side = 1.0 if names.offset_positive == "left" else -1.0
            heading = side * find_number(names.heading_error, self._roots)
        known = {
            "lateral_offset_m": self._offset(),
            "heading_error_rad": heading,
            "progress_m": self._progress if names.centre_line or names.speed else math.nan,
            "speed_mps": self._speed() if names.speed else math.nan,
            "crashed": self._crashed,
            "time_s": self._steps * self.period_s,
            "lane_width_m": self._lane_width(),
            "curvature_per_m": curvature,
            "steering": self._steering,
        }
        return {key: value for key, value in known.items() if value == value}


def period_of(env: gymnasium.Env[Any, Any]) -> float:
    """Return the time between two actions of an env, s: as it says itself, by the pace of its films, or `PERIOD_S`."""
    said = _number(getattr(env.unwrapped, "period_s", None))
    if said > 0.0 and math.isfinite(said):
        return said
    fps = _number((env.metadata or {}).get("render_fps") or 0.0)
    return 1.0 / fps if 0.1 <= fps <= 1000.0 else PERIOD_S


def _inside(space: Any) -> dict[str, Any]:
    """Return the spaces in a space, by the step that leads there."""
    if isinstance(space, spaces.Dict):
        return {str(key): one for key, one in space.spaces.items()}
    return {str(at): one for at, one in enumerate(space.spaces)} if isinstance(space, spaces.Tuple) else {}


def _number(value: Any) -> float:
    """Return a number of an env's as a float; NaN for what is none."""
    try:
        return float(np.asarray(value, np.float64).item())
    except Exception:  # Whatever it is, it is no number.
        return math.nan


def _described(value: Any) -> str:
    """Say in a few words what an env gave."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {list(value.shape)}"
    size = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"a {type(value).__name__}{size} {' '.join(repr(value).split()):.40}"
