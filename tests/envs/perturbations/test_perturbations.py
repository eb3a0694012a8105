"""Every perturbation of the registry: doses, seeds, what it leaves alone; compositions and errors."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from envs.lane_keeping.config import VEHICLES
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.lane_keeping.scenario import Scenario
from envs.perturbations import (
    FAMILIES,
    PERTURBATIONS,
    SEVERITIES,
    CameraInfo,
    GaussianNoise,
    Moment,
    make_perturbation,
    parse,
)
from envs.perturbations.composition import Composition, Running
from envs.perturbations.families.blur import _disc
from envs.perturbations.perturbation import Effect
from envs.road.random_road import random_track
from envs.road.track import Track
from envs.scene.look import Look

CAMERA = CameraInfo(48, 96, 0.05)
SEEN = [name for name, made in PERTURBATIONS.items() if made.family not in ("timing", "dynamics", "actuation", "road")]
"""What changes frames in a way whose size grows with the severity."""
UNSEEN = [name for name in PERTURBATIONS if name not in SEEN]


@lru_cache(maxsize=4)
def drive(height: int = 48, width: int = 96) -> np.ndarray:
    """Frames of a real drive, uint8 `[24, H, W, 3]`, not to be written to."""
    env = LaneKeepingEnv(vehicle="bicycle", height=height, width=width, variety=0.0)
    observation, _ = env.reset(seed=5)
    frames = [observation["camera"]]
    for step in range(23):
        observation, *_ = env.step(np.array([0.2 * math.sin(0.3 * step)], np.float32))
        frames.append(observation["camera"])
    env.close()
    found = np.stack(frames)
    found.flags.writeable = False
    return found


def gradient(frame: np.ndarray, elapsed: float = 1.0, steps: int = 1) -> np.ndarray:
    """That of a driver who weighs each value of the frame once and for all."""
    weights = np.random.default_rng(3).standard_normal(frame.shape)
    return (weights * (1.0 + 0.2 * np.sin(frame))).astype(np.float32)


def seen(name: str, severity: int, seed: int, frames: np.ndarray) -> np.ndarray:
    running = Composition((PERTURBATIONS[name](severity),)).begin(seed, CameraInfo(*frames.shape[1:3], 0.05))
    moments = [Moment(0.05 * step, yaw_rate_radps=0.4) for step in range(len(frames))]
    pairs = zip(frames, moments, strict=True)
    return np.stack([running.see(frame, moment, gradient)[0] for frame, moment in pairs])


def trace(effect: Running) -> list[Any]:
    """What an effect does besides changing frames: held periods, reported times, actions."""
    found: list[Any] = []
    frame, elapsed, time_s = np.zeros((48, 96, 3), np.uint8), 1.0, 0.0
    for step in range(40):
        shown, reported = effect.see(np.full_like(frame, step), Moment(time_s, elapsed, yaw_rate_radps=0.5), gradient)
        elapsed = effect.periods()
        time_s += elapsed * CAMERA.period_s
        action = effect.action(np.array([math.sin(0.5 * step)], np.float32), elapsed)
        found.append((int(shown[0, 0, 0]), round(reported, 6), round(elapsed, 6), round(float(action[0]), 6)))
    return found


@lru_cache(maxsize=1)
def plain_road() -> Track:
    return random_track(np.random.default_rng(2))


def described(scenario: Scenario) -> tuple[Any, ...]:
    """A scenario in values that can be compared."""
    track = scenario.track(plain_road())
    return (scenario.config, scenario.look(Look()), track.lane_width_m, round(track.length_m, 6))


SOURCES = r"Source: |Hendrycks and Dietterich|published|Koschmieder|ICLR"


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_gives_its_formula_and_its_source(name: str) -> None:
    about = str(PERTURBATIONS[name].__doc__)
    twin = PERTURBATIONS[name].draws_of
    if twin:
        assert f"`{twin}`" in about
        return
    assert re.search(r"[=~←]", about), "no formula"
    assert re.search(SOURCES, about), "no source"


def test_there_are_enough_of_them_and_each_says_what_it_is() -> None:
    assert len(PERTURBATIONS) >= 45 and len(FAMILIES) >= 12
    assert sum(len(names) for names in FAMILIES.values()) == len(PERTURBATIONS)
    for name, made in PERTURBATIONS.items():
        assert made.name == name and made.unit and made.__doc__ and name in FAMILIES[made.family]
        assert make_perturbation(name).severity == 3 and str(make_perturbation(f"{name}:5")) == f"{name}:5"


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_doses_go_one_way(name: str) -> None:
    made = PERTURBATIONS[name]
    for doses in (made.doses, made.large_doses or made.doses):
        steps = np.diff(doses)
        assert len(doses) == 5 and ((steps > 0).all() or (steps < 0).all())
        assert (steps[0] > 0) == (np.diff(made.doses)[0] > 0)
    assert [made(severity).dose for severity in SEVERITIES] == list(made.doses)
    assert made(4).dose_at(48) == made.doses[3] and made(4).dose_at(120) == (made.large_doses or made.doses)[3]


@pytest.mark.parametrize("name", SEEN)
def test_more_severe_changes_frames_more(name: str) -> None:
    frames = drive()
    seeds = range(6) if PERTURBATIONS[name].random else range(1)
    chosen = frames[::3] if not name.startswith("moving") else frames
    distances = [
        np.mean([np.abs(seen(name, severity, seed, chosen).astype(int) - chosen).mean() for seed in seeds])
        for severity in SEVERITIES
    ]
    assert distances[0] > 0.05 and (np.diff(distances) > 0.0).all(), distances


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_seed_repeats_exactly_and_frames_are_left_alone(name: str) -> None:
    frames = drive()[:12]  # not writable: changing one in place raises
    first, again = (seen(name, 4, 7, frames) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == frames.shape
    np.testing.assert_array_equal(first, again)
    made = PERTURBATIONS[name](4)

    def unseen(seed: int) -> Any:
        begun = Composition((made,)).begin(seed, CAMERA)
        return trace(begun), begun.mirrors, described(begun.scenario(Scenario(LaneKeepingConfig())))

    same = unseen(7)
    assert same == unseen(7)
    # One seed that differs is enough, and few of those that are drawn do not.
    seeds = range(8, 13) if made.kind.random else range(8, 10)
    differs = any((first != seen(name, 4, seed, frames)).any() or unseen(seed) != same for seed in seeds)
    assert differs == made.kind.random


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_not_seen_does_something_and_more_of_it(name: str) -> None:
    made = PERTURBATIONS[name]
    plain = Scenario(LaneKeepingConfig())
    clean, usual = trace(Composition().begin(0, CAMERA)), described(plain)
    changed = []
    for severity in SEVERITIES:
        running = Composition((made(severity),)).begin(1, CAMERA)
        made_of = described(running.scenario(plain))
        changed.append((made_of != usual, trace(running) != clean, made_of))
    assert changed[-1][0] == made.changes_scenario
    assert changed[-1][0] or changed[-1][1]
    if made.changes_scenario:
        assert all(each[0] for each in changed) and len({repr(each[2]) for each in changed}) == 5


@pytest.mark.parametrize("name", SEEN)
def test_a_dose_is_the_same_at_another_size(name: str) -> None:
    made = PERTURBATIONS[name]
    seeds = range(6) if made.random else range(1)

    def distance(height: int) -> float:
        frames = drive(height, 2 * height)[::6]
        return float(np.mean([np.abs(seen(name, 3, seed, frames).astype(int) - frames).mean() for seed in seeds]))

    # Blocks of pixels, and those of JPEG, are defined by the pixel: there is less to lose in a finer picture.
    low = 0.55 if name in ("pixelate", "jpeg") else 0.8
    usual = distance(48)
    assert low < distance(96) / usual < 1.25
    if made.large_doses is None:
        assert 0.8 < distance(120) / usual < 1.3
    else:  # published for large frames
        assert made(3).dose_at(100) == made.doses[2] and made(3).dose_at(101) == made.large_doses[2]


@pytest.mark.parametrize("name", SEEN)
def test_the_mildest_dose_is_there_on_small_frames(name: str) -> None:
    seeds = range(4) if PERTURBATIONS[name].random else range(1)

    def distance(height: int) -> float:
        frames = drive(height, 2 * height)[::6]
        return float(np.mean([np.abs(seen(name, 1, seed, frames).astype(int) - frames).mean() for seed in seeds]))

    # A row is the least that can be dead.
    high = 2.1 if name == "dead_rows" else 1.6
    assert 0.6 < distance(24) / distance(48) < high


def test_a_blur_over_a_disc_is_a_blur_over_a_disc() -> None:
    # The variance of a disc along one axis is r² / 4; that of the two squares of a pixel adds 1 / 6.
    for radius in (0.7, 1.5, 3.2):
        kernel = _disc(radius).astype(float)
        places = np.arange(len(kernel)) - len(kernel) // 2
        assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
        assert (kernel.sum(0) * places**2).sum() == pytest.approx(radius**2 / 4 + 1 / 6, rel=0.02)
    assert _disc(0.4)[2, 3] > 0.05, "a disc within a pixel reaches its neighbours"


def test_the_published_variance_protocol_is_in_the_registry() -> None:
    frames = np.full((400, 48, 96, 3), 128, np.uint8)[:4]
    for severity, variance in ((2, 0.1), (4, 0.2), (5, 0.3)):
        made = make_perturbation(f"variance:{severity}")
        assert made.dose == variance
        noise = seen("variance", severity, 1, frames)
        inside = ((noise > 0) & (noise < 255)).mean()
        expected = math.erf(127.0 / 255.0 / math.sqrt(2.0 * variance))
        assert abs(inside - expected) < 0.01


def test_noise_has_the_moments_of_its_formula() -> None:
    grey = np.full((6, 64, 96, 3), 100, np.uint8)  # dark enough that next to nothing is clipped
    deviations = {"gaussian": 0.12 * 255.0, "speckle": 0.2 * 100.0, "shot": math.sqrt(100.0 * 255.0 / 50.0)}
    for name, deviation in deviations.items():
        noisy = seen(name, 3, 1, grey).astype(float)
        assert noisy.mean() == pytest.approx(100.0, abs=0.5) and noisy.std() == pytest.approx(deviation, rel=0.02), name
    photons = seen("shot", 5, 1, grey) / 255.0 * 15.0
    assert np.abs(photons - np.rint(photons)).max() < 0.06  # whole ones
    assert not seen("shot", 3, 1, np.zeros_like(grey)).any(), "no light, no photons"
    hit = seen("impulse", 3, 1, grey)
    assert (hit == 0).mean() == pytest.approx(0.025, rel=0.1) and (hit == 255).mean() == pytest.approx(0.025, rel=0.1)
    flipped = np.unpackbits(seen("bit_errors", 3, 1, grey) ^ grey).mean()
    assert flipped == pytest.approx(0.01, rel=0.05)


def test_noise_is_the_draw_times_the_deviation_and_ends_at_black_and_white() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3)).astype(np.uint8)
    draws = np.random.default_rng(5).standard_normal(frames.shape, np.float32).astype(float)
    noisy = GaussianNoise(0.04)(frames, np.random.default_rng(5)).astype(float)
    exact = np.clip(frames + 255.0 * 0.2 * draws, 0.0, 255.0)
    assert np.abs(noisy - exact).max() <= 0.501, "rounded to whole grey levels"
    assert (noisy == 255).any() and (noisy == 0).any()


def times(name: str, seed: int, *times_s: float) -> list[np.ndarray]:
    """What becomes of the same frame at several times, of a car that moves slowly."""
    running = Composition((PERTURBATIONS[name](3),)).begin(seed, CAMERA)
    before = (0.0, *times_s)
    moments = [
        Moment(now, max(now - last, 1e-6) / CAMERA.period_s, speed_mps=0.5)
        for now, last in zip(times_s, before, strict=False)
    ]
    return [running.see(drive()[0], moment)[0].astype(int) for moment in moments]


@pytest.mark.parametrize("name", ["lens_dirt", "frost", "dead_rows", "colour_cast", "camera_roll"])
def test_what_sits_on_the_lens_stays(name: str) -> None:
    first, later = times(name, 2, 0.0, 8.0)
    np.testing.assert_array_equal(first, later)


@pytest.mark.parametrize(
    "name", ["fog", "rain", "snow", "passing_objects", "moving_shadows", "dropped_patches", "flicker"]
)
def test_what_moves_moves_steadily(name: str) -> None:
    drawn = [times(name, seed, 3.0, 3.001, 3.5) for seed in range(6)]
    soon = np.mean([np.abs(second - first).mean() for first, second, _ in drawn])
    later = np.mean([np.abs(third - first).mean() for first, _, third in drawn])
    assert later > 0.3 and soon < 0.1 * later


def test_compositions_act_in_order() -> None:
    text = "darkness:5+gaussian:1"
    composition = parse(text)
    assert str(composition) == text and composition.frames and not composition.attacks
    frame = drive()[0]
    dark, _ = parse("darkness:5").begin(3, CAMERA).see(frame, Moment(0.0))
    both, _ = composition.begin(3, CAMERA).see(frame, Moment(0.0))
    noisy, _ = parse("gaussian:1").begin(3, CAMERA).see(dark, Moment(0.0))
    np.testing.assert_array_equal(both, noisy)
    # The last one sits nearest to the driver: what it commands is mirrored first, then biased.
    running = parse("steering_bias:5+mirrored:5").begin(1, CAMERA)
    bias = float(parse("steering_bias:5").begin(1, CAMERA).action(np.zeros(1, np.float32), 1.0)[0])
    assert float(running.action(np.array([0.5], np.float32), 1.0)[0]) == pytest.approx(bias - 0.5)
    held = parse("lower_rate:2+lower_rate_hidden:3").begin(0, CAMERA).periods()
    assert held == 6.0
    assert parse("lower_rate:5+lower_rate_hidden:5").begin(0, CAMERA).periods() == 10.0  # as long as an env can hold


@pytest.mark.parametrize("text", ["", "clean", " clean "])
def test_clean_is_nothing(text: str) -> None:
    composition = parse(text)
    running = composition.begin(0, CAMERA)
    frame, plain = drive()[0], Scenario(LaneKeepingConfig())
    shown, reported = running.see(frame, Moment(0.0, 1.37))
    assert shown is frame and reported == 1.37 and running.periods() == 1.0 and running.scenario(plain) is plain
    assert str(composition) == "" and composition.frames


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("foog:3", ["Did you mean fog", "weather: fog, rain", "adversarial"]),
        ("fog:6", ["fog has the severities 1 to 5", "fog:6"]),
        ("fog:", ["severities 1 to 5"]),
        ("fog:2+fog:3", ["fog was given twice"]),
        ("fog:2+", ["there is no perturbation ''", "noise: variance"]),
        ("qqqq", ["there is no perturbation 'qqqq'. There are noise"]),
    ],
)
def test_what_does_not_exist_is_answered_with_what_does(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert all(word in str(error.value) for word in words), str(error.value)
    with pytest.raises(ValueError, match="1 to 5, got 0"):
        PERTURBATIONS["fog"](0)


def test_attacks_push_one_way_and_need_a_gradient() -> None:
    frame = drive()[0]
    for name in ("fgsm", "pgd"):
        for seed in range(4):
            before = frame.astype(np.float32)
            after = seen(name, 5, seed, frame[None])[0].astype(np.float32)
            assert 0.0 < np.abs(after - before).max() <= 8.0
            weights = gradient(before)
            pushes = ((after - before) * weights).sum(axis=(0, 1))
            assert (pushes > 0.0).all() or (pushes < 0.0).all()
        with pytest.raises(ValueError, match="attacks need a policy"):
            parse(name).begin(0, CAMERA).see(frame, Moment(0.0))
    sides = {
        np.sign(((seen("pgd", 5, s, frame[None])[0].astype(int) - frame) * gradient(frame)).sum()) for s in range(9)
    }
    assert sides == {-1.0, 1.0}


def test_an_effect_without_hooks_changes_nothing() -> None:
    effect, frame = Effect(), drive()[0]
    assert effect.frame(frame, Moment(0.0)) is frame and effect.periods() == 1.0 and effect.reported_elapsed(0.4) == 0.4
    assert not effect.mirrors and VEHICLES
