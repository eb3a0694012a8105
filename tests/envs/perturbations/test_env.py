"""Perturbations at work: on a running env, on recordings, and the same on both."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import envs
from envs.lane_keeping.env import LaneKeepingEnv
from envs.lane_keeping.laps import StopAfterLaps
from envs.lane_keeping.scenario import Scenario
from envs.perturbations import (
    FAMILIES,
    PERTURBATIONS,
    CameraInfo,
    Composition,
    Effect,
    Moment,
    Perturbation,
    PerturbedEnv,
    RecordedEpisode,
    declare_perturbation,
    parse,
    perturb_recording,
    register,
    steering_sign,
)
from envs.perturbations.families.timing import _Late
from tests.envs.needs import needs_bullet

BICYCLE = {"vehicle": "bicycle", "variety": 0.0}
IMAGES = [
    name
    for name, made in PERTURBATIONS.items()
    if made.frames and not made.changes_time and not made.attacks and made.family != "timing"
]


def make(perturbation: str = "", seed: int = 0, **fields: Any) -> PerturbedEnv:
    return PerturbedEnv(gymnasium.make(envs.LANE_KEEPING, **{**BICYCLE, **fields}), perturbation, seed)


def steering(step: int) -> np.ndarray:
    return np.array([0.7 * math.sin(0.5 * step)], np.float32)


def drive(env: gymnasium.Env[Any, Any], steps: int, seed: int | None = 3) -> list[tuple[Any, ...]]:
    observation, info = env.reset(seed=seed)
    found = [(observation, 0.0, False, False, info)]
    for step in range(steps):
        found.append(env.step(steering(step)))
    return found


def same(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> bool:
    """Whether two drives agree to the last bit, the names of the perturbations aside."""
    for (seen, *rest, info), (other, *others, notes) in zip(first, second, strict=True):
        if not all(np.array_equal(seen[key], other[key]) for key in seen) or rest != others:
            return False
        if any(info[key] != notes[key] for key in info.keys() & notes.keys() - {"perturbation", "perturbation_seed"}):
            return False
    return True


@pytest.mark.parametrize("vehicle", ["bicycle", pytest.param("bullet", marks=needs_bullet)])
def test_clean_is_the_bare_env_to_the_last_bit(vehicle: str) -> None:
    fields = {**BICYCLE, "vehicle": vehicle, "variety": 0.5}
    bare = drive(gymnasium.make(envs.LANE_KEEPING, **fields), 12)
    assert same(bare, drive(make("", **fields), 12))
    assert not same(bare, drive(make("gaussian:1", **fields), 12))


@pytest.mark.parametrize(
    "name",
    ["friction", "speed", "lane_width", "curvature", "worn_markings", "surface", "fog", "lower_rate", "steering_bias"],
)
def test_a_perturbed_episode_repeats_and_leaves_nothing_behind(name: str) -> None:
    env = make(f"{name}:5", resets_per_road=3)
    clean = drive(gymnasium.make(envs.LANE_KEEPING, **BICYCLE, resets_per_road=3), 8)
    first, again = drive(env, 8), drive(env, 8)
    assert same(first, again) and not same(first, clean)
    assert first[-1][-1]["perturbation"] == f"{name}:5"
    env.composition = parse("")
    assert same(drive(env, 8), clean)
    env.close()


def test_a_changed_scenario_keeps_line_look_and_start() -> None:
    plain, narrow = make(), make("lane_width:5")
    plain.reset(seed=4)
    narrow.reset(seed=4)
    here: Any = plain.unwrapped
    there: Any = narrow.unwrapped
    assert there.track.lane_width_m == pytest.approx(0.6 * here.track.lane_width_m)
    np.testing.assert_allclose(there.track.points, here.track.points, atol=1e-3)
    assert there.scene.look == here.scene.look and there.scene.params == here.scene.params
    assert there.target_speed_mps == here.target_speed_mps
    tight = make("curvature:5")
    tight.reset(seed=4)
    smaller: Any = tight.unwrapped
    assert np.abs(smaller.track.curvatures).max() > 1.3 * np.abs(here.track.curvatures).max()
    assert smaller.track.length_m == pytest.approx(here.track.length_m / 1.4, rel=0.01)
    old = make("misleading_markings:5")
    worn, _ = old.reset(seed=4)
    clean, _ = plain.reset(seed=4)
    assert (worn["camera"] != clean["camera"]).any()


@needs_bullet
def test_bullet_gets_another_car_and_the_other_renderer() -> None:
    env = make("mass:5+friction:4", vehicle="bullet")
    env.reset(seed=1)
    inside: Any = env.unwrapped
    assert inside.vehicle_params.mass_kg == pytest.approx(9.0 * 5.9)
    assert inside.vehicle_params.friction == pytest.approx(0.23)
    clean = drive(make(vehicle="bullet"), 5)
    assert not same(drive(env, 5), clean)
    env.composition = parse("")
    assert same(drive(env, 5), clean) and inside.vehicle_params.mass_kg == 5.9
    env.composition = parse("other_renderer:1")
    other, _ = env.reset(seed=3)
    assert 1.0 < np.abs(other["camera"].astype(int) - clean[0][0]["camera"]).mean() < 40.0
    env.close()


def test_scenarios_that_would_need_another_env_are_refused() -> None:
    env = LaneKeepingEnv(vehicle="bicycle")
    with pytest.raises(ValueError, match="a scenario cannot change height: this env has 48, got 50"):
        env.reset(options={"scenario": Scenario(replace(env.config, height=50))})
    env.reset(seed=0)
    env.next_periods = 11.0
    with pytest.raises(ValueError, match="next_periods must lie in"):
        env.step(np.zeros(1, np.float32))


def test_an_action_can_be_held_for_any_time() -> None:
    env = LaneKeepingEnv(vehicle="bicycle")
    _, before = env.reset(seed=0)
    at = env.vehicle_state
    for periods in (0.3, 1.0, 2.5, 7.0):
        env.next_periods = periods
        observation, _, _, _, info = env.step(np.zeros(1, np.float32))
        assert observation["elapsed"][0] == np.float32(periods)
        assert info["time_s"] - before["time_s"] == pytest.approx(0.05 * periods)
        state = env.vehicle_state
        way_m = math.hypot(state.x - at.x, state.y - at.y)
        assert way_m == pytest.approx(0.05 * periods * env.target_speed_mps, rel=0.01)
        before, at = info, state
    observation, *_ = env.step(np.zeros(1, np.float32))
    assert observation["elapsed"][0] == 1.0


@pytest.mark.parametrize("name", ["dropped_frames", "jittered_period", "lower_rate"])
def test_time_is_reported_or_hidden(name: str) -> None:
    told = drive(make(f"{name}:4"), 15)[1:]
    periods = np.diff([0.0, *(entry[-1]["time_s"] for entry in told)]) / 0.05
    np.testing.assert_allclose([entry[0]["elapsed"][0] for entry in told], periods, rtol=1e-5)
    assert (periods != 1.0).any()
    hidden = drive(make(f"{name}_hidden:4"), 15)[1:]
    assert all(entry[0]["elapsed"][0] == 1.0 for entry in hidden)
    # The same times: what a driver makes of knowing them is all that differs.
    assert [entry[-1]["time_s"] for entry in hidden] == [entry[-1]["time_s"] for entry in told]


def test_held_actions_are_held_for_drawn_periods_where_periods_are_drawn() -> None:
    drawn = [entry[0]["elapsed"][0] for entry in drive(make(elapsed_jitter=0.4), 8)[1:]]
    held = drive(make("lower_rate:2", elapsed_jitter=0.4), 8)[1:]
    np.testing.assert_allclose([entry[0]["elapsed"][0] for entry in held], 2.0 * np.array(drawn), rtol=1e-6)
    assert held[-1][-1]["time_s"] == pytest.approx(0.1 * float(np.sum(drawn)), rel=1e-6)
    longest = drive(make("lower_rate:5+dropped_frames:5", elapsed_jitter=0.9), 12)[1:]
    assert max(entry[0]["elapsed"][0] for entry in longest) == 10.0


@pytest.mark.parametrize("name", ["frozen_frames", "latency", "frozen_frames:4+latency", "latency:3+frozen_frames"])
def test_old_pictures_are_reported_by_their_age(name: str) -> None:
    env, bare = make(f"{name}:4"), gymnasium.make(envs.LANE_KEEPING, **BICYCLE)
    shown, fresh = drive(env, 30), drive(bare, 30)
    pictures = [entry[0]["camera"].tobytes() for entry in fresh]
    taken = [pictures.index(entry[0]["camera"].tobytes()) for entry in shown]
    assert taken[0] == 0 and taken != list(range(31)) and taken == sorted(taken)
    told = np.array([entry[0]["elapsed"][0] for entry in shown])[1:]
    np.testing.assert_allclose(told, np.maximum(np.diff(taken), 0.01), rtol=1e-6)
    assert all(entry[-1]["time_s"] == other[-1]["time_s"] for entry, other in zip(shown, fresh, strict=True))
    hidden = drive(make(f"{name}_hidden:4"), 30)
    assert all(entry[0]["elapsed"][0] == 1.0 for entry in hidden)


class Numbered(gymnasium.Env[Any, Any]):
    """Pictures whose grey level is their number; the info tells no time."""

    observation_space = spaces.Dict(
        {"camera": spaces.Box(0, 255, (8, 16, 3), np.uint8), "elapsed": spaces.Box(0.0, 10.0, (1,), np.float32)}
    )
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.number = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.number += 1
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> dict[str, Any]:
        return {"camera": np.full((8, 16, 3), self.number, np.uint8), "elapsed": np.ones(1, np.float32)}


def test_time_passes_in_an_env_that_tells_none() -> None:
    def shown(perturbation: str) -> list[int]:
        env = PerturbedEnv(Numbered(), perturbation)
        seen = [env.reset(seed=2)[0], *(env.step(steering(step))[0] for step in range(60))]
        numbers = [int(one["camera"][0, 0, 0]) for one in seen]
        assert numbers[:5] == [int(env.reset(seed=2)[0]["camera"][0, 0, 0])] + [
            int(env.step(steering(step))[0]["camera"][0, 0, 0]) for step in range(4)
        ], "the clock begins again with the episode"
        return numbers

    late = shown("latency:2")  # 0.1 s on average, 2 periods
    assert late == sorted(late) and 1.0 <= np.mean(np.arange(10, 61) - late[10:]) <= 3.0
    frozen = shown("frozen_frames:5")
    assert 0.3 < np.mean(np.diff(frozen) == 0) < 0.9


@pytest.mark.parametrize("text", ["lower_rate_hidden:4+latency:3", "latency:3+lower_rate_hidden:4"])
def test_what_is_hidden_stays_hidden_in_company(text: str) -> None:
    assert {float(entry[0]["elapsed"][0]) for entry in drive(make(text), 12)} == {1.0}


def test_actions_are_changed_on_their_way_to_the_car_and_throttle_is_left_alone() -> None:
    commands = np.array([0.5, 0.25], np.float32)
    expected = {"steering_gain:5": 1.0, "dead_zone:5": 0.18, "mirrored:5": -0.5, "action_delay:5": 0.0}
    for text, wanted in expected.items():
        env = make(text, throttle=True)
        env.reset(seed=0)
        _, _, _, _, info = env.step(commands)
        assert info["steering"] == pytest.approx(wanted), text
        assert commands.tolist() == [0.5, 0.25]
    longer = make("wheelbase:5")
    longer.reset(seed=0)
    _, _, _, _, info = longer.step(np.ones(1, np.float32))
    lock_rad = longer.unwrapped.vehicle_params.steering_limit_rad  # type: ignore[attr-defined]
    assert math.tan(info["steering"] * lock_rad) == pytest.approx(math.tan(lock_rad) / 2.2)


def test_seeds_pair_drives_and_episodes_without_a_seed_differ() -> None:
    first, other = make("gaussian:3"), make("gaussian:3", seed=1)
    (a, info), (b, notes) = first.reset(seed=2), other.reset(seed=2)
    assert info["perturbation_seed"] != notes["perturbation_seed"] and (a["camera"] != b["camera"]).any()
    seeds = [first.reset()[1]["perturbation_seed"] for _ in range(3)]
    first.reset(seed=2)
    assert seeds == [first.reset()[1]["perturbation_seed"] for _ in range(3)] and len(set(seeds)) == 3
    assert (
        PerturbedEnv(LaneKeepingEnv(vehicle="bicycle"), "fog").reset(seed=2)[1]["perturbation_seed"]
        == (info["perturbation_seed"])
    )


def test_only_what_an_env_can_do_is_asked_of_it() -> None:
    with pytest.raises(ValueError, match="need an env with an observation Dict"):
        PerturbedEnv(gymnasium.make("CartPole-v1"), "fog")

    class Camera(gymnasium.Env[Any, Any]):
        observation_space = LaneKeepingEnv(vehicle="bicycle").observation_space
        action_space = LaneKeepingEnv(vehicle="bicycle").action_space

        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
            return {"camera": np.full((48, 96, 3), 90, np.uint8), "elapsed": np.ones(1, np.float32)}, {}

        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            return *self.reset()[:1], 0.0, False, False, {}

    observation, _ = PerturbedEnv(Camera(), "fog:3+action_noise:2").reset(seed=0)
    assert (observation["camera"] != 90).any()
    for text in ("lane_width:2", "lower_rate:2"):
        with pytest.raises(ValueError, match="which needs LaneKeeping"):
            PerturbedEnv(Camera(), text)


def test_wrapped_further_and_drawn() -> None:
    env = make("darkness:5", render_mode="rgb_array")
    observation, _ = StopAfterLaps(env, 1.0).reset(seed=0)
    dark = env.render()
    assert dark.shape == (720, 1280, 3) and observation["camera"].max() <= 13
    assert not np.array_equal(dark, env.unwrapped.render())


@lru_cache(maxsize=1)
def bare_drive(steps: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Frames of a drive without perturbation, the car's yaw rates before them, its target speed."""
    bare = gymnasium.make(envs.LANE_KEEPING, **BICYCLE)
    clean, turns = [bare.reset(seed=3)[0]["camera"]], [0.0]
    inside: Any = bare.unwrapped
    for step in range(steps):
        observation, *_ = bare.step(steering(step))
        state = inside.vehicle_state
        clean.append(observation["camera"])
        turns.append(state.speed * math.tan(state.steer) / inside.vehicle_params.wheelbase_m)
    return np.stack(clean), np.array(turns), inside.target_speed_mps


@pytest.mark.parametrize("name", IMAGES)
def test_recordings_are_perturbed_by_the_same_code(name: str) -> None:
    clean, turns, speed_mps = bare_drive(10)
    if name == "mirrored":
        env = make("mirrored:5")
        observation, _ = env.reset(seed=3)
        np.testing.assert_array_equal(observation["camera"], clean[0][:, ::-1])
        return
    env = make(f"{name}:4")
    live = [entry[0]["camera"] for entry in drive(env, 10)]
    episode = RecordedEpisode(f"{name}:4", env.perturbation_seed, env.camera)
    taken = episode.take(clean.copy(), np.ones(11, np.float32), speed_mps, turns)
    np.testing.assert_array_equal(taken.frames, np.stack(live))
    assert taken.kept.tolist() == list(range(11)) and (taken.elapsed == 1.0).all()


def counted(count: int) -> np.ndarray:
    """Frames that carry their number."""
    return np.repeat(np.arange(count, dtype=np.uint8), 8 * 16 * 3).reshape(count, 8, 16, 3)


def test_recorded_time_drops_and_keeps_frames() -> None:
    frames, elapsed = counted(60), np.linspace(0.9, 1.1, 60).astype(np.float32)
    same_frames, same_elapsed, kept = perturb_recording(frames, elapsed, "clean", 0, 0.05)
    np.testing.assert_array_equal(same_frames, frames)
    np.testing.assert_array_equal(same_elapsed, elapsed)
    assert kept.tolist() == list(range(60)) and same_frames is not frames
    third = perturb_recording(frames, elapsed, "lower_rate:3", 0, 0.05)
    assert third.kept.tolist() == list(range(0, 60, 3)) and third.frames[:, 0, 0, 0].tolist() == third.kept.tolist()
    np.testing.assert_allclose(third.elapsed[1:], elapsed[1:].reshape(-1)[:57].reshape(-1, 3).sum(axis=1), rtol=1e-5)
    hidden = perturb_recording(frames, elapsed, "lower_rate_hidden:3", 0, 0.05)
    assert (hidden.elapsed == 1.0).all() and hidden.kept.tolist() == third.kept.tolist()
    half = perturb_recording(frames, elapsed, "lower_rate:1", 0, 0.05)
    assert len(half.kept) == 40  # 1.5 periods: two frames of three
    lost = perturb_recording(frames, elapsed, "dropped_frames:3", 4, 0.05)
    assert 20 < len(lost.kept) < 50 and (np.diff(lost.kept) >= 1).all()
    old = perturb_recording(frames, elapsed, "frozen_frames:4", 4, 0.05)
    assert old.kept.tolist() == list(range(60)) and (old.frames[:, 0, 0, 0] != old.kept).any()


def test_recordings_in_pieces_are_recordings_as_a_whole() -> None:
    frames, elapsed = counted(50), np.ones(50, np.float32)
    for text in ("dropped_frames:3", "rain:3+latency:3", "lower_rate:3+vibration:2"):
        whole = perturb_recording(frames, elapsed, text, 5, 0.05)
        episode = RecordedEpisode(text, 5, CameraInfo(8, 16, 0.05))
        parts = {at: episode.take(frames[at : at + 7], elapsed[at : at + 7]) for at in range(0, 50, 7)}
        np.testing.assert_array_equal(np.concatenate([part.frames for part in parts.values()]), whole.frames)
        np.testing.assert_array_equal(np.concatenate([part.elapsed for part in parts.values()]), whole.elapsed)
        np.testing.assert_array_equal(np.concatenate([at + part.kept for at, part in parts.items()]), whole.kept)


def test_recordings_refuse_what_needs_an_env_and_mirror_their_labels() -> None:
    frames, elapsed = counted(3), np.ones(3, np.float32)
    for text in ("friction:2", "fog:3+steering_bias:1", "pgd:1"):
        with pytest.raises(ValueError, match="needs an env that answers.*variance, gaussian"):
            perturb_recording(frames, elapsed, text, 0, 0.05)
    clip = CameraInfo(8, 16, 0.05)
    assert steering_sign("mirrored:5", 0, clip) == -1.0 and steering_sign("fog:5", 0, clip) == 1.0
    signs = [steering_sign("mirrored:2", seed, clip) for seed in range(200)]
    assert 50 < signs.count(-1.0) < 110


def test_whole_number_actions_stay_whole() -> None:
    class Notches(gymnasium.ActionWrapper[Any, Any, Any]):
        def __init__(self, env: gymnasium.Env[Any, Any]):
            super().__init__(env)
            self.action_space = spaces.Box(-1, 1, (1,), np.int8)
            self.taken: list[np.ndarray] = []

        def action(self, action: Any) -> Any:
            self.taken.append(action)
            return action.astype(np.float32)

    notches = Notches(LaneKeepingEnv(vehicle="bicycle"))
    env = PerturbedEnv(notches, "action_noise:5")
    env.reset(seed=0)
    for _ in range(12):
        env.step(np.array([1], np.int8))
    assert all(notches.action_space.contains(taken) for taken in notches.taken)
    assert {int(taken[0]) for taken in notches.taken} == {0, 1}  # noise of 0.55 reaches the next notch now and then


def test_a_nan_of_a_driver_or_a_perturbation_is_refused() -> None:
    class Broken(Effect):
        def action(self, action: Any, held: float) -> Any:
            return action * math.nan

        def frame(self, frame: Any, moment: Any) -> Any:
            return frame.astype(np.float32)

    @declare_perturbation("ours", unit="nothing", doses=(1.0, 2.0, 3.0, 4.0, 5.0))
    def broken(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
        """X' = NaN."""
        effect = Broken()
        if dose > 1.0:
            effect.frame = lambda frame, moment: frame  # type: ignore[method-assign]
        return effect

    bare = LaneKeepingEnv(vehicle="bicycle")
    with pytest.raises(ValueError, match="a perturbation made a frame float32"):
        PerturbedEnv(bare, broken(1)).reset(seed=0)
    env = PerturbedEnv(bare, broken(2))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="a perturbation made the action"):
        env.step(np.zeros(1, np.float32))
    env = PerturbedEnv(bare, "stuck_steering:3")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="steering of an action must be a finite number"):
        env.step(np.array([math.nan], np.float32))


def test_each_effect_begins_once_an_episode() -> None:
    begun: list[str] = []

    def counted(name: str, **fields: Any) -> Any:
        def start(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
            begun.append(name)
            return Effect()

        start.__name__ = name
        return declare_perturbation("ours", unit="nothing", doses=(1.0, 2.0, 3.0, 4.0, 5.0), **fields)(start)(3)

    parts = counted("one"), counted("two", changes_scenario=True), counted("three", changes_time=True)
    env = PerturbedEnv(LaneKeepingEnv(vehicle="bicycle"), Composition(parts))
    env.reset(seed=0)
    assert sorted(begun) == ["one", "three", "two"]


class Noting(Effect):
    """Changes nothing, and notes the moments that it is told of."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def frame(self, frame: np.ndarray, moment: Moment) -> np.ndarray:
        self.moments.append(moment)
        return frame


def noting() -> tuple[Perturbation, Noting]:
    effect = Noting()
    return declare_perturbation("ours", unit="nothing", doses=(1.0, 2.0, 3.0, 4.0, 5.0))(lambda *given: effect)(
        3
    ), effect


def test_an_action_passes_from_the_last_to_the_first_and_the_turning_is_mirrored_behind_a_mirror() -> None:
    (trim,), (mirror,) = parse("steering_bias:5").parts, parse("mirrored:5").parts
    outer, before = noting()
    _, after = noting()
    camera = CameraInfo(8, 16, 0.05)
    (bias,) = (
        float(one.action(np.zeros(1, np.float32), 1.0)[0]) for one in Composition((trim,)).begin(1, camera).effects
    )
    for parts, wanted in (((trim, mirror), -0.5 + bias), ((mirror, trim), -(0.5 + bias))):
        running = Composition(parts).begin(1, camera)
        assert running.action(np.array([0.5], np.float32), 1.0)[0] == pytest.approx(wanted, abs=1e-6)
    running = Composition((outer, mirror)).begin(1, camera)
    running.effects.append(after)
    running.see(np.zeros((8, 16, 3), np.uint8), Moment(0.1, yaw_rate_radps=0.7))
    assert [one.moments[0].yaw_rate_radps for one in (before, after)] == [0.7, -0.7]


def test_a_recording_has_the_clock_of_its_time_stamps() -> None:
    part, effect = noting()
    frames = np.zeros((5, 8, 16, 3), np.uint8)
    perturb_recording(frames, np.array([1.0, 3.0, 1.0, 0.5, 1.0]), Composition((part,)), 1, 0.05)
    assert [moment.time_s for moment in effect.moments] == pytest.approx([0.0, 0.15, 0.2, 0.225, 0.275])
    assert [moment.elapsed for moment in effect.moments] == [1.0, 3.0, 1.0, 0.5, 1.0]


def test_kinds_are_values_that_travel_between_processes() -> None:
    for name in ("fog", "latency_hidden"):
        made = PERTURBATIONS[name](4)
        assert pickle.loads(pickle.dumps(made)) == made and str(made) == f"{name}:4"


def test_a_perturbation_of_ones_own_is_registered_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.perturbations.registry.PERTURBATIONS", dict(PERTURBATIONS))
    monkeypatch.setattr("envs.perturbations.registry.FAMILIES", dict(FAMILIES))

    @register
    @declare_perturbation("ours", unit="nothing", doses=(1.0, 2.0, 3.0, 4.0, 5.0), has_hidden_twin=True)
    def toy(generator: np.random.Generator, camera: CameraInfo, dose: float) -> Effect:
        """X' = x."""
        return Effect()

    assert str(parse("toy:2+toy_hidden:3")) == "toy:2+toy_hidden:3"
    with pytest.raises(ValueError, match="there is a perturbation fog already"):
        register(replace(toy, name="fog", has_hidden_twin=False))
    with pytest.raises(ValueError, match="cannot be called 'a:b'"):
        register(replace(toy, name="a:b", has_hidden_twin=False))


def test_others_may_act_in_the_middle_of_an_episode():
    changed, plain = make("latency:2"), make("latency:2")
    for one in (changed, plain):
        one.reset(seed=4)
    for step in range(6):
        for one in (changed, plain):
            one.step(steering(step))
    changed.change("latency:2+fog:5")
    assert str(changed.acting) == "latency:2+fog:5"
    dense, _, _, _, info = changed.step(steering(6))
    thin, *_ = plain.step(steering(6))
    assert info["perturbation"] == "latency:2+fog:5"
    assert np.abs(dense["camera"].astype(int) - thin["camera"]).mean() > 5
    changed.change("latency:2")
    for step in range(7, 10):  # the delay line was kept all the while
        assert np.array_equal(changed.step(steering(step))[0]["camera"], plain.step(steering(step))[0]["camera"])


def test_a_change_of_the_road_waits_for_the_next_episode():
    env = make("friction:2+fog:1")
    env.reset(seed=4)
    env.change("friction:5+lane_width:3+fog:2")
    assert str(env.acting) == "fog:2+friction:2" and str(env.composition) == "friction:5+lane_width:3+fog:2"
    env.step(steering(0))
    env.change("")
    assert str(env.acting) == "friction:2"
    env.change("friction:5")
    env.reset(seed=4)
    assert str(env.acting) == "friction:5"
    with pytest.raises(ValueError, match="there is no"):
        env.change("snog:2")
    assert str(env.composition) == "friction:5"


def test_of_two_late_pictures_that_have_come_the_newer_one_shows() -> None:
    """The older one took longer: it has arrived last and is not shown any more."""
    late = _Late(np.random.default_rng(0), 0.1, 0.0)
    late._generator = Waits(0.0, 1.0, -1.0)  # 0.10, 0.15 and 0.05 s
    frames = [np.full((1, 1, 3), number, np.uint8) for number in range(4)]
    seen = [late.choose(frames[n], 0.05 * n, float(n))[1] for n in range(3)]
    late._generator = Waits(1.0, 1.0)
    seen += [late.choose(frames[3], 0.20, 3.0)[1]]  # the second one comes as well, and the third is there already
    assert seen == [0.0, 0.0, 0.0, 2.0]


class Waits:
    """Stands for a generator whose draws are known."""

    def __init__(self, *draws: float):
        self.draws = list(draws)

    def uniform(self, low: float, high: float) -> float:
        return self.draws.pop(0)
