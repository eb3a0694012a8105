"""The camera: geometry against independent projections, and against PyBullet's renderer."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from envs.camera.lens import CameraParams, CameraRanges, draw_camera, pitch_for_horizon
from envs.camera.tiny import TinyCamera
from envs.camera.warp import Ground, Panorama, WarpCamera
from envs.road.random_road import random_track
from envs.road.track import Track
from envs.scene.ground import Region, draw_ground, road_region
from envs.scene.look import Look
from envs.scene.random_look import draw_look
from envs.scene.scene import Scene
from tests.envs.needs import needs_bullet

HEIGHT, WIDTH = 120, 240
CAMERAS = [
    CameraParams(),
    CameraParams(height_m=0.3, pitch_deg=25.0, roll_deg=6.0, yaw_deg=-8.0, lateral_m=0.05, pixel_aspect=0.8),
    CameraParams(hfov_deg=140.0, lens=0.5, pitch_deg=5.0, yaw_deg=3.0),
    CameraParams(hfov_deg=150.0, lens=0.0, pitch_deg=10.0, roll_deg=-4.0),
]


def road(radius: float = 4.0) -> Track:
    """A long oval."""
    angle = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
    return Track(np.stack([2.0 * radius * np.cos(angle), radius * np.sin(angle)], axis=1), 0.6, "oval")


def plain_panorama(color: int = 90) -> Panorama:
    return Panorama(np.full((80, 252, 3), color, np.uint8), 1.4, 252 / (2.0 * math.pi))


def spots(places: np.ndarray, pixels_per_m: float = 100.0) -> Ground:
    """Black ground with a white disc of 2 cm radius at each place."""
    image = np.zeros((600, 600, 3), np.uint8)
    for x, y in places:
        cv2.circle(image, (round((x + 3.0) * pixels_per_m), round((y + 3.0) * pixels_per_m)), 2, (255, 255, 255), -1)
    return Ground(image, -3.0, -3.0, pixels_per_m)


def centre_of_light(frame: np.ndarray) -> tuple[float, float]:
    light = frame[..., 0].astype(np.float64)
    light[light < 10] = 0.0
    rows, columns = np.mgrid[: frame.shape[0], : frame.shape[1]]
    return float((light * columns).sum() / light.sum()), float((light * rows).sum() / light.sum())


def test_pinhole_pixels_agree_with_opencv() -> None:
    params = CAMERAS[1]
    points = np.random.default_rng(0).uniform([0.6, -0.5, 0.0], [3.0, 0.5, 0.6], (50, 3))
    to_optical = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # x right, y down, z ahead
    rotation = to_optical @ params.rotation().T
    eye = np.array([params.forward_m, params.lateral_m, params.height_m])
    focal_x, focal_y = params.focal_px(WIDTH)
    matrix = np.array([[focal_x, 0.0, (WIDTH - 1) / 2], [0.0, focal_y, (HEIGHT - 1) / 2], [0.0, 0.0, 1.0]])
    expected, _ = cv2.projectPoints(points, cv2.Rodrigues(rotation)[0], -rotation @ eye, matrix, None)
    np.testing.assert_allclose(params.pixels(points, HEIGHT, WIDTH), expected[:, 0], atol=1e-6)


def test_rotations_have_the_documented_signs() -> None:
    ahead = np.array([10.0, 0.0, 0.2])
    middle = ((WIDTH - 1) / 2, (HEIGHT - 1) / 2)
    base = CameraParams(pitch_deg=0.0, forward_m=0.0)
    assert base.pixels(ahead, HEIGHT, WIDTH) == pytest.approx(middle)
    assert replace(base, pitch_deg=5.0).pixels(ahead, HEIGHT, WIDTH)[1] < middle[1]  # tilted down: the horizon rises
    assert (
        replace(base, yaw_deg=5.0).pixels(ahead, HEIGHT, WIDTH)[0] > middle[0]
    )  # turned left: what is ahead moves right
    right = np.array([10.0, -3.0, 0.2])
    assert (
        replace(base, roll_deg=5.0).pixels(right, HEIGHT, WIDTH)[1] < middle[1]
    )  # turned clockwise: the right side rises


@pytest.mark.parametrize("params", CAMERAS)
def test_rays_and_pixels_are_inverse(params: CameraParams) -> None:
    rays = params.rays(HEIGHT, WIDTH)
    eye = np.array([params.forward_m, params.lateral_m, params.height_m])
    found = params.pixels(eye + 2.0 * rays, HEIGHT, WIDTH)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    np.testing.assert_allclose(found, np.stack([columns, rows], axis=-1), atol=1e-6)
    edge = math.degrees(2.0 * math.acos(min(1.0, float(rays[HEIGHT // 2, 0] @ params.rotation()[:, 0]))))
    assert edge == pytest.approx(params.hfov_deg, rel=0.03)


@pytest.mark.parametrize("params", CAMERAS)
def test_marks_on_the_ground_appear_where_the_lens_puts_them(params: CameraParams) -> None:
    rng = np.random.default_rng(3)
    camera = WarpCamera(params, HEIGHT, WIDTH)
    seen = 0
    for _ in range(40):
        x, y, yaw = rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0), rng.uniform(-7.0, 7.0)
        ahead, left = rng.uniform(0.5, 1.2), rng.uniform(-0.6, 0.6)
        column, row = params.pixels(np.array([ahead, left, 0.0]), HEIGHT, WIDTH)
        if not (14 <= column <= WIDTH - 15 and 14 <= row <= HEIGHT - 15):
            continue
        place = np.array(
            [[x + math.cos(yaw) * ahead - math.sin(yaw) * left, y + math.sin(yaw) * ahead + math.cos(yaw) * left]]
        )
        camera.load(spots(place), plain_panorama(0))
        found = centre_of_light(camera.render(x, y, yaw))
        assert found == pytest.approx((column, row), abs=1.2)
        seen += 1
    assert seen >= 10


def test_straight_lines_stay_straight_through_a_pinhole_only() -> None:
    """The same stripe across the view: straight for a pinhole, bent by a fisheye."""
    image = np.zeros((800, 800, 3), np.uint8)
    image[:, 495:505] = 255  # x = 1 m
    bends = []
    for lens in (1.0, 0.3):
        camera = WarpCamera(CameraParams(hfov_deg=100.0, lens=lens, pitch_deg=20.0), HEIGHT, WIDTH)
        camera.load(Ground(image, -4.0, -4.0, 100.0), plain_panorama(0))
        light = camera.render(0.0, 0.0, 0.3)[..., 0].astype(np.float64)
        rows = (light * np.arange(HEIGHT)[:, None]).sum(0) / light.sum(0)
        columns = np.arange(WIDTH)
        bends.append(float(np.abs(rows - np.polyval(np.polyfit(columns, rows, 1), columns)).max()))
    assert bends[0] < 0.7 < 1.8 < bends[1]


def test_the_horizon_lies_where_it_is_asked_for() -> None:
    for horizon in (0.1, 0.35, 0.6):
        for lens in (0.2, 1.0):
            params = pitch_for_horizon(CameraParams(lens=lens, hfov_deg=100.0), HEIGHT, WIDTH, horizon)
            camera = WarpCamera(params, HEIGHT, WIDTH)
            assert camera.hits_ground[:, WIDTH // 2].argmax() / HEIGHT == pytest.approx(horizon, abs=0.015)


def test_surroundings_turn_with_the_car_and_close_behind_it() -> None:
    panorama = np.zeros((80, 720, 3), np.uint8)
    panorama[:, 358:362] = 255  # a pole at an azimuth of 180°
    camera = WarpCamera(CameraParams(pitch_deg=0.0), HEIGHT, WIDTH)
    camera.load(spots(np.zeros((0, 2))), Panorama(panorama, 0.6, 720 / (2.0 * math.pi)))
    for turns in (-1, 0, 2):
        for away in (-20.0, 0.0, 25.0):
            yaw = math.radians(180.0 + away + 360.0 * turns)
            column, _ = centre_of_light(camera.render(0.0, 0.0, yaw))
            expected = CameraParams(pitch_deg=0.0).pixels(
                np.array([100.0 * math.cos(math.radians(-away)), 100.0 * math.sin(math.radians(-away)), 0.2]),
                HEIGHT,
                WIDTH,
            )[0]
            assert column == pytest.approx(float(expected), abs=1.0)


def test_far_ground_does_not_flicker() -> None:
    """Driving over a fine chequerboard: far pixels show its mean, so they hardly change from frame to frame."""
    board = np.kron(np.indices((300, 300)).sum(0) % 2, np.ones((4, 4)))[..., None].repeat(3, 2).astype(np.uint8) * 255
    camera = WarpCamera(CameraParams(), 48, 96)
    camera.load(Ground(board, -6.0, -6.0, 100.0), plain_panorama())
    frames = np.stack([camera.render(0.011 * k, 0.0, 0.0) for k in range(20)]).astype(np.float64)
    first = int(camera.hits_ground[:, 48].argmax())
    assert frames[:, first + 1 : first + 4].std(axis=0).mean() < 12.0
    assert frames[:, first + 1 : first + 4].mean() == pytest.approx(127.0, abs=12.0)
    assert frames[:, -2:].std(axis=0).mean() > 60.0


def test_windows_of_a_long_road_fit_together() -> None:
    """Two overlapping regions of the same road and look are equal where they overlap."""
    track, look = (
        road(),
        replace(
            Look(seed=4), wear=0.4, cracks_per_m=1.0, kerb=((200.0, 40.0, 40.0), (240.0, 240.0, 240.0)), shadow=0.5
        ),
    )
    a = draw_ground(track, look, Region(0.0, -5.0, 9.0, 5.0), 50.0)
    b = draw_ground(track, look, Region(3.0, -4.0, 12.0, 6.0), 50.0)
    columns, rows = round((b.x0 - a.x0) * 50), round((b.y0 - a.y0) * 50)
    part_a, part_b = a.image[rows:, columns:], b.image[: a.image.shape[0] - rows, : a.image.shape[1] - columns]
    inner = np.abs(part_a.astype(int) - part_b.astype(int))[20:-20, 20:-20]
    assert (inner.max(axis=-1) > 24).mean() < 1e-3


def test_a_long_road_is_shown_by_windows_that_depend_on_the_place_only() -> None:
    angle = np.linspace(0.0, 2.0 * np.pi, 600, endpoint=False)
    track = Track(np.stack([40.0 * np.cos(angle), 25.0 * np.sin(angle)], axis=1), 0.6, "long")
    scene, other = (
        Scene(track, Look(seed=1), CameraParams(), 48, 96),
        Scene(track, Look(seed=1), CameraParams(), 48, 96),
    )

    def shown(which: Scene, s: float) -> np.ndarray:
        x, y = track.point(s, track.right_lane_offset())
        return which.frame(float(x), float(y), float(track.heading(s)), s)

    places = [5.0, 60.0, 120.0, 5.0]
    frames = [shown(scene, s) for s in places]
    assert np.array_equal(frames[0], frames[3])
    assert np.array_equal(frames[2], shown(other, 120.0))
    whole = WarpCamera(CameraParams(), 48, 96)
    whole.load(draw_ground(track, Look(seed=1), road_region(track), 64.0), scene.panorama)
    x, y = track.point(60.0, track.right_lane_offset())
    difference = np.abs(whole.render(float(x), float(y), float(track.heading(60.0))).astype(int) - frames[1])
    assert np.mean(difference) < 1.5


def test_lane_lines_lie_on_both_sides_of_a_car_in_its_lane() -> None:
    """A white edge line to the right, the dashed centre line to the left, and grass beyond."""
    track = road(8.0)
    scene = Scene(track, Look(seed=2), CameraParams(), 48, 96)
    for s in np.linspace(0.0, track.length_m, 12, endpoint=False):
        x, y = track.point(s, track.right_lane_offset())
        frame = scene.frame(float(x), float(y), float(track.heading(s)), float(s)).astype(int)
        bright = frame.min(axis=-1) > 170
        near = bright[30:40]
        assert near[:, 55:].any(axis=1).all()
        assert not near[:, 44:52].any()


def test_variety_zero_is_the_standard_look_and_one_is_various() -> None:
    looks = [draw_look(np.random.default_rng(k), 0.0) for k in range(5)]
    assert {replace(look, seed=0) for look in looks} == {Look()}
    assert len({replace(draw_look(np.random.default_rng(k), 1.0), seed=0) for k in range(20)}) == 20
    cameras = {draw_camera(np.random.default_rng(k), CameraRanges(), 0.0, 48, 96) for k in range(5)}
    assert len(cameras) == 1


@pytest.mark.parametrize("seed", range(20))
def test_every_look_can_be_drawn_and_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    track, look = random_track(rng), draw_look(rng, 1.0)
    scene = Scene(track, look, draw_camera(rng, CameraRanges(), 1.0, 48, 96), 48, 96)
    x, y = track.point(1.0, track.right_lane_offset())
    frame = scene.frame(float(x), float(y), float(track.heading(1.0)), 1.0, 1.5, 0.3)
    assert frame.shape == (48, 96, 3) and frame.dtype == np.uint8
    assert frame.std() > 4.0 and 8.0 < frame.mean() < 247.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lens": 1.5}, "lens"),
        ({"hfov_deg": 179.0}, "hfov_deg"),
        ({"height_m": 0.0}, "height_m"),
        ({"pitch_deg": math.nan}, "pitch_deg"),
    ],
)
def test_camera_params_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraParams(**fields)


@needs_bullet
@pytest.mark.parametrize("params", CAMERAS[:2])
@pytest.mark.parametrize("size", [(120, 240), (48, 96)])
def test_tinyrenderer_sees_the_lane_markings_within_two_pixels(params: CameraParams, size: tuple[int, int]) -> None:
    height, width = size
    track, look = random_track(np.random.default_rng(5)), Look(seed=3)
    ground = draw_ground(track, look, road_region(track), 64.0)
    warp, tiny = WarpCamera(params, height, width), TinyCamera(params, height, width)
    for camera in (warp, tiny):
        camera.load(ground, plain_panorama())
    near = warp.reach_m < (1.6 if height > 100 else 1.2)  # farther lines are thinner than a pixel
    for s in np.linspace(0.0, track.length_m, 6, endpoint=False):
        x, y = (float(v) for v in track.point(s, track.right_lane_offset()))
        light = [camera.render(x, y, float(track.heading(s))).min(axis=-1) for camera in (warp, tiny)]
        assert min(((part > 165) & near).sum() for part in light) > 25
        for mine, theirs in (light, light[::-1]):
            found = _distance_to(theirs > 135)[(mine > 165) & near]
            assert (found <= 2.0).mean() > 0.99
        shifted = np.roll(light[1], 5, axis=1)  # a check of the check: five pixels aside do not pass
        assert (_distance_to(shifted > 135)[(light[0] > 165) & near] <= 2.0).mean() < 0.95
    tiny.close()


@needs_bullet
def test_tinyrenderer_refuses_lenses_it_cannot_draw() -> None:
    with pytest.raises(ValueError, match='Use renderer="warp"'):
        TinyCamera(CameraParams(lens=0.5), 48, 96)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel from the nearest one in the mask, pixels."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
