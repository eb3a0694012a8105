"""`wormwheel demo`, on the smallest scale: everything is made, and nothing is lost when something fails."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import av
import pytest

from agents.imitation.train import ImitationConfig
from agents.recordings.episodes import EpisodeSet
from agents.runs.files import PARTIAL
from experiments.cli import main
from experiments.demo import verb as demo
from experiments.demo.verb import FIRST_ROAD, DemoConfig, publish, unseen_seeds, workshop
from policies.checkpoint import load_policy
from tests.experiments.verbs import tree

TINY = DemoConfig(
    frames=200,
    episode_s=2.0,
    variety=0.2,
    validation=0.2,
    training=ImitationConfig(epochs=2, batch_size=4, window=12, burn_in=4),
    roads=2,
    road_s=1.0,
    noise_variances=(0.0, 0.3),
    film_s=0.5,
    workers=1,
)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "QUICK", TINY)


def test_everything_is_made_and_named(tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, extra = tmp_path / "out", tmp_path / "figures.json"
    arguments = ["demo", "--quick", "--out", str(out), "--vehicle", "bicycle", "--json", str(extra)]
    assert main([*arguments, "--seed", "4"]) == 0
    assert sorted(p.name for p in out.iterdir()) == [
        *("config.json", "drive.mp4", "made.json", "policy", "report.html", "results.json", "training")
    ]
    policy = load_policy(out / "policy")
    assert policy.core.state_size == 19
    with av.open(str(out / "drive.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 10
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["vehicle"] == "bicycle" and results["recorded_frames"] == 200
    assert [level["variance"] for level in results["levels"]] == [0.0, 0.3]
    # Paired: every noise level meets the same roads.
    assert len({tuple(road["seed"] for road in level["roads"]) for level in results["levels"]}) == 1
    assert results["expert"]["figures"]["crashes"]["value"] == 0
    assert len(results["history"]) == 2
    assert json.loads(extra.read_text(encoding="utf-8"))["figures"]["verdict"] == results["verdict"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "data:video/mp4" in page and "data:image/webp" in page
    printed = capsys.readouterr()
    assert results["verdict"] in printed.out.replace("\n", " ")
    for name in ("report.html", "drive.mp4", "policy"):
        assert str(out / name) in printed.out
    for work in ("recording", "training", "driving", "filming"):
        assert f"{work}" in printed.err
    assert (out / "training" / "metrics.jsonl").is_file()


def test_a_failure_midway_keeps_what_was_there(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("old")
    for name in ("report.html", "drive.mp4", "results.json", "mine.txt"):
        (tmp_path / name).write_text("old")
    (tmp_path / "config.json").write_text('{"verb": "demo"}')
    (tmp_path / "made.json").write_text('["policy/config.json", "report.html", "drive.mp4", "results.json"]')
    before = tree(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "drive.mp4"))

    monkeypatch.setattr(demo, "film_drive", full)
    assert main(["demo", "--quick", "--out", str(tmp_path), "--vehicle", "bicycle"]) == 2
    assert tree(tmp_path) == before
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("wormwheel: ") and "No space left" in last


@pytest.mark.parametrize("mark", [False, True])
def test_what_somebody_else_has_put_there_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mark: bool
):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "notes.txt").write_text("mine")
    if mark:
        (tmp_path / "config.json").write_text('{"verb": "demo"}')
        (tmp_path / "made.json").write_text('["policy/config.json"]')
    before = tree(tmp_path)
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    words = "notes.txt was not made by an earlier run" if mark else "holds policy, which is of no run of `demo`"
    assert words in capsys.readouterr().err
    assert tree(tmp_path) == before


def test_every_workshop_is_new_and_goes_at_the_end(tmp_path: Path):
    (tmp_path / f".demo{PARTIAL}{os.getpid()}" / "recording").mkdir(parents=True)  # A killed run had the same number.
    with workshop(tmp_path) as place, workshop(tmp_path) as other:
        assert place != other and PARTIAL in place.name
        assert list(place.iterdir()) == list(other.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == [f".demo{PARTIAL}{os.getpid()}"]


def test_publishing_replaces_all_of_an_earlier_run(tmp_path: Path):
    place, out = tmp_path / "place", tmp_path / "out"
    for root, words in ((place, "new"), (out, "old")):
        for name in ("policy", "training"):
            (root / name).mkdir(parents=True)
            (root / name / words).write_text(words)
        for name in ("drive.mp4", "results.json", "report.html"):
            (root / name).write_text(words)
    publish(place, out)
    assert [p.name for p in (out / "policy").iterdir()] == ["new"]
    assert (out / "report.html").read_text() == "new"


def test_unseen_roads_are_not_in_the_recording():
    class Recorded:
        def __init__(self, seed: int):
            self.meta = type("Meta", (), {"seed": seed})()

    first = FIRST_ROAD + 20_000
    known = EpisodeSet(tuple(Recorded(first + n) for n in (0, 2)))  # type: ignore[arg-type]
    assert unseen_seeds(2, 3, known) == [first + 1, first + 3, first + 4]


def test_bad_options_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "file").write_text("x")
    assert main(["demo", "--quick", "--out", str(tmp_path / "file")]) == 2
    assert "file" in capsys.readouterr().err
    assert main(["demo", "--quick", "--seed", "-1"]) == 2
    assert "seed must be at least 0" in capsys.readouterr().err


def test_promised_sizes():
    assert demo.FULL.roads == 20 and demo.FULL.road_s == 60.0
    assert demo.FULL.noise_variances == demo.QUICK.noise_variances == (0.0, 0.1, 0.2, 0.3)
    assert replace(demo.QUICK).frames < demo.FULL.frames
