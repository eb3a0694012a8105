"""Recordings under perturbations: a dose is the same for a model car and for one of full size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.driving.open_loop import CAMERA_M, PerturbedRecording
from agents.recordings.episodes import Episode
from tests.agents.toys import episode


def of(vehicle: str, speed_mps: float | None) -> Episode:
    made = episode(40)
    extras = {} if speed_mps is None else {"speed_mps": np.full(40, speed_mps, np.float32)}
    return replace(made, meta=replace(made.meta, vehicle=vehicle), extras=extras)


def shown(made: Episode, perturbation: str) -> np.ndarray:
    return PerturbedRecording(made, perturbation, seed=3).take(0, 40).frames.astype(int)


@pytest.mark.parametrize("name", ["motion_blur:4", "moving_shadows:5"])
def test_what_moves_with_the_car_moves_by_camera_heights(name: str):
    model = shown(of("bicycle", 1.5), name)
    for vehicle in CAMERA_M:
        np.testing.assert_array_equal(shown(of(vehicle, 9.0), name), model)
        np.testing.assert_array_equal(shown(of(vehicle, None), name), model)
    for other in (of("bicycle", None), of("donkeycar", None), of("bicycle", float("nan"))):
        np.testing.assert_array_equal(shown(other, name), model)
    assert (shown(of("car", 1.5), name) != model).any(), "a slow car"


def test_pieces_and_other_pictures():
    made = of("car", 9.0)
    whole = PerturbedRecording(made, "gaussian:2+lower_rate:3", 1)
    parts = PerturbedRecording(made, "gaussian:2+lower_rate:3", 1)
    taken = [parts.take(at, at + 10) for at in range(0, 40, 10)]
    np.testing.assert_array_equal(np.concatenate([part.frames for part in taken]), whole.take(0, 40).frames)
    black = PerturbedRecording(made, "", 1).take(0, 40, np.zeros_like(made.frames()))
    assert not black.frames.any() and black.kept.tolist() == list(range(40))
    assert PerturbedRecording(made, "mirrored:5", 1).steering_sign == -1.0
    with pytest.raises(ValueError, match="needs an env that answers"):
        PerturbedRecording(made, "friction:2", 1)
