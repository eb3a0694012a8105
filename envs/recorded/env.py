"""wormwheel/Recorded-v0: drive along recorded footage, every frame redrawn for where the car really is.

import gymnasium, envs
env = gymnasium.make("wormwheel/Recorded-v0", footage=[Footage(...)])
observation, info = env.reset(seed=7)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import checked_action
from envs.camera.info import CameraInfo, camera_info
from envs.camera.lens import CameraParams
from envs.camera.plane import Pose, Reprojector, View
from envs.camera.warp import Image
from envs.protocol import Motion
from envs.recorded.config import RecordedConfig
from envs.recorded.dashboard import RecordedDashboard
from envs.recorded.footage import Footage
from envs.recorded.line import RecordedLine
from envs.vehicle.vehicle import BicycleVehicle, VehicleParams, VehicleState

BACK_HEIGHTS = (2.0, 5.0, 10.0)
"""How far behind the nearest frame, in heights of the camera, frames are looked for that fill what it did not see."""
LEAST_S = 2.0
"""Footage that is left in front of a car at the start of an episode, s, where there is so much."""


class RecordedEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """A car with a camera on a road that was recorded; it should keep to the line that was driven there.

    The car moves by the kinematic bicycle, at the speed that was recorded where it is. Its frame is the recorded one
    that was taken nearest, reprojected over the flat road to the car's own pose (`envs.camera.plane`); what it did not
    see, at the edges, comes from frames that were taken a little earlier. This is true for the road and for what is far
    away, not for what stands up nearby. Where the recording knows how far the recorded car was
    off its lane, the line to keep is the middle of the lane.

    ## Observation space
    `Dict`; both arrays are new at every step.

    | Key | Space | Meaning |
    |---|---|---|
    | `camera` | `Box(0, 255, (height, width, 3), uint8)` | RGB frame, as the camera of the recording draws |
    | `elapsed` | `Box(0.0, 10.0, (1,), float32)` | time since the previous frame in units of the period |

    ## Action space
    `Box(-1.0, 1.0, (1,), float32)`: steering as a share of full lock, positive to the left. Values outside the box are
    clipped; NaN and infinity are refused.

    ## Info
    `lateral_offset_m`, `heading_error_rad`, `progress_m`, `speed_mps`, `crashed`, `time_s`, `lane_width_m`,
    `curvature_per_m`, `steering` as in LaneKeeping, and

    | Key | Unit | Meaning |
    |---|---|---|
    | `recorded_steering` | | what was steered where the car is, in [−1, 1] |
    | `frame` | | number of the recorded frame that was redrawn |
    | `limit_m` | m | distance from the recorded car's way at which the car counts as lost |
    | `track` | | name of the footage |

    ## Rewards
    That of LaneKeeping: `way / (recorded speed · period) / (1 + (offset / half a lane)²) − 0.1 · (change of
    steering)²`, and −10 when the car is lost.

    ## Starting state
    Each reset draws one of the recordings, the longer the likelier, a frame of it, and a start near the line, with the
    wheels where the recorded ones were.

    ## Episode end
    - **Termination**: the car is lost: so far from where the recorded one drove, or turned so far, that the frames no
      longer show what it sees (`RecordedConfig.least_shown`), or farther than `limit_m` from its line. It counts as a
      crash.
    - **Truncation**: after `episode_s` seconds, or where the recording ends.

    ## Arguments
    `footage`, the recordings, all with frames of one size; `config`, a `RecordedConfig`, or any of its attributes by
    name. `reset(options={"episode": 0, "frame": 12, "offset_m": 0.1, "heading_rad": 0.0})` fixes what it names. The
    attribute `next_periods`, when set, is for how many nominal periods the next action is held, in (0, 10]; it counts
    for one step, which ends earlier where the car is lost or the recording ends.

    ## Rendering
    `render_mode="rgb_array"`: 1280×720 RGB: frame, steering and offset.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(
        self,
        footage: Sequence[Footage],
        config: RecordedConfig | None = None,
        render_mode: str | None = None,
        **overrides: Any,
    ):
        """Make the env.

        Args:
            footage: at least one, with frames of one size and one period.
            config: how episodes are; the defaults when None.
            render_mode: "rgb_array" or None.
            **overrides: attributes of the config to replace.

        Raises:
            ValueError: if there is no footage, sizes or periods differ, an attribute is unknown or out of range, or
                the camera of a recording sees no road.
        """
        config = config or RecordedConfig()
        unknown = sorted(set(overrides) - set(config.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"RecordedConfig has no attribute {', '.join(unknown)}. It has "
                f"{', '.join(config.__dataclass_fields__)}."
            )
        self.config = config = replace(config, **overrides)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}."
            )
        self.footage = tuple(footage)
        if not self.footage:
            raise ValueError("at least one recording is needed to drive along, got none.")
        kinds = {(one.height, one.width, one.period_s) for one in self.footage}
        if len(kinds) > 1:
            raise ValueError(f"recordings must have frames of one size and one period, got {sorted(kinds)[:3]}.")
        ((rows, columns, period_s),) = kinds
        self.render_mode = render_mode
        self.period_s = config.period_s or period_s
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1.0 / self.period_s))}
        shape = (config.height or rows, config.width or columns, 3)
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {"camera": spaces.Box(0, 255, shape, np.uint8), "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.next_periods: float | None = None
        self._shape = shape
        self._views: dict[CameraParams, _Sight] = {}
        self._limits(self.footage[0])
        self._number = 0
        self._dashboard: RecordedDashboard | None = None
        self._vehicle: BicycleVehicle | None = None

    @property
    def track(self) -> RecordedLine:
        """The line to keep in this episode."""
        self._check_begun()
        return self._line

    @property
    def vehicle_state(self) -> VehicleState:
        """Pose, speed and steering angle of the car."""
        self._check_begun()
        return self._state

    @property
    def vehicle_params(self) -> VehicleParams:
        """The car of this episode."""
        return self.footage[self._number].car

    @property
    def road_position_m(self) -> float:
        """Way along the line of the point nearest to the car, m."""
        self._check_begun()
        return self._s

    @property
    def target_offset_m(self) -> float:
        """Where the line to keep is, left of `track`: on it."""
        return 0.0

    @property
    def recorded_steering(self) -> float:
        """What was steered where the car is, in [−1, 1]."""
        self._check_begun()
        return float(self.footage[self._number].steering[self._at])

    @property
    def camera_params(self) -> CameraParams:
        """Where the camera of this episode sat, and its lens."""
        return self.footage[self._number].camera

    def camera_info(self) -> CameraInfo:
        """Describe the camera of this episode."""
        return camera_info(self.footage[self._number].camera, self._shape[0], self._shape[1], self.period_s)

    def status(self) -> dict[str, Any]:
        """What the info of the last observation says, for who sits beside the driver."""
        return self._info()

    def motion(self) -> Motion:
        """Tell how the car moves now."""
        state = self.vehicle_state
        return Motion(state.speed, state.speed * math.tan(state.steer) / self.vehicle_params.wheelbase_m)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Draw a recording, a place in it and a start; see the class."""
        super().reset(seed=seed)
        config, wanted, generator = self.config, options or {}, self.np_random
        if config.opencv_threads:
            cv2.setNumThreads(config.opencv_threads)
        lengths_s = np.array([float(one.time_s[-1] - one.time_s[0]) for one in self.footage])
        drawn = int(generator.choice(len(self.footage), p=lengths_s / lengths_s.sum()))
        self._number = int(wanted.get("episode", drawn))
        footage = self.footage[self._number]
        times_s = np.asarray(footage.time_s, np.float64)
        latest_s = max(times_s[0], times_s[-1] - min(config.episode_s, max(LEAST_S, 0.5 * lengths_s[self._number])))
        frame = int(np.searchsorted(times_s, generator.uniform(times_s[0], latest_s), side="right")) - 1
        frame = min(max(int(wanted.get("frame", frame)), 0), len(footage) - 2)
        self._sight = self._limits(footage)
        self._line, self._driven = footage.line, footage.driven
        x, y, _ = self._driven[frame]
        _, there, _ = self._line.locate(float(x), float(y), frame)  # where the recorded car was in its lane
        offset = there + config.start_offset * self._sight.limit_m * float(generator.uniform(-1.0, 1.0))
        heading = config.start_heading_rad * float(generator.uniform(-1.0, 1.0))
        offset, heading = float(wanted.get("offset_m", offset)), float(wanted.get("heading_rad", heading))
        self._vehicle = BicycleVehicle(footage.car)
        x, y = self._line.point(self._line.stations_m[frame], offset)
        yaw = float(self._line.heading(self._line.stations_m[frame])) + heading
        # In a bend the wheels are turned: a car that starts with straight ones leaves the line before it can steer.
        wheels = float(footage.wheels_rad[frame])
        self._state = self._vehicle.reset(float(x), float(y), yaw, float(footage.moving_mps[frame]), wheels)
        self.next_periods = None
        self._at = frame
        self._progress = self._time = self._steering = 0.0
        self._elapsed, self._crashed = 1.0, False
        self._locate()
        self._dashboard = None
        return self._observe(), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Drive for one period; see the class for what is returned."""
        self._check_begun()
        assert self._vehicle is not None
        (steering,) = checked_action(action, 1)
        self._elapsed = 1.0
        if self.next_periods is not None:
            if not 0.0 < self.next_periods <= 10.0:
                raise ValueError(f"next_periods must lie in (0, 10], got {self.next_periods}.")
            self._elapsed, self.next_periods = float(np.float32(self.next_periods)), None
        footage, before = self.footage[self._number], self._s
        parts = max(1, math.ceil(self._elapsed - 1e-6))
        dt_s = self._elapsed * self.period_s / parts
        for part in range(parts):  # the recorded speed is followed, and a crash between frames is seen
            speed = float(np.interp(self._s, self._line.stations_m, footage.moving_mps))
            self._state = self._vehicle.step(steering, speed, dt_s)
            self._time += dt_s
            self._locate()
            self._crashed = self._is_lost()
            ends = self._s >= self._line.length_m - 1e-9 or self._at == len(footage) - 1
            if (self._crashed or ends) and part + 1 < parts:
                self._elapsed *= (part + 1) / parts
                break
        way = self._s - before
        self._progress += way
        share = self._lateral / (0.5 * self._lane_width())
        reward = way / (speed * self.period_s) / (1.0 + share * share) - 0.1 * (steering - self._steering) ** 2
        if self._crashed:
            reward -= 10.0
        self._steering = steering
        truncated = ends or self._time >= self.config.episode_s - 1e-6
        return self._observe(), reward, self._crashed, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """A picture for people, uint8 `[720, 1280, 3]`; None without a render mode."""
        return None if self.render_mode is None else self.picture()

    def picture(self, frame: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture that `render` gives, in any render mode; `frame` is what the driver gets where that differs."""
        self._check_begun()
        if self._dashboard is None:
            self._dashboard = RecordedDashboard(self._shape[0], self._shape[1], self.period_s)
        return self._dashboard.draw(self._frame if frame is None else frame, self._info())

    def _check_begun(self) -> None:
        if self._vehicle is None:
            raise gymnasium.error.ResetNeeded("No episode yet: call reset first.")

    def _limits(self, footage: Footage) -> _Sight:
        """What the camera of a recording can show."""
        if footage.camera not in self._views:
            sight = _Sight(footage, self.config)
            if not sight.reprojector.on_road.any():
                raise ValueError(
                    f"the camera of {footage.name} sees no road: its horizon lies below the frame. Give another "
                    "height, pitch or field of view."
                )
            self._views[footage.camera] = sight
        return self._views[footage.camera]

    def _locate(self) -> None:
        """Find the car beside the line."""
        state = self._state
        self._s, self._lateral, self._at = self._line.locate(state.x, state.y, self._at)
        turned = state.yaw - float(self._line.heading(self._s))
        self._heading = (turned + math.pi) % (2.0 * math.pi) - math.pi

    def _is_lost(self) -> bool:
        """Whether the frames no longer show what the car sees, or it is too far from its line."""
        seen, sight = self._seen_from(self._at), self._sight
        unseen = abs(seen.left_m) > sight.limit_m or abs(seen.yaw_rad) > sight.turn_rad
        return unseen or abs(self._lateral) > (self.config.limit_m or math.inf)

    def _lane_width(self) -> float:
        known = self.config.lane_width_m or self.footage[self._number].lane_width_m
        return known or 2.0 * self._sight.limit_m

    def _observe(self) -> dict[str, NDArray[Any]]:
        frame = self._sight.reprojector.compose(self._sources())
        if frame.shape != self._shape:
            frame = cv2.resize(frame, (self._shape[1], self._shape[0]), interpolation=cv2.INTER_AREA)
        self._frame = np.asarray(frame, np.uint8)
        return {"camera": self._frame, "elapsed": np.array([self._elapsed], np.float32)}

    def _sources(self) -> Iterator[tuple[Callable[[], Image], Pose]]:
        """The nearest frame, then frames taken farther back, which saw more of what lies beside the car."""
        footage, used = self.footage[self._number], set()
        for back in (0.0, *BACK_HEIGHTS):
            at = self._at
            if back:
                at = self._line.frame_at(self._line.stations_m[at] - back * footage.camera.height_m)
            if at not in used:
                used.add(at)
                yield partial(footage.read, at), self._seen_from(at)

    def _seen_from(self, at: int) -> Pose:
        """The pose of the car, as seen from the car that took a frame."""
        (x, y, yaw), state = self._driven[at], self._state
        ahead, left = state.x - x, state.y - y
        forward_m = math.cos(yaw) * ahead + math.sin(yaw) * left
        turned = (state.yaw - float(yaw) + math.pi) % (2.0 * math.pi) - math.pi
        return Pose(forward_m, math.cos(yaw) * left - math.sin(yaw) * ahead, turned)

    def _info(self) -> dict[str, Any]:
        footage = self.footage[self._number]
        return {
            "lateral_offset_m": self._lateral,
            "heading_error_rad": self._heading,
            "progress_m": self._progress,
            "speed_mps": self._state.speed,
            "crashed": self._crashed,
            "time_s": self._time,
            "lane_width_m": self._lane_width(),
            "curvature_per_m": float(self._line.curvature(self._s)),
            "steering": self._steering,
            "recorded_steering": float(footage.steering[self._at]),
            "frame": self._at,
            "limit_m": self._sight.limit_m,
            "track": footage.name,
        }


class _Sight:
    """The frames of one camera, redrawn, and how far the car may leave the line."""

    def __init__(self, footage: Footage, config: RecordedConfig):
        self.reprojector = Reprojector(View(footage.camera, footage.height, footage.width))
        self._config = config

    @cached_property
    def limit_m(self) -> float:
        """Distance from the line at which the car is lost, m."""
        shown = self.reprojector.reach(self._config.least_shown)
        return min(shown, self._config.limit_m or shown)

    @cached_property
    def turn_rad(self) -> float:
        """Angle to the line at which the car is lost, rad."""
        return self.reprojector.reach(self._config.least_shown, of_yaw=True)
