"""The doctor finds nothing in clean recordings and every fault that is planted in copies of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.doctor import Report, check_reading, examine, view
from agents.recordings.doctor.finding import Finding
from agents.recordings.doctor.leaks import NEAR, find_leak, find_repeats, near_of, thumbnail
from agents.recordings.doctor.mend import mend
from agents.recordings.doctor.motion import lags, measure_motion, peak
from agents.recordings.doctor.order import SHUFFLED, check_order, check_repeats, neighbour_differences
from agents.recordings.episodes import Episode, EpisodeMeta, EpisodeSet
from agents.recordings.reading import pictures
from agents.recordings.splits import split_by_time_block
from tests.agents.recordings.doctor.cars import turning_car
from tests.agents.recordings.makers import make_log, make_tub, real, write_catalog, write_manifest

PERIOD_S = 0.05


decode_once = lru_cache(maxsize=1200)(pictures.decode_picture)
flow_once = lru_cache(maxsize=200)(
    lambda first, second, shape: view_of(*(np.frombuffer(x, np.uint8).reshape(shape) for x in (first, second)))
)
view_of = view._vertical_flow
lines_of = view.estimate_view
lines_seen: dict[str, Any] = {}


def lines_once(frames: np.ndarray) -> Any:
    """Return where the lines of frames meet; frames that were seen before are not searched again."""
    name = hashlib.sha256(frames.tobytes()).hexdigest() + str(frames.shape)
    if name not in lines_seen:
        lines_seen[name] = lines_of(frames)
    return lines_seen[name]


@pytest.fixture(autouse=True)
def pictures_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests look at the same pictures, under other labels: decode them once, and once see how they move."""
    monkeypatch.setattr(pictures, "decode_picture", decode_once)
    monkeypatch.setattr(view, "_vertical_flow", lambda a, b: flow_once(a.tobytes(), b.tobytes(), a.shape))
    monkeypatch.setattr(view, "estimate_view", lines_once)


def look(path: Path, **choices) -> Report:
    episodes = load_episodes(path, **choices)
    return examine(episodes, *split_by_time_block(episodes))


def faults(report: Report) -> set[str]:
    return {finding.about for finding in report.faults}


LOG_ROWS = slice(600, 900)
"""Rows of the real log that are copied: more would take longer than a test should."""


def copy_log(directory: Path, change: Callable[[list[list[str]]], list[list[str]]] = lambda rows: rows) -> Path:
    """Copy a part of the real log, its pictures linked."""
    log = real("udacity_lake")
    (directory / "IMG").mkdir(parents=True)
    rows = [line.split(",") for line in (log / "driving_log.csv").read_text().splitlines()[LOG_ROWS]]
    for row in rows:
        name = row[0].replace("\\", "/").rsplit("/", 1)[-1].strip()
        (directory / "IMG" / name).symlink_to(log / "IMG" / name)
        row[0] = f"IMG/{name}"
    (directory / "driving_log.csv").write_text("\n".join(",".join(row) for row in change(rows)) + "\n")
    return directory


def copy_tub(directory: Path, change: Callable[[np.ndarray], np.ndarray], count: int = 300) -> Path:
    """Copy a part of the real tub, its angles changed and its pictures linked."""
    tub = real("donkeycar_tub")
    directory.mkdir()
    (directory / "images").symlink_to(tub / "images")
    records = [json.loads(line) for line in (tub / "catalog_0.catalog").read_text().splitlines()[:count]]
    angles = change(np.asarray([record["user/angle"] for record in records]))
    for record, angle in zip(records, angles, strict=True):
        record["user/angle"] = float(angle)
    write_catalog(directory, records)
    write_manifest(directory)
    return directory


def test_the_clean_log_is_clean(tmp_path):
    report = look(copy_log(tmp_path / "log"))
    assert report.findings == ()
    assert 0 <= report.facts["motion"]["lag_s"] < 0.1
    assert report.facts["view"]["crop_top"] == pytest.approx(56, abs=8), "the horizon of that simulator, seen by eye"


def test_the_clean_tub_is_clean_but_for_its_clock(tmp_path):
    tub = copy_tub(tmp_path / "tub", lambda angles: angles)
    assert faults(look(tub)) == {"clock"}
    report = look(tub, nominal_rate=20.0)
    assert report.findings == ()
    assert report.facts["view"]["crop_top"] == pytest.approx(36, abs=6)


def column(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[list[list[str]]], list[list[str]]]:
    def apply(rows: list[list[str]]) -> list[list[str]]:
        steering = change(np.asarray([float(row[3]) for row in rows]))
        return [[*row[:3], f"{value:.5f}", *row[4:]] for row, value in zip(rows, steering, strict=True)]

    return apply


def stamped(step_ms: Callable[[int], float]) -> Callable[[list[list[str]]], list[list[str]]]:
    """Give the rows times of another clock, in a column of their own."""

    def apply(rows: list[list[str]]) -> list[list[str]]:
        times = np.cumsum([step_ms(index) for index in range(len(rows))])
        header = ["center", "left", "right", "steering", "throttle", "brake", "speed", "time_ms"]
        return [header, *([*row[:7], f"{time:.0f}"] for row, time in zip(rows, times, strict=True))]

    return apply


PLANTED = {
    "sign": ("sign", column(lambda s: -s)),
    "labels three frames late": ("lag", column(lambda s: np.concatenate([s[:3], s[:-3]]))),
    "labels three frames early": ("lag", column(lambda s: np.concatenate([s[3:], s[-3:]]))),
    "labels all equal": ("labels", column(lambda s: np.zeros_like(s))),
    "labels nearly all equal": ("labels", column(lambda s: np.where(np.arange(len(s)) % 40 == 0, s, 0.1))),
    "an offset": ("offset", column(lambda s: np.clip(s * 0.5 + 0.3, -1, 1))),
    "a clock of 3 ms": ("clock", stamped(lambda i: 3)),
    "a clock that stands": ("clock", stamped(lambda i: 0)),
    "a clock in bursts": ("clock", stamped(lambda i: 350 if i % 5 == 0 else 2)),
    "a clock that jumps about": ("clock", stamped(lambda i: 20 + 137 * i % 113)),
    "a clock three times too slow": ("clock", stamped(lambda i: 213)),
    "a clock twice too slow": ("clock", stamped(lambda i: 142)),
    "a clock twice too fast": ("clock", stamped(lambda i: 35)),
    "a clock that changes its rate": ("clock", stamped(lambda i: 71 if i < 150 else 120)),
}


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_in_the_log_is_found(tmp_path, name):
    kind, change = PLANTED[name]
    report = look(copy_log(tmp_path / "log", change))
    assert faults(report) == {kind}, [finding.line for finding in report.findings]
    assert all("\n" not in finding.line and len(finding.line) < 500 for finding in report.findings)


def test_a_leak_is_found_by_the_look_of_the_pictures_and_mended(tmp_path):
    log = copy_log(tmp_path / "log")
    names = [line.split(",")[0] for line in (log / "driving_log.csv").read_text().splitlines()]
    for trained, held in zip(names[50:80], names[-40:-10], strict=True):
        picture = cv2.imread(str(log / held))
        (log / trained).unlink()
        assert cv2.imwrite(str(log / trained), picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    report = look(log)
    assert faults(report) == {"leak"}
    assert report.faults[0].figures == {"copies": 0, "near": 30}
    mended, lines = mend(load_episodes(log), report)
    assert mended.frame_count == 270 and lines == ["30 frames that stand more than once were dropped"]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sign", lambda a: -a),
        ("lag", lambda a: np.concatenate([a[3:], a[-3:]])),
        ("lag", lambda a: np.concatenate([a[:3], a[:-3]])),
        ("lag", lambda a: np.concatenate([a[:6], a[:-6]])),
        ("labels", lambda a: np.full_like(a, 0.2)),
    ],
)
def test_what_is_planted_in_the_tub_is_found(tmp_path, kind, change):
    """The car itself follows its wheel after 4 frames: labels 3 frames late leave 1, which is too soon for a servo."""
    assert faults(look(copy_tub(tmp_path / "tub", change), nominal_rate=20.0)) == {kind}


@pytest.mark.parametrize("step_ms", [70, 25])
def test_a_tub_with_another_rate_is_doubted(tmp_path, step_ms):
    """70 ms a frame may be what the car was set to, and is said; 25 ms is doubted."""
    tub = copy_tub(tmp_path / "tub", lambda angles: angles, count=160)
    records = [json.loads(line) for line in (tub / "catalog_0.catalog").read_text().splitlines()]
    for index, record in enumerate(records):
        record["_timestamp_ms"] = 1_600_000_000_000 + step_ms * index
    write_catalog(tub, records)
    report = look(tub)
    kinds = {finding.about for finding in report.findings if finding.about in ("rate", "clock")}
    assert kinds == ({"rate"} if step_ms == 70 else {"clock"})


def test_drives_that_are_mixed_are_told_and_sound_ones_are_not(tmp_path):
    records = [
        json.loads(line) for line in (real("donkeycar_tub") / "catalog_0.catalog").read_text().splitlines()[:400]
    ]
    shuffled = np.random.default_rng(0).permutation(400).tolist()
    interleaved = np.stack([np.arange(200), np.arange(200, 400)], 1).ravel().tolist()
    for name, order in (("sound", range(400)), ("shuffled", shuffled), ("interleaved", interleaved)):
        tub = tmp_path / name
        tub.mkdir()
        (tub / "images").symlink_to(real("donkeycar_tub") / "images")
        rows = [{**records[k], "_index": i, "_timestamp_ms": 50 * i} for i, k in enumerate(order)]
        write_catalog(tub, rows)
        write_manifest(tub)
        found = [finding.what for finding in check_order(load_episodes(tub))]
        assert len(found) == (name != "sound")
        assert all(
            word in found[0] for word in {"shuffled": ["do not follow"], "interleaved": ["two drives"]}.get(name, [])
        )


def copy_segment(directory: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    """Copy the real motorway's logs, changed."""
    source = real("comma2k19_segment")
    arrays = {str(path.relative_to(source)): np.load(path) for path in sorted(source.rglob("*")) if path.is_file()}
    short = {name.split("|")[-1].split("/40/")[-1]: name for name in arrays}
    view = {key: arrays[name] for key, name in short.items()}
    change(view)
    for key, name in short.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        with (directory / name).open("wb") as file:
            np.save(file, view[key])
    return directory


ANGLE = "processed_log/CAN/steering_angle/value"


def clock_times(factor: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(logs: dict[str, np.ndarray]) -> None:
        first = logs["global_pose/frame_times"][0]
        for name in [name for name in logs if name.endswith(("/t", "frame_times"))]:
            logs[name] = first + (logs[name] - first) * factor

    return change


def steering_to(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda logs: logs.__setitem__(ANGLE, change(logs[ANGLE]))


def repeated(angle: np.ndarray) -> np.ndarray:
    """Put the first 10 s in place of the last ones, as the camera sees them."""
    return np.concatenate([angle[: -len(angle) // 6], angle[: len(angle) - len(angle[: -len(angle) // 6])]])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("sign", steering_to(lambda a: -a)),
        ("lag", steering_to(lambda a: np.concatenate([a[:13], a[:-13]]))),
        ("lag", steering_to(lambda a: np.concatenate([a[13:], a[-13:]]))),
        ("labels", steering_to(lambda a: np.full_like(a, 1.5))),
        ("clock", clock_times(1.3)),
        ("clock", clock_times(0.5)),
    ],
)
def test_what_is_planted_in_the_motorway_is_found(tmp_path, kind, change):
    """There are no pictures: the yaw rate of the pose log is what labels are held against; 13 samples are 3 frames."""
    assert faults(look(copy_segment(tmp_path, change))) == {kind}


def test_a_copied_stretch_of_labels_is_a_leak():
    rng = np.random.default_rng(0)
    steering = (0.1 * rng.normal(size=400)).astype(np.float32)
    steering[330:380] = steering[20:70]
    meta = EpisodeMeta("route", PERIOD_S, vehicle="car")
    episodes = EpisodeSet((Episode(steering, np.arange(400) * PERIOD_S, meta),))
    report = examine(episodes, *split_by_time_block(episodes))
    assert faults(report) == {"leak"} and report.faults[0].figures["copies"] == 50


def test_driving_that_stands_there_twice_is_told(tmp_path):
    """Copies under other names on the training side alone: no leak, but the drive counts twice."""
    log = copy_log(tmp_path / "log")
    names = [line.split(",")[0] for line in (log / "driving_log.csv").read_text().splitlines()]
    for one, other in zip(names[10:40], names[150:180], strict=True):
        content = (log / one).read_bytes()
        (log / other).unlink()
        (log / other).write_bytes(content)
    report = look(log)
    assert [f.figures for f in report.faults if f.about == "repeats"] == [{"frames": 30}]


@pytest.mark.parametrize("lag", [-5, -2, 0, 3, 8])
def test_the_lag_is_measured_to_half_a_frame(lag):
    tried, correlation = lags(measure_motion(turning_car(lag)))
    # The shift from frame t to t + 1 is the turning at t + 1: one frame less than the lag of the heading.
    assert peak(tried, correlation) == pytest.approx(lag - 1, abs=0.5)


@pytest.mark.parametrize(
    ("lag", "sign", "offset", "kind"), [(1, -1, 0, "sign"), (-3, 1, 0, "lag"), (9, 1, 0, "lag"), (1, 1, 0.2, "offset")]
)
def test_mending_leaves_nothing_to_mend(lag, sign, offset, kind):
    sick = turning_car(lag, sign, offset)
    report = examine(sick)
    assert faults(report) == {kind}
    mended, lines = mend(sick, report)
    assert len(lines) == 1
    assert faults(examine(mended)) == set()


def test_a_plain_sign_is_judged_in_a_short_recording_too():
    assert faults(examine(turning_car(1, -1, count=120))) == {"sign"}
    assert faults(examine(turning_car(9, 1, count=120))) == set(), "the lag takes more frames"


def test_a_sound_car_needs_no_mending():
    assert faults(examine(turning_car(1))) == set()


def test_copies_and_repeats_are_told_from_neighbours(tmp_path):
    make_tub(tmp_path / "tub", count=120)
    for index in range(120):
        path = tmp_path / "tub" / "images" / f"{index}_cam_image_array_.jpg"
        noise = np.random.default_rng(index).integers(0, 256, (12, 16, 3)).astype(np.uint8)
        assert cv2.imwrite(str(path), noise)
    episodes = load_episodes(tmp_path / "tub")
    clean = find_leak(*split_by_time_block(episodes, 0.2, 0.5))
    assert (clean.copies, clean.near) == (0, 0)
    for index in (5, 6, 7):
        source = tmp_path / "tub" / "images" / f"{110 + index}_cam_image_array_.jpg"
        (tmp_path / "tub" / "images" / f"{index}_cam_image_array_.jpg").write_bytes(source.read_bytes())
    episodes = load_episodes(tmp_path / "tub")
    leak = find_leak(*split_by_time_block(episodes, 0.2, 0.5))
    assert (leak.copies, leak.near) == (3, 0)
    assert "115_cam" in leak.example
    assert np.flatnonzero(find_repeats(episodes, 0.0)[0]).tolist() == [115, 116, 117]
    assert np.flatnonzero(find_repeats(episodes, 1.5)[0]).tolist() == [115, 116, 117]


def test_a_motorway_is_no_fault_and_equal_labels_with_a_little_noise_are():
    rng = np.random.default_rng(0)
    for spread, expected in ((0.0017, set()), (0.0001, {"labels"})):
        steering = (spread * rng.normal(size=300)).astype(np.float32)
        meta = EpisodeMeta("route", PERIOD_S, vehicle="car")
        report = examine(EpisodeSet((Episode(steering, np.arange(300) * PERIOD_S, meta),)))
        assert faults(report) == expected


def test_the_real_motorway_is_clean():
    report = look(real("comma2k19_segment"))
    assert report.faults == []


@pytest.mark.parametrize(("about", "expected"), [("sign", -0.5), ("offset", 0.4)])
def test_made_up_labels_are_left_out_where_the_persons_are_changed(about, expected):
    """A left camera's label is the person's minus what brings the car back: turned round it would lead away."""
    centre, left = (
        Episode(np.full(30, value, np.float32), np.arange(30) * PERIOD_S, EpisodeMeta("log", extra={"camera": camera}))
        for camera, value in (("centre", 0.5), ("left", 0.3))
    )
    finding = Finding(about, True, "", "", {"offset": 0.1})
    mended, lines = mend(EpisodeSet((centre, left)), Report((finding,)))
    assert [one.meta.extra["camera"] for one in mended] == ["centre"]
    np.testing.assert_allclose(mended[0].steering, expected)
    assert lines[0] == "30 frames of side cameras are left out: their labels are made up" and len(lines) == 2
    both, _ = mend(EpisodeSet((centre, left)), Report(()))
    assert len(both) == 2


def test_a_copy_is_found_under_the_name_of_another_drive():
    """Each drive has a time line of its own: the same moment on two of them is not the same time."""
    digests = np.arange(1, 31, dtype=np.uint64)
    drives = tuple(
        Episode(np.zeros(30, np.float32), np.arange(30) * PERIOD_S, EpisodeMeta(name), digests=digests)
        for name in ("one", "another")
    )
    assert [mark.tolist() for mark in find_repeats(EpisodeSet(drives), 0.0)] == [[False] * 30, [True] * 30]
    (finding,) = check_repeats(EpisodeSet(drives))
    assert finding.figures == {"frames": 30}


@pytest.mark.parametrize("options", [{}, {"side_cameras": True}, {"to_s": 2.0}, {"episodes": (0,)}])
def test_records_that_are_left_out_are_a_share_of_all_of_them(tmp_path, options):
    """Not of what side cameras add, nor of the part that is looked at."""
    make_log(tmp_path / "log", count=100)
    rows = (tmp_path / "log" / "driving_log.csv").read_text().splitlines()
    (tmp_path / "log" / "driving_log.csv").write_text(
        "\n".join([*rows[:92], *(r.rsplit(",", 4)[0] for r in rows[92:])])
    )
    (finding,) = [f for f in check_reading(load_episodes(tmp_path / "log", **options)) if f.about == "records"]
    assert finding.fault and "8 records (8.0%)" in finding.what


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("near", [1.2, -1.5])
def test_the_far_road_tells_which_way_the_car_drives(backwards, near):
    """Right before a fast car the flow is chance, or paint seems to go back; far things seem to move now and then."""
    far, close = np.linspace(0, 1.6, 40), np.linspace(near, near / 5, 30)
    profile = np.concatenate([np.full(40, 0.05), far, close, np.full(10, -0.4)])
    flows = np.tile(profile, (40, 1)) + np.random.default_rng(0).normal(0, 0.02, (40, 120))
    assert view.runs_backwards(-flows if backwards else flows, 0.35) == backwards
    assert not view.runs_backwards(-flows, 0.9)


def test_what_runs_backwards_is_not_said_to_be_flipped(monkeypatch):
    """Turning the labels round would not mend it."""
    car = turning_car(1, sign=-1.0)
    assert "sign" in faults(examine(car))
    seen = view.view_facts(car)
    monkeypatch.setattr("agents.recordings.doctor.view_facts", lambda episodes: {**seen, "backwards": True})
    assert faults(examine(car)) == {"order"}


def test_by_night_pictures_of_two_places_are_no_copies(tmp_path):
    """All pictures differ less when it is dark."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 10, (24, 32))
    frames = [np.clip(30 + base + rng.normal(0, 0.8, (24, 32)), 0, 255) for _ in range(200)]
    shown = [np.repeat(frame[..., None], 3, axis=2).astype(np.uint8) for frame in frames]
    small = np.stack([thumbnail(frame) for frame in shown])
    apart = np.sqrt(np.square(small[1:] - small[:-1]).mean(1))
    assert 1.0 < apart.min() < apart.max() < NEAR
    assert near_of(small, NEAR) < apart.min()
    assert near_of(3.5 * small, NEAR) == NEAR


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_slow_camera_is_not_said_to_be_shuffled(shuffled):
    """Its neighbours differ nearly as much as any two pictures, and less than frames two apart."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 60, (322, 24, 32, 3))
    shown = np.clip(120 + 0.4 * noise[:-2] + 0.1 * noise[1:-1], 0, 255).astype(np.uint8)
    if shuffled:
        shown = shown[rng.permutation(len(shown))]

    class Shown:
        def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            return shown[start:stop], np.ones(stop - start, bool)

    steering, time_s = np.zeros(len(shown), np.float32), 0.2 * np.arange(len(shown))
    slow = EpisodeSet((Episode(steering, time_s, EpisodeMeta("made", 0.2, 24, 32), Shown()),))
    one, _, far = neighbour_differences(slow)
    assert one > SHUFFLED * far
    assert bool(check_order(slow)) == shuffled
