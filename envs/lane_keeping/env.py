"""wormwheel/LaneKeeping-v0: keep a car in the right-hand lane of a closed road, from camera frames.

import gymnasium, envs
env = gymnasium.make("wormwheel/LaneKeeping-v0", vehicle="bicycle", variety=0.5)
observation, info = env.reset(seed=7)
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import checked_action
from envs.camera.info import CameraInfo, camera_info
from envs.camera.lens import draw_camera
from envs.lane_keeping.config import LaneKeepingConfig, with_overrides
from envs.lane_keeping.dashboard import Dashboard, DashboardState
from envs.lane_keeping.layout import is_lost, kept_line, layout_look, layout_track, start_lateral
from envs.lane_keeping.memory import Blackouts, LaneSign
from envs.lane_keeping.scenario import Scenario
from envs.protocol import Motion
from envs.road.files import cached_track, existing_files
from envs.road.random_road import random_track
from envs.road.track import Track, TrackCursor
from envs.scene.random_look import draw_look
from envs.scene.scene import Scene
from envs.vehicle.bullet import import_bullet
from envs.vehicle.make import make_vehicle
from envs.vehicle.vehicle import VehicleParams, VehicleState


class LaneKeepingEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """A car with a camera on a closed road of two lanes; it should keep to the middle of the right-hand one.

    `markings` and `keep` make other roads: one lane, one line to follow, the edge between two surfaces, the left-hand
    lane (`envs.lane_keeping.layout`). "Lane" below is the one to keep then, or a lane's width about the line.

    ## Observation space
    `Dict`; both arrays are new at every step. Frames are on time, `elapsed` 1, unless `elapsed_jitter` is set.

    | Key | Space | Meaning |
    |---|---|---|
    | `camera` | `Box(0, 255, (height, width, 3), uint8)` | RGB frame of the camera on the car |
    | `elapsed` | `Box(0.0, 10.0, (1,), float32)` | time since the previous frame in units of `period_s` |

    ## Action space
    `Box(-1.0, 1.0, (1,), float32)`, with `throttle=True` `(2,)`. Values outside the box are clipped; NaN and infinity
    are refused.

    | Number | Action | −1 | 0 | 1 |
    |---|---|---|---|---|
    | 0 | steering, share of the steering limit | full lock to the right | straight on | full lock to the left |
    | 1 | throttle: speed that the cruise controller holds | stop | drawn speed | twice the drawn speed |

    ## Info
    | Key | Unit | Meaning |
    |---|---|---|
    | `lateral_offset_m` | m | of the rear axle's middle from the middle of the right-hand lane, positive to the left |
    | `heading_error_rad` | rad | direction of the car relative to the road, positive to the left |
    | `progress_m` | m | way along the road since the start, over all laps |
    | `speed_mps` | m/s | forward speed |
    | `crashed` | | whether the car has left the pavement |
    | `time_s` | s | since the start |
    | `lane_width_m` | m | width of one lane |
    | `curvature_per_m` | 1/m | of the middle of the lane where the car is, positive to the left |
    | `steering` | | the last steering action, in [−1, 1] |
    | `lane_signed` | | −1 where the arrow points to the right, 1 left; with `lane_sign_delay_s` only |
    | `lane_to_keep` | | −1 right, 1 left, between while it changes; with `lane_sign_delay_s` only |
    | `lane_due` | | whether the car should be in the lane of the sign by now; with `lane_sign_delay_s` only |
    | `dark` | | whether the camera is; with `blackout_s` only |

    With `lane_sign_delay_s`, the lane to keep takes the place of the right-hand lane in offset, curvature and reward.

    ## Rewards
    `way / (drawn speed · period_s) / (1 + (offset / half a lane)²) − 0.1 · (change of steering)²`, and −10 for a crash,
    with the way made along the road in this step. Driving on earns something wherever the car is on the road, so a
    learner that is lost never gains by ending the episode.

    ## Starting state
    Each reset draws, from the generator that the seed sets, a road, a look, a camera, a speed and a start near the
    middle of the lane.

    ## Episode end
    - **Termination**: a crash, which is the middle of the rear axle beyond either edge of the pavement.
    - **Truncation**: after `episode_s` seconds.

    ## Arguments
    `config`, a `LaneKeepingConfig`, or any of its attributes by name (`wormwheel info env` lists them):

    ```python
    gymnasium.make("wormwheel/LaneKeeping-v0", vehicle="bicycle", height=66, width=200, throttle=True)
    ```

    `reset(options={"scenario": Scenario(...)})` makes one episode from another config, car, look or road
    (`envs.lane_keeping.scenario`); the next reset without it is back in the env's own. The attribute `next_periods`,
    when set, is for how many nominal periods the next action is held, any number in (0, 10]; it counts for one step,
    and is multiplied with what `elapsed_jitter` draws.

    ## Rendering
    `render_mode="rgb_array"`: 1280×720 RGB: the camera, a map with the car, steering, offset, speed and time.

    ## Copies and closing
    `copy.copy`, `copy.deepcopy` and `pickle` are refused where the env holds a PyBullet simulator. After `close`, a
    reset starts the simulator again.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, config: LaneKeepingConfig | None = None, render_mode: str | None = None, **overrides: Any):
        """Make the env.

        Args:
            config: what roads, cars, cameras and episodes are like; the defaults when None.
            render_mode: "rgb_array" or None.
            **overrides: attributes of the config to replace.

        Raises:
            ValueError: if an attribute is unknown or out of range, or the Bullet vehicle is asked for where PyBullet
                is not installed.
            FileNotFoundError: if a road file does not exist.
        """
        self.config = with_overrides(config or LaneKeepingConfig(), overrides)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(
                f"render_mode must be None or one of {self.metadata['render_modes']}, got {render_mode!r}."
            )
        self.render_mode = render_mode
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1.0 / self.config.period_s))}
        shape = (self.config.height, self.config.width, 3)
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {"camera": spaces.Box(0, 255, shape, np.uint8), "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (2 if self.config.throttle else 1,), np.float32)
        self._files = existing_files(self.config.track)
        if self.config.renderer == "tiny":
            import_bullet()
        self.next_periods: float | None = None
        self._scenario = Scenario(self.config)
        self._vehicle = make_vehicle(self.config.vehicle, self.config.vehicle_params)
        self._track: Track | None = None
        self._scene: Scene | None = None
        self._dashboard: Dashboard | None = None
        self._sign: LaneSign | None = None
        self._blackouts: Blackouts | None = None
        self._resets = 0
        self._drawn_seed: int | None = None  # of the reset that drew the scene
        self._drawn_state: dict[str, Any] = {}  # of the generator after that

    @property
    def track(self) -> Track:
        """The road of this episode."""
        if self._track is None:
            raise gymnasium.error.ResetNeeded("No road yet: call reset first.")
        return self._track

    @property
    def vehicle_state(self) -> VehicleState:
        """Pose, speed and steering angle of the car: what an expert that sees everything may use."""
        return self._state

    @property
    def road_position_m(self) -> float:
        """Arc length along the centre line of the point nearest to the car, m, in [0, length)."""
        return self._s

    @property
    def target_offset_m(self) -> float:
        """Where the line to keep runs, m left of the centre line: the middle of the right-hand lane as a rule."""
        return self._kept()[0]

    @property
    def vehicle_params(self) -> VehicleParams:
        """The car of this episode."""
        return self._vehicle.params

    @property
    def scene(self) -> Scene:
        """Road, look and camera of this episode: for the same view in another size."""
        if self._scene is None:
            raise gymnasium.error.ResetNeeded("No scene yet: call reset first.")
        return self._scene

    def camera_info(self) -> CameraInfo:
        """Describe the camera of this episode; before the first reset its geometry is a guess."""
        config = self.config
        if self._scene is None:
            return CameraInfo(config.height, config.width, config.period_s)
        return camera_info(self._scene.params, config.height, config.width, config.period_s)

    def motion(self) -> Motion:
        """Tell how the car moves now."""
        state = self._state
        return Motion(state.speed, state.speed * math.tan(state.steer) / self._vehicle.params.wheelbase_m)

    def status(self) -> dict[str, Any]:
        """What the info of the last observation says, for who sits beside the driver."""
        return self._info()

    @property
    def target_speed_mps(self) -> float:
        """The speed that the cruise controller holds in this episode."""
        return self._speed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Draw a road, a look, a camera and a start; see the class."""
        super().reset(seed=seed)
        self.next_periods = None
        changed = self._enter((options or {}).get("scenario") or Scenario(self.config))
        config = self._scenario.config
        if config.opencv_threads:
            cv2.setNumThreads(config.opencv_threads)
        if seed is not None:
            self._resets = 0
        generator = self.np_random
        if seed is not None and seed == self._drawn_seed and self._scene is not None and not changed:
            self._scene.rewind()  # The same episode again: its scene is there already.
            generator.bit_generator.state = self._drawn_state
        elif self._resets % config.resets_per_road == 0 or self._scene is None or changed:
            self._draw_scene(generator)
            self._drawn_seed, self._drawn_state = seed, dict(generator.bit_generator.state)
        self._resets += 1
        track = self.track
        s = float(generator.uniform(0.0, track.length_m))
        target, width = self._line
        offset = float(generator.uniform(-config.start_offset, config.start_offset)) * width
        self._speed = float(generator.uniform(*config.speed_mps))
        yaw = float(track.heading(s)) + float(generator.uniform(-config.start_heading_rad, config.start_heading_rad))
        x, y = (float(value) for value in track.point(s, start_lateral(track, self._layout, target + offset)))
        self._state = self._vehicle.reset(x, y, yaw, self._speed)
        self._s, self._lateral, self._heading, self._curvature = self._cursor.start(x, y)
        self._progress = self._time = self._steering = 0.0
        self._elapsed = 1.0
        self._crashed = False
        # Drawn last, so that an episode without them is the same as ever.
        sign_s, dark_s = config.lane_sign_delay_s, config.blackout_s
        self._sign = None if sign_s is None else LaneSign(generator, sign_s)
        self._blackouts = None if dark_s is None else Blackouts(int(generator.integers(2**32)), dark_s)
        observation = self._observe()
        return observation, self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Drive for one period; see the class for what is returned."""
        config, track = self._scenario.config, self.track
        steering, *throttle = checked_action(action, 2 if config.throttle else 1)
        speed = self._speed
        if throttle:
            speed *= 1.0 + throttle[0]
        self._elapsed = 1.0
        if config.elapsed_jitter > 0.0:
            self._elapsed = float(np.float32(1.0 + config.elapsed_jitter * self.np_random.uniform(-1.0, 1.0)))
        parts = 1
        if self.next_periods is not None:
            self._elapsed = min(float(np.float32(self._elapsed * _held(self.next_periods))), 10.0)
            self.next_periods, parts = None, max(1, math.ceil(self._elapsed - 1e-6))  # a crash between frames is seen
        dt_s = self._elapsed * config.period_s / parts
        way = 0.0
        for part in range(parts):
            self._state = self._vehicle.step(steering, speed, dt_s)
            s, self._lateral, self._heading, self._curvature = self._cursor.locate(self._state.x, self._state.y)
            way += (s - self._s + 0.5 * track.length_m) % track.length_m - 0.5 * track.length_m
            self._s = s
            self._time += dt_s
            self._crashed = is_lost(track, self._layout, config.keep, self._lateral)
            if self._crashed and part + 1 < parts:
                self._elapsed *= (part + 1) / parts
                break
        self._progress += way
        if self._blackouts is not None:
            ahead = float(track.curvature(self._s + self._blackouts.ahead_m(self._state.speed)))
            self._blackouts.step(self._time, self._curvature, ahead)
        target, width = self._kept()
        share = (self._lateral - target) / (0.5 * width)
        reward = way / (self._speed * config.period_s) / (1.0 + share * share) - 0.1 * (steering - self._steering) ** 2
        if self._crashed:
            reward -= 10.0
        self._steering = steering
        truncated = self._time >= config.episode_s - 1e-6
        return self._observe(), reward, self._crashed, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """A picture for people, uint8 `[720, 1280, 3]`; None without a render mode."""
        return None if self.render_mode is None else self.picture()

    def picture(self, frame: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """The picture that `render` gives, in any render mode.

        Args:
            frame: uint8 `[H, W, 3]`, shown as what the driver gets; the last observation when None. For wrappers that
                change it.

        Returns:
            uint8 `[720, 1280, 3]` RGB.
        """
        scene, state, info = self.scene, self._state, self._info()
        if self._dashboard is None:
            self._dashboard = Dashboard(scene, self.config.height, self.config.width, self.config.period_s)
        return self._dashboard.draw(
            DashboardState(
                frame=self._frame if frame is None else frame,
                x=state.x,
                y=state.y,
                yaw=state.yaw,
                s=self._s,
                steering=self._steering,
                lateral_offset_m=info["lateral_offset_m"],
                lane_width_m=info["lane_width_m"],
                speed_mps=state.speed,
                time_s=self._time,
                progress_m=self._progress,
                crashed=self._crashed,
            )
        )

    def close(self) -> None:
        """Release the vehicle's simulator."""
        self._vehicle.close()
        if self._scene is not None:
            self._scene.close()
            self._scene = None

    def _enter(self, scenario: Scenario) -> bool:
        """Make the episodes from here on from a scenario; returns whether it differs from the previous one."""
        if scenario == self._scenario:
            return False
        scenario.check_fits(self.config)
        config, before = scenario.config, self._scenario.config
        if (config.vehicle, config.vehicle_params) != (before.vehicle, before.vehicle_params):
            made = make_vehicle(config.vehicle, config.vehicle_params)
            self._vehicle.close()
            self._vehicle = made
        self._files = existing_files(config.track)
        self._scenario = scenario
        return True

    def _draw_scene(self, generator: np.random.Generator) -> None:
        """Draw a road, a look and a camera."""
        config = self._scenario.config
        layouts = config.layouts
        # One kind of road draws nothing, so that its roads and looks are the same as ever.
        self._layout = layouts[int(generator.integers(len(layouts)))] if len(layouts) > 1 else layouts[0]
        self._track = layout_track(self._scenario.track(self._draw_track(generator)), self._layout)
        look = layout_look(self._scenario.look(draw_look(generator, config.variety)), self._layout)
        pinhole = config.renderer == "tiny"
        params = draw_camera(generator, config.camera, config.variety, config.height, config.width, pinhole)
        if self._scene is not None:
            self._scene.close()
        self._scene = Scene(
            self._track, look, params, config.height, config.width, config.pixels_per_m, config.renderer
        )
        self._cursor = TrackCursor(self._track)
        self._line = kept_line(self._track, self._layout, config.keep)
        self._dashboard = None

    def _kept(self) -> tuple[float, float]:
        """Where the line to keep runs, m left of the centre line, and the width of a lane about it, m."""
        if self._sign is None:
            return self._line
        target, width = self._line
        return -target * self._sign.lane(self._time), width

    def _draw_track(self, generator: np.random.Generator) -> Track:
        config = self._scenario.config
        if not self._files:
            return random_track(generator, config.roads)
        path = self._files[int(generator.integers(len(self._files)))]
        sizes = config.track_scale, config.track_lane_width_m, config.track_min_radius_m
        return cached_track(path, *sizes, config.track_reverse)

    def _observe(self) -> dict[str, NDArray[Any]]:
        assert self._scene is not None
        state = self._state
        frame = self._scene.frame(state.x, state.y, state.yaw, self._s, *self.motion())
        if self._sign is not None:
            frame = self._sign.show(frame, self._time)
        if self._blackouts is not None and self._blackouts.dark:
            frame = np.zeros_like(frame)
        self._frame = frame
        return {"camera": frame, "elapsed": np.array([self._elapsed], np.float32)}

    def _info(self) -> dict[str, Any]:
        state = self._state
        target, width = self._kept()
        info = {
            "lateral_offset_m": self._lateral - target,
            "heading_error_rad": (state.yaw - self._heading + math.pi) % (2.0 * math.pi) - math.pi,
            "progress_m": self._progress,
            "speed_mps": state.speed,
            "crashed": self._crashed,
            "time_s": self._time,
            "lane_width_m": width,
            "curvature_per_m": self._curvature / (1.0 - self._curvature * target),
            "steering": self._steering,
        }
        if self._sign is not None:
            info["lane_signed"] = 1.0 if self._sign.left else -1.0
            info["lane_to_keep"] = self._sign.lane(self._time)
            info["lane_due"] = self._sign.due(self._time)
        if self._blackouts is not None:
            info["dark"] = self._blackouts.dark
        return info


def _held(periods: float) -> float:
    """For how long an action is held, checked, as the observation reports it."""
    if not 0.0 < periods <= 10.0:
        raise ValueError(f"next_periods must lie in (0, 10], got {periods}.")
    return float(np.float32(periods))
