"""The experiment on liquid drivers: all of it on a tiny scale, going on after a kill, verdicts by intervals alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from agents.driving.statistics import Estimate
from agents.imitation.train import ImitationConfig
from experiments.liquid_claim import experiment as claim
from experiments.liquid_claim import training as drivers
from experiments.liquid_claim.__main__ import main
from experiments.liquid_claim.comparisons import Claim, Comparison, claims, clocks
from experiments.liquid_claim.report import ranking
from experiments.liquid_claim.training import (
    CONTENDERS,
    WIRING_SEED,
    Outcome,
    Training,
    choose_rates,
    train_some,
)
from experiments.robustness import verb
from experiments.robustness.jobs import CLEAN, DriveRow
from experiments.robustness.store import make_table
from policies.policy import PolicyConfig
from tests.experiments.robustness.made_up_drives import drive_row, drive_rows

TINY = replace(claim.QUICK, films=0, cores=("ltc-ncp", "feedforward"), frames=240, episode_s=1.0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> claim.LiquidClaim:
    """The options of a tiny experiment that has been run."""
    place = tmp_path_factory.mktemp("claim")
    options = replace(TINY, out=place / "runs", publish=place / "published")
    claim.run(options)
    return options


@pytest.mark.thorough
def test_everything_is_written_and_published(done: claim.LiquidClaim):
    assert done.publish is not None
    summary = json.loads((done.publish / "summary.json").read_text(encoding="utf-8"))
    assert {driver["driver"] for driver in summary["drivers"]} == {*done.cores}
    for driver in summary["drivers"]:
        assert driver["runs"] == 2 and driver["training_seeds"] == [0, 1]
        assert driver["drives"] == 2 * done.roads * len(driver["conditions"]) - 2 * done.roads
        # Two runs are no three: a value without an interval.
        assert driver["error_iqm"]["value"] > 0 and driver["error_iqm"]["low"] is driver["error_iqm"]["high"] is None
        tried = summary["tuning"][driver["driver"]]
        assert tried[f"{driver['learning_rate']:g}"] == min(tried.values()) and len(tried) == 2
    assert {one["title"] for one in summary["claims"]} >= {"Under shift", "Published noise", "Time"}
    page = (done.publish / "README.md").read_text(encoding="utf-8")
    assert "quick version" in page and "nan" not in page and str(done.out) not in page
    assert "\n\n\n" not in page and "{{" not in page
    for name in ("ranking.png", "heat.png", "dose.png", "timing.png"):
        assert (done.publish / name).read_bytes().startswith(b"\x89PNG") and f"({name})" in page
    for one in summary["claims"]:
        assert one["says"] in page


@pytest.mark.thorough
def test_nothing_is_done_twice(done: claim.LiquidClaim, monkeypatch: pytest.MonkeyPatch):
    before = json.loads((done.out / "summary.json").read_text(encoding="utf-8"))
    trained = {path: path.stat().st_mtime_ns for path in done.out.glob("training/**/outcome.json")}
    assert len(trained) == 2 * 2 + 2
    for module in (claim, verb):
        monkeypatch.setattr(module, "run_jobs", lambda *_: pytest.fail("something was done again"))
    claim.run(done)
    assert trained == {path: path.stat().st_mtime_ns for path in done.out.glob("training/**/outcome.json")}
    after = json.loads((done.out / "summary.json").read_text(encoding="utf-8"))
    assert after["drivers"] == before["drivers"] and after["clocks"] == before["clocks"]


@pytest.mark.thorough
def test_another_experiment_is_refused_in_the_same_place(done: claim.LiquidClaim, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match="was begun with epochs 1"):
        claim.run(replace(done, epochs=2))
    assert main(["--quick", "--out", str(done.out), "--roads", "7"]) == 2
    assert "give another --out" in capsys.readouterr().err
    assert main(["--quick", "--cores", "ltc-ncp", "perceptron"]) == 2
    told = capsys.readouterr().err
    assert "perceptron" in told and "cfc-wired" in told and told.count("\n") == 1


@pytest.mark.thorough
def test_a_killed_training_goes_on_to_the_same_weights(
    done: claim.LiquidClaim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Killed(BaseException):
        pass

    monkeypatch.setattr(drivers, "NEWS_EVERY", 1)
    learning = ImitationConfig(epochs=2, batch_size=4, window=8, burn_in=2)
    whole, cut = (
        Training("ltc-random", 0.01, 3, tmp_path / name, done.out / "recording", learning) for name in ("whole", "cut")
    )
    total = drivers.steps_of(whole)
    steps: list[int] = []
    drivers.train_some([whole], steps.append)
    assert sum(steps) == total
    made = 0

    def kill(count: int) -> None:
        nonlocal made
        made += count
        if made > total // 2 + 1:
            raise Killed

    with pytest.raises(Killed):
        drivers.train_some([cut], kill)
    assert cut.outcome() is None
    again: list[int] = []
    drivers.train_some([cut], again.append)
    assert again[0] > total // 2, "it began anew"
    assert (cut.directory / "policy/model.safetensors").read_bytes() == (
        whole.directory / "policy/model.safetensors"
    ).read_bytes()
    assert cut.outcome() is not None and cut.outcome().validation_rmse == whole.outcome().validation_rmse  # type: ignore[union-attr]


def test_the_least_validation_error_chooses_and_divergence_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    errors = {("lstm", 0.1): None, ("lstm", 0.01): 0.3, ("lstm", 0.001): 0.2, ("gru", 0.1): None, ("gru", 0.01): None}
    monkeypatch.setattr(
        Training, "outcome", lambda self: Outcome(errors[self.label, self.rate], 1, 10, 1.0), raising=True
    )
    trainings = [Training(label, rate, 0, tmp_path, tmp_path, ImitationConfig()) for label, rate in errors]
    assert choose_rates(trainings[:3]) == {"lstm": 0.001}
    with pytest.raises(ValueError, match="gru diverged with every rate of 0.1, 0.01"):
        choose_rates(trainings)


def one(low: float, high: float) -> Comparison:
    return Comparison("a", "b", Estimate((low + high) / 2, low, high))


@pytest.mark.parametrize(
    ("intervals", "outcome"),
    [
        ([(-2, -1), (-3, -0.1)], "supported throughout"),
        ([(-2, -1), (-3, 0.1)], "supported in part, otherwise not decided"),
        ([(-2, 1), (-3, 0.1)], "not decided"),
        ([(-2, -1), (0.1, 0.2)], "mixed"),
        ([(0.1, 1), (0.1, 0.2)], "contradicted throughout"),
        ([(0.0, 0.0)], "not decided"),
    ],
)
def test_verdicts_follow_the_intervals(intervals: list[tuple[float, float]], outcome: str):
    assert Claim("", "", tuple(one(*ends) for ends in intervals)).outcome == outcome


def table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return make_table(rows, DriveRow)


def test_claims_see_who_is_better():
    conditions = ("variance:2", "variance:5", "fog:3", "friction:4")
    weak = {"ltc-ncp": 0.02, "ltc-full": 0.1, "lstm": 0.1, "feedforward": 0.2}
    found = {one.title: one for one in claims(table(drive_rows(weak, 5, conditions)), conditions, list(weak))}
    pairs = {(one.first, one.second): one.verdict for one in found["Under shift"].comparisons}
    assert pairs[("ltc-ncp", "lstm")] == pairs[("ltc-full", "feedforward")] == "better"
    assert pairs[("ltc-full", "lstm")] == "undecided"
    assert found["Wiring"].outcome == "supported throughout"
    assert "of variance 0.1, 0.3 (published: 0.1, 0.2, 0.3)" in found["Published noise"].says
    turned = {"ltc-ncp": 0.2, "lstm": 0.02}
    (shift, *_) = claims(table(drive_rows(turned, 5, conditions)), conditions, list(turned))
    assert shift.outcome == "contradicted throughout"


def test_a_loss_by_shift_is_measured_against_the_drivers_own_clean_drives():
    errors = {"ltc-ncp": (0.2, 0.25), "lstm": (0.02, 0.15)}  # clean, and under fog: worse, but it loses less
    rows = [
        drive_row(label, run, condition, road, lane_error=error + 0.001 * road)
        for label, both in errors.items()
        for run in range(5)
        for road in range(4)
        for condition, error in zip((CLEAN, "fog:3"), both, strict=True)
    ]
    found = {one.title: one for one in claims(table(rows), ("fog:3",), list(errors))}
    (shift,), (loss,) = found["Under shift"].comparisons, found["Loss by shift"].comparisons
    assert (shift.verdict, loss.verdict) == ("worse", "better")
    assert (shift.difference.value, loss.difference.value) == pytest.approx((0.1, 0.05 - 0.13))


def test_the_clock_is_compared_within_each_training_run():
    # Runs differ by far more than the clock does; only pairing can show it.
    rows = [
        drive_row(
            "ltc-ncp", run, name, road, lane_error=0.1 * run + 0.01 * road % 0.1 + (0.02 if "hidden" in name else 0)
        )
        for run in range(5)
        for road in range(4)
        for name in ("lower_rate:3", "lower_rate_hidden:3")
    ]
    (clock,) = clocks(table(rows), ["lower_rate"], [3], "ltc-ncp")
    difference = clock.comparison.difference
    assert clock.comparison.verdict == "better"
    assert difference.value == pytest.approx(-0.02) and difference.high - difference.low < 1e-9
    assert clock.known.high - clock.known.low > 0.1


def test_each_training_run_has_its_own_weights_and_where_it_is_drawn_its_own_wiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, ImitationConfig, PolicyConfig]] = []

    def diverge(learning: ImitationConfig, policy: PolicyConfig, *others: Any) -> None:
        asked.append((others[2].path.parts[-3], learning, policy))
        raise ValueError("the loss is no longer finite")

    sets = SimpleNamespace(frame_size=(24, 48), nominal_period_s=0.05)
    monkeypatch.setattr(drivers, "load_sets", lambda data: (sets, sets))
    monkeypatch.setattr(drivers, "steps_of", lambda training: 1)
    monkeypatch.setattr(drivers, "train_imitation", diverge)
    some = [
        Training(label, 0.01, seed, tmp_path, tmp_path, ImitationConfig())
        for label in ("ltc-ncp", "cfc-wired", "cfc-full")
        for seed in (0, 1)
    ]
    train_some(some, lambda steps: None)
    assert [(label, learning.seed, learning.core_learning_rate) for label, learning, _ in asked] == [
        (one.label, one.seed, 0.01) for one in some
    ]
    wirings = [policy.core_options.get("wiring_seed") for _, _, policy in asked]
    assert wirings == [WIRING_SEED, WIRING_SEED + 1, WIRING_SEED, WIRING_SEED + 1, None, None]


def test_only_the_seeds_that_are_asked_for_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    options = replace(claim.QUICK, out=tmp_path, seeds=2, cores=("ltc-ncp", "feedforward"))
    for label in options.cores:
        for seed in range(12):  # of an earlier start with more of them
            (tmp_path / "training" / label / "rate-0.02" / f"seed-{seed}").mkdir(parents=True)
    driven: list[verb.RobustnessOptions] = []
    monkeypatch.setattr(claim.verb, "run", driven.append)
    monkeypatch.setattr(claim, "find_policy_runs", lambda policies: [])
    monkeypatch.setattr(claim, "choose_baseline", lambda runs, named: "feedforward")
    monkeypatch.setattr(claim, "read_table", lambda path: pd.DataFrame())
    claim._drive(options, dict.fromkeys(options.cores, 0.02))
    wanted = tuple(
        f"{label}={tmp_path / 'training' / label / 'rate-0.02' / f'seed-{seed}'}"
        for label in options.cores
        for seed in (0, 1)
    )
    assert [one.policy for one in driven] == [wanted, wanted], "under the suite, and under irregular time"


def test_the_recording_has_its_own_variety_clock_and_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []

    def pretend(directory: Path, world: Any, config: Any, *more: Any) -> SimpleNamespace:
        asked.append((directory, world, config))
        return SimpleNamespace(kept_frames=480)

    road = SimpleNamespace(meta=SimpleNamespace(seed=7))
    monkeypatch.setattr(claim, "record", pretend)
    monkeypatch.setattr(claim, "load_sets", lambda data: ([road], [road]))
    options = replace(claim.QUICK, out=tmp_path, recorded_variety=0.6, variety=0.35, elapsed_jitter=0.3, seed=4)
    claim._record(options)
    ((place, world, config),) = asked
    assert (place, world.variety, world.elapsed_jitter) == (tmp_path / "recording", 0.6, 0.3)
    assert (config.frames, config.seed) == (480, 4) and world.episode_s == 480 * 0.05 / 4
    assert (world.start_offset, world.start_heading_rad) == (claim.WORLD.start_offset, claim.WORLD.start_heading_rad)
    assert options.world.variety == 0.35
    with pytest.raises(ValueError, match="in the recording"):
        claim._record(replace(options, road_seed=6, roads=2))


def test_the_table_of_drivers_shows_each_figure_under_its_name():
    figures = {
        "error_iqm_runs": 0.011,
        "error_iqm": 0.012,
        "error": 0.013,
        "clean_error": 0.014,
        "crash_share": 0.015,
        "corruption_error": 0.16,
        "corruption_crashes": 0.17,
        "difference": 0.018,
        "better": 0.19,
    }
    estimates = {name: Estimate(value, value - 0.01, value + 0.01) for name, value in figures.items()}
    driver, base = (SimpleNamespace(name=name, runs=5, **estimates) for name in ("ltc-ncp", "feedforward"))
    found = SimpleNamespace(baseline="feedforward", drivers=(driver, base))
    material: Any = SimpleNamespace(findings=found, parameters={"ltc-ncp": 27411, "feedforward": 1000})
    heads, (mine, other) = ranking(material)
    assert dict(zip(heads, mine, strict=True)) == {
        "driver": "ltc-ncp",
        "runs": "5",
        "parameters": "27,411",
        "lane error, %": "1.1 [0.1, 2.1]",  # with whole runs drawn
        "mean, %": "1.3 [0.3, 2.3]",
        "clean, %": "1.4 [0.4, 2.4]",
        "off the road, %": "1.5 [0.5, 2.5]",
        "× feedforward": "0.16 [0.15, 0.17]",
        "minus feedforward, points": "1.8 [0.8, 2.8]",
        "beats feedforward, %": "19 [18, 20]",
    }
    assert other[-2:] == ["–", "–"]


def test_every_contender_can_be_made():
    from policies.cores import make_core

    for contender in CONTENDERS.values():
        assert make_core(contender.core, 32, 1, dict(contender.options)).output_size == 1
