"""`wormwheel gate`: exit codes, what it leaves, and the fixture for tests of a policy."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from experiments.robustness.store import read_table
from tests.experiments.verbs import Ran, wormwheel

pytest.importorskip("pandas", reason="the extra robustness is not installed")
pytest_plugins = ["pytester"]
WORLD = (
    "--vehicle",
    "bicycle",
    "--variety",
    "0.2",
    "--episode-s",
    "1.5",
    "--workers",
    "1",
    "--films",
    "0",
    "--pixels-per-m",
    "24",
)
KINDS = ("--perturbations", "gaussian:3", "fog:2")


def gate(capsys: pytest.CaptureFixture[str], trained: Path, out: Path, *words: object) -> Ran:
    return wormwheel(capsys, "gate", "--policy", trained, "--out", out, *KINDS, *WORLD, *words)


def test_a_policy_passes_against_itself_and_its_files_agree(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ("--against", trained, "--require", "lane_error <= 1.5", "--require", "fog.crashes <= 99 @ severity <= 2")
    ran = gate(capsys, trained, tmp_path / "out", *words)
    assert ran.code == 0, ran.err
    assert "Passed after 4 roads." in ran.out
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert summary["outcome"] == "passed" and summary["looks"] == 1 and summary["drives"] == 2 * 3 * 4
    assert [check["name"] for check in summary["checks"] if check["group"] == "requirement"] == list(words[3::2])
    drives = read_table(tmp_path / "out/drives.parquet")
    pairs = drives.pivot(index=["road_seed", "perturbation"], columns="driver", values="lane_error")
    assert (pairs.policy == pairs.released).all(), "the same policy drove other drives"
    suite = ElementTree.parse(tmp_path / "out/junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0") and int(suite.get("tests", "0")) == len(suite)
    assert "| ✅ | as good as released |" in (tmp_path / "out/summary.md").read_text(encoding="utf-8")


def test_the_answer_is_kept_where_a_film_cannot_be_made(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def full(*given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.gate.report._film", full)
    words = ("--require", "crashes >= 999", "--budget", "3", "--episode-s", "0.3", "--json", tmp_path / "gate.json")
    ran = gate(capsys, trained, tmp_path / "out", *words)
    assert ran.code == 2 and "No space left" in ran.complaint
    summary = json.loads((tmp_path / "out/summary.json").read_text(encoding="utf-8"))
    assert summary["outcome"] == "undecided" and len(read_table(tmp_path / "out/drives.parquet")) == summary["drives"]
    assert json.loads((tmp_path / "gate.json").read_text(encoding="utf-8"))["figures"] == summary


def test_a_broken_requirement_is_exit_code_1_and_filmed(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ran = gate(capsys, trained, tmp_path / "out", "--require", "fog.lane_error <= 0.0001", "--films", "1")
    assert ran.code == 1 and "roads: fog.lane_error <= 0.0001." in ran.out
    (failure,) = ElementTree.parse(tmp_path / "out/junit.xml").getroot().iter("failure")
    assert "lane_error" in failure.attrib["message"]
    page = (tmp_path / "out/summary.md").read_text(encoding="utf-8")
    (film,) = (tmp_path / "out/films").glob("*.mp4")
    assert "fog-2" in film.name and film.name in page and "wormwheel render --policy" in page and "fog:2" in page


def test_what_cannot_be_told_is_exit_code_3_at_the_end_of_the_budget(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    gate(capsys, trained, tmp_path / "first", "--require", "lane_error <= 1.5", "--budget", "6")
    drives = read_table(tmp_path / "first/drives.parquet")
    limit = drives.lane_error.mean()
    ran = gate(capsys, trained, tmp_path / "out", "--require", f"lane_error <= {limit}", "--budget", "6")
    assert ran.code == 3 and "Not decided within 6 roads" in ran.out
    assert len(read_table(tmp_path / "out/drives.parquet")) == 3 * 6, "it must drive to its budget"
    assert ElementTree.parse(tmp_path / "out/junit.xml").getroot()[0].get("errors") == "1"
    assert "undecided, undecided" in (tmp_path / "out/summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to judge by: give --against"),
        (("--require", "crashes"), "a requirement looks like"),
        (("--require", "snow.crashes <= 0"), "no drive of this suite counts for"),
        (("--against", "nowhere"), "nowhere"),
        (("--require", "crashes <= 0", "--budget", "2"), "budget must be at least 3, got 2"),
        (("--require", "crashes <= 0", "--height", "50"), "takes frames of 48×24 pixels"),
    ],
)
def test_what_cannot_be_done_is_exit_code_2(
    words: tuple[str, ...], says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    ran = gate(capsys, trained, tmp_path / "out", *words)
    assert ran.code == 2 and says in ran.complaint and not (tmp_path / "out").exists()


def test_the_pytest_fixture_drives(trained: Path, pytester: pytest.Pytester, pytestconfig: pytest.Config):
    pytester.makepyfile(
        test_driver="def test_good(drive):\n"
        "    result = drive('fog:2', road=7, seconds=1.0)\n"
        "    assert result == drive('fog:2', road=7, seconds=1.0) and result.duration_s <= 1.01\n"
        "    assert result.lane_error != drive('', road=8, seconds=1.0).lane_error\n"
        "def test_bad(drive):\n"
        "    assert drive('fog:2', road=7, seconds=1.0).lane_error < 0\n"
    )
    # An installation brings the plugin by its entry point; one from before it was added does not.
    plugin = () if pytestconfig.pluginmanager.hasplugin("wormwheel") else ("-p", "experiments.gate.pytest_plugin")
    with_policy = pytester.runpytest_inprocess(*plugin, "--wormwheel-policy", trained)
    with_policy.assert_outcomes(passed=1, failed=1)
    with_policy.stdout.fnmatch_lines(["*fog:2 on road 7:*"])
    assert "wormwheel render --policy" in with_policy.stdout.str()
    pytester.runpytest_inprocess(*plugin).assert_outcomes(skipped=2)
