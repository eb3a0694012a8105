"""Crop and gain: a driver that crashes in another camera and car drives there as at home, and nothing is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.fit import fit_camera
from agents.driving.open_driver import open_driver
from agents.driving.rollout import rollout
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from tests.agents.toys import HEIGHT, WIDTH, ArrayFrames, BarEnv, bar

TOP, SIDE, GAIN = 12, 10, 2.5
"""Rows above and columns beside what the driver knows, and by how much less full lock turns the new car."""

DRIVER = """
import numpy as np

def make():
    def steer(frame):
        light = frame[..., 0].astype(float).sum(0)
        light = light - np.median(light)
        place = (light * np.arange(len(light))).sum() / max(light.sum(), 1.0)
        return float(np.clip((0.5 - place / (len(light) - 1)) * 1.6, -1, 1))
    return steer
"""


def other_camera(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same frame as a part of a wider and higher one, with clutter around it that is another in every frame."""
    rng = np.random.default_rng(frame.sum())
    whole = np.full((HEIGHT + TOP, WIDTH + 2 * SIDE, 3), 40, np.uint8)
    for _ in range(4):
        column = rng.integers(0, whole.shape[1] - 8)
        whole[:TOP, column : column + 8] = 250
    whole[:, :SIDE] = rng.integers(0, 250)
    whole[:, -SIDE:] = rng.integers(0, 250)
    whole[TOP:, SIDE:-SIDE] = frame
    return whole


class OtherCar(BarEnv):
    """The bar's env through another camera, in a car whose full lock turns it less."""

    def step(self, action: NDArray[np.float32]) -> Any:
        return super().step(action / GAIN)

    def _observe(self) -> dict[str, Any]:
        seen = super()._observe()
        return {**seen, "camera": other_camera(seen["camera"])}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> DriverSpec:
    path = tmp_path_factory.mktemp("fit") / "bar.py"
    path.write_text(DRIVER, encoding="utf-8")
    return DriverSpec(f"{path}:make", DriverOptions(frame=f"{HEIGHT}x{WIDTH}"))


def recording(spec: DriverSpec, steps: int = 100) -> EpisodeSet:
    """Frames of the other camera, with what steers the other car rightly, and some error in it."""
    rng = np.random.default_rng(5)
    home = open_driver(spec)
    places = np.clip(np.cumsum(rng.normal(0, 0.08, steps)), -0.5, 0.5)
    frames = np.stack([bar(float(place)) for place in places])
    answers = home.act(frames, np.ones(steps, np.float32), np.zeros(steps, bool), ())[:, 0]
    right = np.clip(GAIN * answers + rng.normal(0, 0.02, steps), -1, 1).astype(np.float32)
    seen = np.stack([other_camera(frame) for frame in frames])
    meta = EpisodeMeta(source="other", nominal_period_s=0.05, height=seen.shape[1], width=seen.shape[2])
    return EpisodeSet((Episode(right, np.arange(steps) * 0.05, meta, ArrayFrames(seen)),))


def crashes(spec: DriverSpec, other: bool) -> int:
    driver = open_driver(spec)
    make = OtherCar if other else BarEnv
    return sum(drive.crashed for drive in rollout(driver, lambda _: make(steps=60, drift=0.1), range(10)))


def test_fit_brings_the_crashes_back_to_those_at_home_and_finds_the_gain(spec):
    assert crashes(spec, other=False) == 0
    assert crashes(spec, other=True) >= 5
    found = fit_camera(spec, recording(spec))
    # What is left of the frame is stretched to the driver's size: places, and so its answers, grow by as much.
    stretched = WIDTH / (WIDTH + 2 * SIDE - 2 * found.crops["crop_left"])
    assert found.steering_gain.value == pytest.approx(GAIN / stretched, rel=0.1)
    assert found.steering_gain.low <= found.steering_gain.value <= found.steering_gain.high
    assert found.correlation.value > 0.95 > found.uncropped + 0.2 and not found.is_weak
    assert abs(found.crops["crop_top"] - TOP) <= 3 and abs(found.crops["crop_left"] - SIDE) <= 4
    fitted = DriverSpec(spec.source, found.options(spec.options))
    assert crashes(fitted, other=True) == 0


def test_what_is_found_is_read_back_from_its_file(spec, tmp_path):
    import json

    from experiments.fit.verb import to_json

    found = fit_camera(spec, recording(spec, 60))
    path = tmp_path / "fit.json"
    path.write_text(json.dumps({"figures": {"fit": to_json(found)}}), encoding="utf-8")
    options = DriverOptions(frame=spec.options.frame, fit=path).resolved()
    assert options.crops == found.crops and options.steering_gain == pytest.approx(found.steering_gain.value)
    assert DriverOptions(fit=path, steering_gain=1.0).resolved().steering_gain == 1.0
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="no result of `wormwheel fit`"):
        DriverOptions(fit=path).resolved()


def test_frames_that_say_nothing_are_refused(spec):
    episodes = recording(spec, 60)
    straight = EpisodeSet(
        tuple(Episode(np.zeros(60, np.float32), one.time_s, one.meta, one.source) for one in episodes)
    )
    with pytest.raises(ValueError, match="does not vary"):
        fit_camera(spec, straight)
    shuffled = np.random.default_rng(0).permutation(episodes[0].steering)
    lost = EpisodeSet((Episode(shuffled, episodes[0].time_s, episodes[0].meta, episodes[0].source),))
    assert fit_camera(spec, lost).is_weak


def test_frames_at_full_lock_do_not_count_for_the_gain(spec):
    """There the known steering no longer says how much was wanted: a slope through it would be too small."""
    rng = np.random.default_rng(6)
    frames = np.stack([bar(float(place)) for place in rng.uniform(-0.5, 0.5, 120)])
    answers = open_driver(spec).act(frames, np.ones(120, np.float32), np.zeros(120, bool), ())[:, 0]
    wanted = 4.0 * answers
    locked = np.abs(wanted) > 1
    assert 0.3 < locked.mean() < 0.6
    meta = EpisodeMeta(source="other", nominal_period_s=0.05, height=HEIGHT, width=WIDTH)
    known = np.clip(wanted, -1, 1).astype(np.float32)
    episodes = EpisodeSet((Episode(known, np.arange(120) * 0.05, meta, ArrayFrames(frames)),))
    found = fit_camera(DriverSpec(spec.source, DriverOptions(frame=spec.options.frame, crop_top=0)), episodes)
    assert found.by == "given" and found.frames == int((~locked).sum())
    assert found.steering_gain.value == pytest.approx(4.0, rel=0.02) and abs(found.offset) < 0.01
