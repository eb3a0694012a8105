"""wormwheel/CarRacing-v0: Gymnasium's CarRacing with the observation, the action and the info of the lane-keeping env.

import gymnasium, envs
env = gymnasium.make("wormwheel/CarRacing-v0", speed_mps=25.0)
observation, info = env.reset(seed=7)

Gymnasium's CarRacing draws 700 polygons a frame, of which about 14 show. This leaves the others out, before its own
code looks at them one by one; the pixels are the same.

    car = gymnasium.make("CarRacing-v3").unwrapped
    draw_what_shows(car)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.road.track import Track, TrackCursor


def draw_what_shows(car: Any) -> None:
    """Let a CarRacing skip polygons that lie outside the picture; every frame stays as it is.

    Args:
        car: an unwrapped CarRacing of Gymnasium; its method that draws the road is replaced.
    """
    car._render_road = _Ground(car).draw


class _Ground:
    """Grass and road of one CarRacing, and where their corners are."""

    def __init__(self, car: Any):
        from gymnasium.envs.box2d import car_racing  # needs Box2D

        size, reach, self._field_m = car_racing.GRASS_DIM, 20, car_racing.PLAYFIELD
        self._car = car
        self._limits = np.array([car_racing.WINDOW_W, car_racing.WINDOW_H], float)
        # A pixel more than its own test allows: that one decides, by its own arithmetic.
        self._margin = car_racing.MAX_SHAPE_DIM + 1.0
        self._grass = [
            [(x + size, y), (x, y), (x, y + size), (x + size, y + size)]
            for x in (size * column for column in range(-reach, reach, 2))
            for y in (size * row for row in range(-reach, reach, 2))
        ]
        self._grass_corners = np.array(self._grass, float)  # [P, 4, 2], m
        self._road: list[Any] = []
        self._road_corners = np.zeros((0, 4, 2))

    def draw(self, zoom: float, translation: tuple[float, float], angle: float) -> None:
        """Draw background, grass and road, in the order of the original; takes what the original takes."""
        car, end = self._car, self._field_m
        if car.road_poly is not self._road:  # Another road has been drawn.
            self._road = car.road_poly
            self._road_corners = np.array([corners for corners, _ in self._road], float)

        def paint(corners: Any, colour: Any, clip: bool = True) -> None:
            car._draw_colored_polygon(car.surf, corners, colour, zoom, translation, angle, clip=clip)

        paint([(end, end), (end, -end), (-end, -end), (-end, end)], car.bg_color, clip=False)
        for number in self._near(self._grass_corners, zoom, translation, angle):
            paint(self._grass[number], car.grass_color)
        for number in self._near(self._road_corners, zoom, translation, angle):
            corners, colour = self._road[number]
            paint([(x, y) for x, y in corners], [int(part) for part in colour])

    def _near(
        self, corners: NDArray[np.float64], zoom: float, translation: tuple[float, float], angle: float
    ) -> list[int]:
        """Numbers of the polygons `[P, 4, 2]` with a corner in or near the picture."""
        cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
        pixels = corners @ np.array([[cos, sin], [-sin, cos]]) + translation  # [P, 4, 2]
        inside = (pixels >= -self._margin) & (pixels <= self._limits + self._margin)
        return np.flatnonzero(inside.all(-1).any(-1)).tolist()


CAR_RACING = "CarRacing-v3"
"""The env of Gymnasium that is wrapped."""
ROAD_HALF_WIDTH_M = 40.0 / 6.0
"""Distance of its road's edges from the middle, m (TRACK_WIDTH of its source)."""
PERIOD_S = 1.0 / 50.0
"""Its control period, s."""
_BAR_ROWS = 12  # rows of indicators at the bottom of its 96×96 frames
_GAS_PER_MPS, _BRAKE_PER_MPS = 0.05, 0.03


@dataclass(frozen=True)
class CarRacingConfig:
    """What is asked of CarRacing."""

    height: int = 84
    """Rows of a camera frame, pixels; without the bar of indicators CarRacing has 84."""
    width: int = 96
    """Columns of a camera frame, pixels; CarRacing has 96."""
    speed_mps: float = 25.0
    """Speed that the cruise controller holds, m/s."""
    episode_s: float = 20.0
    """Length of an episode, s; it is truncated then."""

    def __post_init__(self) -> None:
        for name, least in (("height", 8), ("width", 8)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}.")
        for name in ("speed_mps", "episode_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number, got {value}.")


class CarRacingEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]]):
    """Gymnasium's CarRacing, seen from above, as a steering task.

    ## Observation
    `Dict(camera: Box(0, 255, [H, W, 3], uint8), elapsed: Box(0, 10, [1], float32))`: the frame without the bar of
    indicators, and 1 (time never jitters here).

    ## Action
    `Box(−1, 1, [1], float32)`: steering as a share of full lock, positive to the left (CarRacing's own sign is the
    other one). A cruise controller works gas and brake. The control period is 20 ms.

    ## Info
    As in the lane-keeping env. The road has one lane, its middle is the target: `lateral_offset_m` and
    `lane_width_m` refer to the whole road.

    ## Reward, start and end
    Way made along the road relative to what the speed allows, weighted by 1 − (offset / half the width)²; −10 for a
    crash. Each reset draws a road from the seed and starts from rest. Leaving the road is a crash: terminated. After
    `episode_s` seconds the episode is truncated.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}
    period_s = PERIOD_S

    def __init__(self, config: CarRacingConfig | None = None, render_mode: str | None = None, **overrides: Any):
        """Make the env.

        Args:
            config: the task; the defaults when None.
            render_mode: "rgb_array" or None.
            **overrides: attributes of the config to replace.

        Raises:
            ValueError: if Box2D is not installed, or an attribute is unknown or out of range.
        """
        self.config = config or CarRacingConfig()
        unknown = sorted(set(overrides) - set(self.config.__dataclass_fields__))
        if unknown:
            raise ValueError(f"CarRacingConfig has no attribute {', '.join(unknown)}.")
        self.config = replace(self.config, **overrides)
        try:
            self._inner: Any = gymnasium.make(CAR_RACING, render_mode=render_mode, disable_env_checker=True).unwrapped
        except gymnasium.error.DependencyNotInstalled as error:
            raise ValueError("CarRacing needs Box2D: install it with `pip install gymnasium[box2d]`.") from error
        draw_what_shows(self._inner)
        self.render_mode = render_mode
        shape = (self.config.height, self.config.width, 3)
        self.observation_space: spaces.Space[Any] = spaces.Dict(
            {"camera": spaces.Box(0, 255, shape, np.uint8), "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._track: Track | None = None

    @property
    def track(self) -> Track:
        """The road of this episode; its two lanes together are the road."""
        if self._track is None:
            raise gymnasium.error.ResetNeeded("No road yet: call reset first.")
        return self._track

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Draw a road; see the class."""
        super().reset(seed=seed)
        frame, _ = self._inner.reset(seed=int(self.np_random.integers(2**31)))
        points = np.array([(x, y) for _, _, x, y in self._inner.track])
        self._track = Track(points, ROAD_HALF_WIDTH_M, "CarRacing")
        self._cursor = TrackCursor(self._track)
        x, y = self._inner.car.hull.position
        self._s, self._lateral, self._heading, self._curvature = self._cursor.start(x, y)
        self._steps, self._steering, self._progress, self._crashed = 0, 0.0, 0.0, False
        return self._observe(frame), self._info()

    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Drive for one period; see the class for what is returned."""
        steering = min(max(float(action[0]), -1.0), 1.0)
        if steering != steering:
            raise ValueError("The steering action is not a number (NaN).")
        behind = self.config.speed_mps - self._speed()
        gas, brake = min(max(_GAS_PER_MPS * behind, 0.0), 1.0), min(max(-_BRAKE_PER_MPS * behind, 0.0), 0.5)
        frame, *_ = self._inner.step(np.array([-steering, gas, brake]))
        track = self.track
        x, y = self._inner.car.hull.position
        s, self._lateral, self._heading, self._curvature = self._cursor.locate(x, y)
        way = (s - self._s + 0.5 * track.length_m) % track.length_m - 0.5 * track.length_m
        self._s, self._progress, self._steering = s, self._progress + way, steering
        self._steps += 1
        self._crashed = abs(self._lateral) > ROAD_HALF_WIDTH_M
        share = self._lateral / ROAD_HALF_WIDTH_M
        reward = way / (self.config.speed_mps * PERIOD_S) * (1.0 - min(share * share, 4.0))
        if self._crashed:
            reward -= 10.0
        truncated = self._steps * PERIOD_S >= self.config.episode_s - 1e-6
        return self._observe(frame), reward, self._crashed, truncated, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """CarRacing's own picture, uint8 `[400, 600, 3]`; None without a render mode."""
        return None if self.render_mode is None else self._inner.render()

    def close(self) -> None:
        """Close CarRacing."""
        self._inner.close()

    def _speed(self) -> float:
        velocity = self._inner.car.hull.linearVelocity
        return math.hypot(velocity[0], velocity[1])

    def _observe(self, frame: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        camera: NDArray[Any] = frame[:-_BAR_ROWS]
        if camera.shape[:2] != (self.config.height, self.config.width):
            size = (self.config.width, self.config.height)
            camera = cv2.resize(camera, size, interpolation=cv2.INTER_AREA)
        return {"camera": np.array(camera, np.uint8), "elapsed": np.ones(1, np.float32)}

    def _info(self) -> dict[str, Any]:
        yaw = self._inner.car.hull.angle + 0.5 * math.pi  # its angle counts from the y axis
        return {
            "lateral_offset_m": self._lateral,
            "heading_error_rad": (yaw - self._heading + math.pi) % (2.0 * math.pi) - math.pi,
            "progress_m": self._progress,
            "speed_mps": self._speed(),
            "crashed": self._crashed,
            "time_s": self._steps * PERIOD_S,
            "lane_width_m": 2.0 * ROAD_HALF_WIDTH_M,
            "curvature_per_m": self._curvature,
            "steering": self._steering,
        }
