"""Statistics over runs, roads and conditions: held to scipy, and to values worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats

from agents.driving.statistics import (
    Estimate,
    bootstrap,
    estimate,
    interquartile_mean,
    interquartile_mean_estimate,
    mean_corruption_error,
    paired_difference,
    performance_profile,
    poisson_rate,
    probability_of_improvement,
    proportion,
    student_mean,
)


def random_scores(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


def mean(values: np.ndarray) -> np.ndarray:
    return values.mean(-1)


def between(one: Estimate, low: float, high: float) -> bool:
    return low < one.low and one.high < high


def test_interquartile_mean_by_hand():
    # 8 values: two are cut off at either end, (3 + 4 + 5 + 6) / 4 is left.
    assert interquartile_mean([100.0, 3, 5, 1, 4, 6, 2, 90]) == pytest.approx((3 + 4 + 5 + 6) / 4)
    assert interquartile_mean([7.0]) == 7.0
    assert interquartile_mean([[1.0, 2, 3], [4, 5, 6]], axis=0) == pytest.approx([2.5, 3.5, 4.5])
    with pytest.raises(ValueError, match="at least one value"):
        interquartile_mean([])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 45, 901])
def test_interquartile_mean_is_scipys_trimmed_mean(count: int):
    values = random_scores(6, count)
    assert interquartile_mean(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=1))


def test_interval_agrees_with_scipys_bootstrap():
    # One road and one condition: the stratified bootstrap is the plain one over runs.
    values = np.random.default_rng(1).normal(size=40)
    ours = interquartile_mean_estimate(values[:, None, None], resamples=20_000)
    theirs = scipy.stats.bootstrap(
        (values,),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis),
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert ours.value == pytest.approx(scipy.stats.trim_mean(values, 0.25))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_strata_keep_what_differs_between_roads_out_of_the_interval():
    # Runs agree, roads differ: drawing runs on each road changes nothing, drawing roads does.
    scores = np.broadcast_to(np.array([0.0, 1, 2, 3])[None, :, None], (5, 4, 2))
    stratified = estimate(mean, scores)
    assert (stratified.low, stratified.value, stratified.high) == (1.5, 1.5, 1.5)
    assert between(estimate(mean, scores, whole_runs=True), 0.0, 3.0)
    assert estimate(mean, scores, whole_runs=True).high > 2.0


def test_whole_runs_know_that_a_run_is_good_everywhere():
    # Each run has one quality on all roads: drawn road by road it averages out, and the interval is too narrow by √K.
    quality = np.random.default_rng(3).normal(size=(20, 1, 1))
    scores = np.broadcast_to(quality, (20, 9, 3))
    stratified, whole = estimate(mean, scores), estimate(mean, scores, whole_runs=True)
    ratio = (whole.high - whole.low) / (stratified.high - stratified.low)
    assert ratio == pytest.approx(3.0, rel=0.15)
    expected = 2 * 1.96 * quality.std() / np.sqrt(20)  # of the mean of 20 independent runs
    assert whole.high - whole.low == pytest.approx(expected, rel=0.1)


def test_one_run_is_judged_over_roads():
    scores = random_scores(1, 6, 10)
    one, other = estimate(mean, scores), estimate(mean, scores, whole_runs=True)
    assert one == other and one.low < one.value < one.high
    fixed = scipy.stats.bootstrap((scores[0].mean(1),), np.mean, method="percentile", rng=np.random.default_rng(0))
    assert (one.low, one.high) == pytest.approx(tuple(fixed.confidence_interval), abs=0.01)


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    scores = random_scores(5, 4, 6)
    assert estimate(mean, scores, seed=4) == estimate(mean, scores, seed=4)
    assert estimate(mean, scores, seed=4) != estimate(mean, scores, seed=5)


def test_paired_difference_by_hand_and_what_pairing_is_worth():
    hard = 10 * random_scores(1, 8, 1, seed=5)  # what the road does to everybody
    first, second = hard + 0.5 + 0.1 * random_scores(3, 8, 2), hard + 0.1 * random_scores(4, 8, 2, seed=6)
    found = paired_difference(first, second)
    assert found.value == pytest.approx(first.mean() - second.mean())
    assert between(found, 0.4, 0.6)
    alone = estimate(mean, first, whole_runs=True)
    assert found.high - found.low < 0.1 * (alone.high - alone.low)


def test_how_often_the_interval_of_few_runs_and_roads_misses():
    # Two drivers that are equally good: runs differ, each driver has roads of its own, and a rest.
    rng, missed = np.random.default_rng(8), 0
    for number in range(300):
        pair = [
            rng.normal(size=(5, 1, 1)) + 0.5 * rng.normal(size=(1, 4, 1)) + 0.5 * rng.normal(size=(5, 4, 1))
            for _ in range(2)
        ]
        found = paired_difference(*pair, resamples=300, seed=number)
        missed += not found.low <= 0 <= found.high
    assert 0.05 < missed / 300 < 0.15, "about one in ten, as the module says"


def test_difference_of_another_statistic():
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 0.5, (5, 4, 6)), rng.normal(0.0, 0.5, (4, 4, 6))
    by_mean = paired_difference(first, second, seed=3)
    same = paired_difference(first, second, seed=3, statistic=lambda values: values.mean(-1))
    assert (same.value, same.low, same.high) == pytest.approx((by_mean.value, by_mean.low, by_mean.high))
    found = paired_difference(first, second, seed=3, statistic=interquartile_mean)
    expected = scipy.stats.trim_mean(first, 0.25, axis=None) - scipy.stats.trim_mean(second, 0.25, axis=None)
    assert found.value == pytest.approx(expected) and found.low < found.value < found.high


def test_probability_of_improvement_is_mann_whitney():
    generator = np.random.default_rng(7)
    first, second = generator.integers(0, 6, (7, 1, 1)), generator.integers(0, 5, (9, 1, 1))
    u = scipy.stats.mannwhitneyu(first.ravel(), second.ravel()).statistic
    assert probability_of_improvement(first, second).value == pytest.approx(u / (7 * 9))


def test_probability_of_improvement_by_hand():
    # Road 1: 3 > 1, 3 > 2, 2 > 1 and 2 = 2: 3.5 of 4. Roads 2 and 3: no run wins: 0 of 4. The mean is 3.5 of 12.
    first = np.array([[[3.0], [0.0], [0.0]], [[2.0], [0.0], [0.0]]])
    second = np.array([[[1.0], [5.0], [5.0]], [[2.0], [6.0], [6.0]]])
    found = probability_of_improvement(first, second)
    assert found.value == pytest.approx(3.5 / 12)
    assert 0.0 <= found.low < found.value < found.high <= 1.0
    assert probability_of_improvement(second, first).value == pytest.approx(1 - 3.5 / 12)


def test_probability_of_improvement_interval_is_that_of_the_resampled_scores():
    first, second = random_scores(4, 3, 2), random_scores(5, 3, 2, seed=1)
    ours = probability_of_improvement(first, second, resamples=4000)
    generator = np.random.default_rng(9)
    values = []
    for _ in range(4000):
        roads = generator.integers(0, 3, 3)
        a = first[generator.integers(0, 4, 4)][:, roads]
        b = second[generator.integers(0, 5, 5)][:, roads]
        values.append(np.mean(a[:, None] > b[None]))
    low, high = np.percentile(values, [2.5, 97.5])
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03)


def test_mean_corruption_error_by_hand():
    # Perturbation 0 at two severities: (0.2 + 0.4) / (0.1 + 0.2) = 2; perturbation 1 at one: 0.3 / 0.6 = 0.5.
    errors = np.array([[[0.2, 0.4, 0.3]]])
    baseline = np.array([[[0.1, 0.2, 0.6]]])
    found = mean_corruption_error(errors, baseline, [0, 0, 1])
    assert found.each == pytest.approx([2.0, 0.5])
    assert found.mean.value == pytest.approx(1.25)
    assert found.left_out == 0
    same = mean_corruption_error(baseline, baseline, [0, 0, 1]).mean
    assert same.value == 1.0 and same.text() == "1.00"


def test_mean_corruption_error_leaves_out_what_the_baseline_never_gets_wrong():
    errors = np.array([[[1.0, 1.0]], [[0.0, 3.0]]])
    baseline = np.array([[[0.0, 4.0]]])
    found = mean_corruption_error(errors, baseline, [0, 1])
    assert np.isnan(found.each[0]) and found.each[1] == pytest.approx(0.5)
    assert (found.mean.value, found.left_out) == (pytest.approx(0.5), 1)
    nothing = mean_corruption_error(errors, np.zeros((1, 1, 2)), [0, 1])
    assert np.isnan(nothing.mean.value) and nothing.left_out == 2


def test_mean_corruption_error_is_a_mean_over_perturbations():
    # Ratios of 1, 1 and 4: their mean is 2, their median 1.
    errors = (1 + 0.05 * random_scores(6, 8, 3)) * np.array([1.0, 1.0, 4.0])
    found = mean_corruption_error(errors, 1 + 0.05 * random_scores(6, 8, 3, seed=1), [0, 1, 2]).mean
    assert found.value == pytest.approx(2, abs=0.1) and between(found, 1.9, 2.1)


def test_the_runs_of_two_drivers_are_drawn_apart():
    # A driver against itself: were its runs drawn alike, every resample would be a tie.
    scores = random_scores(8, 10, 3) + np.linspace(0.5, 1.5, 8)[:, None, None]
    against_itself = [paired_difference(scores, scores), probability_of_improvement(scores, scores)]
    against_itself.append(mean_corruption_error(scores, scores, [0, 1, 2]).mean)
    for found in against_itself:
        assert found.high - found.low > 0.05
        assert found.low < found.value < found.high


def test_mean_corruption_error_interval_holds_the_ratio_of_two_noisy_drivers():
    first = 0.3 + 0.05 * random_scores(5, 4, 6)
    second = 0.6 + 0.05 * random_scores(5, 4, 6, seed=2)
    found = mean_corruption_error(first, second, [0, 0, 1, 1, 2, 2])
    assert found.mean.value == pytest.approx(0.325 / 0.625, abs=0.01)
    assert found.mean.low < found.mean.value < found.mean.high
    assert between(found.mean, 0.48, 0.56)


def test_performance_profile_by_hand():
    scores = np.array([[[0.1, 0.5], [0.9, 0.5], [0.1, 0.5]]])  # one run, three roads, two conditions
    found = performance_profile(scores, [0.0, 0.1, 0.5, 1.0])
    assert found.share == pytest.approx([1.0, 4 / 6, 1 / 6, 0.0])  # above, not at: 0.1 > 0.1 does not count
    assert found.low[1] == pytest.approx(0.5) and found.high[1] == pytest.approx(1.0)
    assert (found.low <= found.share).all() and (found.share <= found.high).all()


def test_the_suite_of_the_experiment_takes_less_than_a_second():
    drivers = [random_scores(5, 4, 45, seed=number) for number in range(9)]  # 45 runs × 180 cells
    begun_s = time.process_time()
    for scores in drivers:
        interquartile_mean_estimate(scores)
    assert time.process_time() - begun_s < 2.0  # 0.5 s on an idle machine


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((2, 3)), np.zeros((1, 2, 3)), r"\[runs, roads, conditions\]"),
        (np.zeros((1, 2, 0)), np.zeros((1, 2, 3)), "none of them 0"),
        (np.full((1, 2, 3), np.nan), np.zeros((1, 2, 3)), "finite"),
        (np.zeros((1, 2, 3)), np.zeros((1, 3, 3)), "the same roads"),
    ],
)
def test_wrong_scores_are_refused(first: np.ndarray, second: np.ndarray, words: str):
    for compare in (paired_difference, probability_of_improvement):
        with pytest.raises(ValueError, match=words):
            compare(first, second)
    with pytest.raises(ValueError, match="one entry for each"):
        mean_corruption_error(np.zeros((1, 2, 3)), np.zeros((1, 2, 3)), [0])


def test_two_values_have_no_interval():
    two, three = random_scores(1, 2, 8), random_scores(1, 3, 8)
    assert estimate(interquartile_mean, three).bounded and not estimate(interquartile_mean, two).bounded
    assert paired_difference(three, 1 - three).bounded and not paired_difference(two, 1 - two).bounded
    assert not probability_of_improvement(two, 1 - two).bounded
    assert not np.isfinite(performance_profile(two, [0.5]).low).any()
    assert estimate(interquartile_mean, random_scores(3, 1, 8), whole_runs=True).bounded, "three runs on one road"
    assert not bootstrap(lambda chosen: 0.445, 2).bounded
    assert bootstrap(lambda chosen: 0.445, 30).text(1, 100) == "44.5", "an interval that is a point says nothing"


@pytest.mark.parametrize("count", [3, 5, 11, 40])
def test_the_interval_of_a_mean_is_students(count):
    scores = random_scores(count, seed=count)
    low, high = scipy.stats.t.interval(0.95, count - 1, scores.mean(), scipy.stats.sem(scores))
    found = student_mean(scores)
    assert (found.value, found.low, found.high) == pytest.approx((scores.mean(), low, high))
    assert not student_mean([1.0, 2.0]).bounded, "two runs have no interval"
    with pytest.raises(ValueError, match="at least one"):
        student_mean([])


def test_few_events_have_exact_bounds():
    # Garwood's bounds of 3 events, and the one-sided bound of none: 3.0 in 0.09 km are 33 a km.
    three, none = poisson_rate(3, 2.0), poisson_rate(0, 0.0908)
    assert (three.value, three.low, three.high) == pytest.approx((1.5, 0.6187 / 2, 8.7673 / 2), rel=1e-4)
    assert none.text(0) == "0 (below 33)" and none.to_json() == {"value": 0.0, "low": None, "high": none.high}
    some = scipy.stats.binomtest(2, 9).proportion_ci(method="exact")
    found = proportion(2, 9)
    assert (found.low, found.high) == pytest.approx((some.low, some.high))
    assert proportion(0, 4).text(1, 100) == "0.0 (below 52.7)" and proportion(4, 4).text(1, 100) == "100.0 (above 47.3)"
    assert np.isnan(poisson_rate(0, 0.0).value) and np.isnan(proportion(0, 0).value)
