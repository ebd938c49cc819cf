"""Intervals against scipy and against values worked out by hand."""

import numpy as np
import pytest
from overtake.evaluation import statistics
from overtake.evaluation.statistics import Interval, bootstrap_mean, holm, paired_difference, paired_p


def test_the_interval_is_scipys_percentile_bootstrap():
    from scipy.stats import bootstrap

    values = [0.0, 0.2, 0.4, 0.9, 1.0, 0.3, 0.3]
    for seed in (0, 7):
        rng = np.random.default_rng(seed)
        expected = bootstrap((np.array(values),), np.mean, n_resamples=10_000, method="percentile", rng=rng, batch=1000)
        found = bootstrap_mean(values, seed)
        assert (found.low, found.high) == tuple(expected.confidence_interval)
        assert found.mean == pytest.approx(3.1 / 7)


def test_many_coin_flips_have_the_interval_of_the_normal_distribution():
    values = [1.0, 0.0] * 500
    half = 1.96 * 0.5 / 1000**0.5  # 1.96 standard errors of a mean of 1,000 flips
    found = bootstrap_mean(values)
    assert (found.mean, found.low, found.high) == (0.5, pytest.approx(0.5 - half, abs=0.002), pytest.approx(0.5 + half, abs=0.002))


def test_two_values_leave_everything_between_them_open():
    assert bootstrap_mean([0.0, 1.0]) == Interval(0.5, 0.0, 1.0)  # a quarter of the resamples holds one value only


@pytest.mark.parametrize("values", [[0.3], [0.3, 0.3, 0.3], [0.0] * 50])
def test_equal_values_have_no_width(values):
    assert bootstrap_mean(values) == Interval(values[0], values[0], values[0])


@pytest.mark.filterwarnings("error")
def test_ties_warn_of_nothing():
    paired_difference({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5})


def test_a_difference_is_taken_row_by_row_over_the_rows_of_both():
    ours = {"a": 0.9, "b": 0.5, "c": 0.1, "only ours": 0.0}
    theirs = {"c": 0.0, "b": 0.3, "a": 0.6, "only theirs": 1.0}
    assert paired_difference(ours, theirs).mean == pytest.approx((0.3 + 0.2 + 0.1) / 3)
    # Rows that differ by the same amount leave no doubt, however far the rows are apart.
    sure = paired_difference({str(i): i + 0.25 for i in range(9)}, {str(i): float(i) for i in range(9)})
    assert sure == Interval(0.25, 0.25, 0.25)


def test_the_order_of_the_rows_changes_nothing():
    ours, theirs = {"a": 1.0, "b": 0.0, "c": 0.5}, {"a": 0.0, "b": 0.2, "c": 0.1}
    assert paired_difference(ours, theirs) == paired_difference(dict(reversed(ours.items())), theirs)


@pytest.mark.parametrize(("ours", "theirs"), [({}, {}), ({"a": 1.0}, {}), ({"a": 1.0}, {"b": 1.0})])
def test_nothing_to_average_is_refused(ours, theirs):
    with pytest.raises(ValueError, match="no row was measured"):
        bootstrap_mean([])
    with pytest.raises(ValueError, match="no row was measured"):
        paired_difference(ours, theirs)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.2, "better"),
        (-0.2, -0.01, "worse"),
        (-0.1, 0.1, "no difference shown"),
        (0.0, 0.1, "no difference shown"),  # an end at 0 does not exclude it
        (-0.1, 0.0, "no difference shown"),
        (0.0, 0.0, "no difference shown"),
    ],
)
def test_the_verdict_is_the_intervals_side_of_zero(low, high, verdict):
    assert Interval((low + high) / 2, low, high).verdict == verdict


def test_an_interval_is_printed_with_three_digits():
    assert str(Interval(0.12345, -0.1, 1.0)) == "0.123 [-0.100,1.000]"


@pytest.mark.parametrize("draw", ["normal", "coins"])
def test_the_interval_holds_the_truth_in_95_of_100_draws(draw, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    rng = np.random.default_rng(5)
    draws = rng.normal(0.2, 1.0, (300, 120)) if draw == "normal" else (rng.random((300, 120)) < 0.2).astype(float)
    held = sum(found.low <= 0.2 <= found.high for found in map(bootstrap_mean, draws))
    assert 275 <= held <= 295


def test_binary_rows_are_tested_by_mcnemars_exact_test():
    ours = {str(i): float(i < 9) for i in range(20)}  # right alone on 8 rows
    theirs = {str(i): float(i in (0, 19)) for i in range(20)}  # right alone on 1 row
    assert paired_p(ours, theirs) == pytest.approx(2 * (1 + 9) / 2**9)
    assert paired_p(ours, ours) == 1.0


def test_other_rows_are_tested_by_all_flips_of_their_signs():
    # Of the 8 ways to set three signs, two are as far from 0 as all alike.
    assert paired_p({"a": 0.5, "b": 0.7, "c": 0.9}, {"a": 0.1, "b": 0.2, "c": 0.3}) == pytest.approx(2 / 8)
    with pytest.raises(ValueError, match="no row was measured by both"):
        paired_p({"a": 1.0}, {"b": 1.0})


def test_holm_multiplies_step_by_step_and_never_falls():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_one_row_alone_shows_nothing():
    assert paired_p({"a": 0.9}, {"a": 0.1}) == paired_p({"a": 1.0}, {"a": 0.0}) == 1.0
