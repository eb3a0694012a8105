"""A report is one whole page: nothing to fetch, nothing unescaped, every figure in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from experiments.demo.report import Material, write_report
from experiments.demo.results import OFFSET_EDGES, NoiseLevel, Road
from experiments.film.video import VideoWriter
from experiments.reports import plots
from experiments.reports.page import EMBED_BYTES, film
from policies.wiring.wiring import Wiring
from tests.experiments.robustness.made_up import drive, results, road

VOID = {"meta", "img", "br", "input", "link"}


class Checker(HTMLParser):
    """Checks that tags close in order, and collects ids, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "poster", "action"):
                self.addresses.append(value or "")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(path: Path) -> Checker:
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    checker.close()
    assert checker.open == []
    return checker


def frames(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 96, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def material(tmp_path: Path) -> Material:
    path = tmp_path / "drive.mp4"
    with VideoWriter(path) as writer:
        for number in range(5):
            writer.append(np.full((54, 96, 3), 40 * number, np.uint8))
    noisy = [(v, frame, frame) for v, frame in zip((0, 0.1, 0.2, 0.3), frames(4), strict=True)]
    return Material(path, np.zeros((54, 96, 3), np.uint8), frames(8), noisy, Wiring.auto_ncp(19, 1, 32))


def test_page_is_whole_and_needs_no_network(tmp_path: Path, material: Material):
    write_report(tmp_path / "report.html", results(), material)
    checker = check(tmp_path / "report.html")
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert sum(address.startswith("data:video/mp4") for address in checker.addresses) == 1
    assert len(checker.ids) == len(set(checker.ids))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    outside = set(re.findall(r"""https?://[^\s"'<>)]+""", page)) - {"http://www.w3.org/2000/svg"}
    assert outside <= {"http://www.w3.org/1999/xlink"}
    assert "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    # Every reference inside a figure finds its target.
    targets = set(re.findall(r'href="#([^"]+)"', page)) | set(re.findall(r"url\(#([^)]+)\)", page))
    assert targets <= set(checker.ids)
    assert not re.search(r"#01020[3-9]", page), "a place holder for a colour is left"


def test_figures_of_the_results_are_shown(tmp_path: Path, material: Material):
    found = results()
    write_report(tmp_path / "report.html", found, material)
    text = " ".join("".join(check(tmp_path / "report.html").text).split())
    assert found.verdict() in text
    offset = found.clean.figures["mean_offset_lane"]
    assert f"[{100 * offset.low:.1f}, {100 * offset.high:.1f}]" in text
    for level in found.levels:
        value = level.figures["crashes_per_km"].value
        assert (f"{value:.2f}" if value < 10 else f"{value:.1f}") in text
    assert "wormwheel demo --seed 0" in text and "2.13.0" in text
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('class="trail"') == len(found.clean.roads)


def test_text_is_escaped(tmp_path: Path):
    nasty = "<script>alert(\"x\")</script> & 'y'"
    found = replace(results(), command=nasty, machine={nasty: nasty}, options={"note": nasty})
    write_report(tmp_path / "report.html", found)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert nasty in "".join(check(tmp_path / "report.html").text)


def test_without_material_noise_or_learning(tmp_path: Path):
    found = replace(results(roads=1, variances=(0.0,)), history=())
    write_report(tmp_path / "report.html", found)
    assert "Under noise" not in "".join(check(tmp_path / "report.html").text)


def test_a_driver_that_crashes_at_once(tmp_path: Path):
    one = replace(drive(0, crashed=True), distance_m=0.0)
    level = NoiseLevel.from_drives(0.0, [one], [road(one)])
    found = replace(results(roads=1), levels=(level, replace(level, variance=0.1)))
    write_report(tmp_path / "report.html", found)
    text = "".join(check(tmp_path / "report.html").text)
    assert "nan" not in text.lower().replace("nano", "")
    assert "left the road once" in text
    json.dumps(found.to_json(), allow_nan=False)


def test_large_film_is_linked_not_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "my drive.mp4"
    path.write_bytes(b"x" * 100)
    assert "data:video/mp4;base64," in film(path, tmp_path)
    monkeypatch.setattr("experiments.reports.page.EMBED_BYTES", 99)
    assert 'src="my drive.mp4"' in film(path, tmp_path)
    assert 'src="file:///' in film(path, tmp_path / "elsewhere")
    assert EMBED_BYTES == 8_000_000


def test_an_old_report_survives_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setattr("experiments.reports.plots.noise_figure", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path / "report.html", results())
    assert (tmp_path / "report.html").read_text() == "old"


def test_results_are_json_and_thin(tmp_path: Path):
    found = results()
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["format"] == "wormwheel-demo"
    assert len(values["levels"]) == 4 and len(values["levels"][0]["roads"]) == 12
    assert sum(values["levels"][0]["offsets"]) == pytest.approx(1.0, abs=1e-4)
    assert len(values["offset_edges"]) == len(values["levels"][0]["offsets"]) + 1 == len(OFFSET_EDGES)


def test_a_road_keeps_ends_and_figures():
    one = drive(3)
    line = np.stack([np.linspace(0, 1, 1000), np.linspace(1, 2, 1000)], axis=1)
    kept = Road.from_drive(one, 10.0, line, line)
    assert kept.trail[0] == (0.0, 1.0) and kept.trail[-1] == (1.0, 2.0) and len(kept.trail) <= 140
    share = np.abs(one.lateral_offset_m) / one.lane_width_m
    assert kept.mean_offset_lane == pytest.approx(share.mean(), abs=1e-5)
    assert kept.worst_offset_lane == pytest.approx(share.max(), abs=1e-5)


@pytest.mark.parametrize("theme", [plots.LIGHT, plots.DARK], ids=["light", "dark"])
def test_figures_save_and_leave_no_global_state(tmp_path: Path, theme: plots.Theme):
    before = dict(plt.rcParams)
    found = results()
    figures = {
        "noise": plots.noise_figure({level.variance: level.figures for level in found.levels}, theme),
        "learning": plots.learning_figure(found.history, theme),
        "offset": plots.offset_figure({"clean": found.clean.offsets}, OFFSET_EDGES, theme),
        "wiring": plots.wiring_figure(Wiring.auto_ncp(19, 1, 32), theme),
    }
    for name, figure in figures.items():
        plots.save(figure, tmp_path / f"{name}.png", theme)
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(f"{name}.png" for name in figures)


def test_svg_is_the_same_every_time():
    history = results().history
    first, second = (plots.as_svg(plots.learning_figure(history), "learning", "words") for _ in range(2))
    assert first == second


def test_the_tile_and_the_table_agree_on_few_crashes(tmp_path: Path):
    drives = [replace(drive(seed), distance_m=22.7) for seed in range(4)]
    level = NoiseLevel.from_drives(0.0, drives, [road(one) for one in drives])
    two = NoiseLevel.from_drives(0.1, drives[:2], [road(one) for one in drives[:2]])
    write_report(tmp_path / "report.html", replace(results(), levels=(level, two), expert=None))
    text = " ".join(" ".join(check(tmp_path / "report.html").text).split())
    assert text.count("(below 33.0)") == 2, "none in 0.0908 km: 3.0 / 0.0908, in the tile and in the table"
    assert not re.search(r"(\d[\d.]*) \[\1, \1\]", text), "an interval that is a point"
