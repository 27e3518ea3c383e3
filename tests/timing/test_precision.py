"""The stated error of a mean: that it covers what it says, on independent and on drifting times."""

import numpy as np
import pytest

from dlm_bench.results.interval import half_interval, relative_error

TRIALS = 2000


def drifting(random, count, follows):
    """Normal values of standard deviation 1 and mean 0, each of which follows the one before."""
    values = [random.standard_normal()]
    for _ in range(count - 1):
        step = (1 - follows**2) ** 0.5 * random.standard_normal()
        values.append(follows * values[-1] + step)
    return np.array(values)


@pytest.mark.parametrize(
    ("count", "follows", "least"),
    [(2, 0, 0.93), (5, 0, 0.93), (20, 0, 0.93), (100, 0, 0.93), (20, 0.5, 0.88), (100, 0.7, 0.90)],
)
def test_the_interval_covers_the_mean(count, follows, least):
    random = np.random.default_rng(0)
    samples = [drifting(random, count, follows) for _ in range(TRIALS)]
    covered = np.mean([abs(each.mean()) <= half_interval(each) for each in samples])
    # 95 % is asked of it; of 2000 trials the share is within 1.5 % by chance, and of a drift few
    # values know little.
    assert covered >= least


def test_independent_times_are_not_punished_for_a_drift_they_do_not_have():
    random = np.random.default_rng(1)
    widths = [half_interval(random.standard_normal(30)) for _ in range(TRIALS)]
    plain = 2.045 / 30**0.5  # Student's t with 29 degrees of freedom, for a standard deviation of 1
    assert np.mean(widths) < 1.2 * plain


def test_equal_times_have_no_error_and_one_time_none_to_state():
    assert half_interval(np.full(5, 2.0)) == 0
    assert relative_error(np.array([3.0]), 0.1) is None


def test_what_interpolation_may_add_is_on_top():
    totals = np.array([10.0, 10.0, 10.0])
    assert relative_error(totals, 0.2) == pytest.approx(0.02)
