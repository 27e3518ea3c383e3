"""Steadiness, judged from times alone: found where it is, and rarely where it is not."""

import numpy as np
import pytest

from dlm_bench.timing.steady import drifting, outliers, warm_up, warmed_up


def sets(count, repeats, scatter=0.05):
    """Sets of times from one normal distribution: nothing to find in them."""
    return 1 + scatter * np.random.default_rng(repeats).standard_normal((count, repeats))


LONG = [pytest.param(repeats, marks=pytest.mark.slow) for repeats in (20, 50)]


@pytest.mark.parametrize("repeats", [5, 7, 10, *LONG])
def test_independent_noise_is_rarely_taken_for_drift(repeats):
    alarms = np.mean([drifting(times) is not None for times in sets(2000, repeats)])
    # The test's level is 2 %; 3.3 % is four standard errors of 2000 sets above that.
    assert alarms < 0.033


@pytest.mark.parametrize("repeats", [4, 5, 6, 8, 10, 20, 50])
def test_independent_noise_rarely_has_outliers(repeats):
    alarms = np.mean([bool(outliers(times)) for times in sets(2000, repeats, scatter=0.1)])
    # 5 to 6 % of sets of five and fewer of longer ones, by simulation of 20 000.
    assert alarms < 0.08


@pytest.mark.parametrize("trend", [0.2, -0.2])
def test_a_trend_above_the_scatter_is_found_and_has_its_size_and_sign(trend):
    ramp = np.linspace(0, trend, 10)
    found = [drifting(1 + ramp + noise) for noise in sets(100, 10, scatter=0.01) - 1]
    assert None not in found
    # The times are relative to the first one, the trend is to the median: half the trend less.
    assert np.mean(found) == pytest.approx(trend / (1 + trend / 2), rel=0.02)


def test_one_odd_repeat_is_an_outlier_and_no_drift():
    times = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.002, 3.0]
    assert outliers(times) == [7]
    assert drifting(times) is None


def test_all_odd_repeats_are_found_fast_or_slow():
    times = [1.0, 1.01, 2.0, 0.99, 1.005, 0.995, 1.0, 0.3, 1.002]
    assert outliers(times) == [2, 7]


def test_repeats_that_agree_but_for_one_have_that_one_as_an_outlier():
    assert outliers([1.0] * 6 + [1.2]) == [6]


def test_what_is_too_small_to_matter_is_not_told():
    assert outliers([1.0] * 6 + [1.04]) == []
    assert drifting(1 + 1e-4 * np.arange(20)) is None


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]])
def test_a_few_repeats_prove_no_drift(times):
    assert drifting(times) is None
    assert outliers(times) == []


def test_five_repeats_in_order_are_drift_and_equal_ones_are_not():
    assert drifting([1.0, 1.1, 1.2, 1.3, 1.4]) == pytest.approx(0.4 / 1.2)
    assert drifting([1.0, 1.1, 1.2, 1.4, 1.3]) is None
    assert drifting([1.0] * 5) is None


def test_a_run_is_warm_once_it_beats_none_before_it():
    assert warmed_up([10.0, 1.0, 1.0])
    assert warmed_up([10.0, 1.0, 0.99])
    assert not warmed_up([10.0, 1.0, 0.9])
    assert warmed_up([10.0, 0.9, 1.0, 0.9])
    assert warmed_up([10.0, 1.0])  # the first run loads and tunes as well


def test_a_ramp_in_small_steps_is_not_warm():
    assert not warmed_up([5.0, *(0.99**i for i in range(4))])
    assert not warmed_up([5.0, *(0.99**i for i in range(40))])


@pytest.mark.parametrize("count", [4, 5, 40])
def test_runs_that_get_slower_as_the_machine_heats_are_not_warm(count):
    assert not warmed_up([5.0, *(1 + 0.01 * i for i in range(count))])


def test_two_runs_that_differ_by_a_percent_prove_nothing():
    assert warmed_up([5.0, 1.0, 0.99])
    assert warmed_up([5.0, 1.0, 1.01])


def test_runs_that_only_scatter_are_warm_as_a_rule():
    # All in order by chance are 2 of 24; not all of them move by a percent.
    warm = [warmed_up([5.0, *times]) for times in sets(1000, 8, scatter=0.01)]
    assert np.mean(warm) > 0.9


def test_a_least_time_of_the_warm_up_adds_runs():
    assert len(warm_up(runs_of(*[1.0] * 9), 2, least_seconds=5.0)) == 5


def runs_of(*seconds):
    """A run that takes these seconds, one call after the other."""
    return iter(seconds).__next__


def test_a_steady_run_is_warmed_up_as_often_as_asked():
    for count in (0, 1, 2, 3, 4):
        assert len(warm_up(runs_of(*[1.0] * 9), count)) == count


def test_a_run_that_gets_faster_is_warmed_up_until_it_does_not():
    assert warm_up(runs_of(5.0, 1.0, 0.9, 0.8, 0.8, 0.5), 3) == [5.0, 1.0, 0.9, 0.8, 0.8]


def test_a_run_that_never_settles_is_warmed_up_at_most_twice_as_often():
    assert len(warm_up(runs_of(*(0.9**i for i in range(20))), 4)) == 8


def test_long_runs_are_not_added():
    ramp = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert warm_up(runs_of(*ramp), 3, extra_seconds=6.0) == ramp[:3]
    assert warm_up(runs_of(*ramp), 3, extra_seconds=7.0) == ramp[:4]


def test_a_warm_up_that_ran_out_of_time_is_not_extended():
    assert warm_up(runs_of(3.0, 2.0, 1.0, 0.5), 3, most_seconds=4.0) == [3.0, 2.0]
