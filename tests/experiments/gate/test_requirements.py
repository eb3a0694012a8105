"""What a policy must keep: how it is read, and which drives count for it."""

from __future__ import annotations

import pytest

from experiments.gate.requirements import check_requirements, out_of_reach, parse_requirement
from experiments.gate.sequential import Plan
from experiments.robustness.findings import Condition

SUITE = [Condition.of(text) for text in ("", "fog:2", "fog:4", "rain:2+latency:4", "latency:2")]


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("crashes <= 0", ["", "fog:2", "fog:4", "rain:2+latency:4", "latency:2"]),
        ("crashes<=0@severity<=2", ["", "fog:2", "latency:2"]),
        ("fog.lane_error <= 0.15", ["fog:2", "fog:4"]),
        ("weather.lane_error <= .15 @ severity == 4", ["fog:4"]),
        ("latency.autonomy >= 0.5", ["rain:2+latency:4", "latency:2"]),
        ("clean.crash_share < 1e-1", [""]),
        ("composition.lane_error > 0 @ severity > 3", ["rain:2+latency:4"]),
    ],
)
def test_which_drives_count(text: str, counted: list[str]):
    requirement = parse_requirement(text)
    assert [one.perturbation for one in SUITE if requirement.matches(one)] == counted
    assert requirement.text == text


def test_operators_hold_at_the_limit_or_not():
    for text, below, at, above in (
        ("lane_error <= 0.5", True, True, False),
        ("lane_error < 0.5", True, False, False),
        ("autonomy >= 0.5", False, True, True),
        ("autonomy > 0.5", False, False, True),
    ):
        requirement = parse_requirement(text)
        assert [requirement.holds(value) for value in (0.4, 0.5, 0.6)] == [below, at, above]
        assert requirement.at_most == below


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crashes", "a requirement looks like 'crashes <= 0 @ severity <= 2'"),
        ("crashes = 0", "a requirement looks like"),
        ("crashes <= 0 @ severity <= 7", "a requirement looks like"),
        ("crashs <= 0", "there is no metric 'crashs' in 'crashs <= 0'. There is: crashes, crash_share"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, says: str):
    with pytest.raises(ValueError, match=says):
        parse_requirement(text)


def test_a_requirement_about_nothing_is_refused():
    check_requirements([parse_requirement("fog.crashes <= 0 @ severity >= 3")], SUITE)
    with pytest.raises(ValueError, match="no drive of this suite counts for 'snow.crashes <= 0'.*severities 0, 2, 4"):
        check_requirements([parse_requirement("snow.crashes <= 0")], SUITE)


def test_what_so_many_roads_cannot_show_is_said_with_the_number_that_can():
    plan = Plan.upto(16)
    words = out_of_reach(parse_requirement("crash_share <= 0.05"), plan, 0.05)
    assert words is not None and "cannot be met on 16 roads" in words and "27 %; --budget 95 can" in words
    assert out_of_reach(parse_requirement("crash_share <= 0.05"), Plan.upto(95), 0.05) is None
    assert out_of_reach(parse_requirement("autonomy >= 0.95"), plan, 0.05) is not None
    assert "require a share above 0" in str(out_of_reach(parse_requirement("crash_share <= 0"), plan, 0.05))
    for text in ("crash_share <= 0.3", "crash_share >= 0.1", "crashes <= 0", "lane_error <= 0.01"):
        assert out_of_reach(parse_requirement(text), plan, 0.05) is None
