"""How a policy steers on the released policy's frames: gain and delay, and what the gate makes of them."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from envs.lane_keeping.config import LaneKeepingConfig
from experiments.gate.faults import DelayedSteering, ScaledSteering
from experiments.gate.judge import Check, Outcome, Rules, judge
from experiments.gate.response import ResponseJob, ResponseRow, compare_steering
from experiments.gate.sequential import Plan, mean_bounds
from experiments.robustness.drivers import find_policy_runs
from experiments.robustness.findings import Condition
from experiments.robustness.jobs import DriveRow, JobResult
from experiments.robustness.store import Store, make_table
from tests.experiments.robustness.made_up_drives import drive_row

pytest.importorskip("pandas", reason="the extra robustness is not installed")
PERIOD_S = 0.05
BENDS = 0.5 * np.sin(np.arange(120) * 0.11) + 0.2 * np.sin(np.arange(120) * 0.37 + 1.0)


@pytest.mark.parametrize(("gain", "late"), [(1.0, 0), (0.7, 0), (1.4, 1), (-0.9, 0), (0.7, 2), (1.0, -2)])
def test_gain_and_delay_are_found(gain: float, late: int):
    noise = np.random.default_rng(0).normal(0, 0.005, len(BENDS))
    found, delay_s = compare_steering(BENDS, gain * np.roll(BENDS, late) + noise, PERIOD_S)
    assert found == pytest.approx(gain, abs=0.03) and delay_s == pytest.approx(late * PERIOD_S, abs=0.015)


@pytest.mark.parametrize("gain", [0.9, -0.9])
def test_delays_lie_between_frames_whatever_the_side(gain: float):
    at = np.arange(120) - 0.5
    late = 0.5 * np.sin(at * 0.11) + 0.2 * np.sin(at * 0.37 + 1.0)
    assert compare_steering(BENDS, gain * late, PERIOD_S) == pytest.approx((gain, 0.5 * PERIOD_S), abs=0.01)


def test_the_first_half_second_does_not_count():
    released = 0.3 * np.sin(np.arange(80) / 6)
    answers = np.where(np.arange(80) < 10, 0.9, released)
    assert compare_steering(released, answers, 0.05) == (1.0, 0.0)
    assert compare_steering(released, np.where(np.arange(80) < 14, 0.9, released), 0.05) != (1.0, 0.0)


def test_disagreement_by_chance_is_not_a_weaker_response():
    rng = np.random.default_rng(1)
    one, other = (BENDS + rng.normal(0, 0.15, len(BENDS)) for _ in range(2))
    slope = np.polyfit(one, other, 1)[0]
    assert slope < 0.9 < compare_steering(one, other, PERIOD_S)[0]


def test_straight_roads_say_nothing_unless_the_answers_are_the_same():
    straight = np.full(80, 0.001)
    assert compare_steering(straight, straight, PERIOD_S) == (1.0, 0.0)
    assert all(map(math.isnan, compare_steering(straight, 2 * BENDS[:80], PERIOD_S)))
    gain, delay_s = compare_steering(BENDS, np.zeros(len(BENDS)), PERIOD_S)
    assert gain == 0.0 and math.isnan(delay_s)


def asked(
    gain: float,
    delay_s: float = 0.0,
    worse: float = 0.0,
    look: int = 0,
    tolerance: float | None = 0.2,
    apart: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0),
) -> Check:
    """What the gate says of a response on four roads, nearly the same on each, beside drives that are so much worse."""
    rng = np.random.default_rng(2)
    conditions = [Condition.of(text) for text in ("", "fog:2")]
    drives = [
        drive_row(driver, 0, one.perturbation, road, lane_error=0.2 + more, crashed=False)
        for road in range(4)
        for one in conditions
        for driver, more in (("policy", worse + 1e-4 * rng.normal()), ("released", 0.0))
    ]
    shown = [vars(ResponseRow(road, gain + apart[road] + 1e-3 * rng.normal(), delay_s, 80)) for road in range(4)]
    rules = Rules("policy", "released", response_tolerance=tolerance)
    tables = make_table(drives, DriveRow), make_table(shown, ResponseRow)
    return judge(tables[0], conditions, (), Plan.upto(9), look, rules, tables[1])[1]


def test_what_steers_alike_passes_and_what_does_not_fails():
    assert asked(1.0).outcome is Outcome.PASSED and asked(0.85).outcome is Outcome.PASSED
    assert asked(0.8).outcome is Outcome.UNDECIDED, "at the tolerance itself it is open"
    weak = asked(0.7)
    assert weak.outcome is Outcome.FAILED and "0.70 times as much" in weak.says and "0.80 to 1.20" in weak.says
    assert asked(1.4).outcome is asked(-1.0).outcome is Outcome.FAILED
    late = asked(1.0, delay_s=0.1)
    assert late.outcome is Outcome.FAILED and "100 ms later" in late.says
    assert asked(1.0, delay_s=-0.1).outcome is Outcome.PASSED
    assert asked(1.0, delay_s=0.08).outcome is Outcome.FAILED and asked(1.0, delay_s=0.06).outcome is Outcome.PASSED


def test_either_side_of_the_response_may_err_with_half_the_rate():
    apart = (-0.1, 0.0, 0.05, 0.1)
    found = asked(1.0, apart=apart)
    low, high = mean_bounds(1.0 + np.array(apart), Plan.upto(9).level(0.05 / 2, 0))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-3)
    assert low < mean_bounds(1.0 + np.array(apart), Plan.upto(9).level(0.05, 0))[0] - 0.02


def test_another_response_is_no_fault_where_the_drives_are_better():
    assert asked(0.7, worse=-0.02).outcome is Outcome.PASSED
    assert asked(0.7, worse=0.0005).outcome is Outcome.FAILED
    better_by_chance = asked(0.7, worse=-0.00005)
    assert better_by_chance.outcome is Outcome.UNDECIDED
    assert asked(0.7, worse=-0.00005, look=len(Plan.upto(9).roads) - 1).outcome is Outcome.FAILED


def test_without_a_tolerance_it_is_not_asked():
    assert asked(0.7, tolerance=None).group == "family"


def test_a_policy_steers_as_itself_and_planted_faults_are_measured(trained: Path):
    world = LaneKeepingConfig(vehicle="bicycle", pixels_per_m=24.0, variety=0.2, episode_s=3.0)
    (one,) = find_policy_runs([str(trained)])
    job = ResponseJob(one, one, world, (1000, 1001))
    news: list[int] = []
    assert [row["gain"] for row in job.run(news.append)] == [1.0, 1.0] and sum(news) == job.weight
    for fault, gain, delay_s in (
        (partial(ScaledSteering, gain=0.7), 0.7, 0.0),
        (partial(DelayedSteering, frames=2), 1, 0.1),
    ):
        for row in replace(job, wrap=fault).run(lambda steps: None):
            assert row["gain"] == pytest.approx(gain, abs=0.02) and row["delay_s"] == pytest.approx(delay_s, abs=0.02)


def test_late_steering_is_the_same_steering_late():
    class Counting:
        def __init__(self) -> None:
            self.step = 0

        def act(self, frames: object, elapsed: object, starts: object, envs: object) -> np.ndarray:
            self.step += 1
            return np.full((1, 2), self.step, np.float32)

    late = DelayedSteering(Counting(), frames=2)
    given = [late.act(np.zeros(1), np.ones(1), np.array([step == 0]), ())[0].tolist() for step in range(5)]
    assert given == [[0, 1], [0, 2], [1, 3], [2, 4], [3, 5]], "steering is late, the pedals are not"


def test_finished_responses_are_found_again(tmp_path: Path):
    store = Store(tmp_path, {"policies": [], "perturbations": [], "code": {}})
    rows = (asdict(ResponseRow(7, 0.9, 0.05, 80)), asdict(ResponseRow(8, float("nan"), float("nan"), 80)))
    store.save(JobResult("mine-0/response", rows, 1.0, "code"))
    found, stale = store.finished({"mine-0/response": "code"})
    assert not stale and [row["road_seed"] for row in found["mine-0/response"].rows] == [7, 8]
