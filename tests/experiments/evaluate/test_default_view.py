"""Frames of another size are shown so that the horizon lies where the policy knows it, unless crops are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.evaluate.default_view import crops_for
from policies.car import CarInfo
from policies.policy import PolicyConfig
from policies.preprocessing import Preprocessing
from tests.experiments.verbs import wormwheel, write_tub


@pytest.mark.parametrize(
    ("frame_size", "horizon", "known", "expected"),
    [
        ((120, 160), 0.3, 0.3, (12, 28, 0, 0)),
        ((120, 160), 0.3, 0.1, (28, 12, 0, 0)),
        ((120, 160), 0.3, None, (12, 28, 0, 0)),
        ((120, 160), 0.9, 0.3, (40, 0, 0, 0)),
        ((120, 160), 0.0, 0.3, (0, 40, 0, 0)),
        ((120, 160), None, 0.3, (20, 20, 0, 0)),
        ((160, 320), 0.36, 0.3, (0, 0, 0, 0)),
        ((100, 400), 0.3, 0.3, (0, 0, 100, 100)),
        ((48, 96), 0.3, 0.3, (0, 0, 0, 0)),
    ],
)
def test_the_horizons_meet_within_what_the_frame_has(frame_size, horizon, known, expected):
    config = PolicyConfig(car=None if known is None else CarInfo(camera_horizon=known))
    assert tuple(crops_for(config, frame_size, horizon).values()) == expected
    rows, columns = frame_size
    fit = Preprocessing(rows, columns, **crops_for(config, frame_size, horizon))
    shape = (rows - fit.crop_top - fit.crop_bottom) / (columns - fit.crop_left - fit.crop_right)
    assert shape == pytest.approx(0.5, abs=0.01)


def test_a_simulated_driver_is_tested_on_a_tub_without_being_told_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
):
    tub = write_tub(tmp_path / "tub", 60, height=48, width=64)
    ran = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub)
    assert ran.code == 0, ran.err
    assert "frames of 64×48 are cropped about the" in ran.err
    given = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub, "--crop-top", 16)
    assert given.code == 0 and "cropped about" not in given.err
