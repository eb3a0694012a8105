"""`wormwheel evaluate` from end to end, in closed loop and on recordings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.driving.trials import Run, Trial, drive_trials, expected_steps
from envs.lane_keeping.env import LaneKeepingConfig
from envs.perturbations import GaussianNoise
from experiments.policy_paths import name_policies
from tests.experiments.verbs import ROAD, wormwheel, write_tub

SHORT = (*ROAD, "--episodes", 2, "--episode-s", 2)


def figures(path: Path) -> Any:
    return json.loads(path.read_text())["figures"]


def test_one_table_for_several_policies_and_noise_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
):
    shutil.copytree(trained, tmp_path / "other")
    results = tmp_path / "e.json"
    ran = wormwheel(
        capsys,
        *("evaluate", "--policy", trained, tmp_path / "other", "--expert", *SHORT),
        *("--noise-variance", 0, 0.2, "--json", results),
    )
    assert ran.code == 0, ran.err
    rows = figures(results)["driving"]
    assert [(row["driver"], row["noise_variance"]) for row in rows] == [
        ("expert", 0.0),
        ("mine", 0.0),
        ("mine", 0.2),
        ("other", 0.0),
        ("other", 0.2),
    ]
    expert, clean, noisy, clean_copy, noisy_copy = rows
    # The same weights on the same roads under the same noise do the same; under noise they do something else.
    assert clean["drives"] == clean_copy["drives"] and noisy["drives"] == noisy_copy["drives"]
    assert clean["drives"] != noisy["drives"]
    assert [drive["seed"] for drive in clean["drives"]] == [1000, 1001]
    assert not any(drive["crashed"] for drive in expert["drives"])
    assert expert["figures"]["mean_offset_lane"]["value"] < 0.05
    for words in ("expert", "mine", "other", "crashes per km", "mean offset, % of lane"):
        assert words in ran.out


@pytest.mark.thorough
def test_processes_do_not_change_the_figures(trained: Path):
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=0.5)
    policy = trained / "policy"
    trials = [Trial(policy, world, (Run(5), Run(6)), variance) for variance in (0.0, 0.1)]
    steps: list[int] = []
    one, two = drive_trials(trials, workers=1, on_steps=steps.append), drive_trials(trials, workers=2)
    assert sum(steps) == sum(map(expected_steps, trials)) == 40
    for before, after in zip(sum(one, []), sum(two, []), strict=True):
        np.testing.assert_array_equal(before.steering, after.steering)


def test_one_lap_of_each_road(tmp_path: Path, capsys: pytest.CaptureFixture[str], circle: Path):
    shutil.copy(circle, circle.with_name("again.csv"))
    results = tmp_path / "e.json"
    ran = wormwheel(capsys, "evaluate", "--expert", *ROAD, "--track", circle.parent, "--json", results)
    assert ran.code == 0, ran.err
    (row,) = figures(results)["driving"]
    assert [drive["track"] for drive in row["drives"]] == ["again", "circle"]
    for drive in row["drives"]:
        assert not drive["crashed"]
        assert drive["distance_m"] == pytest.approx(2 * np.pi * 2.0, abs=0.25)  # a lap, to within a step or two
    assert "circle" in ran.out


def test_a_policy_with_another_period_sees_time_in_its_own(monkeypatch: pytest.MonkeyPatch, trained: Path):
    seen: list[float] = []
    act = drive_trials.__globals__["PolicyDriver"].act

    def spy(self: Any, frames: Any, elapsed: Any, starts: Any, envs: Any) -> Any:
        seen.extend(elapsed.tolist())
        return act(self, frames, elapsed, starts, envs)

    monkeypatch.setattr("agents.driving.trials.PolicyDriver.act", spy)
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.0, episode_s=0.5, period_s=0.1)
    drive_trials([Trial(trained / "policy", world, (Run(1),))])
    assert seen and set(seen) == {2.0}  # the policy was trained at 0.05 s


def test_on_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path, recording: Path):
    results = tmp_path / "e.json"
    ran = wormwheel(
        capsys,
        *("evaluate", "--policy", trained, "--data", recording, "--last", 0.5),
        *("--noise-variance", 0, 0.3, "--json", results),
    )
    assert ran.code == 0, ran.err
    found = figures(results)["recordings"]
    assert found["frames"] == 135
    assert [(row["driver"], row["noise_variance"]) for row in found["rows"]] == [
        ("mine", 0.0),
        ("mine", 0.3),
        ("predict the mean", 0.0),
    ]
    assert found["rows"][2]["figures"]["r2"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["rows"][2]["figures"]["correlation"]["value"] is None


def test_recordings_of_another_size_are_cropped_and_it_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
):
    tub = write_tub(tmp_path / "tub", frames=20, height=40, width=60)
    other = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub)
    assert other.code == 0 and "60×40 are cropped about" in " ".join((other.out + other.err).split())
    fitted = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub, "--crop-top", 10)
    assert fitted.code == 0, fitted.err
    nothing = wormwheel(capsys, "evaluate", "--policy", trained, "--data", tub, "--crop-top", 40)
    assert nothing.code == 2 and "crop less" in nothing.complaint


def test_policies_are_named_by_their_run(tmp_path: Path, trained: Path):
    assert name_policies([trained]) == {"mine": trained / "policy"}
    assert name_policies([trained / "policy"]) == {"mine": trained / "policy"}
    shutil.copytree(trained, tmp_path / "elsewhere" / "mine")
    names = list(name_policies([trained, tmp_path / "elsewhere" / "mine"]))
    assert names == ["mine", str(tmp_path / "elsewhere" / "mine")]
    with pytest.raises(ValueError, match="given twice"):
        name_policies([trained, trained, trained])


def test_noise_has_the_variance_it_says():
    grey = np.full((4, 48, 96, 3), 128, np.uint8)
    noisy = GaussianNoise(0.01)(grey, np.random.default_rng(0))
    assert noisy.dtype == np.uint8
    assert ((noisy / 255.0) - 128 / 255).var() == pytest.approx(0.01, rel=0.02)
    strong = GaussianNoise(0.3)(grey, np.random.default_rng(0))
    # Clipped: P(|0.548 z| > 0.5) of the values end at one of the two ends.
    assert np.isin(strong, (0, 255)).mean() == pytest.approx(0.362, abs=0.01)
    np.testing.assert_array_equal(strong, GaussianNoise(0.3)(grey, np.random.default_rng(0)))
    assert GaussianNoise(0.0)(grey, np.random.default_rng(0)) is grey
    with pytest.raises(ValueError, match="variance"):
        GaussianNoise(variance=-0.1)


def test_the_expert_meets_what_is_not_of_the_frames_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    results = tmp_path / "e.json"
    kinds = ("fog:3", "lower_rate:5", "mirrored:5", "friction:1", "fgsm:1")
    words = ["evaluate", "--expert", *ROAD, "--episodes", 1, "--episode-s", 0.6, "--json", results]
    ran = wormwheel(capsys, *words, "--perturbations", *kinds)
    assert ran.code == 0, ran.err
    rows = figures(results)["driving"]
    assert [row["perturbation"] for row in rows] == ["", "lower_rate:5", "friction:1"]


def test_the_side_of_the_steering_is_said_for_drivers_of_others_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trained: Path
):
    code = tmp_path / "net.py"
    code.write_text("def make():\n    return lambda frame: 0.25\n")
    words = ["evaluate", *ROAD, "--episodes", 1, "--episode-s", 0.3, "--json", tmp_path / "e.json"]
    alone = wormwheel(capsys, *words, "--policy", trained, "--positive", "right")
    assert alone.code == 2 and "--positive right: policies of ours say" in alone.complaint
    for side in ("left", "right"):
        ran = wormwheel(capsys, *words, "--policy", trained, f"{code}:make", "--positive", side)
        assert ran.code == 0, ran.err
        ours, theirs = (row["drives"][0]["mean_offset_m"] for row in figures(tmp_path / "e.json")["driving"])
        if side == "left":
            before = ours, theirs
    assert ours == before[0] and theirs != before[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--data", "DATA", "--markings", "line"), "--markings: these are options of LaneKeeping, a recording has"),
        (("--env", "Recorded", "--data", "DATA", "--throttle"), "--throttle: these are options of LaneKeeping"),
        (("--env", "Recorded", "--data", "DATA", "--env-names.positive", "right"), "--env-names say where"),
        (("--rig.hfov-deg", "90"), "--rig.… are camera and car of recordings"),
        (("--last", "0.5"), "--last are for recordings: give --data"),
        (("--recording.from-s", "5"), "--recording.… are for recordings: give --data"),
        (("--latency-scale", "2"), "--latency-scale is a factor"),
        (("--laps", "3"), "--laps are for the roads of --track"),
    ],
)
def test_what_nothing_would_heed_is_refused(
    words: tuple[str, ...], says: str, trained: Path, recording: Path, capsys: pytest.CaptureFixture[str]
):
    filled = [str(recording) if word == "DATA" else word for word in words]
    ran = wormwheel(capsys, "evaluate", "--policy", trained, *filled)
    assert ran.code == 2 and says in ran.complaint
