"""Roads from CSV files: scale, direction, bends, and what is wrong with a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from envs.road.files import LANE_WIDTH_M, load_track
from envs.road.track import TrackError


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(["# x_m,y_m,w_tr_right_m,w_tr_left_m", *rows]), encoding="utf-8")
    return path


def oval_rows(count: int = 100) -> list[str]:
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return [f"{200 * math.cos(a):.6f},{120 * math.sin(a):.6f},5.0,6.0" for a in angle]


def test_csv_is_scaled_and_driven_in_file_order(tmp_path: Path) -> None:
    track = load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.1)
    assert track.lane_width_m == pytest.approx(0.55)
    assert np.ptp(track.points, axis=0) == pytest.approx([40.0, 24.0], abs=0.1)
    assert track.project([0.0, 0.0]).lateral > 0.0  # counter-clockwise: the middle is on the left
    assert load_track(tmp_path / "oval.csv", scale=0.1, reverse=True).project([0.0, 0.0]).lateral < 0.0
    assert load_track(tmp_path / "oval.csv", scale=0.1, lane_width_m=0.7).lane_width_m == 0.7


def test_csv_bends_too_sharp_for_the_car_are_rounded(tmp_path: Path) -> None:
    square = [f"{x},{y},5,5" for x, y in _square(100.0, 5.0)]
    path = write(tmp_path / "square.csv", square)
    for reverse in (False, True):
        track = load_track(path, scale=0.1, min_lane_radius_m=0.8, reverse=reverse)
        lane = track.curvature(np.arange(0.0, track.length_m, 0.02), track.right_lane_offset())
        assert np.abs(lane).max() <= 1.05 / 0.8
        assert np.abs(track.project(np.array(_square(10.0, 0.5))).lateral).max() < 0.7


def test_a_real_hairpin_stays_where_it_is(tmp_path: Path) -> None:
    """A bend that can be driven is not moved by the smoothing."""
    track = load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.1)
    rows = np.array([[float(v) for v in row.split(",")[:2]] for row in oval_rows()]) * 0.1
    assert np.abs(track.project(rows).lateral).max() < 0.01


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (oval_rows()[:5], "at least 8 points, got 5"),
        ([*oval_rows()[:3], "1.0,2.0,3.0", *oval_rows()[4:]], "line 5: expected four finite numbers"),
        (
            [*oval_rows()[:3], "1.0,abc,5,5", *oval_rows()[4:]],
            "line 5: .* numbers .* got '1.0,abc,5,5'",
        ),
        ([*oval_rows()[:3], "nan,2.0,5,5", *oval_rows()[4:]], "line 5: expected four finite"),
        ([*oval_rows()[:3], "1.0,2.0,0,5", *oval_rows()[4:]], "line 5: the widths must be positive"),
        ([*oval_rows()[:3], oval_rows()[2], *oval_rows()[4:]], "line 5: the same position"),
    ],
)
def test_malformed_csv_names_file_and_line(tmp_path: Path, rows: list[str], message: str) -> None:
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(TrackError, match=message) as error:
        load_track(path)
    assert str(path) in str(error.value)


def test_rows_out_of_order_are_a_road_or_a_clear_error(tmp_path: Path) -> None:
    points = [(20 * math.cos(a / 10), 20 * math.sin(a / 10)) for a in range(62)]
    refused = 0
    for seed in range(6):
        order = np.random.default_rng(seed).permutation(62)
        path = write(tmp_path / "road.csv", [f"{points[k][0]:.3f},{points[k][1]:.3f},4,4" for k in order])
        try:
            assert load_track(path).length_m > 2
        except TrackError as error:
            assert "road.csv" in str(error) and "in order" in str(error)
            refused += 1
    assert refused


def test_missing_binary_and_odd_files_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.csv"):
        load_track(tmp_path / "no.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81" * 40)
    with pytest.raises(TrackError, match="not a text file"):
        load_track(tmp_path / "binary.csv")
    with pytest.raises(TrackError, match="scale must be positive"):
        load_track(write(tmp_path / "oval.csv", oval_rows()), scale=0.0)


def swapped(row: str) -> str:
    x, y, right, left = row.split(",")
    return f"{y},{left},{x},{right},7"


PLAIN = "# x_m,y_m,w_tr_right_m,w_tr_left_m"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join([PLAIN, *oval_rows()]),
        "\n".join(oval_rows()),
        "\n".join([PLAIN.removeprefix("# "), *oval_rows()]),
        "\ufeff" + "\n".join([PLAIN, *oval_rows()]),
        "\n".join(["# an oval, made by hand", PLAIN, *(row + "," for row in oval_rows())]),
        "\n".join([PLAIN.replace(",", "; "), *(row.replace(",", "; ") for row in oval_rows())]),
        "\n".join([PLAIN.replace(",", ";"), *(row.replace(",", ";").replace(".", ",") for row in oval_rows())]),
        "\n".join([PLAIN, *(row.replace(",", "\t") for row in oval_rows())]),
        "\n".join([PLAIN, *(row.replace(",", "  ") for row in oval_rows())]),
        "\n".join(
            [
                "y_m,w_tr_left_m,x_m,w_tr_right_m,note",
                *map(swapped, oval_rows()),
            ]
        ),
        "\r\n".join([PLAIN, *oval_rows(), oval_rows()[0]]),
    ],
)
def test_dialects_of_the_same_road_are_the_same_road(tmp_path: Path, text: str) -> None:
    (tmp_path / "oval.csv").write_text(text, encoding="utf-8", newline="")
    track = load_track(tmp_path / "oval.csv")
    expected = load_track(write(tmp_path / "plain.csv", oval_rows()))
    np.testing.assert_array_equal(track.points, expected.points)
    assert track.lane_width_m == expected.lane_width_m


def test_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "oval.csv").write_text("\n".join([PLAIN, *oval_rows()]), encoding="utf-16")
    assert load_track(tmp_path / "oval.csv").lane_width_m == pytest.approx(0.55)


def test_a_race_line_is_read_by_the_names_of_its_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["{};{};{};0;0;8;0".format(number, *row.split(",")) for number, row in enumerate(oval_rows())]
    path = tmp_path / "raceline.csv"
    path.write_text("\n".join(["# s_m; x_m; y_m; psi_rad; kappa_radpm; vx_mps; ax_mps2", *rows]))
    track = load_track(path)
    assert track.lane_width_m == LANE_WIDTH_M and "has no widths" in caplog.text
    np.testing.assert_allclose(np.ptp(track.points, axis=0), [40.0, 24.0], atol=0.1)
    assert load_track(path, lane_width_m=0.7).lane_width_m == 0.7


def test_lanes_narrower_than_the_car_are_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = ["{},{},1.1,1.1".format(*(float(cell) / 10 for cell in row.split(",")[:2])) for row in oval_rows()]
    path = write(tmp_path / "f1tenth.csv", small)
    load_track(path, scale=0.1, min_lane_radius_m=0.1)
    assert "lanes of 0.11 m at a scale of 0.1 are narrower than the car, 0.20 m" in caplog.text
    caplog.clear()
    load_track(path, scale=1.0)
    assert not caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1e9,2.0,5,5", *oval_rows()], r"a lap of .* m at a scale of 0.1, expected at most 30000 m"),
        (["1e308,2.0,5,5", *oval_rows()], "a lap of"),
        ([row.replace("5.0,6.0", "1e9,1e9") for row in oval_rows()], "lanes of 1e\\+08 m .* at most 100 m"),
        ([*oval_rows()[:3], "1.0,2.0,5.0,6.0,7.0", *oval_rows()[4:]], "line 5: expected four finite numbers"),
        ([*oval_rows()[:3], "1_0,2.0,5.0,6.0", *oval_rows()[4:]], "line 5: expected four finite numbers"),
    ],
)
def test_absurd_cells_are_refused_before_memory_is_taken(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(TrackError, match=message) as error:
        load_track(write(tmp_path / "far.csv", rows))
    assert "far.csv" in str(error.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.road.table.MOST_BYTES", 1000)
    with pytest.raises(TrackError, match="expected at most 1,000"):
        load_track(write(tmp_path / "oval.csv", oval_rows()))


def _square(side: float, step: float) -> list[tuple[float, float]]:
    way = np.arange(0.0, side, step)
    zero, full = np.zeros_like(way), np.full_like(way, side)
    x, y = np.concatenate([way, full, side - way, zero]), np.concatenate([zero, way, full, side - way])
    return list(zip(x.tolist(), y.tolist(), strict=True))


def test_the_example_in_the_docs_is_a_road_that_needs_no_rounding():
    road = load_track(Path(__file__).parents[3] / "docs" / "circuit.csv")
    assert road.length_m == pytest.approx(90.2, abs=0.1) and road.lane_width_m == pytest.approx(0.4)
    assert 1.0 / np.abs(road.curvatures).max() > 1.2
