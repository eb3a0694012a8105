"""Drivers under perturbations: attacks along their gradient, trials, recordings, training worlds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.driving.driver import PolicyDriver, RescaledTime
from agents.driving.expert import Expert
from agents.driving.metrics import Estimate
from agents.driving.open_loop import evaluate_open_loop
from agents.driving.rollout import rollout
from agents.driving.trials import Run, Trial, drive_trials
from agents.ppo.envs import DrawnPerturbations, make_world
from agents.recordings.episodes import EpisodeSet
from envs.lane_keeping.env import LaneKeepingConfig, LaneKeepingEnv
from envs.perturbations import FAMILIES, PerturbedEnv
from envs.road.random_road import RandomRoadConfig
from policies.checkpoint import save_policy
from policies.perception import whiten
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import episode

WORLD = LaneKeepingConfig(
    vehicle="bicycle", variety=0.0, episode_s=0.5, roads=RandomRoadConfig(length_m=(25.0, 30.0)), pixels_per_m=32.0
)


def make_policy(core: str = "cfc", **fit: int) -> DrivingPolicy:
    return DrivingPolicy.create(PolicyConfig(core=core, preprocessing=Preprocessing(**fit)), seed=1)


def drives(perturbation: str, side_by_side: int = 2, policy: DrivingPolicy | None = None) -> list[np.ndarray]:
    driver = PolicyDriver(policy or make_policy())
    found = rollout(driver, lambda _: PerturbedEnv(LaneKeepingEnv(WORLD), perturbation), range(3), side_by_side)
    return [drive.steering for drive in found]


def test_float_frames_give_what_whole_ones_give() -> None:
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 6, 8, 3), np.uint8))
    exact = frames.float().requires_grad_(True)
    torch.testing.assert_close(whiten(exact), whiten(frames), atol=2e-6, rtol=1e-5)
    fit = Preprocessing(6, 8, crop_top=2, height=4, width=5)
    assert (fit(exact).detach() - fit(frames).float()).abs().max() <= 0.5001
    with pytest.raises(ValueError, match="sees uint8 frames"):
        fit(frames.float())


@pytest.mark.parametrize("core", ["ltc", "lstm"])
def test_the_gradient_is_that_of_the_steering_with_the_state_of_the_slot(core: str) -> None:
    policy = make_policy(core, source_height=60, crop_top=12)
    driver = PolicyDriver(policy)
    generator = np.random.default_rng(2)
    frames = generator.integers(0, 256, (2, 60, 96, 3), np.uint8)
    for _ in range(3):
        driver.act(frames, np.ones(2, np.float32), np.zeros(2, bool), [])
    assert driver.state is not None
    kept = driver.state.clone()
    frame = frames[0].astype(np.float32)
    found = [driver.steering_gradient(1, frame, 1.5, start) for start in (False, True)]
    assert torch.equal(driver.state, kept) and found[0].shape == frame.shape and found[0].dtype == np.float32
    assert not found[0][:12].any() and found[0][12:].any() and not np.array_equal(*found)

    def steering(pixels: np.ndarray, state: torch.Tensor | None) -> float:
        exact = torch.from_numpy(pixels[None, None]).requires_grad_(True)
        return float(policy.motors(exact, state, torch.full((1, 1), 1.5))[0].detach())

    for gradient, state in zip(found, (kept[1:2], None), strict=True):
        way = 0.1 * np.sign(gradient)
        change = steering(frame + way, state) - steering(frame - way, state)
        assert change == pytest.approx(2 * float((gradient * way).sum()), rel=0.1)

    def later(pixels: np.ndarray) -> float:
        exact = torch.from_numpy(np.repeat(pixels[None, None], 4, axis=1)).requires_grad_(True)
        return float(policy.motors(exact, kept[1:2], torch.full((1, 4), 1.5))[0].detach().mean())

    # Through time: the same frame four times over, with what the state remembers of it.
    ahead = driver.steering_gradient(1, frame, 1.5, False, steps=4)
    way = 0.1 * np.sign(ahead)
    assert later(frame + way) - later(frame - way) == pytest.approx(2 * float((ahead * way).sum()), rel=0.1)
    assert not np.allclose(ahead, found[0], rtol=0.05, atol=0.0)
    assert all(weight.requires_grad for weight in policy.parameters())


def test_attacks_steer_to_one_side_more_than_chance_and_pgd_more_than_fgsm() -> None:
    clean = drives("")
    shifts = {}
    for name in ("fgsm:5", "pgd:5", "gaussian:1"):
        pairs = zip(drives(name), clean, strict=True)
        shifts[name] = np.mean([np.abs((steered - before)[1:].mean()) for steered, before in pairs])
    assert shifts["fgsm:5"] > 3 * shifts["gaussian:1"] and shifts["pgd:5"] > 0.8 * shifts["fgsm:5"]
    for alone, together in zip(drives("pgd:3", 1), drives("pgd:3", 3), strict=True):
        # From the fourth frame on, the signs of gradients near 0 differ as the batch is rounded.
        np.testing.assert_allclose(alone[:3], together[:3], atol=2e-3)


def test_each_car_is_attacked_through_the_row_that_drives_it() -> None:
    asked: list[tuple[int, bytes]] = []
    rows: list[tuple[int, bytes]] = []
    starts: list[bool] = []

    class Open:
        def act(self, frames: Any, elapsed: Any, starts: Any, envs: Any) -> np.ndarray:
            rows.extend((row, frame.tobytes()) for row, frame in enumerate(frames))
            return np.zeros((len(frames), 1), np.float32)

        def steering_gradient(self, slot: int, frame: np.ndarray, elapsed: float, start: bool, steps: int = 1) -> Any:
            asked.append((slot, frame.astype(np.uint8).tobytes()))
            starts.append(start)
            return np.zeros_like(frame)

    rollout(Open(), lambda _: PerturbedEnv(LaneKeepingEnv(WORLD), "fgsm:1"), [1, 2], 2)
    assert {slot for slot, _ in asked} == {0, 1} and set(asked[:2]) == set(rows[:2])
    assert all(starts[:2]) and not any(starts[2:])


def test_attacks_on_a_driver_without_gradient_say_so() -> None:
    for driver in (Expert(), RescaledTime(Expert(), 1.0)):
        with pytest.raises(ValueError, match="attacks need a policy"):
            rollout(driver, lambda _: PerturbedEnv(LaneKeepingEnv(WORLD), "pgd:1"), [1])


def test_trials_pair_their_perturbations(tmp_path: Path) -> None:
    place = save_policy(make_policy(), tmp_path / "policy")
    runs = (Run(4), Run(5))
    texts = ("", "clean", "rain:3+latency:2", "rain:3+latency:2", "pgd:2")
    trials = [Trial(place, WORLD, runs, perturbation=text) for text in texts]
    trials.append(Trial(place, WORLD, runs, noise_seed=1, perturbation="rain:3+latency:2"))
    found = [[drive.steering for drive in drives] for drives in drive_trials(trials)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[3])
    for other in (found[2], found[4], found[5]):
        assert not np.array_equal(found[0], other)
    assert not np.array_equal(found[2], found[5])
    (longer,) = drive_trials([Trial(place, WORLD, runs, perturbation="lower_rate:4")])
    assert all(len(drive.steering) == 3 and drive.duration_s == pytest.approx(0.6) for drive in longer)


def test_recordings_under_the_same_perturbations() -> None:
    episodes = EpisodeSet((episode(70), episode(30)))
    policy = make_policy("gru", source_height=episodes.frame_size[0], source_width=episodes.frame_size[1])
    frames: list[int] = []

    def evaluate(perturbation: str) -> dict[str, Estimate]:
        return evaluate_open_loop(policy, episodes, 0.0, on_frames=frames.append, perturbation=perturbation)

    clean = evaluate("")
    assert sum(frames) == 100
    noisy = evaluate("variance:5")
    assert noisy["rmse"] != clean["rmse"] and noisy == evaluate("variance:5")
    assert evaluate("lower_rate:4+mirrored:5")["rmse"].value > 0.0
    with pytest.raises(ValueError, match="needs an env that answers"):
        evaluate("friction:3")


def test_training_draws_another_perturbation_each_episode() -> None:
    entries = ("clean", "weather", "latency", "fog:2+speed:1")
    env = make_world("LaneKeeping", WORLD, perturbations=entries, largest_severity=2)

    def episodes(count: int) -> list[str]:
        found = [env.reset(seed=7)[1]["perturbation"]]
        return found + [env.reset()[1]["perturbation"] for _ in range(count - 1)]

    drawn = episodes(24)
    assert drawn == episodes(24)
    assert {"", "fog:2+speed:1", "latency:1"} <= set(drawn)
    rest = {text.split(":")[0] for text in drawn} - {"", "latency"}
    assert len(rest) >= 2 and rest <= set(FAMILIES["weather"])
    assert all(part[-1] in "12" for text in drawn if text for part in text.split("+"))
    env.step(np.zeros(1, np.float32))
    env.close()


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("fog:9",), "severities 1 to 5"),
        (("adversarial",), "cannot be trained with"),
        (("wether",), "there is no perturbation 'wether'"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(entries: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_world("LaneKeeping", WORLD, perturbations=entries)
    with pytest.raises(ValueError, match="largest_severity must lie in 1 to 5"):
        make_world("LaneKeeping", WORLD, perturbations=("fog",), largest_severity=6)
    env: Any = DrawnPerturbations(LaneKeepingEnv(WORLD), ("dead_zone:1",))
    assert env.reset(seed=1)[1]["perturbation"] == "dead_zone:1"
    with pytest.raises(ValueError, match="need an env with an observation"):
        make_world("CartPole-v1", perturbations=("fog",))
