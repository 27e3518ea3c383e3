"""Rounds with a known truth: what they settle, how soon, and how often wrongly."""

import math

import numpy as np
import pytest
from scipy.stats import t as student_t

from dlm_bench.compare.sequential import (
    MIN_ROUNDS,
    TRIMMED_SHARE,
    SequentialTest,
    round_ratios,
    trimmed_mean,
)
from dlm_bench.compare.shrinkage import MAX_ADDED_FREEDOM, shared_noise, shrunk_variances
from dlm_bench.compare.statistics import Interval, TimeRatio

ROUNDS = 20  # that a budget has room for


def played(noise, slowdowns, rounds=ROUNDS):
    """A test to its end; `noise` makes the log ratios of a round of all points."""
    test = SequentialTest(len(slowdowns))
    shift = np.log1p(slowdowns)
    for i in range(rounds):
        if not test.undecided:
            break
        ratios = shift + noise(len(slowdowns))
        test.add({point: ratios[point] for point in test.undecided}, (i + 1) / rounds)
    test.analyse(1.0)
    return test


def quiet(random):
    return lambda points: 0.015 * random.standard_normal(points)


def heavy(random):
    """One time in ten a busy neighbour falls on one side of a point's round more."""

    def noise(points):
        busy = random.random(points) < 0.1
        return 0.015 * random.standard_normal(points) + busy * random.uniform(-0.3, 0.3, points)

    return noise


@pytest.mark.parametrize("kind", [quiet, heavy])
def test_with_nothing_changed_ten_points_seldom_raise_an_alarm(kind):
    noise = kind(np.random.default_rng(0))
    alarms = sum("slower" in played(noise, [0.0] * 10).verdicts for _ in range(300))
    # FALSE_ALARMS allows 0.6 of 300; 4 or more would then come once in 300 such tests.
    assert alarms < 4


@pytest.mark.parametrize("kind", [quiet, heavy])
@pytest.mark.parametrize(("slowdown", "share"), [(0.1, 0.95), (0.05, 0.8)])
def test_a_slowdown_of_one_point_in_ten_is_found(kind, slowdown, share):
    noise = kind(np.random.default_rng(1))
    truths = [0.0] * 9 + [slowdown]
    found = sum(played(noise, truths).verdicts[-1] == "slower" for _ in range(100))
    assert found >= 100 * share


def test_a_slowdown_at_the_threshold_is_seldom_called_the_same():
    noise = quiet(np.random.default_rng(2))
    wrong = sum(played(noise, [0.05]).verdicts[0] == "same" for _ in range(300))
    assert wrong <= 15  # INTERVAL_ERROR / 2 allows 7.5


def test_points_without_a_change_are_settled_well_before_the_budget_is_spent():
    test = SequentialTest(10)
    noise = quiet(np.random.default_rng(3))
    rounds = 0
    while test.undecided and rounds < ROUNDS:
        rounds += 1
        ratios = noise(10)
        test.add({i: ratios[i] for i in test.undecided}, rounds / ROUNDS)
    assert set(test.verdicts) == {"same"}
    assert rounds <= ROUNDS * 0.7


def analyses(monkeypatch, rounds, budget):
    """The chances (alarm, interval) of each analysis at four points that nothing ever settles."""
    spent = []

    def watched(log_ratio, error, freedom, alarm_tail, interval_tail):
        spent.append((alarm_tail, interval_tail))
        return TimeRatio(1.0, Interval(0.5, 2.0), Interval(0.5, 2.0))

    monkeypatch.setattr("dlm_bench.compare.sequential.time_ratio", watched)
    test = SequentialTest(4, false_alarms=0.002)
    for i in range(rounds):
        test.add(dict.fromkeys(range(4), 0.0), (i + 1) / budget)
    test.analyse(1.0)
    return [
        [sum(tails) for tails in zip(*spent[i : i + 4], strict=True)]
        for i in range(0, len(spent), 4)
    ]


def test_all_analyses_together_spend_the_chance_of_a_false_alarm_once(monkeypatch):
    alarms, intervals = zip(*analyses(monkeypatch, rounds=29, budget=40), strict=True)
    assert sum(alarms) == pytest.approx(0.002)
    assert sum(intervals) == pytest.approx(4 * 0.025)
    assert len(alarms) < 12, "each analysis costs"


def test_a_last_analysis_of_what_was_analysed_spends_the_rest_on_it(monkeypatch):
    *before, again, last = (alarm for alarm, _ in analyses(monkeypatch, rounds=30, budget=40))
    assert last == pytest.approx(again + 0.002 * 10 / 40)
    assert sum(before) + last == pytest.approx(0.002)


def test_the_interval_shown_is_the_plain_one_of_95_percent():
    test, random = SequentialTest(1), np.random.default_rng(8)
    rounds = 0.5 * random.standard_normal(6)
    for i, ratio in enumerate(rounds):
        test.add({0: float(ratio)}, (i + 1) / 100)
    test.analyse(0.99)
    reach = student_t.isf(0.025, 5) * rounds.std(ddof=1) / math.sqrt(6)
    shown = test.changes[0].interval
    assert math.log(shown.low) == pytest.approx(rounds.mean() - reach)
    assert math.log(shown.high) == pytest.approx(rounds.mean() + reach)


def test_a_settled_point_is_not_looked_at_again():
    test = SequentialTest(1)
    for _ in range(MIN_ROUNDS):
        test.add({0: 0.0}, 0.2)
    assert test.verdicts == ["same"]
    for _ in range(10):
        test.add({0: 0.5}, 0.9)
    assert test.verdicts == ["same"]


def test_few_rounds_say_nothing():
    test = SequentialTest(1)
    for _ in range(MIN_ROUNDS - 1):
        test.add({0: 0.5}, 0.2)
    test.analyse(1.0)
    assert test.verdicts == ["undecided"]
    assert test.changes == [None]


def test_one_round_in_ten_at_either_end_may_be_anything():
    rounds = [0.10, 0.101, 0.099, 0.1, 0.1, 0.102, 0.098, 0.1, 0.9, -0.9]
    assert TRIMMED_SHARE == 0.1
    found = trimmed_mean(rounds)
    assert found.log_ratio == pytest.approx(0.1, abs=0.001)
    assert found.variance < 0.002**2
    assert found.freedom == 7


def test_without_trimming_it_is_the_mean_with_its_variance():
    rounds = np.random.default_rng(4).standard_normal(9)
    found = trimmed_mean(rounds)
    assert found.log_ratio == pytest.approx(rounds.mean())
    assert found.variance == pytest.approx(rounds.var(ddof=1))
    assert found.freedom == 8


def test_a_round_is_the_ratio_of_the_fastest_decodes():
    assert round_ratios([1.0, 1.0, 5.0], [9.0, 1.2, 1.1]).fastest == pytest.approx(math.log(1.1))


def test_a_side_with_more_decodes_has_no_more_chances_at_a_fast_one():
    assert round_ratios([1.0, 1.0, 0.5], [1.2, 1.2]).fastest == pytest.approx(math.log(1.2))


def test_the_side_with_more_decodes_is_cut_evenly_over_the_round():
    """Its first half is slower than the second, as on a machine that just got idle."""
    found = round_ratios([2.0, 1.0], [2.0, 2.0, 2.0, 1.0, 1.0, 1.0])
    assert found.mean == pytest.approx(0.0)
    assert found.fastest == pytest.approx(0.0)


def test_the_mean_of_a_round_sees_what_the_fastest_decodes_hide():
    found = round_ratios([1.0] * 10, [1.0] * 4 + [1.3] * 6)
    assert found.fastest == pytest.approx(0.0)
    assert found.mean == pytest.approx(math.log(1.18))


def stalled(tail, rounds=ROUNDS):
    """A test of a point whose fastest decodes are as fast as base's, with these tails."""
    random, test = np.random.default_rng(9), SequentialTest(1)
    for i in range(rounds):
        noise = 0.01 * random.standard_normal(2)
        test.add({0: noise[0]}, (i + 1) / rounds, {0: math.log1p(tail) + noise[1]})
    test.analyse(1.0)
    return test


def test_a_head_that_stalls_in_some_decodes_is_tail_slower():
    test = stalled(0.18)
    assert test.verdicts == ["tail slower"]
    assert test.changes[0].ratio == pytest.approx(1.0, abs=0.01)
    assert test.tails[0].ratio == pytest.approx(1.18, abs=0.01)


def test_a_slower_tail_that_is_not_proven_keeps_a_point_open():
    test = SequentialTest(1)
    for i in range(ROUNDS):
        test.add({0: 0.001 * (-1) ** i}, (i + 1) / ROUNDS, {0: 0.08 + 0.3 * (-1) ** i})
    assert test.tails[0].ratio > 1.025
    assert test.verdicts == ["undecided"]
    assert stalled(0.0).verdicts == ["same"]


def test_both_statistics_of_a_point_share_the_chance_of_an_alarm(monkeypatch):
    spent = []

    def watched(log_ratio, error, freedom, alarm_tail, interval_tail):
        spent.append(alarm_tail)
        return TimeRatio(1.0, Interval(0.5, 2.0), Interval(0.5, 2.0))

    monkeypatch.setattr("dlm_bench.compare.sequential.time_ratio", watched)
    test = SequentialTest(2, false_alarms=0.002, suite_threshold=0.015)
    for i in range(12):
        test.add({0: 0.0, 1: 0.0}, (i + 1) / 12, {0: 0.0, 1: 0.0})
    assert sum(spent) == pytest.approx(0.002)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.95])
def test_noise_that_points_share_raises_no_more_alarms_than_promised(correlation):
    random = np.random.default_rng(11)

    def noise(points):
        own = math.sqrt(1 - correlation) * random.standard_normal(points)
        return 0.03 * (math.sqrt(correlation) * random.standard_normal() + own)

    alarms = sum("slower" in played(noise, [0.0] * 10, 12).verdicts for _ in range(400))
    assert alarms < 5  # FALSE_ALARMS allows 0.8 of 400; 5 or more come once in 700 such tests


def test_shared_noise_is_the_mean_squared_correlation_over_the_rounds_of_both():
    random = np.random.default_rng(12)
    series = [random.standard_normal(length).tolist() for length in (9, 5, 9, 7)]
    pairs = [(one, other) for i, one in enumerate(series) for other in series[:i]]
    cut = [(one[: len(other)], other[: len(one)]) for one, other in pairs]
    expected = np.mean([np.corrcoef(*both)[0, 1] ** 2 for both in cut])
    assert shared_noise(series) == pytest.approx(expected)
    assert shared_noise([series[0], series[0]]) == pytest.approx(1.0)
    assert shared_noise([[0.0, 0.0], [0.0, 1.0], []]) == 0.0


def test_series_of_one_noise_get_no_degrees_of_freedom_from_each_other():
    estimates = [(0.01, 11)] * 10
    assert {freedom for _, freedom in shrunk_variances(estimates, shared=1.0)} == {11}
    assert {freedom for _, freedom in shrunk_variances(estimates)} == {11 + MAX_ADDED_FREEDOM}


def suite(shift, rounds=12, points=10, common=0.005, threshold=0.015):
    random, test = np.random.default_rng(13), SequentialTest(points, suite_threshold=threshold)
    for i in range(rounds):
        noise = common * random.standard_normal() + 0.03 * random.standard_normal(points)
        test.add({p: math.log1p(shift) + noise[p] for p in test.wanted}, (i + 1) / rounds)
    test.analyse(1.0)
    return test


def test_a_small_slowdown_of_all_points_is_found_by_the_suite_alone():
    test = suite(0.02)
    assert "slower" not in test.verdicts
    assert test.overall.verdict == "slower"
    assert test.overall.points == 10
    assert test.overall.change.interval.low < 1.02 < test.overall.change.interval.high
    assert suite(0.0).overall.verdict != "slower"


def test_settled_points_are_measured_on_until_the_suite_is_settled_too():
    test = SequentialTest(2, suite_threshold=0.001)
    for i in range(MIN_ROUNDS):
        test.add({0: 0.001 * (-1) ** i, 1: 0.002 * (-1) ** i}, 0.1 * (i + 1))
    assert test.undecided == []
    assert test.wanted == [0, 1]
    test.verdicts[1] = "newly failing"
    assert test.wanted == [0]


def test_without_a_threshold_the_suite_has_a_number_and_no_verdict():
    test = suite(0.03, threshold=None)
    assert test.overall.verdict is None
    assert test.overall.change.ratio == pytest.approx(1.03, abs=0.02)
