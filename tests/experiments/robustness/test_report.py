"""The page about a robustness test: whole, escaped, and well behaved in a browser on a phone and on a desk."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from agents.driving.driver_options import DriverOptions, DriverSpec
from agents.driving.statistics import Estimate
from envs.lane_keeping.config import LaneKeepingConfig
from experiments.film.video import VideoWriter
from experiments.reports.page import environment
from experiments.robustness.drives_data import drives_json
from experiments.robustness.films import FailureFilm, replay_command, size_arguments, world_arguments
from experiments.robustness.findings import Condition, Failure, Findings
from experiments.robustness.report import Report, Shot, write_robustness_report
from policies.checkpoint import save_policy
from policies.policy import DrivingPolicy, PolicyConfig
from policies.preprocessing import Preprocessing
from tests.experiments.browser import look
from tests.experiments.demo.test_report import check
from tests.experiments.robustness.made_up_drives import CONDITIONS, block_rows, drive_rows, find_in

DRIVERS = {"ltc-ncp": 0.04, "lstm": 0.08, "feedforward": 0.12, "a-driver-with-quite-a-long-name": 0.16}


def findings(drivers: dict[str, float] = DRIVERS, runs: int = 2, baseline: str = "feedforward") -> Findings:
    return find_in(drive_rows(drivers, runs), block_rows(drivers, runs), CONDITIONS, baseline)


def test_saliency_counts_where_the_picture_changes_and_other_conditions_have_none():
    rows = drive_rows({"ltc": 0.1, "feedforward": 0.1})
    for driver in find_in(rows, (), CONDITIONS, "feedforward").drivers:
        seen = [row["saliency_ssim"] for row in rows if row["driver"] == driver.name and row["perturbation"]]
        assert None in seen, "friction changes no picture"
        expected = np.mean([value for value in seen if value is not None])
        assert driver.saliency_ssim.value == pytest.approx(expected)
        assert np.isnan(driver.by_condition["friction:2"].saliency_ssim)
        assert driver.by_condition["fog:5"].saliency_ssim < driver.by_condition["fog:1"].saliency_ssim


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Everything that a page can show, two films included."""
    place = tmp_path_factory.mktemp("films")
    found, films = findings(), []
    for number, failure in enumerate(found.failures[:2]):
        path = place / f"{number}.mp4"
        with VideoWriter(path) as writer:
            for shade in range(30):
                writer.append(np.full((90, 160, 3), 8 * shade, np.uint8))
        command = replay_command(Path("runs/ltc"), failure, LaneKeepingConfig(), 9.0, path.name)
        films.append(FailureFilm(failure, path, np.zeros((90, 160, 3), np.uint8), command, "left the road after 3 m"))
    strip = np.full((48, 294, 3), 90, np.uint8)
    shots = [
        Shot(name, family, "What it is.", "dose: 1 · 2", strip)
        for name, family in (("fog", "weather"), ("rain", "weather"), ("jpeg", "digital"))
    ]
    origin = {"finished": "2026-01-01T00:00:00+00:00", "python": "3.11"}
    plan = {"policies": [], "perturbations": list(CONDITIONS), "roads": 4}
    return Report(found, "wormwheel robustness --policy runs/ltc", origin, plan, films, shots)


@pytest.fixture(scope="module")
def page(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_robustness_report(path, report)
    return path


def test_the_page_is_whole_and_needs_no_network(page: Path):
    checker = check(page)
    assert all(address.startswith(("data:", "#")) for address in checker.addresses)
    assert sum(address.startswith("data:video/mp4") for address in checker.addresses) == 2
    content = page.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:https?:)?//(?!www\.w3\.org)[a-z][^\s"'<>)]+\.[a-z]+""", content)
    assert "nan" not in re.sub(r"data:[^\"]+", "", content).lower().replace("nano", "")


def test_the_figures_are_those_of_the_findings(page: Path, report: Report):
    text = " ".join("".join(check(page).text).split())
    first = report.findings.drivers[0]
    said = text.replace("\N{NO-BREAK SPACE}", " ")
    assert report.findings.headline() in said and report.findings.caveat() in said
    assert report.findings.verdict() == f"{report.findings.headline()} {report.findings.caveat()}"
    assert f"[{100 * first.error_iqm_runs.low:.1f}, {100 * first.error_iqm_runs.high:.1f}]" in text
    for condition in report.findings.conditions:
        assert condition.name.replace("_", " ") in text and condition.family in text
    for heading in ("Ranking", "By family", "Dose and response", "Every disturbance", "Inside the drivers"):
        assert heading in text
    for heading in ("On recordings", "Failures", "The disturbances", "How this was made"):
        assert heading in text


def test_a_failure_names_its_seeds_and_the_command_that_films_it_again(page: Path, report: Report):
    text = " ".join("".join(check(page).text).split())
    for film in report.films:
        failure = film.failure
        assert f"road {failure.road_seed}, draw {failure.effect_seed}" in text and film.command in text
        assert f"--perturbation {failure.condition.perturbation} --seed {failure.road_seed}" in film.command


def test_a_world_is_written_as_options_that_make_it_again():
    world = LaneKeepingConfig(vehicle="bicycle", variety=0.8, speed_mps=(1.0, 1.5), throttle=True, episode_s=9.0)
    world = replace(world, roads=replace(world.roads, length_m=(20.0, 30.0)))
    words = world_arguments(world)
    assert words[:2] == ["--vehicle", "bicycle"] and "--throttle" in words and "--episode-s" not in words
    assert words[words.index("--roads.length-m") :][:3] == ["--roads.length-m", "20.0", "30.0"]
    assert world_arguments(LaneKeepingConfig()) == []
    failure = Failure("ltc", 0, Condition.of("fog:3+rain:2"), 7, 1, 4.0)
    command = replay_command(Path("my runs/x"), failure, world, 5.0, "out.mp4")
    assert "--policy 'my runs/x' --perturbation fog:3+rain:2 --seed 7 --noise-seed 1 --seconds 5" in command


def test_mixtures_of_the_same_kinds_stand_side_by_side(tmp_path: Path, report: Report):
    mixtures = ("rain:3+night:2", "rain:2+night:3", "rain:1+night:1", "rain:4+night:4")
    found = find_in(drive_rows({"ltc": 0.1}, conditions=mixtures), [], mixtures, "ltc")
    assert [condition.name for condition in found.conditions] == [*mixtures[:2], "rain+night", "rain+night"]
    write_robustness_report(tmp_path / "report.html", replace(report, findings=found, films=(), shots=()))
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    for mixture in mixtures:
        assert f'title="{mixture}: lane error' in content, "a cell of the heat map is missing"


def test_what_has_no_value_is_sorted_last():
    pieces: Any = environment().get_template("reports/templates/pieces.html").module
    nothing, estimate_cell = Estimate(float("nan"), float("nan"), float("nan")), pieces.estimate_cell
    assert 'data-value=""' in estimate_cell(nothing) and 'data-value="-2.0"' in estimate_cell(Estimate(-2.0, -3.0, 1.0))


def test_names_are_escaped_and_little_is_enough(tmp_path: Path, report: Report):
    nasty = "<script>alert(1)</script>"
    bare = Report(findings({"feedforward": 0.1}, runs=1), nasty, {nasty: nasty}, {"note": nasty})
    write_robustness_report(tmp_path / "report.html", bare)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in content and nasty in "".join(check(tmp_path / "report.html").text)
    assert "Failures" not in content and "one training run" in content


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)], ids=["phone", "desk"])
def test_in_a_browser(page: Path, tmp_path: Path, width: int, dark: bool):
    seen = look(page, width, tmp_path / "profile", dark)
    assert seen["errors"] == [] and seen["outside"] == []
    assert seen["window"] == width and seen["page"] <= width and seen["scrolled"] == 0
    assert len(seen["films"]) == 2
    for film in seen["films"]:
        assert film["time"] >= 0.2 and film["width"] == 160 and film["seconds"] > 0.5
    assert len(seen["sorted"]) == page.read_text(encoding="utf-8").count("<table") >= 3, "tables that cannot be sorted"
    for up, down in seen["sorted"]:
        assert up == down[::-1] and up == sorted(up)
    assert seen["background"] == ("rgb(13, 17, 26)" if dark else "rgb(243, 245, 249)")


def test_one_driver_is_not_ranked(tmp_path: Path, report: Report):
    alone = replace(report, findings=findings({"ltc": 0.1}, runs=2, baseline="ltc"), films=(), shots=())
    write_robustness_report(tmp_path / "report.html", alone)
    text = " ".join(" ".join(check(tmp_path / "report.html").text).split())
    assert "Ranking" not in text and "Under disturbance" in text and "× ltc" not in text and "behind" not in text


def test_every_run_is_a_dot_and_a_row_and_no_interval_is_a_point(tmp_path: Path, report: Report):
    rows = drive_rows({"ltc": 0.05, "lstm": 0.1}, runs=3)
    for row in rows:
        if (row["driver"], row["run"]) == ("lstm", 2):
            row.update(crashed=True, lane_error=0.95)
    found = find_in(rows, [], CONDITIONS, "ltc")
    write_robustness_report(tmp_path / "report.html", replace(report, findings=found, films=(), shots=()))
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert content.count("<u style=") == 6 and content.count("fails on clean roads</span>") == 1
    text = " ".join(" ".join(check(tmp_path / "report.html").text).split())
    assert "came first" not in text and "left the road in 4 of 4" in text
    assert not re.search(r"(\d[\d.]*) \[\1, \1\]", text)


def test_a_cell_opens_its_drives_and_their_commands_can_be_pasted(tmp_path: Path, report: Report):
    pytest.importorskip("websockets")
    from experiments.cli import parse_options
    from experiments.film.verb import RenderOptions
    from tests.experiments.devtools import Chromium

    world = LaneKeepingConfig(vehicle="bicycle", variety=0.8)
    rows = pd.DataFrame(drive_rows(DRIVERS, 2))
    policies = {(name, run): Path("my runs") / f"{name}-{run}" for name in DRIVERS for run in (0, 1)}
    drives = drives_json(rows, report.findings, policies, world, report.films)
    path = tmp_path / "report.html"
    write_robustness_report(path, replace(report, drives=drives, shots=()))
    driver, condition = report.findings.drivers[0].name, report.findings.conditions[-1]
    behind = rows[(rows.driver == driver) & (rows.perturbation == condition.perturbation)]
    family = {one.perturbation for one in report.findings.conditions if one.family == condition.family}
    window = Chromium(tmp_path / "profile")
    try:
        window.open(path.as_uri())
        window.until("document.readyState === 'complete' && !!document.querySelector('nav.contents')")
        window.value(
            f'document.querySelector(\'td[data-driver="{driver}"][data-wrong="{condition.perturbation}"]\').click()'
        )
        assert window.value("document.getElementById('drives').open")
        assert window.value("document.querySelectorAll('#drives tbody tr').length") == len(behind)
        words = shlex.split(window.value("document.querySelector('#drives pre').textContent"))
        assert words[:2] == ["wormwheel", "render"]
        options = parse_options(RenderOptions, "wormwheel render", words[2:])
        assert options.perturbation == condition.perturbation and options.world.variety == 0.8
        assert (Path(options.policy[0]), options.seed, options.noise_seed) in {
            (policies[row.driver, row.run], row.road_seed, row.effect_seed) for row in behind.itertuples()
        }
        window.value("document.querySelector('#drives [data-close]').click()")
        point = f"[data-driver='{driver}'][data-family='{condition.family}'][data-severity='{condition.severity}']"
        window.value(f"document.querySelector(\"circle{point}\").dispatchEvent(new MouseEvent('click'))")
        many = rows[(rows.driver == driver) & rows.perturbation.isin(family)]
        of_severity = sum(Condition.of(wrong).severity == condition.severity for wrong in many.perturbation)
        assert window.value("document.querySelectorAll('#drives tbody tr').length") == of_severity > 0
        assert not window.errors
    finally:
        window.close()


def test_the_command_of_a_film_makes_the_frames_that_were_cropped(tmp_path: Path):
    fit = Preprocessing(24, 48, height=24, width=48)
    place = save_policy(DrivingPolicy.create(PolicyConfig(core="gru", preprocessing=fit)), tmp_path / "policy")
    world = LaneKeepingConfig(height=60, width=100)
    cropped = DriverSpec(str(place), DriverOptions(crop_top=20))
    assert size_arguments(cropped, world) == ["--height", "60", "--width", "100"]
    assert size_arguments(place, world) == [] == size_arguments(cropped, LaneKeepingConfig())
    failure = Failure("ltc", 0, Condition.of("fog:3"), 7, 1, 4.0)
    assert "--height 60 --width 100" in replay_command(cropped, failure, world, 5.0, "out.mp4")
