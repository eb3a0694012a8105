"""Any driver: what each kind of file opens to, that it drives, and what is said of files that do not open."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from agents.driving.driver import PolicyDriver
from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.foreign import ModuleDriver, SteeringScale
from agents.driving.frame_format import FrameFormat
from agents.driving.open_driver import open_driver, wrap_driver
from agents.driving.trials import Run, Trial, drive_trials
from envs.lane_keeping.env import LaneKeepingConfig
from policies.checkpoint import save_policy
from tests.agents.driving import kinds

OPTIONS = DriverOptions(frame=kinds.FRAME, trust=True)
WORLD = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, episode_s=1.0, variety=0.0)
RUNS = (Run(5), Run(6), Run(7))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> dict[str, str]:
    return kinds.made_once(tmp_path_factory, pytestconfig)


KINDS = (
    "our policy",
    "our policy with corrections",
    "nn.Module without memory",
    "plain function",
    "factory of our policy",
    "ONNX with state",
    "ONNX without state",
    "SB3 PPO zip",
)


def _need(made: dict[str, str], kind: str) -> str:
    if kind not in made:
        pytest.skip(f"a package for {kind} is not installed")
    return made[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_drives_the_same_twice_and_its_state_belongs_to_the_episode(made, kind):
    spec = DriverSpec(_need(made, kind), OPTIONS)
    (together,) = drive_trials([Trial(spec, WORLD, RUNS)])
    (alone,) = drive_trials([Trial(spec, WORLD, RUNS[1:2])])
    assert len(together) == 3 and all(np.abs(drive.steering).max() > 1e-3 for drive in together)
    np.testing.assert_allclose(together[1].steering, alone[0].steering, atol=1e-5)


FACTORY = """
from policies.checkpoint import load_policy

def make():
    return load_policy({place!r})
"""


@pytest.mark.parametrize("core", ["ltc", "lstm", "gru"])
def test_a_policy_as_directory_onnx_and_factory_gives_the_same_drives(tmp_path, core):
    pytest.importorskip("onnxruntime")
    policy, place = kinds.policy(core, seed=3), str(tmp_path / "policy")
    save_policy(policy, tmp_path / "policy")
    (tmp_path / "own.py").write_text(FACTORY.format(place=place), encoding="utf-8")
    sources = [place, f"{tmp_path / 'own.py'}:make", str(kinds.export_policy(policy, tmp_path / "driver.onnx"))]
    frames = np.random.default_rng(0).integers(0, 256, (6, 2, 48, 96, 3)).astype(np.uint8)
    opened = [open_driver(source) for source in sources]
    for step, pair in enumerate(frames):
        elapsed = np.array([1.0, 0.5 + step], np.float32)
        first, *others = (one.act(pair, elapsed, np.array([step == 0, step in (0, 3)]), ()) for one in opened)
        for other in others:
            np.testing.assert_allclose(other, first, atol=1e-6)
    drives = drive_trials([Trial(DriverSpec(source), replace(WORLD, episode_s=2.0), RUNS[:2]) for source in sources])
    assert max(np.ptp(drive.steering) for drive in drives[0]) > 0.01
    for other in drives[1:]:
        for one, same in zip(drives[0], other, strict=True):
            np.testing.assert_allclose(same.steering, one.steering, atol=1e-4)
            assert same.crashed == one.crashed


def test_a_run_directory_and_its_policy_are_one_driver(made):
    run = Path(made["our policy"])
    one, other = open_driver(run), open_driver(run / "policy")
    assert isinstance(one, PolicyDriver) and isinstance(other, PolicyDriver)
    assert all(torch.equal(a, b) for a, b in zip(one.policy.parameters(), other.policy.parameters(), strict=True))


def test_frames_come_as_the_options_say():
    frame = np.zeros((1, 4, 6, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = 255, 51, 0
    torch_frame = torch.from_numpy(frame)
    assert FrameFormat(layout="CHW", range="0..1")(torch_frame)[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert FrameFormat(range="-1..1", colour="bgr")(torch_frame)[0, 0, 0].tolist() == pytest.approx([-1.0, -0.6, 1.0])
    grey = FrameFormat(colour="grey", integer=True)(torch_frame)
    assert grey.shape == (1, 4, 6, 1) and grey.dtype == torch.uint8 and int(grey[0, 0, 0, 0]) == 106
    cut = FrameFormat(2, 3, crops={"crop_top": 2})(torch_frame)
    assert cut.shape == (1, 2, 3, 3)
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(0).integers(0, 256, (1, 8, 9, 3)).astype(np.uint8)
    ours = FrameFormat(colour="yuv", integer=True)(torch.from_numpy(picture)).numpy()[0]
    assert np.abs(ours.astype(int) - cv2.cvtColor(picture[0], cv2.COLOR_RGB2YUV)).max() <= 1


class Constant(nn.Module):
    """Answers one number for any frame, with a gradient."""

    def __init__(self, value: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.value * frames.mean((1, 2, 3)).clamp(1.0, 1.0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 0.5),
        ({"positive": "right"}, -0.5),
        ({"degrees": 25.0}, 0.02),
        ({"steering_gain": 1.5}, 0.75),
        ({"steering_gain": 3.0, "positive": "right"}, -1.0),
    ],
)
def test_sign_degrees_and_gain(options: dict[str, Any], expected: float):
    driver = wrap_driver(Constant(0.5), DriverOptions(**options))
    act = driver.act(np.zeros((2, 8, 8, 3), np.uint8), np.ones(2, np.float32), np.ones(2, bool), ())
    np.testing.assert_allclose(act, [[expected], [expected]], rtol=1e-6)


def test_the_gain_of_a_policy_counts_on_the_road_on_recordings_and_for_attacks(made):
    driver, plain = (open_driver(made["our policy"], DriverOptions(steering_gain=gain)) for gain in (0.5, None))
    assert isinstance(driver, PolicyDriver) and isinstance(plain, PolicyDriver)
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 48, 96, 3)).astype(np.uint8)
    ones = np.ones((2, 1), np.float32)
    halves, whole = (one.steer_sequences(frames, ones, None)[0] for one in (driver, plain))
    np.testing.assert_allclose(halves, 0.5 * whole, rtol=1e-5)
    acted = driver.act(frames[:, 0], ones[:, 0], np.ones(2, bool), ())
    np.testing.assert_allclose(acted, halves, rtol=1e-5)
    gradients = [one.steering_gradient(0, frames[0, 0].astype(np.float32), 1.0, True) for one in (driver, plain)]
    np.testing.assert_allclose(gradients[0], 0.5 * gradients[1], rtol=1e-5)


def test_the_gradient_of_a_module_is_that_of_its_steering():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 6, 1)).double().float()
    driver = ModuleDriver(net, FrameFormat(4, 6, "CHW", "0..1"), SteeringScale("right", gain=2.0))
    frame = np.full((4, 6, 3), 100.0, np.float32)
    gradient = driver.steering_gradient(0, frame, 1.0, False)
    expected = -2.0 / 255.0 * net[1].weight.detach().numpy().reshape(3, 4, 6).transpose(1, 2, 0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    assert all(weight.requires_grad for weight in net.parameters())


def test_attacks_ask_foreign_modules_and_zips_and_change_their_drives(made):
    for kind in ("nn.Module without memory", "SB3 PPO zip"):
        if kind not in made:
            continue
        spec = DriverSpec(made[kind], OPTIONS)
        clean, attacked = drive_trials(
            [Trial(spec, WORLD, RUNS[:1]), Trial(spec, WORLD, RUNS[:1], perturbation="fgsm:5")]
        )
        assert not np.allclose(clean[0].steering, attacked[0].steering)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("net.pt", b"junk", "PyTorch file.*factory"),
        ("net.py", b"", r"name the factory in it.*net\.py:make"),
        ("net.safetensors", b"junk", "weights alone"),
        ("net.h5", b"junk", "ONNX"),
        ("net.zip", b"junk", "corrupt"),
        ("net.onnx", b"junk", "cannot be read as ONNX"),
        ("net.bin2", b"junk", "no driver that Wormwheel can open"),
    ],
)
def test_files_that_are_no_drivers_are_called_what_they_are(tmp_path, name, content, words):
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        open_driver(tmp_path / name)
    assert "corrupt" not in str(caught.value) or name == "net.zip"


def test_torch_files_are_called_so_whatever_their_name(tmp_path):
    torch.save(kinds.Net().state_dict(), tmp_path / "weights")
    torch.save(kinds.Net().state_dict(), tmp_path / "weights.zip")
    for name in ("weights", "weights.zip"):
        with pytest.raises(ValueError, match="PyTorch file"):
            open_driver(tmp_path / name)


def test_zips_need_trust_and_factories_that_make_nothing_are_named(made):
    with pytest.raises(ValueError, match="can run code.*--trust"):
        open_driver(_need(made, "SB3 PPO zip"))
    code = made["plain function"].removesuffix(":function")
    for name, words in (("text", "made a str"), ("needs", "without arguments"), ("none", "It has: .*function")):
        with pytest.raises(ValueError, match=words):
            open_driver(f"{code}:{name}")
    with pytest.raises(FileNotFoundError, match="no file .*gone.py"):
        open_driver("gone.py:make")
    with pytest.raises(FileNotFoundError, match="no driver .*run or policy directory"):
        open_driver("gone")


def test_a_module_that_answers_wrongly_is_told_what_was_expected():
    driver = wrap_driver(nn.Identity())
    with pytest.raises(ValueError, match="a batch of 2 frames"):
        driver.act(np.zeros((2, 4, 4, 3), np.uint8), np.ones(2, np.float32), np.ones(2, bool), ())


def test_a_policy_driver_from_a_factory_keeps_its_crop_and_gain(tmp_path):
    policy = kinds.policy("gru")
    frames = np.random.default_rng(1).integers(0, 256, (2, 60, 96, 3)).astype(np.uint8)
    own = replace(policy.config.preprocessing, source_height=60, crop_top=20)
    made = PolicyDriver(policy, own, steering_gain=0.5)

    def act(driver):
        return driver.act(frames, np.ones(2, np.float32), np.ones(2, bool), ())

    wrapped = wrap_driver(made)
    assert wrapped.frame_size == (60, 96)
    np.testing.assert_array_equal(act(wrapped), act(made))
    twice = wrap_driver(made, DriverOptions(steering_gain=2.0))
    np.testing.assert_allclose(act(twice), 2 * act(made), rtol=1e-6)
    with pytest.raises(ValueError, match="say how to fit them"):
        wrap_driver(made, camera=(48, 96))


class Turned(PolicyDriver):
    """A driver of somebody's own, built on ours."""

    def act(self, frames, elapsed, starts, envs):
        return -super().act(frames, elapsed, starts, envs)


def test_a_driver_that_is_built_on_ours_drives_as_it_says():
    policy, frames = kinds.policy("gru"), np.full((2, 48, 96, 3), 90, np.uint8)
    given = frames, np.ones(2, np.float32), np.ones(2, bool), ()
    wrapped = wrap_driver(Turned(policy))
    np.testing.assert_array_equal(wrapped.act(*given), -PolicyDriver(policy).act(*given))
    assert wrapped.frame_size == (48, 96) and wrapped.period_s == policy.config.nominal_period_s


def test_new_episodes_may_be_fewer_than_those_before():
    policy = kinds.policy("lstm")
    driver = PolicyDriver(policy)
    frames = np.random.default_rng(2).integers(0, 256, (3, 48, 96, 3)).astype(np.uint8)
    driver.act(frames, np.ones(3, np.float32), np.ones(3, bool), ())
    given = frames[:2], np.ones(2, np.float32), np.ones(2, bool), ()
    np.testing.assert_array_equal(driver.act(*given), PolicyDriver(policy).act(*given))


def test_frames_of_another_size_are_refused_by_our_onnx_file_as_by_the_policy_in_it(tmp_path):
    pytest.importorskip("onnxruntime")
    policy = kinds.policy("gru")
    save_policy(policy, tmp_path / "policy")
    sources = str(tmp_path / "policy"), str(kinds.export_policy(policy, tmp_path / "driver.onnx"))
    for source in sources:
        with pytest.raises(ValueError, match="takes frames of 96×48 pixels and these have 160×120.*--crop-top"):
            open_driver(source, camera=(120, 160))
    frames = np.random.default_rng(3).integers(0, 256, (1, 120, 160, 3)).astype(np.uint8)
    given = frames, np.ones(1, np.float32), np.ones(1, bool), ()
    fitted = [open_driver(source, DriverOptions(crop_top=40), (120, 160)).act(*given) for source in sources]
    np.testing.assert_allclose(*fitted, atol=1e-6)
    with pytest.raises(ValueError, match="sees frames of 48×96 pixels, got 120×160"):
        open_driver(sources[1]).act(*given)
