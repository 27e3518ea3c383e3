"""Two sides of repeats with a known truth: what is said of them, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from dlm_bench.compare.statistics import (
    Interval,
    TimeRatio,
    compare_times,
    median_variance,
    verdict_of,
)
from dlm_bench.errors import ConfigError

STEADY = [1.0, 1.004, 0.997, 1.002, 0.999]


def slowed(seconds, by):
    return [each * (1 + by) for each in seconds]


def compared(base, head, **options):
    return compare_times(base, head, **({"run_spread": 0.0} | options))


def test_the_ratio_is_that_of_the_medians_head_over_base():
    found = compared([[1.0, 1.1, 9.0]], [[2.0, 2.2, 2.1]])
    assert found.ratio == pytest.approx(2.1 / 1.1)


def test_of_several_runs_the_median_of_their_medians_counts():
    base = [[1.0, 1.1], [3.0, 3.0], [1.2, 1.2]]
    found = compared(base, [[1.2, 1.2]] * 3)
    assert found.ratio == pytest.approx(1.0)


def test_a_change_of_every_repeat_by_much_more_than_their_scatter_is_a_verdict():
    assert verdict_of(compared([STEADY], [slowed(STEADY, 0.1)])) == "slower"
    assert verdict_of(compared([STEADY], [slowed(STEADY, -0.1)])) == "faster"
    assert verdict_of(compared([STEADY], [STEADY])) == "same"


def test_five_repeats_of_a_single_run_prove_nothing_small_as_runs_differ_too():
    found = compare_times([STEADY], [slowed(STEADY, 0.06)], comparisons=10)
    assert verdict_of(found) == "undecided"
    runs = [slowed(STEADY, drift) for drift in (-0.002, 0.0, 0.002, -0.001, 0.001, 0.0) * 2]
    proven = compare_times(runs, [slowed(run, 0.06) for run in runs], comparisons=10)
    assert verdict_of(proven) == "slower"


def test_the_variance_of_runs_is_that_of_their_median():
    """The assumed spread of three to ten runs, against medians of normal values."""
    random = np.random.default_rng(4)
    for runs in (2, 3, 5, 10):
        truth = np.median(0.02 * random.standard_normal((100_000, runs)), axis=1).std()
        spread = np.linspace(-1, 1, runs)
        side = [[math.exp(0.02 * each)] for each in spread / spread.std(ddof=1)]
        found = compare_times(side, side, run_spread=0.02)
        width = math.log(found.interval.high) / student_t.isf(0.025, 2 * (6 + runs - 1))
        assert width == pytest.approx(truth * math.sqrt(2), rel=0.02)


def test_a_stated_error_widens_once_and_only_its_own_run_counts_less():
    side = [STEADY] * 3
    none = compare_times(side, side)
    stated = compare_times(side, side, head_errors=[0.2] * 3)
    assert stated.interval.high - 1 > 2 * (none.interval.high - 1)
    odd = compare_times(side, [*side, slowed(STEADY, 0.5)], head_errors=[None, None, None, 2.0])
    assert odd.ratio == pytest.approx(1.0, abs=0.01)
    assert odd.interval.high == pytest.approx(none.interval.high, abs=0.015)


def test_one_repeat_with_a_stated_error_is_not_left_open():
    found = compare_times([STEADY], [[1.5]], head_errors=[0.05])
    assert found.interval.low > 1.2


def test_more_runs_prove_more_and_go_from_the_assumed_spread_to_their_own():
    def width(runs, spread):
        """Of the interval, where runs have a spread of their own of 1 %."""
        drifts = (
            np.linspace(-1, 1, runs) / np.std(np.linspace(-1, 1, runs)) / 100 if runs > 1 else [0]
        )
        side = [slowed(STEADY, drift) for drift in drifts]
        found = compare_times(side, side, run_spread=spread)
        return found.interval.high - found.interval.low

    for spread in (0.005, 0.02):
        widths = [width(runs, spread) for runs in (1, 2, 3, 5, 10, 30)]
        assert widths[1:] == sorted(widths[1:], reverse=True)
    assert width(1, 0.02) > 3 * width(1, 0.005)
    assert width(30, 0.02) < 1.5 * width(30, 0.005)


def test_runs_of_one_repeat_each_can_be_compared():
    base = [[each] for each in STEADY * 2]
    head = [[each] for each in slowed(STEADY * 2, 0.1)]
    assert verdict_of(compare_times(base, head)) == "slower"


def test_more_comparisons_need_a_wider_interval_for_an_alarm_and_none_for_its_own():
    one, ten = (compared([STEADY], [STEADY], comparisons=n) for n in (1, 10))
    assert ten.interval == one.interval
    assert ten.alarm.low < one.alarm.low < one.interval.low < 1 < one.interval.high < one.alarm.high


def test_a_single_repeat_of_a_single_run_leaves_everything_open():
    found = compare_times([[1.0]], [[2.0]])
    assert found.ratio == 2
    assert found.interval == (0, math.inf)
    assert verdict_of(found) == "undecided"


@pytest.mark.parametrize("wrong", [[], [[]], [[1.0, 0.0]], [[1.0, math.nan]], [[math.inf, 1.0]]])
def test_times_that_are_none_are_refused(wrong):
    with pytest.raises(ConfigError, match="head"):
        compare_times([STEADY], wrong)


def verdict(ratio, own, alarm, threshold=0.05):
    return verdict_of(TimeRatio(ratio, Interval(*own), Interval(*alarm)), threshold)


@pytest.mark.parametrize(
    ("ratio", "own", "alarm", "expected"),
    [
        (1.06, (1.03, 1.09), (1.001, 1.12), "slower"),
        (1.06, (1.03, 1.09), (0.999, 1.13), "undecided"),  # not proven for all points together
        (1.03, (1.02, 1.04), (1.01, 1.05), "slower"),  # nearer to the threshold than to nothing
        (1.02, (1.015, 1.025), (1.01, 1.03), "same"),  # slower for sure, and not by what matters
        (1.00, (0.96, 1.04), (0.90, 1.10), "same"),
        (1.00, (0.94, 1.04), (0.90, 1.10), "undecided"),
        (1.00, (0.96, 1.06), (0.90, 1.10), "undecided"),
        (0.94, (0.92, 0.96), (0.90, 0.99), "faster"),
        (0.94, (0.92, 0.99), (0.90, 1.01), "undecided"),
    ],
)
def test_a_verdict_takes_both_the_estimate_and_its_certainty(ratio, own, alarm, expected):
    assert verdict(ratio, own, alarm) == expected


@pytest.mark.parametrize("ratio", np.linspace(0.85, 1.15, 61))
def test_an_interval_that_is_narrow_enough_always_decides(ratio):
    near = (ratio * 0.999, ratio * 1.001)
    assert verdict(ratio, near, near) != "undecided"


def test_the_variance_of_a_median_is_that_of_bootstrap_samples():
    values = np.random.default_rng(0).exponential(size=5)
    draws = np.random.default_rng(1).choice(values, (200_000, 5))
    # 200,000 draws leave about 0.3 % of a variance to chance.
    assert median_variance(values) == pytest.approx(np.median(draws, axis=1).var(), rel=0.02)


def normal(random, shape):
    return 1 + 0.02 * random.standard_normal(shape)


def contended(random, shape):
    """One repeat in seven up to 1.7 times as long: what a busy neighbour does."""
    busy = random.random(shape) < 0.15
    return 1 + 0.01 * np.abs(random.standard_normal(shape)) + busy * random.uniform(0.2, 0.7, shape)


@pytest.mark.parametrize("noise", [normal, contended])
def test_with_nothing_changed_ten_points_seldom_raise_an_alarm(noise):
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        base, head = (noise(random, (10, 5)) for _ in range(2))
        found = (
            compared([one], [other], comparisons=10) for one, other in zip(base, head, strict=True)
        )
        alarms += any(verdict_of(each) == "slower" for each in found)
    # FALSE_ALARMS allows 0.6 of 300; 4 or more would then come once in 300 such tests.
    assert alarms < 4


@pytest.mark.parametrize("noise", [normal, contended])
def test_the_own_interval_holds_the_truth_at_least_as_often_as_it_says(noise):
    random = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        base, head = noise(random, 5), 1.08 * noise(random, 5)
        found = compared([base], [head])
        held += found.interval.low < 1.08 < found.interval.high
    assert held >= 0.93 * 400  # 95 % less two standard errors; five repeats make it about 98 %


def test_runs_that_differ_are_no_alarm_where_repeats_hide_it():
    """Each process has a speed of its own (2 %), with repeats that scatter by a tenth of that."""
    random = np.random.default_rng(2)
    alarms = {1: 0, 3: 0, 10: 0}
    for runs in alarms:
        for _ in range(300):
            base, head = (
                (1 + 0.02 * random.standard_normal((10, runs, 1)))
                * (1 + 0.002 * random.standard_normal((10, runs, 5)))
                for _ in range(2)
            )
            found = (
                compare_times(one, other, comparisons=10)
                for one, other in zip(base, head, strict=True)
            )
            alarms[runs] += any(verdict_of(each) == "slower" for each in found)
    assert max(alarms.values()) < 4  # as above


def test_a_slowdown_of_a_tenth_is_found_in_steady_runs():
    random = np.random.default_rng(3)
    found = 0
    for _ in range(100):
        base, head = (
            (1 + 0.005 * random.standard_normal((5, 1)))
            * (1 + 0.01 * random.standard_normal((5, 5)))
            for _ in range(2)
        )
        slower = compare_times(base, 1.1 * head, comparisons=10, run_spread=0.005)
        found += verdict_of(slower) == "slower"
    assert found >= 95
