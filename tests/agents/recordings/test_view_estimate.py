"""Horizon and bonnet from frames alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents.recordings.episodes import EpisodeSet
from agents.recordings.lane_estimate import ASIDE, STEP, _widths
from agents.recordings.view_estimate import HORIZON_SHARE, estimate_view, frames_of
from tests.agents.toys import episodes
from tests.envs.recorded.drives import drive, world


def test_the_horizon_is_where_painted_lines_meet():
    env = world()
    env.reset(seed=5)
    true = env.camera_info().horizon * 48
    found = estimate_view(drive()["frame"][::2])
    assert found.horizon_row == pytest.approx(true, abs=2.5)
    assert found.bonnet_rows == 0


def test_the_bonnet_is_what_stays_and_the_crop_puts_the_horizon_in_its_place():
    frames = drive()["frame"][::2].copy()
    frames[:, 40:] = np.linspace(190, 220, 8, dtype=np.uint8)[:, None, None]
    found = estimate_view(frames)
    assert found.bonnet_rows == pytest.approx(8, abs=1)
    crops = found.crops
    kept = 48 - crops["crop_top"] - crops["crop_bottom"]
    assert found.horizon_row is not None
    assert (found.horizon_row - crops["crop_top"]) / kept <= HORIZON_SHARE + 0.2
    sky = np.concatenate([np.full((len(frames), 40, 96, 3), 200, np.uint8), frames], axis=1)
    tall = estimate_view(sky)
    assert tall.horizon_row is not None and tall.horizon_row == pytest.approx(found.horizon_row + 40, abs=2)
    kept = 88 - tall.crops["crop_top"] - tall.crops["crop_bottom"]
    assert (tall.horizon_row - tall.crops["crop_top"]) / kept == pytest.approx(HORIZON_SHARE, abs=0.03)


def test_frames_without_lines_say_nothing():
    found = estimate_view(np.full((10, 48, 96, 3), 90, np.uint8))
    assert found.horizon_row is None and not found.is_sure and found.horizon is None
    assert not any(found.crops.values())
    with pytest.raises(ValueError, match="expected"):
        estimate_view(np.zeros((48, 96, 3), np.uint8))


def test_frames_are_spread_over_all_episodes():
    some: EpisodeSet = episodes(3, 50)
    assert frames_of(some, 6).shape == (6, 16, 32, 3)
    assert np.array_equal(frames_of(some, 6)[-1], some[2].frames(49, 50)[0])
    assert len(frames_of(some, 1000)) == 150


def test_the_lane_is_as_wide_as_the_middles_of_its_lines_are_apart():
    across = np.arange(ASIDE, -ASIDE - 1e-9, -STEP)
    ridge = np.zeros((40, len(across)), np.uint8)
    for middle, half in ((1.6, 1), (-1.65, 2), (4.9, 1)):  # the next lane's line lies farther out
        at = int(np.abs(across - middle).argmin())
        ridge[:, at - half : at + half + 1] = 100
    ridge[10:12, np.abs(across).argmin()] = 100  # a short mark between them
    found = _widths([ridge], np.ones(ridge.shape, bool), across, 25)
    assert (found.width_heights, found.agreeing, found.rows) == (pytest.approx(3.25), 1.0, 1.0)


def test_frames_of_side_cameras_are_not_looked_at():
    (one,) = episodes(1, 12)
    side = replace(one, meta=replace(one.meta, extra={"camera": "left"}))
    taken = frames_of(EpisodeSet((side, one)), 6)
    np.testing.assert_array_equal(taken, one.frames()[np.linspace(0, 11, 6).astype(int)])
    assert len(frames_of(EpisodeSet((side,)), 6)) == 6, "there are no others"
