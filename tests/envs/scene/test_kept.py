"""Pictures that are kept: the same ones, never another road's, and no more than there is room for."""

from __future__ import annotations

import numpy as np
import pytest

from envs.camera.lens import CameraParams
from envs.camera.warp import Ground
from envs.road.random_road import RandomRoadConfig, random_track
from envs.road.track import Track
from envs.scene import scene as scene_module
from envs.scene.ground import Region
from envs.scene.kept import KeptPictures
from envs.scene.look import Look
from envs.scene.scene import Scene

PLACE = {"x": 0.5, "y": 0.0, "yaw": 0.3, "s": 0.0}


def ground(level: int) -> Ground:
    return Ground(np.full((10, 10, 3), level, np.uint8), 0.0, 0.0, 16.0)


def road(seed: int) -> Track:
    return random_track(np.random.default_rng(seed), RandomRoadConfig(length_m=(25.0, 30.0)))


def test_what_was_asked_for_longest_ago_goes_first():
    kept, drawn = KeptPictures(most_bytes=650), []

    def get(level: int) -> int:
        return int(kept.get(level, lambda: (drawn.append(level), ground(level))[1]).image[0, 0, 0])

    assert [get(level) for level in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert drawn == [1, 2, 3, 2], "there is room for two of 300 bytes: 3 took the place of 2"
    with pytest.raises(ValueError, match="read-only"):
        kept.get(2, lambda: ground(2)).image[0] = 0


def test_a_scene_is_the_same_whether_its_pictures_were_kept_or_not(monkeypatch: pytest.MonkeyPatch):
    # One rectangle for all roads: their shapes alone tell them apart.
    monkeypatch.setattr(scene_module, "road_region", lambda track: Region(-12.0, -12.0, 12.0, 12.0))

    def frames(kept: KeptPictures) -> list[np.ndarray]:
        monkeypatch.setattr(scene_module, "PICTURES", kept)
        looks = Look(), Look(seed=1), Look(wear=0.9)
        scenes = [(road(seed), look, scale) for seed in (0, 1) for look in looks for scale in (16.0, 32.0)]
        found = []
        for _ in range(2):
            for track, look, scale in scenes:
                found.append(Scene(track, look, CameraParams(), 24, 48, scale).frame(**PLACE))
        narrow = road(0)
        narrow.lane_width_m *= 0.8
        return [*found, Scene(narrow, Look(), CameraParams(), 24, 48, 16.0).frame(**PLACE)]

    kept, fresh = frames(KeptPictures()), frames(KeptPictures(most_bytes=0))
    assert all(np.array_equal(one, other) for one, other in zip(kept, fresh, strict=True))
    assert len({frame.tobytes() for frame in fresh}) == 13, "every road, look, resolution and width shows"
