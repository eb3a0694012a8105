"""Udacity logs: paths of every machine, the clock in the names, side cameras, dirt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import make_log, one_line, picture, save


@pytest.mark.parametrize("prefix", ["C:\\Users\\Jo\\IMG\\", " /home/jo/data/IMG/", "IMG/", ""])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize(("end", "start"), [("\n", ""), ("\r\n", "\ufeff")])
def test_logs_of_every_machine_are_read(tmp_path, prefix, header, end, start):
    make_log(tmp_path / "log", prefix=prefix, header=header, end=end, start=start)
    episodes = load_episodes(tmp_path / "log")
    assert episodes.warnings == []
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(episodes[0].extras["speed_mps"], 4.4704, rtol=1e-5)


def rewrite(log: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = log / "driving_log.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda row: row.replace(",0.3,", ",nan,"), "steering not a number"),
        (lambda row: row.replace(",0.3,", ",,"), "steering not a number"),
        (lambda row: row.replace(",0.3,", ",25,"), "steering outside [-1, 1]"),
        (lambda row: row[:-12], "row with columns missing or damaged"),
        (lambda row: "\x00\x00garbage", "row with columns missing or damaged"),
        (lambda row: "," + row.split(",", 1)[1], "row with columns missing or damaged"),
    ],
)
def test_one_bad_row_of_a_log_is_counted_and_skipped(tmp_path, change, reason):
    make_log(tmp_path / "log")
    rewrite(tmp_path / "log", lambda rows: [*rows[:3], change(rows[3]), *rows[4:]])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.skipped == {reason: 1}
    np.testing.assert_allclose(-episodes[0].steering, [0, 0.1, 0.2, 0.4, 0.5], atol=1e-6)
    np.testing.assert_allclose(episodes[0].elapsed(), [1, 1, 1, 2, 1], rtol=1e-4)


def test_rows_are_put_in_the_order_of_their_stamps_and_a_jump_begins_an_episode(tmp_path):
    make_log(tmp_path / "log", count=40)
    rewrite(tmp_path / "log", lambda rows: [*rows[20:25], *rows[:5], *rows[30:]])
    episodes = load_episodes(tmp_path / "log")
    assert [len(episode) for episode in episodes] == [5, 15], "rows 4 and 20 are 1.1 s apart"
    assert "10 of 20 records did not stand in the order" in episodes.warnings[0]
    np.testing.assert_allclose(episodes[1].elapsed(), [1, 1, 1, 1, 1, 6, *[1] * 9], rtol=1e-4)
    assert [len(episode) for episode in load_episodes(tmp_path / "log", max_gap_s=5.0)] == [20]


def test_side_cameras_lead_back_to_the_middle_and_share_the_time_line(tmp_path):
    make_log(tmp_path / "log", count=10)
    for path in sorted((tmp_path / "log" / "IMG").glob("left_*"))[:4]:
        path.unlink()
    episodes = load_episodes(tmp_path / "log", side_cameras=True, side_camera_correction=0.25)
    cameras = {episode.meta.extra["camera"]: episode for episode in episodes}
    assert {camera: len(episode) for camera, episode in cameras.items()} == {"centre": 10, "left": 6, "right": 10}
    np.testing.assert_allclose(
        cameras["left"].steering, np.clip(cameras["centre"].steering[4:] - 0.25, -1, 1), atol=1e-6
    )
    np.testing.assert_allclose(cameras["right"].steering, np.clip(cameras["centre"].steering + 0.25, -1, 1), atol=1e-6)
    assert cameras["left"].meta.start_s == pytest.approx(4 * 0.07, rel=1e-4)
    assert cameras["left"].frames(0, 1).mean() > cameras["centre"].frames(0, 1).mean()
    assert episodes.skipped == {}
    assert "4 of 10 rows have no usable picture of the left camera" in episodes.warnings[0]
    assert [len(episode) for episode in load_episodes(tmp_path / "log")] == [10]


def test_a_log_with_four_columns_is_read(tmp_path):
    make_log(tmp_path / "log")
    rewrite(tmp_path / "log", lambda rows: [row.rsplit(",", 3)[0] for row in rows])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.frame_count == 6
    assert episodes[0].extras == {}


@pytest.mark.parametrize("behind", ["1.5:0.2:-3:0:90:0", "-1.5,0.2,3.25,0,90,0"])
def test_where_the_car_was_behind_its_speed_is_passed_over(tmp_path, behind):
    make_log(tmp_path / "log", sides=False)
    file = tmp_path / "log" / "driving_log.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    steering = [-0.1, 0.2, 0.1, 0.0, -0.3, 0.4]
    lines = [f"{row[0]},,,{s},0.5,0,10,{behind}" for row, s in zip(rows, steering, strict=True)]
    file.write_text("\n".join(lines))
    (episode,) = load_episodes(tmp_path / "log")
    np.testing.assert_allclose(episode.steering, -np.asarray(steering), atol=1e-6)
    np.testing.assert_allclose(episode.extras["speed_mps"], 4.4704, rtol=1e-5)
    file.write_text("\n".join(f"{row[0]},,,{0.1 * i},0.5,0,10,{behind}" for i, row in enumerate(rows)))
    with pytest.raises(ValueError, match="7 columns"):  # a clock may stand there
        load_episodes(tmp_path / "log")


def test_names_without_time_are_laid_out_at_the_usual_rate(tmp_path):
    make_log(tmp_path / "log")
    for index, path in enumerate(sorted((tmp_path / "log" / "IMG").glob("center_*"))):
        path.rename(path.with_name(f"frame{index}.jpg"))
    rewrite(tmp_path / "log", lambda rows: [f"frame{i}.jpg,,,{i / 10},0,0,1" for i in range(len(rows))])
    episodes = load_episodes(tmp_path / "log")
    assert episodes.nominal_period_s == pytest.approx(1 / 15)
    assert "time stamps cannot be used (missing)" in episodes.warnings[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no usable record: it is empty"),
        ("center,left,right,steering,throttle,brake,speed\n", "it is empty"),
        ("x_m,y_m,w_tr_right_m,w_tr_left_m\n1,2,3,4\n", "should have a column for centre and steering, it has: 'x_m'"),
        ("1,2,3,4\n", "should name a picture in its first column"),
        ("center_1.jpg,a.jpg,b.jpg,0,5,0,5,0,3,1\n", "got 10 columns; numbers must be written with a decimal point"),
        ("center_1.jpg,a.jpg\n", "should have the 7 columns"),
        ('center_1.jpg,"' + "a" * 200_000 + "\n", "not a readable CSV file"),
    ],
)
def test_other_tables_are_not_taken_for_logs(tmp_path, content, message):
    make_log(tmp_path / "log")
    (tmp_path / "log" / "driving_log.csv").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(tmp_path / "log" / "driving_log.csv")
    one_line(error)


def test_a_log_without_its_pictures_says_where_they_belong(tmp_path):
    make_log(tmp_path / "log")
    shutil.rmtree(tmp_path / "log" / "IMG")
    with pytest.raises(ValueError, match="IMG should hold the pictures"):
        load_episodes(tmp_path / "log")


def numbered(directory: Path, rows: list[str], encoding: str = "utf-8", header: str = "") -> Path:
    """Rewrite a log of 30 rows whose steering is 0.03 · i, by a template of the row."""
    make_log(directory, count=30, sides=False)
    names = sorted(path.name for path in (directory / "IMG").glob("center_*"))
    lines = [row.replace("NAME", name) for row, name in zip(rows, names, strict=True)]
    (directory / "driving_log.csv").write_text("\n".join(filter(None, [header, *lines])) + "\n", encoding=encoding)
    return directory


STEERING = [round(0.03 * i, 2) for i in range(30)]


def comma(value: float) -> str:
    return f"{value:.3f}".replace(".", ",")


H = "center,left,right,steering,throttle,brake,speed"
DIALECTS = {
    "decimal commas, spaces": ("", lambda s: f"NAME, L.jpg, R.jpg, {comma(s)}, {comma(0.3)}, 0, {comma(12.2)}"),
    "decimal commas, quoted": ("", lambda s: f'NAME,L.jpg,R.jpg,"{comma(s)}",0,0,12'),
    "decimal commas, semicolons": ("", lambda s: f"NAME;L.jpg;R.jpg;{comma(s)};0;0;12"),
    "decimal commas, tabs": (H.replace(",", "\t"), lambda s: f"NAME\tL.jpg\tR.jpg\t{comma(s)}\t0\t0\t12,5"),
    "decimal commas cut in pairs": ("", lambda s: f"NAME,L.jpg,R.jpg,{comma(s)},{comma(0.3)},{comma(0)},{comma(9)}"),
    "semicolons": (H.replace(",", ";"), lambda s: f"NAME;L.jpg;R.jpg;{s};0;0;12"),
    "bars": ("", lambda s: f"NAME|L.jpg|R.jpg|{s}|0|0|12"),
    "a column behind": (H + ",roll", lambda s: f"NAME,L.jpg,R.jpg,{s},0,0,12,0.07"),
    "an index before": ("," + H, lambda s: f"7,NAME,L.jpg,R.jpg,{s},0,0,12"),
    "a typographic minus and quotes": ("", lambda s: f"NAME,L.jpg,R.jpg,'{s}',0,0,\u221212"),
    "an index without a header": ("", lambda s: f"7,NAME,L.jpg,R.jpg,{s},0,0,12"),
    "centre and steering alone": ("center,steering", lambda s: f"NAME,{s}"),
    "another order": ("steering_angle,speed,image_path", lambda s: f"{s},12,IMG/NAME"),
    "a trailing comma": (H, lambda s: f"NAME,L.jpg,R.jpg,{s},0,0,12,"),
    "degrees by name": ("center,steering_deg", lambda s: f"NAME,{25 * s:.4f}"),
    "degrees by value": ("", lambda s: f"NAME,L.jpg,R.jpg,{25 * s:.4f},0,0,12"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_the_same_labels(tmp_path, dialect, encoding):
    header, row = DIALECTS[dialect]
    log = numbered(tmp_path / "log", [row(s) for s in STEERING], encoding, header)
    episodes = load_episodes(log)
    assert episodes.skipped == {}
    np.testing.assert_allclose(-episodes[0].steering, STEERING, atol=1e-4)


@pytest.mark.parametrize(
    "row",
    [
        lambda i, s: f"NAME,L.jpg,R.jpg,{comma(s)},1,0,{comma(12.2)}",
        lambda i, s: f"NAME,L.jpg,R.jpg,{comma(s)}" if i % 3 == 0 else "NAME,L.jpg,R.jpg,0",
        lambda i, s: f"NAME,L.jpg,R.jpg,{comma(s)},1,0,12" if i % 3 == 0 else "NAME,L.jpg,R.jpg,0,0,0,0",
    ],
)
def test_commas_that_could_mean_two_things_are_refused_and_no_label_becomes_zero(tmp_path, row):
    log = numbered(tmp_path / "log", [row(i, s) for i, s in enumerate(STEERING)])
    with pytest.raises(ValueError, match="decimal point, or columns be separated by semicolons") as error:
        load_episodes(log)
    one_line(error)


def test_whole_numbers_are_not_taken_for_cut_decimals(tmp_path):
    log = numbered(tmp_path / "log", [f"NAME,L.jpg,R.jpg,{i % 3 - 1},1,0,{100 + i}" for i in range(30)])
    episodes = load_episodes(log)
    np.testing.assert_array_equal(-episodes[0].steering, [i % 3 - 1 for i in range(30)])
    np.testing.assert_allclose(episodes[0].extras["speed_mps"], 0.44704 * np.arange(100, 130), rtol=1e-5)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "center,steering_deg",
            lambda s: f"NAME,{400 * s:.2f}",
            "degrees.*beyond the 25° of this format's car.*--degrees",
        ),
        ("center,steering", lambda s: f"NAME,{1500 + 400 * s:.0f}", "degrees.*--degrees"),
        ("center,steering_rad", lambda s: f"NAME,{0.4 * s:.4f}", "radians.*--degrees"),
        (
            "center,steering,steering_angle",
            lambda s: f"NAME,{s},{25 * s}",
            "any of the columns steering, steering_angle",
        ),
        (
            "center,steering",
            lambda s: f"NAME,{s} deg",
            "'steering' holds 30 cells that are no numbers, such as '0.0 deg'",
        ),
        ("center,throttle", lambda s: f"NAME,{s}", "should have a column for steering, it has: 'center', 'throttle'"),
        ("", lambda s: f"NAME,L.jpg,R.jpg,{s},0,0,12.5,0.07", "other columns need a header"),
    ],
)
def test_labels_whose_meaning_is_not_said_are_refused(tmp_path, header, row, message):
    log = numbered(tmp_path / "log", [row(s) for s in STEERING], header=header)
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(log)
    one_line(error)


def test_full_lock_and_column_can_be_named(tmp_path):
    header = "center,steering,wheel angle"
    log = numbered(tmp_path / "log", [f"NAME,0,{400 * s:.3f}" for s in STEERING], header=header)
    found = load_episodes(log, steering_column="wheel angle", degrees=400)
    np.testing.assert_allclose(-found[0].steering, STEERING, atol=1e-4)
    turned = load_episodes(log, steering_column="wheel angle", degrees=400, positive="left")
    np.testing.assert_allclose(turned[0].steering, STEERING, atol=1e-4)
    with pytest.raises(ValueError, match="no column 'wheel'; it has: 'center', 'steering', 'wheel angle'"):
        load_episodes(log, steering_column="wheel")


@pytest.mark.parametrize("order", ["reversed", "shuffled", "interleaved", "blocks", "repeated", "thrice"])
def test_rows_in_any_order_and_number_give_the_same_drive(tmp_path, order):
    make_log(tmp_path / "log", count=60)
    clean = load_episodes(tmp_path / "log")
    rows = list(range(60))
    orders = {
        "reversed": rows[::-1],
        "shuffled": list(np.random.default_rng(0).permutation(60)),
        "blocks": [i for block in (1, 2, 0) for i in range(20 * block, 20 * block + 20)],
        "interleaved": [j for i in range(30) for j in (i, 30 + i)],
        "repeated": rows * 2,
        "thrice": [i for i in rows for _ in range(1 if i % 4 else 3)],
    }
    rewrite(tmp_path / "log", lambda lines: [lines[i] for i in orders[order]])
    dirty = load_episodes(tmp_path / "log")
    assert [len(episode) for episode in dirty] == [60]
    np.testing.assert_array_equal(dirty[0].steering, clean[0].steering)
    np.testing.assert_array_equal(dirty[0].time_s, clean[0].time_s)
    assert dirty[0].source.paths == clean[0].source.paths
    repeats = len(orders[order]) - 60
    assert dirty.skipped == ({"repeat of an earlier record": repeats} if repeats else {})
    assert len(dirty.warnings) == 1, "it is said"


def test_the_rows_own_paths_come_before_the_usual_folder(tmp_path):
    make_log(tmp_path / "log", count=6)
    for lap, level in (("lap1", 10), ("lap2", 200)):
        for index in range(3):
            save(tmp_path / "log" / lap / f"center_{index}.jpg", picture(level=level))
            save(tmp_path / "log" / "IMG" / f"center_{index}.jpg", picture(level=99))
    rows = [f"../{lap}/center_{i}.jpg,,,0.1,0,0,1" for lap in ("lap1", "lap2") for i in range(3)]
    (tmp_path / "log" / "driving_log.csv").write_text("\n".join(rows))
    episodes = load_episodes(tmp_path / "log")
    assert [path.parent.name for path in episodes[0].source.paths] == ["lap1"] * 3 + ["lap2"] * 3


@pytest.mark.parametrize("name", ["center_\0.jpg", "center_\ud800.jpg", "y" * 6000 + ".jpg"])
def test_a_name_that_no_file_can_have_costs_one_row(tmp_path, name):
    make_log(tmp_path / "log")
    path = tmp_path / "log" / "driving_log.csv"
    rows = path.read_text().splitlines()
    rows[3] = name + ",,," + rows[3].split(",", 3)[3]
    path.write_bytes("\n".join(rows).encode("utf-8", "surrogatepass"))
    episodes = load_episodes(tmp_path / "log")
    assert episodes.frame_count == 5
    assert sum(episodes.skipped.values()) == 1
