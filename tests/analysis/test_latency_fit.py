"""The latency law is recovered from what it generated, and a user's mistake is one clear line."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.laws import CONSTANT, LENGTHS, LINEAR, QUADRATIC, REPEATS, TRUTH, law, noisy

from dlm_bench.analysis.latency_fit import COEFFICIENTS, LatencyFit, fit_latency
from dlm_bench.errors import ConfigError


def test_exact_data_gives_the_coefficients_back():
    fit = fit_latency(LENGTHS, law(LENGTHS))
    # The scaled columns' condition number is 3, so float64 leaves some 1e-15; raw columns, whose
    # condition number is 1e10, would not leave 1e-6.
    for name, value in TRUTH.items():
        assert getattr(fit, name) == pytest.approx(value, rel=1e-6)
    assert fit.r2 == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_two_percent_noise_moves_no_coefficient_by_five_percent(seed):
    lengths = np.repeat(LENGTHS, REPEATS)
    fit = fit_latency(lengths, noisy(lengths, law(lengths), 0.02, seed))
    # With 5 repeats the standard errors of these coefficients are 1.1, 1.4 and 1.1 %
    # (0.02/sqrt(5) times the root of the inverse normal matrix's diagonal): 5 % is 3.6 of them.
    for name, value in TRUTH.items():
        assert getattr(fit, name) == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_a_linear_law_gets_hardly_any_quadratic_term(seed):
    lengths = np.repeat(LENGTHS, REPEATS)
    seconds = noisy(lengths, law(lengths, quadratic=0), 0.002, seed)
    # At 0.2 % noise the share's standard error at 131k is 0.1 %, so 1 % holds for every seed.
    assert fit_latency(lengths, seconds).quadratic_share(LENGTHS[-1]) < 0.01


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(1, 2**20), st.floats(1e-7, 1e5)),
        min_size=3,
        max_size=12,
        unique_by=lambda point: point[0],
    )
)
def test_no_coefficient_is_ever_negative_whatever_the_data(points):
    fit = fit_latency(*zip(*points, strict=True), bootstrap=40)
    for name in COEFFICIENTS:
        low, high = fit.intervals[name]
        assert 0 <= low <= getattr(fit, name) <= high
    lengths = np.array([length for length, _ in points])
    assert np.isfinite(fit.predict(lengths)).all()


def test_short_lengths_count_as_much_as_long_ones():
    # The constant is 1e-4 of the time at 131k: a fit of absolute errors would lose it in 1 % noise.
    lengths = 2.0 ** np.arange(4, 18)
    small = 1e-4 * law(131072, constant=0)
    exact = law(lengths, constant=small)
    found = [fit_latency(lengths, noisy(lengths, exact, 0.01, s)).constant for s in range(10)]
    # 5 %: 14 lengths at 1 % noise fix the constant, alone at the short ones, to about 1 %.
    assert found == pytest.approx([small] * 10, rel=0.05)


@pytest.mark.parametrize("points", [4, 5, 6])
def test_intervals_hold_the_truth_as_often_as_they_say_with_few_points(points):
    lengths = np.geomspace(1024, 131072, points)
    fits = [
        fit_latency(lengths, noisy(lengths, law(lengths), 0.02, seed), bootstrap=100, seed=seed)
        for seed in range(100)
    ]
    for name, value in TRUTH.items():
        inside = sum(fit.intervals[name][0] <= value <= fit.intervals[name][1] for fit in fits)
        # Binomial(100, 0.95) is below 86 once in 10 000; intervals that ignore how uncertain the
        # variance of 1 to 3 degrees of freedom is hold the truth 65 to 87 times here.
        assert inside >= 86


def test_three_lengths_leave_the_error_unknown_and_the_intervals_say_so():
    fit = fit_latency([1000, 2000, 4000], law([1000, 2000, 4000]))
    assert fit.intervals == dict.fromkeys(COEFFICIENTS, (0.0, math.inf))


def test_repeats_of_a_length_count_as_their_mean():
    lengths = np.repeat(LENGTHS, 2)
    seconds = law(lengths) * np.tile([0.9, 1.1], len(LENGTHS))
    assert fit_latency(lengths, seconds).linear == pytest.approx(LINEAR, rel=1e-6)  # as exact data


def test_the_same_seed_gives_the_same_intervals_and_the_order_of_points_does_not_matter():
    seconds = noisy(LENGTHS, law(LENGTHS), 0.02, 0)
    assert fit_latency(LENGTHS, seconds) == fit_latency(list(LENGTHS)[::-1], seconds[::-1])


def test_r2_is_of_the_unweighted_values():
    seconds = noisy(LENGTHS, law(LENGTHS), 0.02, 3)
    fit = fit_latency(LENGTHS, seconds)
    residual = np.sum((seconds - fit.predict(LENGTHS)) ** 2)
    expected = 1 - residual / np.sum((seconds - seconds.mean()) ** 2)
    assert fit.r2 == pytest.approx(expected, abs=1e-12)  # the same sums in another order
    assert fit_latency([1, 2, 3, 4], [0.5] * 4).r2 == 1


def test_predictions_are_the_sum_of_the_terms_and_keep_the_shape():
    fit = LatencyFit(2e-9, 3e-6, 4e-3, r2=1, intervals={})
    assert isinstance(fit.predict(1000), float)
    assert fit.predict(1000) == pytest.approx(2e-3 + 3e-3 + 4e-3, rel=1e-12)  # float64 rounding
    terms = fit.terms([1000, 2000])
    assert terms.quadratic == pytest.approx([2e-3, 8e-3], rel=1e-12)
    assert terms.linear == pytest.approx([3e-3, 6e-3], rel=1e-12)
    assert terms.constant == pytest.approx([4e-3, 4e-3], rel=1e-12)
    assert fit.predict(np.array([[1000.0], [2000.0]])).shape == (2, 1)
    assert fit.quadratic_share(1000) == pytest.approx(2 / 9, rel=1e-12)


def test_crossover_is_where_the_quadratic_term_overtakes_the_linear_one():
    fit = LatencyFit(QUADRATIC, LINEAR, CONSTANT, r2=1, intervals={})
    assert fit.crossover == pytest.approx(32768, rel=1e-12)  # float64 rounding
    quadratic, linear, _ = fit.terms(fit.crossover)
    assert quadratic == pytest.approx(linear, rel=1e-12)
    assert LatencyFit(0, LINEAR, CONSTANT, r2=1, intervals={}).crossover == math.inf


@pytest.mark.parametrize(
    ("lengths", "seconds", "message"),
    [
        ([1, 2, 3], [1, 2], "lengths and seconds: 3 and 2 values; must be as many"),
        ([1, 2, 2, 1], [1, 2, 2, 1], "lengths: 2 distinct; the law needs at least 3"),
        ([], [], "lengths: 0 distinct; the law needs at least 3"),
        ([1, 2, 3], [1, math.nan, 2], "seconds: nan is not allowed; must be finite and > 0"),
        ([1, 2, 3], [1, math.inf, 2], "seconds: inf is not allowed; must be finite and > 0"),
        ([1, 2, 3], [1, 0, 2], "seconds: 0 is not allowed; must be finite and > 0"),
        ([-1, 2, 3], [1, 1, 2], "lengths: -1 is not allowed; must be finite and > 0"),
        ([1, 2, 3], ["x", 1, 2], "seconds: not a sequence of numbers"),
        ([[1, 2, 3]], [1, 1, 2], "lengths: must be a flat sequence, not of 2 dimensions"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(lengths, seconds, message):
    with pytest.raises(ConfigError) as caught:
        fit_latency(lengths, seconds)
    assert str(caught.value) == message


def test_too_few_resamples_are_refused():
    with pytest.raises(ConfigError, match="bootstrap: 10 is not allowed"):
        fit_latency(LENGTHS, law(LENGTHS), bootstrap=10)
