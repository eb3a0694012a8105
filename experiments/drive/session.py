"""A drive without a page: the world, the wheel, who holds it, and what is kept.

    session = DriveSession(LaneKeepingConfig(vehicle="bicycle"), Path("runs/drive"), seed=1)
    session.wheel.hold(1)
    seen = session.step()          # one control period; the frame after it
    session.hand_to(POLICY)

A policy that is there sees every frame, also while a person drives, so that it knows the road when the wheel is handed
to it. Everything runs in simulated time; `experiments.drive.stepper` gives it a clock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from agents.driving.car import car_of_env
from agents.driving.driver import OpenedDriver, PolicyDriver
from agents.driving.record import with_vehicle
from agents.recordings.episodes import EpisodeMeta
from envs import LANE_KEEPING
from envs.camera.info import camera_info
from envs.camera.warp import WarpCamera
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.lane_keeping.scenario import Scenario
from envs.perturbations import FAMILIES, PERTURBATIONS, PerturbedEnv
from envs.perturbations.composition import Composition, Running
from envs.perturbations.perturbation import Moment
from envs.scene.scene import Scene
from experiments.drive.inside import Glimpse, Inside
from experiments.drive.keeping import HUMAN, POLICY, Keeper
from experiments.drive.wheel import Wheel

VIEW_COLUMNS = 640
"""Width of the picture that a person drives by, pixels."""
REST_S = 1.5
"""Time that the last picture of a drive stays, s, before the next road."""
STANDING_MPS = 0.05
"""Slower than this is standing: nothing is kept of it."""
FASTEST = 2.0
"""Most that the speed can be set to, as a multiple of the usual one; a limit of the env's throttle."""
VIEW_BUDGET_S = 0.02
"""When half of the last `VIEW_TIMED` large pictures took longer than this, the driver's own frame is shown instead."""
VIEW_TIMED = 20
LOOK_EVERY = 4
"""Frames from one look into the policy to the next."""
LOOK_EVERY_LATE = 20
"""The same where there is no time for it between two frames."""


@dataclass(frozen=True)
class Seen:
    """The world after a step.

    Attributes:
        number: of the frame, counted over the session.
        made_s: when the picture was taken, seconds since the epoch.
        view: uint8 `[h, w, 3]`, for a person.
        frame: uint8 `[H, W, 3]`, as the driver gets it and as it is kept.
        info: of the env.
        pose: x, y in m and yaw in rad.
        drive: number of the drive in the session.
        who: HUMAN or POLICY.
        steering: the last action's, in [−1, 1], positive left.
        suggestion: what the policy would steer now; None without one.
        ended: "" while driving, or why the drive is over: "off the road", "time is up".
        glimpse: what the last look into the policy showed, with the first frame after it; else None.
    """

    number: int
    made_s: float
    view: NDArray[np.uint8]
    frame: NDArray[np.uint8]
    info: dict[str, Any]
    pose: tuple[float, float, float]
    drive: int
    who: str
    steering: float
    suggestion: float | None
    ended: str
    glimpse: Glimpse | None


class DriveSession:
    """One car, one person, perhaps a policy.

    Attributes:
        wheel: the person's.
        who: who drives, HUMAN or POLICY.
        wanted_mps: speed that the cruise controller is to hold, m/s.
        variety: of looks and cameras from the next road on, in [0, 1].
        severities: by family, the kind of perturbation and its severity, 1 to 5.
        recording: whether driving is kept.
        keeper: where.
        take_overs: times that the person took the wheel from the policy.
        crashes: drives that ended off the road.
        drive: number of the drive.
        step_s: what the last step took in simulated time, s; more than a period where actions are held.
        notice: what went wrong last, for the person; "" where nothing did.
        inside: looks into the policy; None where that is not possible.
    """

    def __init__(
        self,
        world: LaneKeepingConfig,
        out: Path,
        seed: int = 0,
        driver: OpenedDriver | None = None,
        name: str = "",
    ):
        """Begin the first drive.

        Args:
            world: where; `throttle` is set, the size of the frames is the driver's, the speed at first is the middle of
                its range.
            out: directory for what is kept.
            seed: of the first road; each new one counts on.
            driver: the policy or any other driver.
            name: what it is called.

        Raises:
            ValueError: if the driver does not fit.
        """
        world = with_vehicle(world)
        self._clock = 1.0
        if driver is not None:
            rows, columns = driver.frame_size or (world.height, world.width)
            world = replace(world, height=rows, width=columns)
            self._clock = world.period_s / (driver.period_s or world.period_s)
        # One speed for all roads, so that the wheel's speed control means the same everywhere; a perturbation of the
        # speed multiplies it.
        self._usual_mps = 0.5 * sum(world.speed_mps)
        self.world = replace(world, throttle=True, speed_mps=(self._usual_mps, self._usual_mps))
        self.driver, self.name = driver, name
        self.keeper = Keeper(out)
        self.wheel = Wheel()
        self.who, self.recording, self.notice = HUMAN, False, ""
        self.variety = self.world.variety
        self.severities: dict[str, tuple[str, int]] = {}
        self.take_overs = self.crashes = self.drive = 0
        self.inside: Inside | None = None
        if isinstance(driver, PolicyDriver):
            self.inside = Inside(driver)
        base: gymnasium.Env[Any, Any] = gymnasium.make(LANE_KEEPING, config=self.world, disable_env_checker=True)
        self._env = PerturbedEnv(base, "", seed)
        inside = base.unwrapped
        assert isinstance(inside, LaneKeepingEnv)
        self._lane = inside
        gradient = getattr(driver, "steering_gradient", None)
        if gradient is not None:
            self._env.gradient = lambda frame, elapsed, start, steps: gradient(
                0, frame, elapsed * self._clock, start, steps
            )
        self.has_gradient = gradient is not None
        self._number, self._seed = 0, seed - 1
        self.step_s = self.period_s
        self._looked = -LOOK_EVERY_LATE
        self.wanted_mps = self._usual_mps
        self.restart()

    @property
    def period_s(self) -> float:
        """Time between two frames, s."""
        return self.world.period_s

    @property
    def seed(self) -> int:
        """Seed of the road."""
        return self._seed

    @property
    def outline(self) -> NDArray[np.float64]:
        """Middle of the right-hand lane `[N, 2]`, m: the road for a map."""
        track = self._lane.track
        way = np.linspace(0.0, track.length_m, max(32, round(track.length_m / 0.25)))
        points = [track.point(float(s), track.right_lane_offset()) for s in way]
        return np.asarray(points, np.float64)

    @property
    def fastest_mps(self) -> float:
        """Highest speed that can be set, m/s."""
        return FASTEST * self._usual_mps

    @property
    def acting(self) -> Composition:
        """What is wrong with the world now."""
        return self._env.acting

    def menu(self) -> dict[str, list[str]]:
        """By family, the kinds of perturbations that there are for this driver."""
        kinds = {
            family: [name for name in names if self.has_gradient or not PERTURBATIONS[name].attacks]
            for family, names in FAMILIES.items()
        }
        return {family: names for family, names in kinds.items() if names}

    def restart(self, seed: int | None = None) -> None:
        """Begin the next drive, on the next road or that of a seed."""
        self._cut()
        self._seed = self._seed + 1 if seed is None else seed
        self.drive += 1
        scenario = Scenario(replace(self.world, variety=self.variety))
        self._observation, self._info = self._env.reset(seed=self._seed, options={"scenario": scenario})
        self._rest = 0
        self.step_s = self.period_s
        self._ended, self._start = "", True
        self._glimpse: Glimpse | None = None
        self._steering = 0.0
        self.wheel.release()
        if self.inside is not None:
            self.inside.begin()
        scene = self._lane.scene
        rows = round(VIEW_COLUMNS * self.world.height / self.world.width)
        self._view: Scene | None = None
        if isinstance(scene.camera, WarpCamera):
            self._view = Scene(
                scene.track, scene.look, scene.params, rows, VIEW_COLUMNS, self.world.pixels_per_m, "warp"
            )
        self._begin_twin()
        self._plan()
        if self.recording:
            self._keep("start")

    def set_speed(self, wanted_mps: float) -> None:
        """Set the speed to hold, m/s.

        Raises:
            ValueError: if it is negative or not a number.
        """
        if not (math.isfinite(wanted_mps) and wanted_mps >= 0):
            raise ValueError(f"the speed must be at least 0 m/s, got {wanted_mps}.")
        self.wanted_mps = min(wanted_mps, self.fastest_mps)

    def set_variety(self, variety: float) -> None:
        """Set the variety of looks and cameras from the next road on.

        Raises:
            ValueError: if it is not within [0, 1].
        """
        if not 0 <= variety <= 1:
            raise ValueError(f"variety must lie within [0, 1], got {variety}.")
        self.variety = variety

    def perturb(self, severities: Mapping[str, tuple[str, int]]) -> None:
        """Set what is wrong with the world: by family, a kind and a severity from 0, none, to 5.

        It acts at once; what changes the road or the car, from the next drive on.

        Raises:
            ValueError: if there is no such family, kind or severity.
        """
        menu = self.menu()
        for family, (kind, severity) in severities.items():
            if kind not in menu.get(family, ()):
                raise ValueError(f"there is no perturbation {kind!r} in a family {family!r} here.")
            if severity not in range(6):
                raise ValueError(f"a severity is a whole number from 0 to 5, got {severity}.")
        chosen = {family: (kind, severity) for family, (kind, severity) in severities.items() if severity}
        before = self._env.acting
        # In the order of the families: what happens to the picture first, then the time, the action, the road.
        ordered = [chosen[family] for family in menu if family in chosen]
        self._env.change(Composition(tuple(PERTURBATIONS[kind](severity) for kind, severity in ordered)))
        self.severities = chosen
        if self._env.acting != before:
            self._begin_twin()
            self._cut("change")

    def hand_to(self, who: str) -> None:
        """Give the wheel to the policy, or take it.

        Raises:
            ValueError: if there is no policy.
        """
        if who not in (HUMAN, POLICY):
            raise ValueError(f"the wheel is given to {HUMAN!r} or {POLICY!r}, got {who!r}.")
        if who == POLICY and self.driver is None:
            raise ValueError("there is no policy to hand over to: start with --policy.")
        if who == self.who:
            return
        self.who = who
        if who == HUMAN:
            self.take_overs += 1
            self.wheel.turn(self._steering)  # the wheel is where the policy left it
            self._cut("take-over")
        else:
            self._cut("hand-over")

    def record(self, on: bool) -> None:
        """Keep driving from here on, or stop and complete what is kept."""
        if on and not self.recording:
            self.notice = ""
            self.recording = True
            self._keep("start")
        elif not on:
            self._cut()
            self.recording = False

    def step(self) -> Seen:
        """Drive for one period, and return what is seen then."""
        if self._ended:
            self._rest -= 1
            if self._rest <= 0:
                self.restart()
            return self._seen(time.time())
        steering = self.wheel.step(self.step_s)  # since the frame before, by which the person steers
        throttle = self.wanted_mps / self._usual_mps - 1.0
        if self.who == POLICY:
            steering = float(self._planned[0])
            throttle = float(self._planned[1]) if len(self._planned) > 1 else throttle
        self._note(steering)
        made_s = time.time()
        action = np.array([steering, throttle], np.float32)
        before_s = float(self._info["time_s"])
        observation, _, terminated, truncated, info = self._env.step(action)
        self.step_s = float(info["time_s"]) - before_s
        self._observation, self._info, self._steering, self._start = observation, info, steering, False
        self._number += 1
        if terminated or truncated:
            self._ended = "off the road" if terminated else "time is up"
            self._rest, self.step_s = round(REST_S / self.period_s), self.period_s
            self.crashes += terminated
            self._cut(crashed=terminated)
        self._plan()
        return self._seen(made_s)

    def look(self, late: bool = False) -> None:
        """Look into the policy where that is due; the next frame brings what was seen.

        Apart from `step`, so that the frame is on its way first.

        Args:
            late: whether there is no time left for it before the next frame.
        """
        if self.inside is None or self._ended or self._start:
            return
        if self._number - self._looked >= (LOOK_EVERY_LATE if late else LOOK_EVERY):
            self._looked = self._number
            self._glimpse = self.inside.look(self._observation["camera"], float(self._info["time_s"]))

    def close(self) -> None:
        """Complete what is kept, and release the world."""
        self._cut()
        self.recording = False
        self._env.close()

    def _plan(self) -> None:
        """Let the driver see the newest frame; what it steers acts in the next step, if it has the wheel."""
        self._planned: NDArray[np.float32] = np.zeros(0, np.float32)
        if self.driver is None:
            return
        frame, elapsed = self._observation["camera"], float(self._observation["elapsed"][0]) * self._clock
        if self.inside is not None:
            self.inside.note(frame, elapsed)
        given = frame[None], np.array([elapsed], np.float32), np.array([self._start])
        self._planned = np.clip(self.driver.act(*given, [self._env])[0], -1.0, 1.0)

    def _seen(self, made_s: float) -> Seen:
        state = self._lane.vehicle_state
        glimpse, self._glimpse = self._glimpse, None
        return Seen(
            number=self._number,
            made_s=made_s,
            view=self._picture(),
            frame=self._observation["camera"],
            info=self._info,
            pose=(state.x, state.y, state.yaw),
            drive=self.drive,
            who=self.who,
            steering=self._steering,
            suggestion=float(self._planned[0]) if len(self._planned) else None,
            ended=self._ended,
            glimpse=glimpse,
        )

    def _begin_twin(self) -> None:
        """Begin, for the large picture, the same perturbations from the same seed."""
        parts = self._env.acting.parts
        self._twin: Running | None = None
        self._view_times_s: list[float] = []
        if self._view is None or any(part.attacks for part in parts):
            return
        pictured = Composition(tuple(part for part in parts if part.kind.frames and not part.kind.changes_scenario))
        rows, columns = self._view.camera.height, self._view.camera.width
        camera = camera_info(self._view.params, rows, columns, self.period_s)
        self._twin = pictured.begin(self._env.perturbation_seed, camera)
        self._twin.read_scenario(Scenario(self._lane.config), {})

    def _picture(self) -> NDArray[np.uint8]:
        """What a person drives by: the same view in a larger picture, or the driver's frame where that is too slow."""
        frame: NDArray[np.uint8] = self._observation["camera"]
        if self._view is None or self._twin is None or self._is_slow():
            return frame
        began_s = time.perf_counter()
        state = self._lane.vehicle_state
        motion = self._lane.motion()
        large = self._view.frame(state.x, state.y, state.yaw, self._lane.road_position_m, *motion)
        if self._twin.effects:
            held = self._twin.periods()
            self._twin.action(np.zeros(2, np.float32), held)
            moment = Moment(float(self._info["time_s"]), float(self._observation["elapsed"][0]), *motion)
            large = np.asarray(self._twin.see(large, moment)[0], np.uint8)
        self._view_times_s = [*self._view_times_s[1 - VIEW_TIMED :], time.perf_counter() - began_s]
        return large

    def _is_slow(self) -> bool:
        """Whether the large picture takes too long."""
        times_s = self._view_times_s
        return len(times_s) == VIEW_TIMED and float(np.median(times_s)) > VIEW_BUDGET_S

    def _note(self, steering: float) -> None:
        """Keep the step that is about to be made."""
        if not self.recording:
            return
        standing = float(self._info["speed_mps"]) < STANDING_MPS
        if not self.keeper.is_open:
            if standing:
                return
            self._keep("start")
        elif standing:
            self._cut()
            return
        extras: dict[str, Any] = {
            "lateral_offset_m": np.float32(self._info["lateral_offset_m"]),
            "speed_mps": np.float32(self._info["speed_mps"]),
        }
        if self.driver is not None:
            extras["policy_steering"] = np.float32(self._planned[0])
        try:
            self.keeper.add(self._observation["camera"], steering, float(self._info["time_s"]), **extras)
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _keep(self, cause: str) -> None:
        """Begin a stretch from here on."""
        lane_width_m = float(self._info["lane_width_m"])
        meta = EpisodeMeta(
            source="a person" if self.who == HUMAN else self.name,
            nominal_period_s=self.period_s,
            vehicle=self._lane.config.vehicle,
            renderer=self._lane.config.renderer,
            seed=self._seed,
        )
        extra = {
            "lane_width_m": lane_width_m,
            "car": car_of_env(self._env, lane_width_m).to_json(),
            "perturbation": str(self._env.acting),
            "drive": self.drive,
            "policy": self.name,
        }
        try:
            self.keeper.begin(self.who, cause, meta, extra)
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _cut(self, cause: str = "", crashed: bool = False) -> None:
        """Complete the stretch, and begin the next one where there is a cause."""
        if not self.recording:
            return
        try:
            self.keeper.cut(crashed)
        except (OSError, ValueError) as error:
            self._give_up(error)
            return
        if cause:
            self._keep(cause)

    def _give_up(self, error: Exception) -> None:
        """Stop recording, since nothing more can be written."""
        self.keeper.drop()
        self.recording = False
        self.notice = f"recording stopped: {error}"
