"""Variances drawn towards each other: by how much, and what the intervals then hold."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from dlm_bench.compare.sequential import (
    trimmed_mean,
)
from dlm_bench.compare.shrinkage import MAX_ADDED_FREEDOM, shrunk_variances


def test_variances_of_one_size_are_pooled_and_ones_of_their_own_are_kept():
    random = np.random.default_rng(5)
    alike = [(float(random.chisquare(5) / 5), 5) for _ in range(200)]
    pooled = shrunk_variances(alike)
    assert np.ptp([variance for variance, _ in pooled]) < 0.5 * np.ptp([v for v, _ in alike])
    assert {freedom for _, freedom in pooled} == {5 + MAX_ADDED_FREEDOM}
    apart = [(10.0**i, 200) for i in range(-1, 2)]
    for (before, _), (after, freedom) in zip(apart, shrunk_variances(apart), strict=True):
        assert after == pytest.approx(before, rel=0.05)
        assert freedom == pytest.approx(200, rel=0.05)


def test_the_common_variance_is_found_with_as_much_weight_as_it_deserves():
    """True variances from a scaled inverse chi-square with 8 degrees of freedom around 0.04."""
    random = np.random.default_rng(6)
    truths = 0.04 * 8 / random.chisquare(8, 3000)
    estimates = [(float(truth * random.chisquare(6) / 6), 6) for truth in truths]
    (after, freedom), *_ = shrunk_variances(estimates)
    assert freedom == pytest.approx(6 + 8, abs=1)  # its standard error in 3000 is about 0.3
    assert after == pytest.approx((8 * 0.04 + 6 * estimates[0][0]) / 14, rel=0.05)


def test_few_variances_are_left_alone_and_none_of_them_breaks_it():
    assert shrunk_variances([]) == []
    assert shrunk_variances([(0.5, 4), (0.1, 3)]) == [(0.5, 4.0), (0.1, 3.0)]
    for variance, freedom in shrunk_variances([(0.0, 4)] * 10):
        assert 0 <= variance < 1e-10
        assert freedom > 4


@pytest.mark.parametrize("scatter", [0.0, 0.5])
def test_moderated_intervals_hold_the_truth_as_often_as_they_say(scatter):
    random = np.random.default_rng(7)
    missed = tries = 0
    for _ in range(300):
        spreads = np.exp(scatter * random.standard_normal(10))
        rounds = [spread * random.standard_normal(8) for spread in spreads]
        means = [trimmed_mean(each) for each in rounds]
        known = shrunk_variances([(each.variance, each.freedom) for each in means])
        for mean, (variance, freedom) in zip(means, known, strict=True):
            reach = student_t.isf(0.005, freedom) * math.sqrt(variance / 8)
            missed += abs(mean.log_ratio) > reach
            tries += 1
    # 1 % of 3000 are 30; five standard errors more are 57.
    assert 5 < missed < 57
