"""The dose of what is not seen in one frame: a number of its own for each such perturbation, that grows with severity.

Time: what the periods, the age of the pictures and the reported times come to. Actions: how far the car's commands are
from those given. Scenarios: the attribute of the road or the car that the perturbation is about.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pytest

from envs.lane_keeping.env import LaneKeepingConfig
from envs.lane_keeping.scenario import Scenario
from envs.perturbations import PERTURBATIONS, SEVERITIES, CameraInfo, Composition, Moment
from envs.perturbations.composition import LONGEST, SHORTEST, Running
from envs.road.random_road import random_track
from envs.road.track import Track
from envs.scene.look import Line, Look

CAMERA = CameraInfo(1, 1, 0.05)
STEPS, SEEDS = 200, 12
PLAIN = Scenario(LaneKeepingConfig())


def start(name: str, severity: int, seed: int) -> Running:
    """Begin with the perturbation, or with none for severity 0."""
    return Composition((PERTURBATIONS[name](severity),) if severity else ()).begin(seed, CAMERA)


def held(name: str, severity: int, seed: int) -> float:
    """How far the periods are from one, on average."""
    running = start(name, severity, seed)
    return float(np.mean([abs(running.periods() - 1.0) for _ in range(STEPS)]))


def age(name: str, severity: int, seed: int) -> float:
    """How old the pictures are when they are seen, on average, in periods."""
    running = start(name, severity, seed)
    shown = [running.see(np.full((1, 1, 3), step, np.uint8), Moment(0.05 * step))[0][0, 0, 0] for step in range(STEPS)]
    return float(np.mean(np.arange(STEPS) - shown))


def misled(name: str, severity: int, seed: int) -> float:
    """How far the reported time is from that between the pictures seen, on average, in periods."""
    running = start(name, severity, seed)
    wrong, now, last, elapsed = [], 0.0, 0, 1.0
    for step in range(STEPS):
        frame = np.full((1, 1, 3), step, np.uint8)
        picture, reported = running.see(frame, Moment(now, elapsed))
        shown = int(picture[0, 0, 0])
        between = elapsed * (shown - last) if step else 1.0
        wrong.append(abs(reported - min(max(between, SHORTEST), LONGEST)))
        last = shown
        elapsed = running.periods()
        now += elapsed * CAMERA.period_s
    return float(np.mean(wrong))


def pushed(name: str, severity: int, seed: int) -> float:
    """How far the car's commands are from those given, on average, while the car turns slowly."""
    running = start(name, severity, seed)
    far = []
    for step in range(STEPS):
        given = 0.5 * math.sin(0.15 * step)
        running.see(np.zeros((1, 1, 3), np.uint8), Moment(0.05 * step, yaw_rate_radps=0.6))
        far.append(abs(float(running.action(np.array([given], np.float32), 1.0)[0]) - given))
    return float(np.mean(far))


def mirrored(name: str, severity: int, seed: int) -> float:
    return float(np.mean([start(name, severity, 1000 * seed + episode).mirrors for episode in range(100)]))


def changed(name: str, severity: int, seed: int, read: Callable[[Scenario], float]) -> float:
    """How far a number of the scenario is from that of the plain one."""
    return abs(read(start(name, severity, seed).scenario(PLAIN)) - read(PLAIN))


def car(attribute: str) -> Callable[..., float]:
    return partial(changed, read=lambda made: getattr(made.config.vehicle_params, attribute))


def look(read: Callable[[Look], float]) -> Callable[..., float]:
    return partial(changed, read=lambda made: read(made.look(Look())))


def painted(line: Line) -> float:
    """Paint on each metre of a line, m²."""
    share = line.dash_m / (line.dash_m + line.gap_m) if line.dash_m else 1.0
    return share * line.width_m


def repaved(name: str, severity: int, seed: int) -> float:
    """How far the colours of the pavement are from the plain ones, grey levels."""
    there, here = (start(name, chosen, seed).scenario(PLAIN).look(Look()).road for chosen in (severity, 0))
    return float(np.abs(np.subtract([there.bright, there.dark], [here.bright, here.dark])).mean())


@lru_cache(maxsize=1)
def plain_road() -> Track:
    return random_track(np.random.default_rng(2))


def road(read: Callable[[np.ndarray, float], float]) -> Callable[..., float]:
    def measured(made: Scenario) -> float:
        track = made.track(plain_road())
        return read(track.curvatures, track.lane_width_m)

    return partial(changed, read=measured)


MEASURES: dict[str, Callable[[str, int, int], float]] = {
    "dropped_frames": held,
    "dropped_frames_hidden": misled,
    "frozen_frames": age,
    "frozen_frames_hidden": misled,
    "jittered_period": held,
    "jittered_period_hidden": misled,
    "latency": age,
    "latency_hidden": age,
    "lower_rate": held,
    "lower_rate_hidden": misled,
    "friction": car("friction"),
    "mass": car("mass_kg"),
    "wheelbase": pushed,
    "steering_gain": pushed,
    "steering_bias": pushed,
    "dead_zone": pushed,
    "steering_lag": car("steering_lag_s"),
    "speed": partial(changed, read=lambda made: sum(made.config.speed_mps)),
    "side_wind": pushed,
    "action_noise": pushed,
    "stuck_steering": pushed,
    "action_delay": pushed,
    "lost_actions": pushed,
    "lane_width": road(lambda curvatures, width_m: width_m),
    "curvature": road(lambda curvatures, width_m: float(np.abs(curvatures).mean())),
    "worn_markings": look(lambda made: made.wear),
    "missing_markings": look(lambda made: painted(made.left) + painted(made.centre) + painted(made.right)),
    "misleading_markings": look(lambda made: made.old_lines_per_m),
    "tar_seams": look(lambda made: made.seams_per_m),
    "blackout_before_bends": partial(changed, read=lambda made: sum(made.config.blackout_s or (0.0,))),
    "surface": repaved,
    "mirrored": mirrored,
    "other_renderer": partial(
        changed, read=lambda made: 64.0 / made.config.pixels_per_m + (made.config.renderer == "tiny")
    ),
}


def test_everything_that_is_not_seen_in_a_frame_is_measured() -> None:
    unseen = {
        name for name, made in PERTURBATIONS.items() if made.family in ("timing", "dynamics", "actuation", "road")
    }
    assert set(MEASURES) == unseen


@pytest.mark.parametrize("name", MEASURES)
def test_more_severe_is_more_of_it(name: str) -> None:
    seeds = range(SEEDS) if PERTURBATIONS[name].random else range(1)
    doses = [np.mean([MEASURES[name](name, severity, seed) for seed in seeds]) for severity in (0, *SEVERITIES)]
    assert doses[0] == pytest.approx(0.0, abs=1e-7) and (np.diff(doses) > 0.0).all(), doses


@pytest.mark.parametrize("name", [name for name in MEASURES if PERTURBATIONS[name].family == "timing"])
def test_what_is_reported_is_true_and_what_is_hidden_is_not(name: str) -> None:
    wrong = np.array([[misled(name, severity, seed) for seed in range(3)] for severity in SEVERITIES])
    if name.endswith("_hidden"):
        assert (wrong.mean(1) > 0.0).all()
    else:
        assert wrong.max() < 1e-9


def test_a_dose_is_what_its_unit_counts() -> None:
    """Absolute sizes, for what is stated in seconds, shares or factors: half a dose is another dose."""
    for severity in SEVERITIES:
        delays = [age("latency", severity, seed) * CAMERA.period_s for seed in range(40)]
        kind = PERTURBATIONS["latency"]
        # Pictures that are overtaken are never shown, so what is shown is a little younger than the mean delay.
        assert 0.82 * kind.doses[severity - 1] < np.mean(delays) < 1.02 * kind.doses[severity - 1]
        frozen = []
        for seed in range(30):
            running = start("frozen_frames", severity, seed)
            shown = [
                running.see(np.full((1, 1, 3), step, np.uint8), Moment(0.05 * step))[0][0, 0, 0] for step in range(250)
            ]
            frozen.append(np.mean(np.arange(250) != shown))
        assert np.mean(frozen) == pytest.approx(PERTURBATIONS["frozen_frames"].doses[severity - 1], rel=0.2)
        periods = [start("dropped_frames", severity, seed).periods() for seed in range(400)]
        lost = PERTURBATIONS["dropped_frames"].doses[severity - 1]
        assert np.mean(np.array(periods) > 1.0) == pytest.approx(lost, abs=0.08)
        assert start("lower_rate", severity, 0).periods() == PERTURBATIONS["lower_rate"].doses[severity - 1]
        spread = [abs(start("jittered_period", severity, seed).periods() - 1.0) for seed in range(300)]
        assert max(spread) == pytest.approx(PERTURBATIONS["jittered_period"].doses[severity - 1], rel=0.05)


CAR = PLAIN.config.vehicle_params
BUILT: dict[str, LaneKeepingConfig] = {
    "friction": replace(PLAIN.config, vehicle_params=replace(CAR, friction=0.3 * CAR.friction)),
    "mass": replace(
        PLAIN.config,
        vehicle_params=replace(
            CAR,
            mass_kg=3.5 * CAR.mass_kg,
            acceleration_mps2=CAR.acceleration_mps2 / 3.5,
            speed_lag_s=3.5 * CAR.speed_lag_s,
        ),
    ),
    "steering_lag": replace(PLAIN.config, vehicle_params=replace(CAR, steering_lag_s=5.5 * CAR.steering_lag_s)),
    "speed": replace(PLAIN.config, speed_mps=(1.5 * PLAIN.config.speed_mps[0], 1.5 * PLAIN.config.speed_mps[1])),
    "blackout_before_bends": replace(PLAIN.config, blackout_s=(1.5, 1.5)),
    "other_renderer": replace(PLAIN.config, renderer="tiny", pixels_per_m=32.0),
}
"""What severity 3 makes of the plain world, and that it changes nothing else."""


@pytest.mark.parametrize("name", BUILT)
def test_the_world_is_built_as_the_formula_says_and_no_otherwise(name: str) -> None:
    made = start(name, 3, 0).scenario(PLAIN)
    assert made.config == BUILT[name] and made.edit_look is None and made.edit_track is None


def test_roads_are_scaled_as_the_formula_says() -> None:
    plain = plain_road()
    narrow, small = (start(name, 3, 0).scenario(PLAIN).track(plain) for name in ("lane_width", "curvature"))
    np.testing.assert_allclose(narrow.points, plain.points, atol=1e-3)
    assert narrow.lane_width_m == pytest.approx(0.78 * plain.lane_width_m)
    assert small.length_m == pytest.approx(plain.length_m / 1.22, rel=1e-3)
    assert np.abs(small.curvatures).mean() == pytest.approx(1.22 * np.abs(plain.curvatures).mean(), rel=0.01)
    assert small.lane_width_m == pytest.approx(plain.lane_width_m / 1.22), "lanes, too"


def test_looks_are_changed_as_the_formula_says() -> None:
    drawn = replace(Look(), wear=0.4, old_lines_per_m=0.1, seams_per_m=0.2, centre=Line(dash_m=0.3, gap_m=0.2))
    made = {name: start(name, 3, 0).scenario(PLAIN).look(drawn) for name in MEASURES if "mark" in name or "tar" in name}
    assert made["worn_markings"] == replace(drawn, wear=pytest.approx(1 - 0.6 * 0.35))
    assert made["misleading_markings"] == replace(drawn, old_lines_per_m=pytest.approx(0.32))
    assert made["tar_seams"] == replace(drawn, seams_per_m=pytest.approx(1.4))
    missing = made["missing_markings"]
    assert (missing.centre.dash_m, missing.centre.gap_m) == pytest.approx((0.12, 0.38))
    for line in (missing.left, missing.right):
        assert (line.dash_m, line.gap_m) == pytest.approx((0.8, 1.2)), "solid lines every 2 m"
    gone = start("missing_markings", 5, 0).scenario(PLAIN).look(drawn)
    assert gone.left.width_m == gone.right.width_m == gone.centre.width_m == 0.0


def test_another_material_has_the_contrast_and_spots_of_the_formula() -> None:
    drawn = Look()
    dark, bright = np.array(drawn.road.dark), np.array(drawn.road.bright)
    tints = []
    for seed in range(40):
        made = start("surface", 3, seed).scenario(PLAIN).look(drawn)
        there = np.array(made.road.dark), np.array(made.road.bright)
        middle = 0.5 * (there[0] + there[1])
        before = (bright - dark).sum() / (bright + dark).sum()
        wanted = 1 - (1 - before) * (1 - 0.37)
        assert ((there[1] - there[0]).sum() / (there[1] + there[0]).sum()) == pytest.approx(wanted, rel=0.02)
        spots = made.road.coarse, made.road.medium, made.road.fine
        assert spots == pytest.approx((drawn.road.coarse + 0.185, drawn.road.medium + 0.148, drawn.road.fine + 0.148))
        assert replace(made, road=drawn.road) == drawn
        tints.append(np.log(middle / (0.5 * (dark + bright))))
    assert np.std(tints) == pytest.approx(0.3 * 0.37, rel=0.2)


@pytest.mark.parametrize("given", [-0.9, -0.3, 0.05, 0.6])
def test_steering_becomes_what_the_formula_says(given: float) -> None:
    def made(name: str, seed: int = 0) -> float:
        return float(start(name, 3, seed).action(np.array([given], np.float32), 1.0)[0])

    lock = CAR.steering_limit_rad
    assert made("steering_gain") == pytest.approx(min(max(1.9 * given, -1), 1), abs=1e-6)
    assert made("dead_zone") == pytest.approx(math.copysign(max(abs(given) - 0.14, 0.0), given), abs=1e-6)
    assert made("wheelbase") == pytest.approx(math.atan(math.tan(given * lock) / 1.5) / lock, abs=1e-6)
    sides = {round(made("steering_bias", seed) - given, 5) for seed in range(10)}
    assert sides == {round(max(given - 0.13, -1) - given, 5), round(min(given + 0.13, 1) - given, 5)}


def test_late_lost_and_stuck_commands_are_those_given_before() -> None:
    """The command at step n is n / 1000."""

    def heard(name: str, seed: int, steps: int = 200, held: float = 1.0) -> np.ndarray:
        running = start(name, 3, seed)
        actions = [running.action(np.array([step / 1000], np.float32), held)[0] for step in range(steps)]
        return np.rint(1000 * np.array(actions)).astype(int)

    np.testing.assert_array_equal(heard("action_delay", 0, 20), [0, 0, 0, *range(17)])  # 0.15 s
    np.testing.assert_array_equal(heard("action_delay", 0, 20, held=3.0), [0, *range(19)])  # by the clock
    lost, stuck = [], []
    for seed in range(20):
        arrived = heard("lost_actions", seed)
        fresh = arrived == np.arange(200)
        assert (arrived <= np.arange(200)).all() and (np.diff(arrived)[~fresh[1:]] == 0).all()
        lost.append(1 - fresh.mean())
        stands = heard("stuck_steering", seed)
        stuck.append((stands != np.arange(200)).mean())
    assert np.mean(lost) == pytest.approx(0.6, abs=0.05) and np.mean(stuck) == pytest.approx(0.32, abs=0.08)
    noise = [start("action_noise", 3, seed).action(np.zeros(1, np.float32), 1.0)[0] for seed in range(400)]
    assert np.std(noise) == pytest.approx(0.22, rel=0.12) and abs(np.mean(noise)) < 0.04


def test_a_wind_turns_against_the_car_and_pushes_by_its_strength() -> None:
    first, sizes = [], []
    for seed in range(60):
        running = start("side_wind", 3, seed)
        first.append(float(running.action(np.zeros(1, np.float32), 1.0)[0]))
    assert np.mean(np.square(first)) == pytest.approx(0.2**2 * 1.25 / 2, rel=0.4)
    for turn in (0.0, math.pi / 0.05):
        running = start("side_wind", 3, 4)
        running.see(np.zeros((1, 1, 3), np.uint8), Moment(0.05, yaw_rate_radps=turn))  # half a turn in one period
        sizes.append(float(running.action(np.zeros(1, np.float32), 1.0)[0]))
    assert sizes[0] == pytest.approx(-sizes[1], abs=1e-6) and abs(sizes[0]) > 0.01


def test_no_gap_of_lost_frames_is_longer_than_an_observation_can_tell() -> None:
    running = start("dropped_frames", 5, 0)
    periods = [running.periods() for _ in range(1000)]
    assert max(periods) == 10.0 and min(periods) == 1.0


def test_freezes_last_as_long_as_they_say_on_average() -> None:
    lengths = []
    for seed in range(40):
        running = start("frozen_frames", 3, seed)
        shown = [
            running.see(np.full((1, 1, 3), step, np.uint8), Moment(0.05 * step))[0][0, 0, 0] for step in range(250)
        ]
        stale = np.concatenate([[0], (np.arange(250) != shown).astype(int), [0]])
        begins, ends = np.flatnonzero(np.diff(stale) == 1), np.flatnonzero(np.diff(stale) == -1)
        lengths += (0.05 * (ends - begins)).tolist()
    assert np.mean(lengths) == pytest.approx(0.3, rel=0.2)
