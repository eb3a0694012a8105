"""Tables as other programs write them: their clocks, units, headers, cameras and names of pictures."""

from __future__ import annotations

import datetime
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from agents.recordings import load_episodes
from agents.recordings.episodes import EpisodeSet
from tests.agents.recordings.makers import make_log, one_line, picture, save

COUNT = 30
STEERING = np.round(np.sin(np.arange(COUNT) / 4) * 0.5, 4)
NAMES = [f"{i:04d}.png" for i in range(COUNT)]
BEGIN = datetime.datetime(2023, 11, 14, 22, 13, 20)
EPOCH_S = 1_700_000_000


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder whose pictures tell their number by their brightness."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(NAMES):
        save(folder / "images" / name, picture(level=4 * i))
    return folder


def table(folder: Path, header: str, row: Callable[[int, float], str], order: Sequence[int] = range(COUNT)) -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([*filter(None, [header]), *(row(i, STEERING[i]) for i in order)]) + "\n")
    return path


def check(episodes: EpisodeSet, steering: np.ndarray = STEERING, period_s: float = 0.05) -> None:
    """Every frame has its label, and they stand in order, on time."""
    shown = np.concatenate([e.frames()[:, -1, 0, 0] for e in episodes]) // 4
    np.testing.assert_array_equal(np.diff(shown) > 0, True)
    found = np.concatenate([e.steering for e in episodes])
    np.testing.assert_allclose(found, steering[shown], atol=1e-4)
    for episode in episodes:
        np.testing.assert_allclose(np.diff(episode.time_s), period_s, rtol=1e-3)


def at(i: int, form: str) -> str:
    return (BEGIN + datetime.timedelta(seconds=0.1 * i)).strftime(form)


CLOCKS: dict[str, Callable[[int], str]] = {
    "ISO 8601": lambda i: at(i, "%Y-%m-%dT%H:%M:%S.%f"),
    "ISO 8601 in nanoseconds at Greenwich": lambda i: at(i, "%Y-%m-%d %H:%M:%S.%f000Z"),
    "a time zone that changes": lambda i: (
        at(i, "%Y-%m-%dT%H:%M:%S.%f+00:00") if i < 9 else at(i + 36_000, "%Y-%m-%dT%H:%M:%S.%f+0100")
    ),
    "milliseconds behind a colon": lambda i: at(i, "%Y-%m-%d %H:%M:%S") + f":{100 * i % 1000:03d}",
    "frames behind a colon": lambda i: at(i, "%H:%M:%S") + f":{3 * i % 30:02d}",
    "frames of another rate": lambda i: at(i, "%H:%M:%S") + f":{i % 10:02d}",
    "a time of day through midnight": lambda i: at(i + 63_990, "%H:%M:%S.%f"),
    "twelve hours, month first": lambda i: at(i + 63_990, "%m/%d/%Y %I:%M:%S.%f %p"),
    "day first": lambda i: at(i + 63_990, "%d.%m.%Y %H:%M:%S.%f"),
    "no marks at all": lambda i: at(i, "%Y%m%d%H%M%S%f")[:17],
    "minutes and seconds": lambda i: f"{(i + 590) // 600:02d}:{(i + 590) % 600 / 10:04.1f}",
    "a spreadsheet's days": lambda i: f"{45_244.9259259 + 0.1 * i / 86_400:.10f}",
    "nanoseconds since 1970": lambda i: f"{(10 * EPOCH_S + i) * 10**8}",
    "milliseconds with thousands set off": lambda i: f'"{100 * i:,}"',
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_clocks_of_every_kind(pictures, clock):
    episodes = load_episodes(
        table(pictures, "image,steering,timestamp", lambda i, s: f"{NAMES[i]},{s},{CLOCKS[clock](i)}")
    )
    assert len(episodes) == 1
    check(episodes, period_s=0.1)


@pytest.mark.parametrize("names", ["sec,nanosec", "header.stamp.secs,header.stamp.nsecs"])
def test_seconds_and_nanoseconds_are_one_clock(pictures, names):
    row = lambda i, s: f"{EPOCH_S + i // 10},{i % 10}00000000,{NAMES[i]},{s}"  # noqa: E731
    check(load_episodes(table(pictures, f"{names},image,steering", row)), period_s=0.1)


def test_a_column_may_be_called_by_the_unit_of_its_clock(pictures):
    row = lambda i, s: f"{NAMES[i]},{s},{900 * i}"  # noqa: E731
    episodes = load_episodes(table(pictures, "image,steering,Millis", row), max_gap_s=2)
    np.testing.assert_allclose(episodes[0].time_s, 0.9 * np.arange(COUNT))


@pytest.mark.parametrize("slip", [0, 1e12])
def test_a_single_stamp_far_from_all_others_moves_no_row(pictures, slip):
    row = lambda i, s: f"{NAMES[i]},{s},{slip if i == 13 else EPOCH_S + 0.1 * i:.2f}"  # noqa: E731
    episodes = load_episodes(table(pictures, "image,steering,time", row))
    assert len(episodes) == 1
    check(episodes, period_s=0.1)


def test_running_numbers_beyond_all_counting_keep_their_steps(pictures):
    row = lambda i, s: f"{NAMES[i]},{s},{9 * 10**15 + i}"  # noqa: E731
    check(load_episodes(table(pictures, "image,steering,frame", row)))


def test_of_two_clocks_the_one_that_can_be_read_counts(pictures):
    row = lambda i, s: f"{NAMES[i]},{s},lap {i},{EPOCH_S + 0.1 * i:.2f}"  # noqa: E731
    check(load_episodes(table(pictures, "image,steering,time,timestamp", row)), period_s=0.1)


UNITS: dict[str, tuple[str, Callable[[float], str], float]] = {
    "per cent by name": ("steering [%]", lambda s: f"{100 * s:.2f}", 1),
    "small per cent by name": ("steering_percent", lambda s: f"{s:.4f}", 0.01),
    "per cent in the cells": ("steering", lambda s: f"{100 * s:.2f} %", 1),
}


@pytest.mark.parametrize("unit", UNITS)
def test_units_are_taken_from_names_and_cells(pictures, unit):
    name, cell, scale = UNITS[unit]
    episodes = load_episodes(table(pictures, f"image,{name}", lambda i, s: f"{NAMES[i]},{cell(s)}"), positive="left")
    check(episodes, scale * STEERING)


SERVOS = {"0 to 1": (0.5, 0.5), "0 to 100": (50, 50), "pulses": (1500, 500), "180 degrees": (90, 90)}


@pytest.mark.parametrize("reach", [0.3, 1.0])
@pytest.mark.parametrize("servo", SERVOS)
def test_values_of_a_servo_need_to_be_told_where_straight_ahead_is(pictures, servo, reach):
    middle, lock = SERVOS[servo]
    path = table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{middle + lock * 2 * reach * s:.5f}")
    check(load_episodes(path, straight=middle, degrees=lock), 2 * reach * STEERING)
    for degrees in (None, 2 * middle + 1):
        with pytest.raises(ValueError, match="never below 0.*--straight.*--degrees") as error:
            load_episodes(path, degrees=degrees)
        one_line(error)
    with pytest.raises(ValueError, match="value at full lock, counted from there, is needed"):
        load_episodes(path, straight=middle)


def test_labels_on_one_side_are_taken_as_they_are_when_it_is_said(pictures):
    path = table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{0.5 + 0.2 * s:.4f}")
    check(load_episodes(path, straight=0), 0.5 + 0.2 * STEERING)


@pytest.mark.parametrize("reach", [0.3, 0.8])
def test_bends_to_one_side_alone_are_taken_as_they_are(pictures, reach):
    path = table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{reach * i / COUNT:.4f}")
    check(load_episodes(path), reach * np.arange(COUNT) / COUNT)


def test_a_round_course_is_no_servo(pictures):
    path = table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{0.25 + 0.2 * s:.4f}")
    check(load_episodes(path), 0.25 + 0.2 * STEERING)


def test_a_bare_magnitude_beside_its_side_is_refused(pictures):
    path = table(
        pictures, "image,steering,direction", lambda i, s: f"{NAMES[i]},{abs(s)},{'left' if s > 0 else 'Right'}"
    )
    with pytest.raises(ValueError, match="the column 'direction' seems to say the side") as error:
        load_episodes(path)
    one_line(error)


def test_a_few_large_labels_in_a_row_are_another_unit_not_faults(pictures):
    path = table(
        pictures,
        "image,steering",
        lambda i, s: "\n".join(f"{NAMES[i]},{7.5 if i == 20 and k < 3 else s}" for k in range(12)),
    )
    with pytest.raises(ValueError, match="3 of 360 labels lie outside.*--degrees"):
        load_episodes(path)


@pytest.mark.parametrize(
    ("header", "cell", "encoding"),
    [
        ("image,angle [°]", lambda s: f"{s:.4f}", "latin-1"),
        ("image,steering\n,deg", lambda s: f"{s:.4f}", "utf-8"),
        ("image,steering\n-,[rad]", lambda s: f"{s:.4f}", "utf-8"),
        ("image,steering angle in radians", lambda s: f"{s:.4f}", "utf-8"),
        ("image,field.drive.steering_angle", lambda s: f"{s:.4f}", "utf-8"),
    ],
)
def test_angles_are_never_taken_for_shares(pictures, header, cell, encoding):
    path = table(pictures, header, lambda i, s: f"{NAMES[i]},{cell(s)}")
    path.write_bytes(path.read_text().encode(encoding))
    with pytest.raises(ValueError, match="(degrees|radians).*--degrees") as error:
        load_episodes(path)
    one_line(error)
    lock = 50 if "rad" not in header and "drive" not in header else np.rad2deg(50)
    check(load_episodes(path, degrees=lock), STEERING / 50)


LAYOUTS: dict[str, tuple[str, Callable[[int, float], str], dict[str, Any]]] = {
    "sep= before the header": ("sep=;\nimage;steering", lambda i, s: f"{NAMES[i]};{str(s).replace('.', ',')}", {}),
    "a comment before the header": ("# made by hand\nimage,steering", lambda i, s: f"{NAMES[i]},{s}", {}),
    "other lines before the header": ("Logger 2\nDate,2023-01-01\nimage,steering", lambda i, s: f"{NAMES[i]},{s}", {}),
    "the header again": (
        "image,steering,throttle",
        lambda i, s: ("image,steering,throttle\n" if i == 9 else "") + f"{NAMES[i]},{s},0",
        {},
    ),
    "single quotes": ("'image','steering'", lambda i, s: f"'{NAMES[i]}','{s}'", {}),
    "white space": ("image   steering", lambda i, s: f"{NAMES[i]}   {s}", {}),
    "lines of pictures": ("", lambda i, s: f"{NAMES[i]} {s}", {}),
    "the picture last": ("", lambda i, s: f"{s},0.2,0,12,{NAMES[i]}", {"steering_column": "1"}),
    "many columns": ("", lambda i, s: f"{NAMES[i]},,,{s},0.2,0,12,1.5,2.5,3.5", {"steering_column": "4"}),
    "an unknown name of the picture's column": ("imageFrontId,leftId,steer", lambda i, s: f"{NAMES[i]},a.png,{s}", {}),
    "capitals": ("image,steering", lambda i, s: f"C:\\Data\\{NAMES[i].upper()},{s}", {}),
    "escapes of a URL": ("image,steering", lambda i, s: f"file:///data/{NAMES[i].replace('0', '%30')},{s}", {}),
    "no ending": ("image,steering", lambda i, s: f"{NAMES[i][:-4]},{s}", {}),
    "numbers": ("frame,steer", lambda i, s: f"{i},{s}", {}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_other_programs(pictures, layout):
    header, row, options = LAYOUTS[layout]
    episodes = load_episodes(table(pictures, header, row), **options)
    assert episodes.skipped == {} and episodes.frame_count == COUNT
    check(episodes)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("steering,image", lambda i, s: f"{s:.2e},{NAMES[i]}".replace(".", ",", 1)),
        ("", lambda i, s: f"{NAMES[i]},{f'{s:.5e},{0.5:.5e}'.replace('.', ',')}"),
        ("image,steering,note", lambda i, s: f"{NAMES[i]},{f'{s:.3f}'.replace('.', ',')},x"),
        (
            "lap,steering,image",
            lambda i, s: f"{i % 3},{0 if i % 4 == 0 else f'{abs(s):.3f}'.replace('.', ',')},{NAMES[i]}",
        ),
    ],
)
def test_decimals_that_commas_cut_are_never_read_as_zero(pictures, header, row):
    with pytest.raises(ValueError, match="decimal point, or columns be separated by semicolons") as error:
        load_episodes(table(pictures, header, row))
    one_line(error)


def test_an_index_without_a_name_is_passed_over(pictures):
    check(load_episodes(table(pictures, "image,steering", lambda i, s: f"{i},{NAMES[i]},{s}")))


def test_a_second_header_with_other_columns_is_refused(pictures):
    row = lambda i, s: (  # noqa: E731
        f"{NAMES[i]},{s},0.2" if i < 9 else ("image,throttle,steering\n" if i == 9 else "") + f"{NAMES[i]},0.2,{s}"
    )
    with pytest.raises(ValueError, match="second header.*after 9 rows") as error:
        load_episodes(table(pictures, "image,steering,throttle", row))
    one_line(error)


def test_rows_in_any_order_follow_the_numbers_in_the_pictures_names(pictures):
    order = np.random.default_rng(0).permutation(COUNT).tolist()
    episodes = load_episodes(table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{s}", order))
    check(episodes)
    assert any("did not stand in the order" in line for line in episodes.warnings)
    # Every third row is held back for another table: the time between the others stays.
    kept = [i for i in order if i % 3]
    episode = load_episodes(table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{s}", kept))[0]
    np.testing.assert_allclose(np.diff(episode.time_s)[:2], [0.05, 0.1])


def test_names_drawn_by_chance_are_no_numbers(tmp_path):
    names = [f"{number}.png" for number in np.random.default_rng(0).integers(10**6, 10**7, COUNT)]
    for i, name in enumerate(names):
        save(tmp_path / name, picture(level=4 * i))
    episodes = load_episodes(table(tmp_path, "image,steering", lambda i, s: f"{names[i]},{s}"))
    check(episodes)


def test_drives_in_folders_of_their_own_are_not_joined(tmp_path):
    for drive in ("monday", "friday"):
        for i in range(12):
            save(tmp_path / drive / f"{i}.png", picture(level=4 * i + 60 * (drive == "friday")))
    rows = [
        f"{drive}/{i}.png,{STEERING[i + 15 * (drive == 'friday')]}" for drive in ("monday", "friday") for i in range(12)
    ]
    for order in (np.arange(24), np.random.default_rng(1).permutation(24)):
        path = table(tmp_path, "image,steering", lambda i, s: rows[i], order.tolist())  # noqa: B023
        episodes = load_episodes(path)
        assert [len(episode) for episode in episodes] == [12, 12]
        for episode in episodes:
            shown = episode.frames()[:, -1, 0, 0] // 4
            np.testing.assert_array_equal(np.diff(shown), 1)
            np.testing.assert_allclose(episode.steering, STEERING[shown], atol=1e-4)


def test_numbers_that_begin_elsewhere_than_the_pictures_are_refused(pictures):
    with pytest.raises(ValueError, match="counts from 1 in its column 'frame' and the pictures.*from 0") as error:
        load_episodes(table(pictures, "frame,steering", lambda i, s: f"{i + 1},{s}"))
    one_line(error)


def test_time_stamps_in_the_pictures_names_are_their_clock(tmp_path):
    for i in range(COUNT):
        save(tmp_path / "center" / f"{(10 * EPOCH_S + i) * 10**8}.png", picture(level=4 * i))
    path = table(tmp_path, "frame_id,steering", lambda i, s: f"{(10 * EPOCH_S + i) * 10**8},{s}", range(COUNT)[::-1])
    check(load_episodes(path), period_s=0.1)


def test_three_cameras_in_one_column(tmp_path):
    """As in Udacity's second challenge, and in logs to which the side cameras' rows were appended."""
    for camera in ("left", "center", "right"):
        for i in range(COUNT):
            save(tmp_path / camera / f"{camera}{i}.png", picture(level=4 * i if camera == "center" else 251))
    header = "index,timestamp,width,height,frame_id,filename,angle,torque,speed,lat,long,alt"
    cameras = list(enumerate(("left", "center", "right")))
    row = lambda i, s: "\n".join(  # noqa: E731
        f"{i},{(20 * EPOCH_S + i) * 50_000_000 + k},640,480,{c}_camera,{c}/{c}{i}.png,{s},0.1,12,37,-122,9"
        for k, c in cameras
    )
    episodes = load_episodes(table(tmp_path, header, row))
    check(episodes, STEERING / np.deg2rad(450))
    assert episodes.skipped == {"picture of another camera": 2 * COUNT}
    row = lambda i, s: "\n".join(f"D:\\x\\{c}{i}.png,{s + 0.2 * k - 0.2:.4f}" for k, c in cameras)  # noqa: E731
    episodes = load_episodes(table(tmp_path, "image,steering", row))
    check(episodes)
    assert episodes.skipped == {"picture of another camera": 2 * COUNT}


def test_what_the_car_did_is_no_camera(tmp_path):
    done = ["left_turn", "center_lane", "recovery_right"]
    names = [f"{done[i % 3]}/{done[i % 3]}_{i}.png" for i in range(COUNT)]
    for i, name in enumerate(names):
        save(tmp_path / name, picture(level=4 * i))
    episodes = load_episodes(table(tmp_path, "image,steering,t", lambda i, s: f"{names[i]},{s},{0.05 * i:.2f}"))
    assert episodes.skipped == {}
    check(episodes)


def test_one_picture_that_rows_of_two_folders_mean_is_left_out(pictures):
    row = lambda i, s: f"C:\\run1\\{NAMES[i]},{s}" + (f"\nC:\\run2\\{NAMES[i]},{-s}" if 0 < i < 4 else "")  # noqa: E731
    episodes = load_episodes(table(pictures, "image,steering", row))
    assert episodes.skipped == {"picture that rows of several folders mean, with different labels": 6}
    assert episodes.frame_count == COUNT - 3


def test_accents_in_either_form(tmp_path):
    for i in range(3):
        save(tmp_path / "images" / unicodedata.normalize("NFD", f"b\u00fc{i}.png"), picture(level=4 * i))
    path = table(tmp_path, "image,steering", lambda i, s: f"b\u00fc{i}.png,{s}", range(3))
    for encoding in ("utf-8", "cp1252"):
        path.write_bytes(path.read_text("utf-8" if encoding == "utf-8" else None).encode(encoding))
        check(load_episodes(path))


def test_a_single_row_and_hidden_files_and_several_tables(pictures, tmp_path):
    assert load_episodes(table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},{s}", [5])).frame_count == 1
    save(tmp_path / NAMES[0], picture())
    table(tmp_path, "image,steering", lambda i, s: f"{NAMES[i]},{s}", [0])
    (tmp_path / "._labels.csv").write_bytes(b"\0\5\x16\7")
    assert load_episodes(tmp_path).frame_count == 1
    (tmp_path / "more.csv").write_text("image,steering\n")
    with pytest.raises(ValueError, match=r"holds 2 tables \(labels.csv, more.csv\): give the path") as error:
        load_episodes(tmp_path)
    one_line(error)


@pytest.mark.parametrize("name", ["a.7z", "log.csv.gz", "log.xlsx", "drive.bag", "drive.mcap", "data.pkl"])
def test_other_kinds_of_files_are_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"1234")
    with pytest.raises(ValueError, match="(unpack it|save it as CSV|as CSV).*give the path") as error:
        load_episodes(tmp_path / name)
    one_line(error)


@pytest.mark.parametrize("noted", range(1, 9))
def test_pictures_are_shown_as_their_camera_was_held(tmp_path, noted):
    from PIL import Image

    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:16, :32, 0], stored[24:, :, 1] = 250, 200
    note = Image.Exif()
    note[274] = noted
    Image.fromarray(stored).save(tmp_path / "0.jpg", exif=note, quality=98, subsampling=0)
    frame = load_episodes(table(tmp_path, "image,steering", lambda i, s: f"{i}.jpg,{s}", [0]))[0].frames()[0]
    seen = cv2.imread(str(tmp_path / "0.jpg"))
    assert seen is not None
    np.testing.assert_array_equal(frame, seen[..., ::-1])


@pytest.mark.parametrize("suffix", [".tif", ".ppm", ".jpe", ".jfif"])
def test_more_kinds_of_pictures(tmp_path, suffix):
    from PIL import Image

    for i in range(2):
        form = "JPEG" if suffix[:2] == ".j" else None
        Image.fromarray(picture(level=4 * i)).save(tmp_path / f"{i}{suffix}", form)
    path = table(tmp_path, "image,steering", lambda i, s: f"{i}{suffix},{s}", range(2))
    assert load_episodes(path).frame_count == 2
    (tmp_path / f"1{suffix}").write_bytes((tmp_path / f"1{suffix}").read_bytes()[:200])
    assert load_episodes(path).skipped == {"picture file truncated": 1}


@pytest.mark.parametrize("log", ["table", "udacity"])
def test_without_a_clock_rows_without_a_label_take_time_and_repeats_take_none(tmp_path, log):
    names = [f"{'abcdefghijkl'[5 * i % 12]}x.png" for i in range(12)]
    for i, name in enumerate(names):
        save(tmp_path / "IMG" / name, picture(level=4 * i))
    rows = [f"{name},{'' if i in (3, 4) else round(0.1 * i - 0.5, 3)}" for i, name in enumerate(names)]
    rows = [row for row in rows for _ in range(3)]
    path = tmp_path / ("driving_log.csv" if log == "udacity" else "IMG/labels.csv")
    path.write_text("\n".join(["center,steering", *rows]) + "\n")
    episode = load_episodes(path, nominal_rate=20)[0]
    shown = episode.frames()[:, -1, 0, 0] // 4
    np.testing.assert_array_equal(shown, [0, 1, 2, *range(5, 12)])
    np.testing.assert_allclose(episode.time_s, 0.05 * shown, atol=1e-9)


@pytest.mark.parametrize("dash", ["\u2212", "\u2013", "\uff0d"])
def test_every_dash_is_a_minus(pictures, dash):
    check(load_episodes(table(pictures, "image,steering", lambda i, s: f"{NAMES[i]},\u200b{s}".replace("-", dash))))


def test_a_simulator_log_whose_straight_ahead_is_not_zero_is_refused(tmp_path):
    for name in NAMES:
        save(tmp_path / "IMG" / name, picture())
    rows = [f"{name},{0.5 + 0.3 * s:.4f}" for name, s in zip(NAMES, STEERING, strict=True)]
    (tmp_path / "driving_log.csv").write_text("\n".join(["center,steering", *rows]) + "\n")
    with pytest.raises(ValueError, match="mostly near 0.5.*--straight") as error:
        load_episodes(tmp_path)
    one_line(error)
    found = load_episodes(tmp_path, straight=0.5, degrees=0.5)
    np.testing.assert_allclose(-found[0].steering, 0.6 * STEERING, atol=1e-3)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["labels.csv", "labels.parquet", "drive.mp4", "tub.tar.gz", "tub.zip", "set.hdf5"])
@pytest.mark.parametrize(("content", "message"), [(POINTER, "git lfs pull"), (b"\n<!DOCTYPE html>", "web page")])
def test_what_was_not_fetched_says_so(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    options = {}
    if name == "drive.mp4":
        options = {"table": tmp_path / "log.csv"}
        (tmp_path / "log.csv").write_text("time,steering\n0,0.1\n0.05,-0.1\n")
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(tmp_path / name, **options)
    one_line(error)


def test_pictures_that_were_not_fetched_say_so(tmp_path):
    (tmp_path / "0.png").write_bytes(POINTER)
    with pytest.raises(ValueError, match="1 × picture of which only the Git LFS pointer is here") as error:
        load_episodes(table(tmp_path, "image,steering", lambda i, s: f"{i}.png,{s}", [0]))
    one_line(error)


def test_hdf5_files_of_others_are_no_minari_sets(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "log.h5", "w") as file:
        file["steering_angle"] = np.zeros(3)
    with pytest.raises(ValueError, match="no Minari data set; in it: 'steering_angle'") as error:
        load_episodes(tmp_path / "log.h5")
    one_line(error)


def test_another_table_beside_img_says_whose_sign_it_takes(tmp_path):
    make_log(tmp_path, count=3)
    (tmp_path / "driving_log.csv").rename(tmp_path / "mine.csv")
    assert "positive steering goes right" in load_episodes(tmp_path / "mine.csv").warnings[0]
    assert load_episodes(tmp_path / "mine.csv", positive="right").warnings == []


@pytest.mark.parametrize("way", ["up", "told"])
def test_pictures_beside_the_folder_of_the_table(tmp_path, way):
    (tmp_path / "labels").mkdir()
    for i in range(3):
        save(tmp_path / "frames" / f"{i}.png", picture(level=4 * i))
    save(tmp_path / "labels" / "images" / "0.png", picture(level=240))  # of another drive
    start = "..\\frames\\" if way == "up" else "frames/"
    path = table(tmp_path / "labels", "image,steering", lambda i, s: f"{start}{i}.png,{s}", range(3))
    check(load_episodes(path) if way == "up" else load_episodes(tmp_path, table=path))


def test_a_table_that_is_named_decides_whatever_else_is_there(tmp_path):
    make_log(tmp_path, count=3)
    names = sorted(path.name for path in (tmp_path / "IMG").glob("center*"))
    path = table(tmp_path, "image,steering", lambda i, s: f"{names[i]},{0.7 + i / 10}", range(3))
    found = load_episodes(tmp_path, table=path, positive="left")
    np.testing.assert_allclose(found[0].steering, [0.7, 0.8, 0.9], atol=1e-6)


@pytest.mark.parametrize("strays", [1, 2])
def test_single_pictures_of_another_size_are_left_out_and_counted(tmp_path, strays):
    """More of them belong to another camera, and say so."""
    for i in range(120):
        save(tmp_path / f"{i:03d}.png", picture(*((24, 32) if i < strays else (12, 16)), level=i))
    (tmp_path / "t.csv").write_text("image,steering\n" + "".join(f"{i:03d}.png,{i / 1000}\n" for i in range(120)))
    if strays == 1:
        episodes = load_episodes(tmp_path)
        assert episodes.skipped == {"picture of another size than 16×12": 1}
        np.testing.assert_allclose(episodes[0].steering, np.arange(1, 120) / 1000, atol=1e-6)
    else:
        with pytest.raises(ValueError, match="got 16×12 .* and 32×24 .*two data sets") as error:
            load_episodes(tmp_path)
        one_line(error)
