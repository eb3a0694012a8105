"""Udacity logs: paths of every machine, the clock in the names, side cameras, dirt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agents.recordings import load_episodes
from tests.agents.recordings.makers import make_log, one_line


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


def test_rows_keep_their_order_and_a_step_back_or_a_jump_begins_an_episode(tmp_path):
    make_log(tmp_path / "log", count=40)
    rewrite(tmp_path / "log", lambda rows: [*rows[20:25], *rows[:5], *rows[30:]])
    episodes = load_episodes(tmp_path / "log")
    assert [len(episode) for episode in episodes] == [5, 5, 10]
    assert load_episodes(tmp_path / "log", max_gap_s=5.0).frame_count == 20
    assert [len(episode) for episode in load_episodes(tmp_path / "log", max_gap_s=5.0)] == [5, 15]


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
        ("x_m,y_m,w_tr_right_m,w_tr_left_m\n1,2,3,4\n", "should name a picture in its first column"),
        ("center_1.jpg,a.jpg,b.jpg,0,5,0,5,0,0,3,1\n", "got 11; numbers must be written with a decimal point"),
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
