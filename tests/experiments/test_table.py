"""`wormwheel table`: what a test found, as LaTeX, CSV and Markdown."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from agents.runs.files import write_json
from experiments.console import plain
from experiments.robustness.publish import _to_json
from experiments.table import read, to_csv
from tests.experiments.robustness.made_up_drives import CONDITIONS, block_rows, drive_rows, find_in
from tests.experiments.verbs import wormwheel

DRIVERS = {"ltc_ncp": 0.04, "lstm": 0.08, "feedforward": 0.12}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test that has been made up."""
    path = tmp_path_factory.mktemp("robustness")
    found = find_in(drive_rows(DRIVERS, 2), block_rows(DRIVERS, 2), CONDITIONS, "feedforward")
    content = {"format": "wormwheel-robustness-summary", "findings": plain(_to_json(found))}
    write_json(path / "summary.json", content)
    return path


def findings(path: Path) -> Any:
    return json.loads((path / "summary.json").read_text())["findings"]


def test_csv_holds_the_figures_of_the_summary(finished: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "table", finished, "--csv")
    assert ran.code == 0, ran.err
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    drivers = findings(finished)["drivers"]
    assert [row["driver"] for row in rows] == [one["name"] for one in drivers]
    for row, one in zip(rows, drivers, strict=True):
        estimate = one["error_iqm_runs"]
        for name, key in (("lane error, %", "value"), ("lane error, % low", "low"), ("lane error, % high", "high")):
            assert float(row[name]) == pytest.approx(100 * estimate[key], rel=1e-5)
        assert float(row["off the road, %"]) == pytest.approx(100 * one["crash_share"]["value"], rel=1e-5)


def test_latex_is_escaped_and_whole(finished: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "table", finished, "--latex")
    lines = ran.out.splitlines()
    assert lines[0].startswith("\\begin{tabular}{lrr") and lines[-1] == "\\end{tabular}"
    body = lines[lines.index("\\midrule") + 1 : lines.index("\\bottomrule")]
    assert len(body) == 3 and all(line.endswith("\\\\") for line in body)
    assert "ltc\\_ncp & 2 & " in ran.out and "lane error, \\%" in ran.out and "$\\times$ feedforward" in ran.out
    assert len({line.count(" & ") for line in (lines[2], *body)}) == 1


def test_markdown_and_every_table(finished: Path, capsys: pytest.CaptureFixture[str]):
    ran = wormwheel(capsys, "table", finished / "summary.json", "--md", "--of", "families")
    head, rule, *body = ran.out.splitlines()
    assert rule == "| --- | ---: | ---: | ---: |" and head.startswith("| family | ltc_ncp, % |")
    families = {one["family"] for one in findings(finished)["conditions"]}
    assert {line.split(" | ")[0].removeprefix("| ") for line in body} == families
    columns, rows = read(finished, "conditions")
    assert len(rows) == 3 * (1 + len(CONDITIONS)) and len(columns) == len(rows[0])
    columns, rows = read(finished, "runs")
    assert len(rows) == 6
    assert wormwheel(capsys, "table", finished).code == 0
    assert to_csv(["a", "b"], [["x,y", (1.0, float("nan"), 2.0)], ["z", None]]) == (
        'a,b,b low,b high\n"x,y",1,,2\nz,,,\n'
    )


def test_what_is_no_test_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert "no summary.json" in wormwheel(capsys, "table", tmp_path).complaint
    (tmp_path / "summary.json").write_text("[]")
    assert "should hold a JSON object" in wormwheel(capsys, "table", tmp_path).complaint
    content = json.loads((finished / "summary.json").read_text())
    for damaged in (
        {**content, "format": "something else"},
        {**content, "findings": {}},
        {**content, "findings": {**content["findings"], "drivers": [{"name": "a"}]}},
        {**content, "findings": {**content["findings"], "drivers": 3}},
    ):
        write_json(tmp_path / "summary.json", damaged)
        assert str(tmp_path / "summary.json") in wormwheel(capsys, "table", tmp_path, "--md").complaint
    assert "one of --latex" in wormwheel(capsys, "table", finished, "--latex", "--md").complaint
