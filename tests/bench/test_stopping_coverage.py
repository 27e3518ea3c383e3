"""The interval stated at a stop covers the mean; bench/stopping_coverage.py prints the table."""

import pytest
from stopping_coverage import Plain, cell, fixed

from dlm_bench.timing.precision import Stopping

TRIALS = 300
# Of 300 trials the share is within 3.8 % (three standard errors at 95 %) by chance, 5.2 % at 90 %.
LEAST = {0.0: 0.912, 0.3: 0.912, 0.6: 0.912, 0.9: 0.848}


@pytest.mark.parametrize("first", [2, 5, 10])
@pytest.mark.parametrize("follows", LEAST)
def test_the_error_stated_at_a_stop_covers_the_mean(follows, first):
    assert cell(Stopping, follows, first, 1.0, TRIALS).covered >= LEAST[follows]


def test_a_plain_interval_does_not_survive_the_looks():
    # Half of them: else the test above would prove nothing.
    assert cell(Plain, 0.9, 5, 1.0, TRIALS).covered < 0.6


def test_independent_rounds_cost_at_most_four_times_those_of_a_plain_interval():
    for scatter in (0.3, 1.0, 3.0):
        now, before = (cell(rule, 0.0, 5, scatter, TRIALS).rounds for rule in (Stopping, Plain))
        assert now <= 4 * before


def test_the_interval_of_a_fixed_number_of_independent_repeats_covers_the_mean():
    assert fixed(0.0, 5, TRIALS) >= 0.912
