"""What perturbations of frames do, held to the formulas of their docstrings: levels, places, times, signs."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from envs.perturbations import PERTURBATIONS, CameraInfo, Moment
from envs.perturbations.images import Geometry
from envs.perturbations.perturbation import Effect

CAMERA = CameraInfo(48, 96, 0.05)
GREY = np.full((48, 96, 3), 100, np.uint8)
BLACK = np.zeros((48, 96, 3), np.uint8)


def begin(name: str, severity: int = 3, seed: int = 0, camera: CameraInfo = CAMERA) -> Effect:
    return PERTURBATIONS[name](severity).begin(seed, camera)


def seen(name: str, frame: np.ndarray, severity: int = 3, seed: int = 0) -> np.ndarray:
    """A frame at the beginning of an episode."""
    camera = replace(CAMERA, height=frame.shape[0], width=frame.shape[1])
    return begin(name, severity, seed, camera).frame(frame, Moment(0.0))


@pytest.mark.parametrize(
    ("name", "level", "found"),
    [
        ("darkness", 200, 40),  # .2 x
        ("brightness", 100, 100 + 0.3 * 255),
        ("gamma", 100, 255 * (100 / 255) ** 2.4),
        ("few_colours", 100, 2 * 255 / 4),  # five levels
    ],
)
def test_levels_become_what_the_formula_says(name: str, level: int, found: float) -> None:
    assert np.abs(seen(name, np.full((4, 6, 3), level, np.uint8)) - found).max() <= 0.51


def test_colours_fade_to_the_luma_of_bt_601() -> None:
    colours = 255 * np.eye(3, dtype=np.uint8)[None]  # red, green, blue
    assert seen("saturation", colours, severity=5)[0].tolist() == [[76] * 3, [150] * 3, [29] * 3]


def test_contrast_shrinks_about_the_mean_of_each_channel() -> None:
    frame = np.empty((4, 6, 3), np.uint8)
    frame[:, :3], frame[:, 3:] = (0, 100, 40), (200, 100, 40)
    shown = seen("contrast", frame)
    assert shown[0, 0].tolist() == [80, 100, 40] and shown[0, 5].tolist() == [120, 100, 40]


@pytest.mark.parametrize("seed", range(4))
def test_gains_of_a_colour_cast_cancel_and_have_the_size_of_the_dose(seed: int) -> None:
    gains = np.log(seen("colour_cast", GREY, severity=2, seed=seed)[0, 0] / 100)
    assert gains.mean() == pytest.approx(0.0, abs=0.01) and np.sqrt((gains**2).mean()) == pytest.approx(0.2, abs=0.02)


def test_jpeg_is_that_of_its_quality() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])
    np.testing.assert_array_equal(seen("jpeg", frame), cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def test_every_bit_flips_as_often_as_any_other() -> None:
    effect = begin("bit_errors", 5)
    flipped = np.stack([effect.frame(GREY, Moment(0.0)) ^ GREY for _ in range(20)])
    shares = [float(((flipped >> bit) & 1).mean()) for bit in range(8)]
    assert shares == pytest.approx([0.06] * 8, rel=0.1)


def test_blocks_show_the_mean_of_what_they_cover() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    shown = seen("pixelate", frame, severity=5)  # blocks of two pixels, cut at the edges
    rows = np.flatnonzero((shown[1:] != shown[:-1]).any((1, 2))) + 1
    columns = np.flatnonzero((shown[:, 1:] != shown[:, :-1]).any((0, 2))) + 1
    assert 23 <= len(rows) <= 24 and 47 <= len(columns) <= 48
    part = np.s_[rows[3] : rows[4], columns[5] : columns[6]]
    assert np.abs(frame[part].mean((0, 1)) - shown[rows[3], columns[5]]).max() <= 0.51


def test_at_night_the_sky_has_ambient_light_and_noise_and_lamps_light_the_road() -> None:
    ambient, effect = 0.15, begin("night")
    shown = np.stack([effect.frame(np.full_like(GREY, 200), Moment(0.0)) for _ in range(60)]).astype(float)
    sky = shown[:, :10]
    np.testing.assert_allclose(sky.mean((0, 1, 2)), 200 * ambient * np.array([0.9, 0.95, 1.1]), atol=0.6)
    assert sky.std(axis=0).mean() == pytest.approx(10 * (1 - ambient), rel=0.05)
    geometry = Geometry(CAMERA)
    row, column = 40, 47
    depth = 1 / float(geometry.below[row, 0])
    aside = float(geometry.across[row, column]) * depth
    lamps = sum(math.exp(-depth / 14 - ((aside - lamp) / (0.8 + 0.35 * depth)) ** 2) for lamp in (-0.5, 0.5))
    wanted = 200 * min(1, ambient * 0.95 + (1 - ambient) * min(1.0, lamps))
    assert shown[:, row, column, 1].mean() == pytest.approx(wanted, abs=4)


def test_a_sun_keeps_its_direction_while_the_car_turns_left() -> None:
    effect, geometry = begin("low_sun", 1), Geometry(CAMERA)

    def azimuth(moment: Moment) -> float:
        """Of the brightest column, to the left."""
        bright = effect.frame(BLACK, moment).astype(int).sum((0, 2))
        return math.atan(
            (geometry.centre_px - float(np.flatnonzero(bright == bright.max()).mean())) / geometry.focal_px
        )

    before = azimuth(Moment(0.0))
    assert azimuth(Moment(0.1, 2.0, yaw_rate_radps=1.5)) == pytest.approx(before - 0.15, abs=0.02)
    assert azimuth(Moment(0.2, 2.0, yaw_rate_radps=-1.5)) == pytest.approx(before, abs=0.02)


@pytest.mark.parametrize("name", ["moving_shadows", "motion_blur"])
def test_the_ground_passes_in_heights_of_the_camera(name: str) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    low, high = (begin(name, camera=replace(CAMERA, height_m=metres)) for metres in (0.2, 0.4))
    for time_s in (0.0, 0.1):
        shown = [one.frame(frame, Moment(time_s, 2.0, mps)) for one, mps in ((low, 1.0), (high, 2.0))]
        np.testing.assert_array_equal(*shown)
    assert (high.frame(frame, Moment(0.2, 2.0, 1.0)) != low.frame(frame, Moment(0.2, 2.0, 1.0))).any()


def test_motion_smears_outwards_and_to_the_right_where_the_car_turns_left() -> None:
    geometry = Geometry(CAMERA)

    def middle(row: int, column: int, speed_mps: float, yaw_rate_radps: float) -> tuple[float, float]:
        """Where the light of one pixel lies on average, from that pixel: rows, columns."""
        frame = BLACK.copy()
        frame[row, column] = 255
        light = begin("motion_blur", 3).frame(frame, Moment(0.0, 1.0, speed_mps, yaw_rate_radps))[..., 0].astype(float)
        places = np.indices(light.shape)
        down, across = ((light * place).sum() / light.sum() for place in places)
        return down - row, across - column

    down, across = middle(30, 47, 0.0, 1.0)
    assert across == pytest.approx(0.5 * 0.05 * geometry.focal_px, rel=0.15) and abs(down) < 0.1
    down, across = middle(30, 20, 0.6, 0.0)
    assert down > 0.3 and across < -0.3, "away from the vanishing point"


def test_lamps_flicker_with_the_time() -> None:
    effect = begin("flicker")
    times_s = np.arange(0, 10, 0.01)
    row = np.array([effect.frame(GREY[:1, :1].repeat(48, 0), Moment(t))[0, 0, 0] for t in times_s]) / 100 - 1
    assert row.max() == pytest.approx(0.4, abs=0.02) and row.min() == pytest.approx(-0.4, abs=0.02)
    beat_hz = (np.diff(row > 0)).sum() / 2 / 10
    assert 0.9 <= beat_hz <= 8.1


def test_fog_thickens_with_the_distance_along_the_ray() -> None:
    """Koschmieder's law, the banks averaged over: ln(1 − x / A) = −3.912 d / V on a black road."""
    camera = replace(CAMERA, height=24, width=48)
    geometry, places, black = Geometry(camera), [(23, 23), (23, 0), (20, 23)], np.zeros((24, 48, 3), np.uint8)
    air = np.array([198.0, 202.0, 206.0])
    passed = np.mean(
        [[np.log(1 - seen("fog", black, 4, seed)[at] / air).mean() for at in places] for seed in range(40)], axis=0
    )
    for (row, column), found in zip(places, passed, strict=True):
        distance = float(geometry.depth[row, column]) * math.hypot(1.0, float(geometry.across[row, column]))
        assert found == pytest.approx(-3.912 * distance / 18, rel=0.12), (row, column)


@pytest.mark.parametrize(("name", "veil"), [("rain", 0.6 * 0.16 * 200), ("snow", 0.8 * 0.13 * 235)])
def test_the_picture_pales_between_what_falls(name: str, veil: float) -> None:
    assert np.median(seen(name, BLACK)) == pytest.approx(veil, abs=0.51)


def test_fog_drifts_and_rain_falls_by_the_clock_alone() -> None:
    for name in ("fog", "rain", "snow"):
        now, later = (begin(name).frame(GREY, Moment(time_s, 1.0)) for time_s in (1.0, 1.3))
        assert (now != later).any() and (now == begin(name).frame(GREY, Moment(1.0, 5.0))).all()


def test_a_drop_shows_the_scene_upside_down() -> None:
    rows, columns = np.indices((48, 96))
    frame = np.stack([2 * columns, 4 * rows, 0 * rows], axis=-1).astype(np.uint8)
    effect = begin("water_drops", 1, seed=2)
    x, y, radius, _ = effect._drops[-1]  # type: ignore[attr-defined] # the one on top
    shown = effect.frame(frame, Moment(0.0)).astype(float) / 1.1  # bright in the middle of a drop
    inside = [(r, c) for r in range(48) for c in range(96) if 0.15 < math.hypot(r - y, c - x) / radius < 0.5]
    assert len(inside) >= 4
    for r, c in inside:
        reach = 13 * math.hypot(r - y, c - x) / radius
        wanted = 2 * min(max(x - reach * (c - x), 0), 95), 4 * min(max(y - 0.5 * reach * (r - y), 0), 47)
        np.testing.assert_allclose(shown[r, c, :2], wanted, atol=6)


@pytest.mark.parametrize("name", ["camera_height", "camera_offset", "camera_pitch", "camera_yaw", "camera_roll"])
def test_a_camera_is_moved_either_way_and_by_its_dose(name: str) -> None:
    """Where pixels come from, read off a frame that says its columns and rows."""
    rows, columns = np.indices((48, 96))
    frame = np.stack([2 * columns, 4 * rows, 0 * rows], axis=-1).astype(np.uint8)
    horizon, focal = Geometry(CAMERA).horizon_px, Geometry(CAMERA).focal_px
    row, column = (12, 20) if name == "camera_roll" else (36, 47)
    ways = {
        "camera_height": [(column, horizon + (row - horizon) * k) for k in (1.35, 1 / 1.35)],
        "camera_offset": [(column + 0.35 * (row - horizon) * side, row) for side in (-1, 1)],
        "camera_pitch": [
            (47.5 - 0.5 / math.cos(a), 23.5 + focal * math.tan(math.atan((row - 23.5) / focal) + a))
            for a in (math.radians(-4), math.radians(4))
        ],
        "camera_yaw": [
            (47.5 + focal * math.tan(math.atan((column - 47.5) / focal) + a), None)
            for a in (math.radians(-4.5), math.radians(4.5))
        ],
        "camera_roll": [
            (
                47.5 + (column - 47.5) * math.cos(a) - (row - 23.5) * math.sin(a),
                23.5 + (column - 47.5) * math.sin(a) + (row - 23.5) * math.cos(a),
            )
            for a in (math.radians(-7), math.radians(7))
        ],
    }[name]
    found = {begin(name, seed=seed).frame(frame, Moment(0.0))[row, column, :2].tobytes() for seed in range(12)}
    assert len(found) == 2, "one way and the other"
    for across, down in ways:
        assert any(
            abs(one[0] / 2 - across) < 0.8 and (down is None or abs(one[1] / 4 - down) < 0.6)
            for one in (np.frombuffer(pair, np.uint8) for pair in found)
        ), (across, down, [np.frombuffer(pair, np.uint8) / [2, 4] for pair in found])


def test_beside_the_lane_the_sky_stays() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    for name in ("camera_offset", "camera_height"):
        shown = seen(name, frame, 5)
        np.testing.assert_array_equal(shown[:17], frame[:17])
        assert (shown[17:] != frame[17:]).any()


def test_shaking_forgets_by_the_clock() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 96, 3), np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 3.0)
    effect = begin("vibration")
    before = effect.frame(frame, Moment(0.0)).astype(int)
    at_once = effect.frame(frame, Moment(1e-6, 1e-4)).astype(int)
    later = effect.frame(frame, Moment(1.0, 10.0)).astype(int)
    assert np.abs(at_once - before).mean() < 0.1 * np.abs(later - before).mean()


def test_a_projected_attack_goes_on_from_frame_to_frame_and_looks_five_frames_ahead() -> None:
    asked: list[np.ndarray] = []
    ways = np.where(np.random.default_rng(0).random((4, 6, 3)) < 0.5, -1, 1).astype(np.float32)

    def gradient(frame: np.ndarray, steps: int) -> np.ndarray:
        assert steps == 5
        asked.append(frame.copy())
        return ways

    camera, frame, epsilon = CameraInfo(4, 6, 0.05), np.full((4, 6, 3), 100, np.uint8), 3.0
    effect = begin("pgd", 3, camera=camera)
    for number in range(2):
        shown = effect.frame(frame, Moment(0.05 * number, gradient=gradient)).astype(float)
    side = np.sign(shown[0, 0, 0] - 100) * ways[0, 0, 0]
    changes = [float((one[0, 0, 0] - 100) * ways[0, 0, 0] * side) for one in asked]
    assert changes == [0.0, 1.5, 3.0, 3.0, 3.0, 3.0], "half of the strength a step, kept for the next frame"
    np.testing.assert_array_equal(shown, 100 + epsilon * side * ways)
    single = begin("fgsm", 3, camera=camera).frame(frame, Moment(0.0, gradient=lambda one, steps: ways / steps))
    assert set(np.abs(single.astype(float) - 100).ravel()) == {epsilon}
