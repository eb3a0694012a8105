"""Steering whose column names no unit: radians, shares, and the values of servos and sticks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from agents.recordings.reading.units import unit_in_notes, unit_of_values
from tests.agents.recordings.makers import one_line, picture, save

COUNT = 60
WANTED = np.clip(1.3 * np.sin(np.arange(COUNT) / 5), -1, 1)  # stops at full lock on both sides
GENTLE = 0.7 * np.sin(np.arange(COUNT) / 5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(COUNT):
        save(folder / "images" / f"{i}.png", picture())
    return folder


@pytest.fixture
def folder(pictures, tmp_path) -> Path:
    (tmp_path / "images").symlink_to(pictures / "images")
    return tmp_path


def write(folder: Path, values: np.ndarray, name: str = "angle", before: str = "", form: str = "{:.4f}") -> Path:
    rows = [f"{i}.png,{form.format(value)}" for i, value in enumerate(values)]
    (folder / "labels.csv").write_text("\n".join([*filter(None, [before]), f"image,{name}", *rows]))
    return folder / "labels.csv"


def check(episodes: EpisodeSet, wanted: np.ndarray, *said: str) -> None:
    np.testing.assert_allclose(episodes[0].steering, wanted, atol=5e-3)
    text = " | ".join(episodes.warnings)
    assert all(words in text for words in said), text


@pytest.mark.parametrize("lock_deg", [15, 20, 24, 25, 30, 35, 45])
@pytest.mark.parametrize("name", ["angle", "steering_angle", "steering"])
def test_radians_that_stop_at_a_whole_number_of_degrees(folder, lock_deg, name):
    lock = np.radians(lock_deg)
    path = write(folder, lock * WANTED, name)
    check(load_episodes(path), WANTED, "taken to be in radians", f"{lock_deg}°")
    check(load_episodes(path, degrees=2.0 * lock_deg), WANTED / 2, "taken to be in radians")
    check(load_episodes(path, steering_unit="share"), lock * WANTED)


@pytest.mark.parametrize("most", [1.0, 0.3, 0.35, 0.4, 0.5, 0.52, 0.6, 0.7, 0.75, 0.8])
def test_shares_of_full_lock_stay_shares(folder, most):
    found = load_episodes(write(folder, most * WANTED))
    check(found, most * WANTED)
    assert any("share of full lock" in line for line in found.warnings) == (most < 1), "plain shares need no line"


def test_whole_degrees_in_radians_ask_for_full_lock(folder):
    path = write(folder, np.radians(np.round(22.4 * GENTLE)), form="{:.6f}")
    with pytest.raises(ValueError, match="radians.*--degrees") as error:
        load_episodes(path)
    one_line(error)
    check(load_episodes(path, degrees=25), np.round(22.4 * GENTLE) / 25)
    check(load_episodes(path, steering_unit="share"), np.radians(np.round(22.4 * GENTLE)))


NOTES = {
    "README.md": "# Drive\nThe camera angle is 20 degrees.\n| `angle` | steering angle (rad), positive left |",
    "readme": "angle - commanded steering in radians",
    "info.json": json.dumps({"fps": 20, "steering_unit": "rad", "camera": {"yaw_angle": "2 deg"}}),
    "meta.json": json.dumps({"columns": [{"name": "speed", "unit": "m/s"}, {"name": "angle", "unit": "radians"}]}),
    "meta/info.json": json.dumps({"features": {"angle": {"dtype": "float", "units": "rad"}}}),
    "metadata.yaml": "steering_angle: radians\nheading: degrees",
}


@pytest.mark.parametrize("note", NOTES)
def test_a_note_beside_the_table_says_radians(folder, note):
    (folder / note).parent.mkdir(exist_ok=True)
    (folder / note).write_text(NOTES[note])
    path = write(folder, 0.4 * GENTLE)
    with pytest.raises(ValueError, match="in radians.*--degrees"):
        load_episodes(path)
    check(load_episodes(path, degrees=np.degrees(0.4)), GENTLE, "taken to be in radians", note.split("/")[-1])


def test_a_line_before_the_header_says_radians(folder):
    path = write(folder, 0.4 * GENTLE, before="# angle is in radians")
    check(load_episodes(path, degrees=np.degrees(0.4)), GENTLE, "the line before the header says")


@pytest.mark.parametrize(
    ("note", "unit"),
    [
        ("steering is in [-1, 1]", "share"),
        ("steering normalised to full lock", "share"),
        ("the steering angle in degrees; 1 rad = 57.3 deg", ""),
        ("heading angle in radians", ""),
        ("a radical steering", ""),
        ("nothing of the kind", ""),
    ],
)
def test_what_notes_say(note, unit):
    assert unit_in_notes([("README.md", note)], "angle").unit == unit


def test_a_line_about_the_column_comes_before_others():
    lines = [("a", "max steering is 30 degrees"), ("a", "angle: radians")]
    assert unit_in_notes(lines, "angle").unit == "rad"
    assert unit_in_notes([*lines, ("a", "angle: normalized")], "angle").unit == ""


def test_few_values_tell_nothing():
    assert unit_of_values(np.array([])).unit == "" and unit_of_values(np.array([0.0, np.nan])).unit == ""
    assert unit_of_values(np.array([0.1, -0.2, 0.35])).unit == ""
    assert unit_of_values(np.array([30.0, -30.0, 12.0])).unit == ""


@pytest.mark.parametrize(
    "note", ["the servo steers 30 degrees to either side", "full lock is a steering angle of 0.5 rad"]
)
def test_notes_about_the_car_do_not_make_shares_fail(folder, note):
    (folder / "README.md").write_text(note)
    check(load_episodes(write(folder, WANTED)), WANTED)
    if "rad" not in note:
        check(load_episodes(write(folder, GENTLE)), GENTLE, "share of full lock")


def test_radians_in_a_log_of_the_simulators_kind(tmp_path):
    for i in range(COUNT):
        save(tmp_path / "IMG" / f"center_{i}.png", picture())
    rows = [f"center_{i}.png,{value:.5f}" for i, value in enumerate(np.radians(25) * WANTED)]
    (tmp_path / "driving_log.csv").write_text("\n".join(["center,steering_angle", *rows]))
    check(load_episodes(tmp_path), -WANTED, "taken to be in radians")
    check(load_episodes(tmp_path, steering_unit="share"), -np.radians(25) * WANTED)


def test_degrees_that_never_leave_one_degree_are_said(folder):
    check(load_episodes(write(folder, 0.4 * GENTLE, "steering"), degrees=25), 0.4 * GENTLE / 25, "1.1 % of full lock")


SERVOS = {
    "0 to 1": (0.5, 0.5),
    "0 to 100": (50, 50),
    "a byte": (127, 127.5),
    "ten bits": (512, 511.5),
    "pulses in µs": (1500, 500),
    "180 degrees": (90, 90),
    "twelve bits": (2048, 2047.5),
}
AT_REST = np.where(np.arange(COUNT) % 3 == 0, WANTED, 0.15 * WANTED) * (np.arange(COUNT) % 4 > 0)
AT_REST[[1, 2]], AT_REST[[31, 34]] = 1.0, -1.0


@pytest.mark.parametrize("servo", SERVOS)
@pytest.mark.parametrize("positive", ["left", "right"])
def test_a_servo_that_fills_its_scale_is_recognised(folder, servo, positive):
    middle, lock = SERVOS[servo]
    top = None if middle == 1500 else 2 * lock
    values = np.clip(middle + lock * AT_REST, 0 if top else None, top)
    path = write(folder, values, "steering", form="{:.3f}")
    sign = 1 if positive == "left" else -1
    check(load_episodes(path, positive=positive), sign * AT_REST, "straight ahead")
    found = load_episodes(path, straight=0, degrees=float(values.max()))
    np.testing.assert_allclose(found[0].steering, values / values.max(), atol=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        0.5 + 0.3 * AT_REST,  # does not reach its ends
        1500 + 300 * AT_REST,
        0.55 + 0.45 * AT_REST,  # its middle is elsewhere
    ],
)
def test_a_servo_whose_middle_is_not_plain_is_refused(folder, values):
    with pytest.raises(ValueError, match="--straight") as error:
        load_episodes(write(folder, values, "steering"))
    one_line(error)


def test_bare_magnitudes_are_no_servo(folder):
    check(load_episodes(write(folder, np.abs(AT_REST), "steering")), np.abs(AT_REST))
