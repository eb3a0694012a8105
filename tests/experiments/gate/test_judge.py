"""Answers from made-up drives, and how often the sequence of looks errs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.gate.judge import EXIT_CODES, Check, Outcome, Rules, judge, outcome
from experiments.gate.requirements import parse_requirement
from experiments.gate.sequential import Plan, mean_bounds
from experiments.robustness.findings import Condition
from experiments.robustness.jobs import DriveRow
from experiments.robustness.store import make_table
from tests.experiments.robustness.made_up_drives import drive_row

CONDITIONS = [Condition.of(text) for text in ("", "fog:2", "gaussian:2")]
PLAN = Plan.upto(16)
RULES, ALONE = Rules("policy", "released"), Rules("policy")


def checks(
    worse: Any, requirements: tuple[str, ...] = (), roads: int = 4, look: int = 0, **changes: Any
) -> list[Check]:
    """Judge drives of two policies; `worse(condition, road)` is added to the lane error of the first."""
    rows = []
    for road in range(roads):
        for condition in CONDITIONS:
            easy = 0.05 + 0.1 * np.random.default_rng([road, condition.severity]).random()
            for driver, more in (("policy", worse(condition.perturbation, road)), ("released", 0.0)):
                values = {"lane_error": easy + more, "crashed": False, **changes}
                rows.append(drive_row(driver, 0, condition.perturbation, road, **values))
    asked = [parse_requirement(text) for text in requirements]
    return judge(make_table(rows, DriveRow), CONDITIONS, asked, PLAN, look, RULES)


def test_a_policy_is_as_good_as_itself_at_the_first_look():
    found = checks(lambda condition, road: 0.0)
    assert found[0].outcome is Outcome.PASSED and outcome(found) is Outcome.PASSED
    assert found[0].value == found[0].low == found[0].high == 0.0


def test_pairing_shows_a_small_and_steady_loss_and_the_sign_is_right():
    worse = checks(lambda condition, road: 0.01 + 0.001 * road)
    assert worse[0].outcome is Outcome.FAILED and 0 < worse[0].low < worse[0].value < worse[0].high
    assert worse[0].value == pytest.approx(0.0115)
    lowest = mean_bounds(np.array([0.010, 0.011, 0.012, 0.013]), PLAN.level(0.05 / 3, 0))[0]
    assert worse[0].low == pytest.approx(lowest), "a third of the rate of false alarms"
    better = checks(lambda condition, road: -0.01 - 0.001 * road)
    assert better[0].outcome is Outcome.PASSED and better[0].high < 0


def test_a_small_and_steady_loss_is_seen_beside_drives_lost_by_chance():
    conditions = [Condition.of(text) for text in ("", "fog:2", "gaussian:2", "rain:2")]
    rows = []
    for road in range(6):
        for condition in conditions:
            loss = (0.5 if road % 2 else -0.5) if condition.perturbation == "rain:2" else 0.005 + 0.0001 * road
            for driver, more in (("policy", loss), ("released", 0.0)):
                rows.append(drive_row(driver, 0, condition.perturbation, road, lane_error=0.5 + more, crashed=False))
    (whole, *_) = judge(make_table(rows, DriveRow), conditions, [], PLAN, 1, RULES)
    assert whole.outcome is Outcome.FAILED and "typical lane error" in whole.says
    assert whole.value == pytest.approx(0.00525, abs=1e-4)


def test_a_drive_far_off_counts_as_one_off_the_road():
    beyond, off = (checks(lambda condition, road, by=by: by) for by in (30.0, 1.0))
    assert beyond[0].value == off[0].value == pytest.approx(0.9, abs=0.06), "both have a lane error above 1"


def test_what_varies_too_much_is_driven_on():
    found = checks(lambda condition, road: (-0.2, 0.3, -0.1, 0.25)[road])
    assert found[0].outcome is outcome(found) is Outcome.UNDECIDED


def test_a_loss_in_one_family_fails_the_gate():
    found = checks(lambda condition, road: (0.03 + 0.0001 * road) if condition == "fog:2" else -0.03)
    whole, *families = found
    assert whole.outcome is not Outcome.FAILED
    assert [one.name for one in families if one.outcome is Outcome.FAILED] == ["weather"]
    assert outcome(found) is Outcome.FAILED


def test_requirements_are_met_broken_or_open():
    texts = ("lane_error <= 0.5", "lane_error <= 0.01", "lane_error <= 0.101", "autonomy >= 0.2", "crashes <= 0")
    found = {one.name: one.outcome for one in checks(lambda c, r: 0.0, texts) if one.group == "requirement"}
    assert found == {
        "lane_error <= 0.5": Outcome.PASSED,
        "lane_error <= 0.01": Outcome.FAILED,
        "lane_error <= 0.101": Outcome.UNDECIDED,
        "autonomy >= 0.2": Outcome.PASSED,
        "crashes <= 0": Outcome.PASSED,
    }
    lost = [
        one for one in checks(lambda c, r: 0.0, ("crashes <= 3", "crashes <= 30"), crashed=True) if "crash" in one.name
    ]
    assert [one.outcome for one in lost] == [Outcome.FAILED, Outcome.PASSED], "12 drives of the policy left the road"
    assert "12 of 12 drives" in lost[0].says
    (none,) = [one for one in checks(lambda c, r: 0.0, ("crashes <= 0",)) if one.group == "requirement"]
    assert "4 roads bound their share at 52.7 %" in none.says, "1 − 0.05^(1/4)"


def test_the_drives_of_a_road_count_as_one_in_shares_and_rates():
    names = ("crash_share <= 0.5", "crashes_per_km <= 100", "autonomy >= 0.9")
    share, rate, autonomy = [one for one in checks(lambda c, r: 0.0, names) if one.group == "requirement"]
    level = PLAN.level(0.05, 0)
    assert share.high == pytest.approx(1 - level ** (1 / 4)) and share.low == 0
    assert autonomy.low == pytest.approx(level ** (1 / 4)) and autonomy.value == autonomy.high == 1
    assert autonomy.outcome is Outcome.UNDECIDED, "four roads, not twelve drives, all of them without intervention"
    assert rate.high == pytest.approx((level ** (-1 / 4) - 1) / (30 / 1000))
    (short,) = [
        one
        for one in checks(lambda c, r: 0.0, ("crashes_per_km <= 100",), distance_m=0.25)
        if one.group == "requirement"
    ]
    assert short.high == pytest.approx((level ** (-1 / 4) - 1) / (0.25 / 1000)), "drives of less than a metre count"


def test_a_way_backwards_takes_nothing_off_the_way_of_others():
    rows = [
        drive_row("policy", 0, "", road, crashed=road == 0, distance_m=way) for road, way in enumerate((30, 30, -20))
    ]
    (rate,) = judge(
        make_table(rows, DriveRow), CONDITIONS, [parse_requirement("crashes_per_km <= 100")], PLAN, 0, ALONE
    )
    assert rate.value == pytest.approx(1 / 0.06)


def test_bounds_of_a_mean_are_students():
    values = np.array([0.1, 0.3, 0.2, 0.6])
    wanted = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values))
    assert mean_bounds(values, 0.025) == pytest.approx(wanted)


def test_the_shares_of_the_error_rate_add_up_to_it():
    assert PLAN.roads == (4, 6, 9, 14, 16)
    assert sum(PLAN.level(0.05, look) for look in range(5)) == pytest.approx(0.05)
    assert Plan.upto(3).roads == (3,) and Plan.upto(3).level(0.05, 0) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="at least 3 roads"):
        Plan.upto(2)
    assert mean_bounds(np.array([0.1, 0.2]), 0.01) == (-np.inf, np.inf)


def test_looking_often_does_not_raise_the_error_rate():
    """Differences of mean zero, 2,000 gates: those that ever look worse, with alpha spending and without."""
    rng, alarms, naive = np.random.default_rng(0), 0, 0
    for _ in range(2000):
        values = rng.normal(size=16)
        lows = [mean_bounds(values[:n], PLAN.level(0.05, look))[0] for look, n in enumerate(PLAN.roads)]
        alarms += max(lows) > 0
        naive += max(mean_bounds(values[:n], 0.05)[0] for n in PLAN.roads) > 0
    assert 0.01 < alarms / 2000 <= 0.05 < 0.08 < naive / 2000


def test_exit_codes():
    assert {one.value: code for one, code in EXIT_CODES.items()} == {"passed": 0, "failed": 1, "undecided": 3}


def test_what_the_world_does_not_tell_is_open_and_says_so():
    found = checks(lambda condition, road: 0.0, ("mean_offset_lane <= 0.1",), mean_offset_lane=None)
    assert found[-1].outcome is Outcome.UNDECIDED and "the world does not tell it" in found[-1].says


def test_families_share_the_rate_of_false_alarms():
    found = checks(lambda condition, road: 0.01 * (road + 1) * (condition == "fog:2"))
    (weather,) = (check for check in found if check.name == "weather")
    values = 0.01 * np.arange(1, 5)
    wanted = mean_bounds(values, PLAN.level(0.05 / 3, 0) / 3)
    assert (weather.low, weather.high) == pytest.approx(wanted) and weather.low < mean_bounds(values, 0.05 / 9)[0]
