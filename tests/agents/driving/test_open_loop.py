"""The open loop: what a driver would have steered does not depend on how the frames are handed to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents.driving.driver import Driver, PolicyDriver
from agents.driving.open_loop import evaluate_open_loop, predict, respond, score
from agents.recordings.episodes import EpisodeSet
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.agents.toys import HEIGHT, WIDTH, episode

EPISODES = EpisodeSet((episode(50, 1), episode(90, 2), episode(30, 3)))


@pytest.fixture(scope="module")
def policy() -> DrivingPolicy:
    head = HeadConfig(channels=(4,), kernels=(3,), strides=(2,), features_per_channel=2)
    fit = Preprocessing(HEIGHT, WIDTH, height=HEIGHT, width=WIDTH)
    made = DrivingPolicy.create(PolicyConfig(core="lstm", head=head, preprocessing=fit), seed=0)
    with torch.no_grad():
        for parameter in made.core.parameters():
            parameter.mul_(3)
    return made.eval()


class OneFrame:
    """A policy that can only be asked frame by frame, as a driver of somebody else."""

    def __init__(self, policy: DrivingPolicy):
        self.driver = PolicyDriver(policy)

    def act(self, frames: Any, elapsed: Any, starts: Any, envs: Sequence[Any]) -> NDArray[np.float32]:
        assert frames.shape[0] == 1 and len(envs) == 0
        return self.driver.act(frames, elapsed, starts, envs)


def steered(driver: Driver, perturbation: str, **options: Any) -> dict[tuple[int, int], tuple[float, float]]:
    """Steering and label by episode and frame."""
    found = {}
    for response in respond(driver, EPISODES, perturbation, **options):
        for index, steering, recorded in zip(response.index, response.steering, response.recorded, strict=True):
            found[response.episode, int(index)] = float(steering), float(recorded)
    return found


@pytest.mark.parametrize("perturbation", ["", "lower_rate:4", "fog:3+mirrored:5"])
def test_neither_batches_nor_pieces_nor_the_kind_of_driver_change_the_steering(policy, perturbation):
    alone = steered(PolicyDriver(policy), perturbation, seed=4)
    others = [
        steered(PolicyDriver(policy), perturbation, seed=4, side_by_side=3),
        steered(PolicyDriver(policy), perturbation, seed=4, side_by_side=2),
        steered(OneFrame(policy), perturbation, seed=4),
    ]
    if perturbation == "":
        others.append(steered(PolicyDriver(policy), perturbation, seed=4, steps=7))
        assert len(alone) == 170
    for other in others:
        assert other.keys() == alone.keys()
        np.testing.assert_allclose(list(other[key] for key in alone), list(alone.values()), atol=1e-5)


def test_the_clock_of_the_recording_reaches_the_driver_in_batches_and_frame_by_frame(policy):
    """Frames that come early and late, in no fixed order, and a core that knows of time."""
    rng = np.random.default_rng(0)
    late = [replace(one, time_s=np.cumsum(0.05 * rng.choice([0.4, 1.0, 5.0], len(one)))) for one in EPISODES]
    core = DrivingPolicy.create(replace(policy.config, core="cfc", core_options={"kernel": "reference"}), seed=0).eval()
    frames, elapsed = torch.from_numpy(late[1].frames()[None]), torch.from_numpy(late[1].elapsed()[None])
    with torch.inference_mode():
        expected, on_time = (core(frames, None, clock)[0][0, :, 0].numpy() for clock in (elapsed, None))
    assert np.abs(expected - on_time).max() > 0.01
    for driver in (PolicyDriver(core), OneFrame(core)):
        found = [response.steering for response in respond(driver, late, side_by_side=3) if response.episode == 1]
        np.testing.assert_allclose(np.concatenate(found), expected, atol=1e-5)


def test_every_episode_has_draws_of_its_own_in_noise_and_in_perturbations(policy):
    """The same episode twice: were the draws the same, so would be the pictures."""

    def noise(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        return rng.integers(0, 256, frames.shape).astype(np.uint8)

    for options in ({"perturbation": "gaussian:3"}, {"noise": noise}):
        shown = [response.frames for response in respond(PolicyDriver(policy), [EPISODES[2]] * 2, **options)]
        assert len(shown) == 2 and not np.array_equal(*shown)


def test_a_score_is_that_of_its_definitions(policy):
    predicted, target = np.concatenate(predict(policy, EPISODES)), np.concatenate([one.steering for one in EPISODES])
    found, errors = score(policy, EPISODES), predicted - target
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-5)
    assert found["r2"] == pytest.approx(1 - np.sum(errors**2) / np.sum((target - target.mean()) ** 2), rel=1e-5)
    assert found["correlation"] == pytest.approx(np.corrcoef(predicted, target)[0, 1], rel=1e-4)


def test_steering_is_that_of_the_policy_and_labels_are_those_of_its_frames(policy):
    frames, elapsed = torch.from_numpy(EPISODES[1].frames()), torch.from_numpy(EPISODES[1].elapsed())
    with torch.inference_mode():
        expected, _ = policy(frames[None], None, elapsed[None])
    np.testing.assert_allclose(predict(policy, EPISODES, 2, 16)[1], expected[0, :, 0].numpy(), atol=1e-5)
    found = steered(PolicyDriver(policy), "mirrored:5")
    np.testing.assert_allclose([found[1, n][1] for n in range(90)], -EPISODES[1].steering)


def test_figures_are_those_of_the_frames_of_all_episodes(policy):
    figures = evaluate_open_loop(policy, EPISODES, training_mean=0.1)
    errors = np.concatenate(predict(policy, EPISODES)) - np.concatenate([one.steering for one in EPISODES])
    assert figures["mae"].value == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    of_mean = np.concatenate([one.steering for one in EPISODES]) - 0.1
    assert figures["rmse_of_mean"].value == pytest.approx(np.sqrt(np.mean(of_mean**2)), rel=1e-5)
    assert evaluate_open_loop(policy, EPISODES, 0.1, preprocessed=True)["mae"].value == pytest.approx(
        figures["mae"].value, rel=1e-6
    ), "these frames have the size that the policy sees"
    assert evaluate_open_loop(policy, EPISODES, 0.1, perturbation="fog:5")["mae"].value != figures["mae"].value


def test_frames_that_are_cropped_and_resized_already_are_not_cropped_again(policy):
    cropped = replace(policy.config, preprocessing=Preprocessing(HEIGHT + 8, WIDTH, 8, height=HEIGHT, width=WIDTH))
    driver = DrivingPolicy(cropped, policy.head, policy.core)
    expected = predict(policy, EPISODES)
    for one, other in zip(predict(driver, EPISODES, preprocessed=True), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="this policy sees uint8 frames"):
        predict(driver, EPISODES)
    for one, other in zip(predict(PolicyDriver(driver, policy.config.preprocessing), EPISODES), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="ends at"):
        PolicyDriver(driver, Preprocessing(HEIGHT, WIDTH, height=8, width=WIDTH))
