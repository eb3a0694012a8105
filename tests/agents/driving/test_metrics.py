"""Closed- and open-loop figures against hand-made drives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from agents.driving.metrics import Drive, Estimate, bootstrap, closed_loop, open_loop


def drive(crashed: bool = False, offset_m: float = 0.02, distance_m: float = 100.0, steps: int = 1000) -> Drive:
    steering = np.zeros(steps)
    steering[1::2] = 0.01
    return Drive(0, "a", distance_m, steps * 0.05, crashed, 0.5, np.full(steps, offset_m), steering, 0.05)


def test_figures_of_known_drives():
    drives = [drive(), drive(crashed=True, offset_m=-0.04, distance_m=50, steps=500)]
    figures = closed_loop(drives)
    assert figures["crashes"].value == 1
    assert figures["crashes_per_km"].value == pytest.approx(1 / 0.15)
    assert figures["distance_to_crash_m"].value == 75
    assert figures["autonomy"].value == pytest.approx(1 - 6 / 75)
    assert figures["mean_offset_m"].value == pytest.approx((0.02 * 1000 + 0.04 * 500) / 1500)
    assert figures["mean_offset_lane"].value == pytest.approx(figures["mean_offset_m"].value / 0.5)
    assert figures["rms_offset_m"].value == pytest.approx(np.sqrt((0.02**2 * 1000 + 0.04**2 * 500) / 1500))
    assert figures["steering_rate_per_s"].value == pytest.approx(0.2, rel=2e-3)
    for figure in figures.values():
        assert not figure.low > figure.value and not figure.high < figure.value
    assert not figures["rms_offset_m"].bounded, "two drives have no interval"
    rate = figures["crashes_per_km"]
    assert (rate.low, rate.high) == pytest.approx((0.0253 / 0.15, 5.572 / 0.15), rel=1e-3)


def test_ten_crashes_are_enough_to_resample_and_nine_are_not():
    roads = np.random.default_rng(0).uniform(20, 100, 30)
    for crashes, by_poisson in ((9, True), (10, False)):
        drives = [drive(number < crashes, distance_m=road) for number, road in enumerate(roads)]
        figures = closed_loop(drives)
        assert figures["crashes_per_km"].value == pytest.approx(crashes / (roads.sum() / 1000))
        figure = figures["crashes"]
        low, high = stats.chi2.ppf([0.025, 0.975], [2 * crashes, 2 * crashes + 2]) / 2
        assert ((figure.low, figure.high) == pytest.approx((low, high), rel=1e-6)) is by_poisson


def test_intervals_repeat_and_agree_with_scipy():
    values = np.random.default_rng(1).normal(3, 1, 40)
    ours = bootstrap(lambda chosen: float(values[chosen].mean()), 40, resamples=4000)
    assert ours == bootstrap(lambda chosen: float(values[chosen].mean()), 40, resamples=4000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_no_episode_is_an_error():
    with pytest.raises(ValueError, match="at least one episode"):
        closed_loop([])


def test_open_loop_agrees_with_the_definitions():
    rng = np.random.default_rng(0)
    targets = [rng.normal(0.1, 0.3, 330), rng.normal(0.1, 0.3, 47)]
    predictions = [0.5 * y + 0.1 * rng.normal(size=len(y)) for y in targets]
    figures = open_loop(predictions, targets, training_mean=0.2)
    y, p = np.concatenate(targets), np.concatenate(predictions)
    assert figures["r2"].value == pytest.approx(1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    assert figures["correlation"].value == pytest.approx(stats.pearsonr(y, p).statistic)
    assert figures["rmse"].value == pytest.approx(np.sqrt(((y - p) ** 2).mean()))
    assert figures["mae"].value == pytest.approx(np.abs(y - p).mean())
    assert figures["rmse_of_mean"].value == pytest.approx(np.sqrt(((y - 0.2) ** 2).mean()))


def test_errors_of_a_driver_that_steers_nearly_as_recorded_are_small():
    targets = np.sin(np.arange(20.0)) / 2
    figures = open_loop([targets + 0.01], [targets], training_mean=0.0)
    assert (figures["rmse"].value, figures["mae"].value) == pytest.approx((0.01, 0.01))


def test_open_loop_of_a_constant_has_no_correlation():
    figures = open_loop([np.full(100, 0.3)], [np.sin(np.arange(100.0))], training_mean=0.0)
    assert np.isnan(figures["correlation"].value)
    assert figures["correlation"].to_json()["value"] is None
    assert figures["r2"].value < 0


def test_estimates_are_readable():
    assert Estimate(0.0123, 0.01, 0.02).text(1, 100) == "1.2 [1.0, 2.0]"
