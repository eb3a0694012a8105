"""Looking inside a driver: saliency points at what the features come from."""

from __future__ import annotations

import pytest
import torch

from policies.cores import CORES
from policies.explain.saliency import gradient_saliency, look_inside, saliency
from policies.perception import HeadConfig
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing

ODD = Preprocessing(source_height=60, source_width=99, crop_top=9, height=37, width=61)


def policy(core: str = "ltc", **config: object) -> DrivingPolicy:
    return DrivingPolicy.create(PolicyConfig(core=core, **config), seed=1).eval()  # type: ignore[arg-type]


def brightness_head(driver: DrivingPolicy) -> None:
    """Make every convolution pass on how much brighter than the mean a place is, and nothing else."""
    with torch.no_grad():
        for convolution in driver.head.convolutions:
            convolution.weight.zero_()
            convolution.bias.zero_()
            middle = convolution.kernel_size[0] // 2
            convolution.weight[:, :, middle, middle] = 1.0 / convolution.in_channels


def test_saliency_lies_where_the_features_come_from():
    driver = policy()
    brightness_head(driver)
    frame = torch.full((48, 96, 3), 40, dtype=torch.uint8)
    frame[24:32, 64:72] = 250  # as wide as the strides together, so that no convolution steps over it
    glow = saliency(driver, frame[None])[0]
    assert glow.shape == (48, 96)
    assert glow.min() >= 0 and float(glow.max()) == pytest.approx(1.0)
    inside = glow[16:40, 56:80].sum() / glow.sum()
    assert inside > 0.95
    row, column = divmod(int(glow.argmax()), 96)
    assert 20 <= row <= 35 and 60 <= column <= 75
    # The same frame mirrored glows at the mirrored place, to within the stride of the convolutions.
    mirrored = saliency(driver, frame.flip(1)[None])[0].flip(1)
    assert abs(divmod(int(mirrored.argmax()), 96)[1] - column) <= 8


def test_a_blank_frame_has_no_saliency():
    driver = policy()
    brightness_head(driver)
    glow = saliency(driver, torch.full((1, 48, 96, 3), 90, dtype=torch.uint8))
    assert torch.isfinite(glow).all() and float(glow.max()) == 0.0


@pytest.mark.parametrize("kernels", [(5, 3, 3), (4, 2, 3), (7, 5, 1)])
@pytest.mark.parametrize("strides", [(2, 2, 1), (1, 3, 2)])
def test_saliency_has_the_size_of_what_the_head_sees(kernels: tuple[int, ...], strides: tuple[int, ...]):
    head = HeadConfig(channels=(4, 6, 2), kernels=kernels, strides=strides)
    driver = policy(head=head, preprocessing=ODD)
    frames = torch.randint(0, 256, (2, 60, 99, 3), dtype=torch.uint8)
    glow = saliency(driver, frames)
    assert glow.shape == (2, 37, 61)
    assert glow.min() >= 0 and glow.max() <= 1


@pytest.mark.parametrize("core", sorted(CORES))
def test_every_core_shows_its_inside(core: str):
    driver = policy(core)
    frame = torch.randint(0, 256, (48, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        _, state = driver(frame[None, None])
    insight = look_inside(driver, frame, state)
    assert insight.seen.shape == (48, 96, 3) and insight.seen.dtype == torch.uint8
    assert insight.saliency.shape == (48, 96)
    assert insight.features.shape == (driver.head.output_size,)
    assert insight.activity.shape == (driver.core.state_size or driver.head.output_size,)
    assert not any(value.requires_grad for value in vars(insight).values())


def test_currents_are_those_of_the_circuit():
    driver = policy()
    frame = torch.randint(0, 256, (48, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        _, state = driver(frame[None, None])
        features = driver.features(frame[None, None])[0, 0]
        sensory, recurrent = driver.core.synaptic_currents(features, state[0])  # type: ignore[operator]
    runs: list[object] = []
    driver.head.convolutions[0].register_forward_hook(lambda *_: runs.append(None))
    insight = look_inside(driver, frame, state)
    assert len(runs) == 1  # saliency and features come from one pass
    torch.testing.assert_close(insight.features, features, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(insight.sensory_currents, sensory)
    torch.testing.assert_close(insight.recurrent_currents, recurrent)
    assert len(sensory) + len(recurrent) == driver.core.wiring.synapse_count  # type: ignore[union-attr]


@pytest.mark.parametrize("core", ["ltc", "gru"])
def test_the_gradient_is_how_much_the_steering_answers(core: str):
    driver = policy(core, core_options={"kernel": "reference"} if core == "ltc" else {})
    frames = torch.randint(0, 256, (2, 48, 96, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    states = 0.1 * torch.ones(2, driver.core.state_size)
    found = gradient_saliency(driver, frames, states)
    assert found.shape == (2, 48, 96) and found.amax((1, 2)).tolist() == [1.0, 1.0]
    double = driver.double()

    def slope(row: int, column: int) -> float:
        steering = []
        for step in (-0.01, 0.01):
            moved = frames[1:].double().repeat(3, 1, 1, 1)
            moved[range(3), row, column, range(3)] += step
            centred = moved - moved.mean((1, 2, 3), keepdim=True)
            white = centred / (centred.square().mean((1, 2, 3), keepdim=True) + 0.25).sqrt()
            with torch.no_grad():
                features = double.head(white.permute(0, 3, 1, 2)[:, None])
                motors, _ = double.core(features, states[1:].double().repeat(3, 1))
            steering.append(motors[:, 0, 0])
        return float((steering[1] - steering[0]).abs().sum() / 0.02)

    row, column = divmod(int(found[1].argmax()), 96)
    top = slope(row, column)
    for place in ((10, 20), (30, 70)):
        assert slope(*place) / top == pytest.approx(float(found[1][place]), rel=0.02, abs=2e-3)
