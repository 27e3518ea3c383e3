"""The mean of a suite's points: its value, and the truth of its interval."""

import math

import numpy as np
import pytest

from dlm_bench.compare.statistics import interval_of
from dlm_bench.compare.suite import suite_mean


def test_it_is_the_mean_over_rounds_where_every_round_has_every_point():
    table = np.random.default_rng(0).standard_normal((8, 3))
    found = suite_mean([dict(enumerate(row)) for row in table])
    rows = table.mean(axis=1)
    assert found.log_ratio == pytest.approx(rows.mean())
    assert found.error == pytest.approx(rows.std(ddof=1) / math.sqrt(8))
    assert found.freedom == pytest.approx(7)


def test_a_point_that_was_settled_early_counts_as_much_as_the_others():
    rounds = [{0: 0.0, 1: 0.2}] * 5 + [{0: 0.0}] * 20
    assert suite_mean(rounds).log_ratio == pytest.approx(0.1)


def test_fewer_than_two_points_or_rounds_are_no_suite():
    assert suite_mean([{0: 0.1}, {0: 0.2}]) is None
    assert suite_mean([{0: 0.1, 1: 0.2}]) is None
    assert suite_mean([]) is None


@pytest.mark.parametrize("dropped", [0, 5])
def test_its_interval_holds_the_truth_as_often_as_it_says(dropped):
    """Points share half of a round's noise, and some of them end after 8 of 16 rounds."""
    random, held = np.random.default_rng(1), 0
    for _ in range(1000):
        noise = random.standard_normal((16, 1)) + random.standard_normal((16, 10))
        rounds = [dict(enumerate(row[: 10 - dropped * (i >= 8)])) for i, row in enumerate(noise)]
        interval = interval_of(*suite_mean(rounds), 0.025)
        held += interval.low < 1 < interval.high
    assert 930 <= held <= 970  # 95 % of 1000, give or take three standard errors
