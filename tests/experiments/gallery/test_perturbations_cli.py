"""Perturbations on the command line: evaluate, render, gallery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from envs.perturbations import FAMILIES, PERTURBATIONS
from experiments.gallery.verb import GalleryOptions, thumbnails
from tests.experiments.verbs import ROAD, wormwheel

SHORT = (*ROAD, "--episodes", 2, "--episode-s", 1)


def test_evaluate_on_the_road(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    results = tmp_path / "e.json"
    texts = ("fog:3+latency:2", "friction:4", "pgd:1")
    ran = wormwheel(
        capsys, "evaluate", "--policy", trained, "--expert", *SHORT, "--perturbations", *texts, "--json", results
    )
    assert ran.code == 0, ran.err
    rows: list[Any] = json.loads(results.read_text())["figures"]["driving"]
    assert [(row["driver"], row["perturbation"]) for row in rows] == [
        ("expert", ""),
        ("expert", "friction:4"),  # of what it can feel; it looks at no frame
        *(("mine", text) for text in ("", *texts)),
    ]
    assert rows[2]["drives"] != rows[3]["drives"] and [drive["seed"] for drive in rows[3]["drives"]] == [1000, 1001]
    for words in ("clean", "fog:3", "friction:4", "perturbation"):
        assert words in ran.out


def test_evaluate_on_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, recording: Path):
    results = tmp_path / "e.json"
    asked = ("evaluate", "--policy", trained, "--data", recording, "--last", 0.5, "--perturbations")
    ran = wormwheel(capsys, *asked, "variance:5", "lower_rate:3", "--json", results)
    assert ran.code == 0, ran.err
    rows = json.loads(results.read_text())["figures"]["recordings"]["rows"]
    assert [row["perturbation"] for row in rows] == ["", "variance:5", "lower_rate:3", ""]
    assert len({json.dumps(row["figures"]) for row in rows}) == 4
    assert "variance:5" in ran.out and "clean" in ran.out
    cannot = wormwheel(capsys, *asked, "friction:3")
    assert cannot.code == 2 and "needs an env that answers" in cannot.complaint


def test_what_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path):
    for asked in (("evaluate", "--perturbations"), ("render", "--out", tmp_path / "a.mp4", "--perturbation")):
        ran = wormwheel(capsys, asked[0], "--policy", trained, *asked[1:], "foog:3")
        assert ran.code == 2 and "Did you mean fog" in ran.complaint
    assert (
        "there is no family wind. There are noise, blur" in wormwheel(capsys, "gallery", "--families", "wind").complaint
    )
    assert "must end in .png or .jpg" in wormwheel(capsys, "gallery", "--out", tmp_path / "a.gif").complaint
    assert not list(tmp_path.iterdir())


def test_films(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, recording: Path):
    import av

    road = [option for option in ROAD if option not in ("--workers", "1")]
    for name, extra in (("a", road), ("b", ["--data", recording])):
        out = tmp_path / f"{name}.mp4"
        wrong = ("--perturbation", "lower_rate:3+darkness:4", "--noise-seed", 3)
        ran = wormwheel(capsys, "render", "--policy", trained, "--out", out, "--seconds", 0.6, *wrong, *extra)
        assert ran.code == 0, ran.err
        with av.open(str(out)) as film:
            frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in film.decode(video=0)]
        assert len(frames) == (12 + 40 if name == "a" else 12)  # every period, though the driver sees every third frame
        changes = [np.abs(after - before).mean() > 0.5 for before, after in zip(frames, frames[1:12], strict=False)]
        assert changes == [number % 3 == 2 for number in range(11)]


def test_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "deep" / "gallery.png"
    families = ("blur", "timing", "actuation", "adversarial")
    ran = wormwheel(
        capsys,
        *("gallery", "--families", *families, "--severities", 1, 5, "--zoom", 1, "--columns", 3, "--out", out),
        *("--height", 24, "--width", 48),
    )
    assert ran.code == 0, ran.err
    count = sum(len(FAMILIES[family]) for family in families)
    assert f"{count} perturbations in {len(families)} families" in ran.out
    picture = cv2.imread(str(out))
    assert picture is not None and picture.shape[1] > 400 and picture.std() > 20


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "info", "perturbations", "--json", tmp_path / "p.json")
    assert ran.code == 0, ran.err
    assert all(name in ran.out for name in (*FAMILIES, "low_sun", "severities 1 to 5"))
    shown = json.loads((tmp_path / "p.json").read_text())["figures"]["perturbations"]
    assert [one["name"] for one in shown] == list(PERTURBATIONS)
    assert all(one["doses"] == list(PERTURBATIONS[one["name"]].doses) and one["about"] for one in shown)


def test_the_readme_of_the_folder_lists_every_perturbation():
    text = (Path(__file__).parents[3] / "envs" / "perturbations" / "README.md").read_text()
    for name, made in PERTURBATIONS.items():
        line = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), "")
        doses = " | ".join(", ".join(f"{dose:g}" for dose in each) for each in (made.doses, made.large_doses or ()))
        assert str(made.__doc__).splitlines()[0].replace("|", "\\|") in line, name
        assert f"| {made.unit} | {doses}" in line, name


def test_a_plot_of_time_shows_a_draw_in_which_something_happens():
    options = GalleryOptions(zoom=1, severities=(1, 3, 5))
    for name in ("frozen_frames", "dropped_frames_hidden"):
        clean, *drawn = thumbnails(name, options)
        assert all((picture != clean).any() for picture in drawn), name


def test_an_attack_is_drawn_alike_whatever_was_drawn_before():
    size = {"height": 16, "width": 32, "zoom": 1}
    alone = thumbnails("pgd", GalleryOptions(severities=(5,), **size))[-1]
    after_another = thumbnails("pgd", GalleryOptions(severities=(1, 5), **size))[-1]
    np.testing.assert_array_equal(alone, after_another)
