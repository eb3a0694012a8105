"""`wormwheel robustness`: the same figures however it is run and however often it is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from envs.perturbations import PERTURBATIONS
from experiments.robustness import jobs, provenance, recorded_jobs
from experiments.robustness.drivers import choose_baseline, find_policy_runs
from experiments.robustness.findings import choose_failures
from experiments.robustness.jobs import PolicyRun
from experiments.robustness.recorded import find_recorded
from experiments.robustness.recorded_jobs import BlockRow
from experiments.robustness.store import make_table, read_table
from tests.experiments.robustness.made_up_drives import CONDITIONS, block_rows, drive_row, drive_rows, find_in
from tests.experiments.verbs import wormwheel

pytest.importorskip("pyarrow", reason="the extra robustness is not installed")
ROOT = Path(__file__).resolve().parents[3]
WORLD = ("--vehicle", "bicycle", "--variety", "0.2", "--pixels-per-m", "24", "--episode-s", "1.5", "--roads", "2")
KINDS = ("gaussian:3", "fog:2", "latency:4", "friction:3", "worn_markings:5", "rain:3+night:2")


def arguments(trained: Path, out: Path, *more: object) -> list[str]:
    words = ["robustness", "--policy", f"mine={trained}", "--perturbations", *KINDS, *WORLD, "--films", "0"]
    return [*words, "--out", str(out), *map(str, more)]


@pytest.fixture(scope="module")
def whole(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a test that was done in one go in one process."""
    from tests.experiments.conftest import quietly

    out = tmp_path_factory.mktemp("robustness") / "whole"
    quietly(*arguments(trained, out, "--workers", 1, "--json", out.parent / "figures.json"))
    return out


def test_a_whole_test_leaves_table_summary_and_page(whole: Path):
    rows = read_table(whole / "results.parquet").to_dict("records")
    assert len(rows) == (1 + len(KINDS)) * 2
    assert {row["perturbation"] for row in rows} == {"", *KINDS}
    summary = json.loads((whole / "summary.json").read_text(encoding="utf-8"))
    (driver,) = summary["findings"]["drivers"]
    errors = [row["lane_error"] for row in rows if row["perturbation"]]
    assert driver["error"]["value"] == pytest.approx(np.mean(errors))
    assert driver["crashes"] == sum(row["crashed"] for row in rows if row["perturbation"])
    page = (whole / "report.html").read_text(encoding="utf-8")
    said = page.replace("\N{NO-BREAK SPACE}", " ")
    assert all(f"{part}" in said for part in summary["verdict"].split(". "))
    figures = json.loads((whole.parent / "figures.json").read_text(encoding="utf-8"))
    assert figures["verb"] == "robustness" and figures["figures"] == summary["findings"]
    # Every driver, clean or not, had the same roads.
    seeds = {row["perturbation"]: [] for row in rows}
    for row in rows:
        seeds[row["perturbation"]].append(row["road_seed"])
    assert {tuple(some) for some in seeds.values()} == {(1000, 1001)}


@pytest.mark.thorough  # `make kill` strikes at many more moments
def test_killed_midway_and_by_other_processes_the_table_is_the_same(
    trained: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "experiments.cli", *arguments(trained, out, "--workers", 2)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
    deadline_s = time.monotonic() + 120
    while not (done := finished(out)) and process.poll() is None and time.monotonic() < deadline_s:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = finished(out)
    assert 1 <= len(done) < 1 + len(KINDS), "it was to be killed midway"
    assert not (out / "results.parquet").exists()
    ran = wormwheel(capsys, *arguments(trained, out, "--workers", 1))
    assert ran.code == 0
    assert f"{len(done)} of {1 + len(KINDS)} jobs are done already; doing the rest." in ran.err
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items()), "a finished job was done again"
    assert (out / "results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()


def finished(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.glob("cells/*/[!.]*.json")}


def test_a_broken_cell_is_done_again_alone(
    trained: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    before = finished(out)
    next(iter(out.glob("cells/*/fog-2.json"))).write_text("{")
    ran = wormwheel(capsys, *arguments(trained, out, "--workers", 1))
    assert ran.code == 0 and f"{len(KINDS)} of {1 + len(KINDS)} jobs are done already" in ran.err
    after = finished(out)
    assert [path.name for path in before if before[path] != after[path]] == ["fog-2.json"]
    assert (out / "results.parquet").read_bytes() == (whole / "results.parquet").read_bytes()


def test_figures_are_kept_where_a_film_cannot_be_made(
    trained: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    shutil.copytree(whole, tmp_path / "copy")
    monkeypatch.setattr("experiments.robustness.publish._film", full)
    results = tmp_path / "figures.json"
    ran = wormwheel(capsys, *arguments(trained, tmp_path / "copy", "--workers", 1, "--json", results))
    assert ran.code == 2 and "No space left" in ran.complaint
    before = json.loads((whole.parent / "figures.json").read_text(encoding="utf-8"))
    assert json.loads(results.read_text(encoding="utf-8"))["figures"] == before["figures"]


def test_another_dose_and_another_env_are_driven_again(
    trained: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    before, kind = finished(out), PERTURBATIONS["gaussian"]
    monkeypatch.setattr(provenance, "PERTURBATIONS", {**PERTURBATIONS, "gaussian": Stronger(kind)})
    ran = wormwheel(capsys, *arguments(trained, out, "--workers", 1))
    assert ran.code == 0 and "1 of 7 jobs were done by other code of the env, or with other doses or code" in ran.err
    assert "are done again: gaussian:3." in ran.err and "6 of 7 jobs are done already" in ran.err
    after = finished(out)
    assert [path.name for path in before if before[path] != after[path]] == ["gaussian-3.json"]
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert plan["code"]["gaussian:3"] != json.loads((whole / "plan.json").read_text())["code"]["gaussian:3"]
    for module in (jobs, recorded_jobs):
        monkeypatch.setattr(module, "fingerprint_code", lambda *_: "other")
    assert "7 of 7 jobs were done by other code" in wormwheel(capsys, *arguments(trained, out, "--workers", 1)).err


class Stronger:
    """A kind of perturbation whose doses were changed."""

    def __init__(self, kind: object):
        self.kind, self.doses = kind, (0.1, 0.2, 0.3, 0.4, 0.5)

    def __getattr__(self, name: str) -> object:
        return getattr(self.kind, name)


@pytest.mark.thorough
def test_recordings_and_failures_on_film(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = [
        "robustness",
        "--policy",
        trained,
        "--perturbations",
        "gaussian:5",
        "friction:3",
        "--out",
        tmp_path / "out",
    ]
    words += [*WORLD[:6], "--episode-s", "8", "--roads", "1", "--films", "1", "--workers", "1", "--data", recording]
    ran = wormwheel(capsys, *words)
    assert ran.code == 0, ran.err
    blocks = read_table(tmp_path / "out/recordings.parquet").to_dict("records")
    assert {block["perturbation"] for block in blocks} == {"", "gaussian:5"}, "friction has no frames"
    assert sum(block["frames"] for block in blocks if not block["perturbation"]) == 270
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    (driver,) = summary["findings"]["drivers"]
    clean = [block for block in blocks if not block["perturbation"]]
    rmse = np.sqrt(sum(block["squared_error"] for block in clean) / 270)
    assert driver["recorded_clean"] == pytest.approx(rmse)
    worse = driver["recorded_worsening"]
    assert worse["value"] == pytest.approx(driver["recorded_perturbed"] / driver["recorded_clean"])
    assert worse["low"] < worse["value"] < worse["high"]
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "On recordings" in page
    assert page.count("data:video/mp4;base64,") == len(list((tmp_path / "out/films").glob("*.mp4"))) == 1
    assert "--noise-seed 0" in page and "wormwheel render --policy" in page


def test_recordings_alone_are_held_out_frames_and_speak_of_them(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["robustness", "--policy", trained, "--world", "none", "--data", recording, "--workers", "1"]
    words += ["--perturbations", "gaussian:5", "friction:3", "--out", tmp_path / "out"]
    ran = wormwheel(capsys, *words)
    assert ran.code == 0, ran.err
    assert "left out, because a recording cannot answer: friction:3." in ran.err
    assert not (tmp_path / "out/results.parquet").exists() and not list((tmp_path / "out/cells").glob("*/clean.json"))
    blocks = read_table(tmp_path / "out/recordings.parquet")
    assert blocks[blocks.perturbation == ""].frames.sum() == 54, "the last fifth of 270 frames"
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    (driver,) = summary["recordings"]["drivers"]
    assert "54 recorded frames" in summary["verdict"] and "road" not in summary["verdict"]
    assert driver["perturbed"] == pytest.approx(driver["worsening"]["value"] * driver["clean"])
    page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
    assert "Nobody drove, and the last 20 % of each recording counted" in page and summary["verdict"] in page
    everything = wormwheel(capsys, *words[:-1], tmp_path / "all", "--last", "1")
    assert everything.code == 0
    blocks = read_table(tmp_path / "all/recordings.parquet")
    assert blocks[blocks.perturbation == ""].frames.sum() == 270


def test_recordings_seen_otherwise_are_steered_through_again(
    trained: Path, recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["robustness", "--policy", trained, "--world", "none", "--data", recording, "--workers", "1"]
    words += ["--perturbations", "gaussian:5", "--out", tmp_path / "out"]
    fit = {"crop_top": 4, "crop_bottom": 0, "crop_left": 0, "crop_right": 0, "steering_gain": 0.5}
    (tmp_path / "fit.json").write_text(json.dumps({"fit": fit}))
    errors = []
    for more in ((), ("--steering-gain", "0.5"), ("--fit", tmp_path / "fit.json")):
        ran = wormwheel(capsys, *words, *more)
        assert ran.code == 0, ran.err
        assert bool(more) == ("2 of 2 jobs were done by" in ran.err)
        errors.append(read_table(tmp_path / "out/recordings.parquet").squared_error.sum())
    assert len(set(errors)) == 3
    again = wormwheel(capsys, *words, "--crop-top", "4", "--steering-gain", "0.5")
    assert again.code == 0 and "2 of 2 jobs are done already." in again.err


def test_on_recordings_too_a_run_that_learnt_nothing_is_named():
    rows = block_rows({"ltc": 0.05, "lstm": 0.2}, runs=3)
    good = find_recorded(make_table(rows, BlockRow), CONDITIONS)
    first, second = good.drivers
    assert (first.name, second.name) == ("ltc", "lstm") and "ltc came first" in good.verdict()
    assert second.behind.value == pytest.approx(second.perturbed - first.perturbed) and second.behind.low > 0
    assert f"lstm is {second.behind.text(3)} behind" in good.verdict()
    for row in rows:
        if (row["driver"], row["run"]) == ("lstm", 1) and not row["perturbation"]:
            row["squared_error"] = row["squared_target"] * 1.01
    dead = find_recorded(make_table(rows, BlockRow), CONDITIONS)
    assert [(name, run.run) for name, run in dead.failed] == [("lstm", 1)]
    assert "came first" not in dead.verdict() and "R² -0.01 on clean frames" in dead.verdict()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "give --policy"),
        (("--policy", "POLICY", "--world", "none"), "give --data with recordings"),
        (("--policy", "nowhere"), "nowhere"),
        (("--policy", "POLICY", "--suite", "hard"), "no suite and no file"),
        (("--policy", "POLICY", "--perturbations", "fogg"), "Did you mean fog"),
        (("--policy", "POLICY", "--severities", "6"), "severities.0 must be at most 5, got 6."),
        (("--policy", "POLICY", "--baseline", "lstm"), "no driver 'lstm' to compare with. There is: mine"),
        (("--policy", "ltc=none-*"), "finds no directory"),
        (("--policy", "a b=POLICY"), "made of letters"),
        (("--policy", "POLICY", "--seeds", "0"), "seeds must be greater than 0"),
        (("--policy", "a=POLICY", "a=POLICY"), "hold the same policy"),
        (("--policy", "POLICY", "--track", "nowhere.csv"), "No road file at nowhere.csv"),
        (("--policy", "POLICY", "--height", "50"), "takes frames of 48×24 pixels"),
        (("--policy", "POLICY", "--throttle"), "has 1 motor outputs, LaneKeeping takes 2 here. Leave out --throttle."),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: tuple[str, ...], says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    filled = [word.replace("POLICY", str(trained)) for word in words]
    ran = wormwheel(capsys, "robustness", *filled, "--out", tmp_path / "out")
    assert ran.code == 2 and says in ran.complaint
    assert not (tmp_path / "out").exists()


def test_roads_from_files_are_driven_and_filmed(
    trained: Path, circle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["robustness", "--policy", trained, "--perturbations", "darkness:5", "--track", circle.parent]
    words += ["--out", tmp_path / "out", *WORLD[:6], "--episode-s", "8", "--roads", "2", "--films", "1", "--workers", 1]
    ran = wormwheel(capsys, *words)
    assert ran.code == 0, ran.err
    rows = read_table(tmp_path / "out/results.parquet").to_dict("records")
    assert [row["lane_width_m"] for row in rows] == pytest.approx([0.4] * 4), "another road than that of the file"
    assert any(row["crashed"] for row in rows if row["perturbation"])
    assert f"--track {circle}" in (tmp_path / "out/report.html").read_text(encoding="utf-8")


def test_a_road_file_that_has_changed_is_driven_again(
    trained: Path, circle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["robustness", "--policy", trained, "--perturbations", "fog:1", *WORLD, "--track", circle, "--films", "0"]
    words += ["--workers", "1", "--episode-s", "0.3", "--out", tmp_path / "out"]
    said = []
    for _ in range(2):
        ran = wormwheel(capsys, *words)
        assert ran.code == 0, ran.err
        said.append(ran.err)
    assert "2 of 2 jobs are done already." in said[1]
    circle.write_text(circle.read_text().replace(",4,4", ",5,5"))
    ran = wormwheel(capsys, *words)
    assert ran.code == 0 and "2 of 2 jobs were done by" in ran.err and "other road files" in ran.err


@pytest.mark.parametrize("missing", ["pandas", "pyarrow.parquet"])
def test_without_the_extra_it_is_named(
    missing: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, missing, None)
    ran = wormwheel(capsys, "robustness", "--policy", trained, "--out", tmp_path / "out")
    assert ran.code == 2 and "[robustness]'" in ran.complaint


def test_without_a_cluster_nothing_is_lost_and_the_line_says_what_to_do(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("ray", reason="the extra cluster is not installed")
    ran = wormwheel(capsys, *arguments(trained, tmp_path / "out", "--ray", "nonsense"))
    assert ran.code == 2 and "no Ray cluster at 'nonsense'" in ran.complaint and "leave --ray out" in ran.complaint


def test_what_the_machines_of_a_cluster_need_not_have_is_refused_before_ray_is_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "ray", None)  # importing it is an error
    monkeypatch.setitem(sys.modules, "agents.runs.ray_cluster", None)
    here = tmp_path / "here.py"
    here.write_text("def make():\n    return lambda frame: 0.0\n", encoding="utf-8")
    words = ["robustness", "--policy", f"{here}:make", "--frame", "48x96", "--perturbations", "fog:3", *WORLD]
    ran = wormwheel(capsys, *words, "--films", "0", "--out", str(tmp_path / "out"), "--ray", "auto")
    assert ran.code == 2 and "here.py_make would be looked for in a file" in ran.complaint
    assert "Leave out --ray" in ran.complaint and not list((tmp_path / "out").glob("*.json"))


def test_patterns_make_training_runs_of_one_driver(trained: Path, tmp_path: Path):
    for number in range(3):
        shutil.copytree(trained, tmp_path / f"ltc-{number}")
        path = tmp_path / f"ltc-{number}/policy/config.json"
        content = json.loads(path.read_text())
        content["notes"]["seed"] = 10 + number
        path.write_text(json.dumps(content))
    found = find_policy_runs([str(trained), f"ltc={tmp_path}/ltc-*"], expert=True)
    runs = [(one.driver, one.run) for one in found]
    assert runs == [("ltc", 0), ("ltc", 1), ("ltc", 2), ("mine", 0), ("expert", 0)]
    assert [one.training_seed for one in found[:3]] == [10, 11, 12]
    assert len({one.key for one in found}) == 5 and found[-1].policy is None


def test_the_driver_without_memory_is_the_baseline():
    some = [PolicyRun("a", core="ltc"), PolicyRun("b", core="feedforward")]
    assert choose_baseline(some, None) == "b" and choose_baseline(some, "a") == "a"
    assert choose_baseline(some[:1], None) == "a"


def test_findings_are_ranked_and_compared_with_the_baseline():
    rows = drive_rows({"feedforward": 0.2, "ltc": 0.05, "lstm": 0.1}, runs=5)
    blocks = block_rows({"feedforward": 0.2, "ltc": 0.05, "lstm": 0.1}, runs=5)
    found = find_in(rows, blocks, CONDITIONS, "feedforward")
    assert [driver.name for driver in found.drivers] == ["ltc", "lstm", "feedforward"]
    ltc, _, base = found.drivers
    assert ltc.difference.high < 0 and ltc.better.low > 0.5 and ltc.corruption_error.high < 1
    assert base.corruption_error.value == 1 and base.difference.value == 0
    assert found.lead is not None and found.lead.low > 0 and "tells them apart. ltc left the road in" in found.verdict()
    errors = [row["lane_error"] for row in rows if (row["driver"], row["perturbation"]) == ("ltc", "fog:5")]
    assert ltc.by_condition["fog:5"].error.value == pytest.approx(np.mean(errors))
    assert list(ltc.curves["noise"]) == [0, 1, 3, 5]
    assert ltc.recorded_clean < ltc.recorded_perturbed < base.recorded_perturbed
    few = find_in(drive_rows({"feedforward": 0.2, "ltc": 0.05}, runs=2), [], CONDITIONS, "feedforward")
    assert "one of runs, not of kinds" in few.verdict()
    rows = drive_rows({"feedforward": 0.2, "ltc": 0.05}, runs=5, roads=2)
    assert "tells them apart on these roads alone. " in find_in(rows, [], CONDITIONS, "ltc").verdict()


def test_the_expert_is_shown_and_not_ranked_first_in_words():
    rows = drive_rows({"ltc": 0.05, "lstm": 0.1}) + [
        {**row, "core": "expert"} for row in drive_rows({"expert": 0.0}, runs=1)
    ]
    found = find_in(rows, [], CONDITIONS, "ltc")
    assert [driver.name for driver in found.drivers] == ["expert", "ltc", "lstm"]
    assert [driver.name for driver in found.contenders] == ["ltc", "lstm"]
    assert ", ltc came first" in found.verdict() and "expert" not in found.verdict() and found.lead is not None
    gap = found.contenders[1].error_iqm.value - found.contenders[0].error_iqm.value
    assert found.lead.value == pytest.approx(gap)
    alone = find_in(rows[-len(rows) // 5 :], [], CONDITIONS, "expert")
    assert "expert was" in alone.verdict()


def test_a_missing_drive_is_an_error():
    rows = drive_rows({"ltc": 0.1})
    with pytest.raises(ValueError, match="a drive is missing from the results"):
        find_in(rows[:-1], [], CONDITIONS, "ltc")


def test_failures_are_of_many_kinds_and_not_of_roads_that_are_lost_anyway():
    conditions = ("fog:1", "fog:2", "rain:1", "friction:1")
    rows = [
        drive_row("ltc", 0, name, road, lane_error=0.1, crashed=False) for name in ("", *conditions) for road in (1, 2)
    ]
    for row in rows:
        if row["road_seed"] == 2 or row["perturbation"] in ("fog:1", "fog:2", "friction:1"):
            row.update(crashed=True, duration_s=3.0)
    found = find_in(rows, [], conditions, "ltc")
    assert {failure.road_seed for failure in found.failures} == {1}, "road 2 is lost without any disturbance"
    chosen = choose_failures(found, 2, ["ltc"])
    assert [failure.condition.perturbation for failure in chosen] == ["fog:1", "friction:1"]
    assert choose_failures(found, 2, ["other"]) == []


def test_a_run_that_cannot_drive_is_named_and_nobody_comes_first():
    rows = drive_rows({"lstm": 0.05, "ltc": 0.2}, runs=3)
    for row in rows:
        if (row["driver"], row["run"]) == ("ltc", 1):  # it has learnt nothing
            row.update(crashed=True, lane_error=0.9, training_seed=7)
    found = find_in(rows, [], CONDITIONS, "lstm")
    assert [(name, run.run) for name, run in found.failed] == [("ltc", 1)]
    assert "came first" not in found.verdict()
    assert found.headline().endswith("no driver is called first: one training run fails on clean roads.")
    assert found.verdict().startswith("Training run 1 of ltc (seed 7) fails on clean roads: it left the road in 4 of 4")
    healthy = [row for row in rows if (row["driver"], row["run"]) != ("ltc", 1)]
    assert "lstm came first" in find_in(healthy, [], CONDITIONS, "lstm").verdict()
    lost = [{**row, "crashed": False} for row in rows]  # on the road and out of its lane all the time
    assert find_in(lost, [], CONDITIONS, "lstm").failed


def test_headline_and_table_speak_of_the_same_difference():
    found = find_in(drive_rows({"ltc": 0.05, "lstm": 0.1, "feedforward": 0.2}, runs=5), [], CONDITIONS, "feedforward")
    first, second, _ = found.drivers
    assert first.behind.value == 0 and second.behind.value > 0
    assert f"lstm is {second.behind.text(1, 100)} points behind" in found.verdict()
    assert second.behind.value == pytest.approx(second.error_iqm.value - first.error_iqm.value)


def test_two_roads_and_one_run_have_no_interval_and_few_crashes_exact_bounds():
    rows = [{**row, "crashed": False} for row in drive_rows({"ltc": 0.05, "lstm": 0.1}, runs=1, roads=2)]
    found = find_in(rows, [], CONDITIONS, "ltc")
    for driver in found.drivers:
        for figure in (driver.error_iqm, driver.error_iqm_runs, driver.error, driver.behind, driver.corruption_error):
            assert not figure.bounded and "[" not in figure.text()
        assert driver.crash_share.text(0, 100) == "0 (below 78)", "1 − √0.05: two roads, however many drives on them"
    assert "it may be chance" in found.verdict() and "apart" not in found.verdict()
