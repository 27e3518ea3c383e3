"""The comparison of head with base: ratio of the times, confidence interval, verdict.

Times are compared on a log scale: noise is nearer to symmetric there, and a ratio is a difference.
A comparison has two intervals: a plain 95 % interval, and a wider interval for alarms, so all
comparisons together rarely raise a false alarm.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit
from scipy.stats import beta

from dlm_bench.errors import ConfigError

THRESHOLD = 0.05  # the slowdown that must not pass
FALSE_ALARMS = 0.002  # chance that any of the points is called slower where nothing changed
SUITE_SHARE = 0.5  # of the chance of an alarm, for the suite if it is judged
INTERVAL_ERROR = 0.05  # chance that the plain interval misses the truth
RUN_SPREAD = 0.02  # assumed standard deviation of runs of the same code
FAILURES = 2  # of a point on one side: the first may be an accident
ASSUMED_FREEDOM = 6  # degrees of freedom of this assumption, next to those of the runs

MIN_VARIANCE = 1e-14  # of a weight's denominator
# Variance of the median of 1 to 10 normal values over that of the mean; pi / 2 for more is at most
# a few percent too large.
MEDIAN_OVER_MEAN = (1.0, 1.0, 1.346, 1.193, 1.434, 1.288, 1.473, 1.346, 1.495, 1.383)

Runs = Sequence[Sequence[float]]
Errors = Sequence[float | None]
Verdict = Literal[
    "slower", "tail slower", "newly failing", "faster", "same", "undecided", "missing", "new",
    "still failing", "fixed",
]  # fmt: skip
SLOWER: tuple[Verdict, ...] = ("slower", "tail slower")
REGRESSIONS: tuple[Verdict, ...] = (*SLOWER, "newly failing")
FAILING: tuple[Verdict, ...] = ("newly failing", "still failing", "fixed")  # times of a side lack


class Interval(NamedTuple):
    """The ends of an interval of head's time over base's."""

    low: float
    high: float


@dataclass(frozen=True)
class TimeRatio:
    """Head's time over base's, above 1 for a slower head.

    interval: at 95 %.
    alarm: the wider interval, for all points together (and repeated analyses, in `dlm-bench ab`).
    """

    ratio: float
    interval: Interval
    alarm: Interval


def compare_times(
    base: Runs,
    head: Runs,
    *,
    comparisons: int = 1,
    false_alarms: float = FALSE_ALARMS,
    run_spread: float = RUN_SPREAD,
    base_errors: Errors = (),
    head_errors: Errors = (),
) -> TimeRatio:
    """Compare two sides of times in seconds, each a list of runs (processes) of repeats.

    base_errors, head_errors: the stated error of each run, half of a relative 95 % interval, None
        for a run without.

    A run's level is the median of the repeats; the variance is the bootstrap's of this median, in
    closed form, in the mean over the side's runs, or that of a larger stated error. A side's level
    is the median of the runs, each with the weight 1 / (run_spread² + own variance), as repeats of
    a process tell nothing of the next process: `run_spread` (a relative standard deviation) is the
    only knowledge about a single run. The scatter of several runs, over what these variances let
    expect, scales all variances, drawn towards 1 with the weight of ASSUMED_FREEDOM runs. The
    intervals are Student's t with Welch and Satterthwaite's degrees of freedom, since a percentile
    interval of five repeats is far too narrow; `alarm` is Bonferroni's for this many `comparisons`.
    Raises ConfigError for a side without times, or with a time that is not positive and finite.
    """
    before = _side("base", base, base_errors, run_spread)
    after = _side("head", head, head_errors, run_spread)
    variance = before.variance + after.variance
    parts = [*before.parts, *after.parts]
    return time_ratio(
        after.level - before.level,
        math.sqrt(variance),
        _freedom(variance, parts),
        false_alarms / comparisons,
        INTERVAL_ERROR / 2,
    )


def time_ratio(
    log_ratio: float, error: float, freedom: float, alarm_tail: float, interval_tail: float
) -> TimeRatio:
    """Return a log ratio with this standard error as a TimeRatio; a tail is the chance beyond each
    end of an interval."""
    interval, alarm = (
        interval_of(log_ratio, error, freedom, tail) for tail in (interval_tail, alarm_tail)
    )
    return TimeRatio(math.exp(log_ratio), interval, alarm)


def interval_of(log_ratio: float, error: float, freedom: float, tail: float) -> Interval:
    """Return the interval of a ratio with this chance beyond each end."""
    reach = _reach(error, freedom, tail)
    return Interval(_exp(log_ratio - reach), _exp(log_ratio + reach))


def verdict_of(comparison: TimeRatio, threshold: float = THRESHOLD) -> Verdict:
    """Return slower, faster, same or undecided.

    `threshold` (0.05: 5 %) is the slowdown that must not pass; the estimate must cross half of it.
    slower: beyond the half, and the whole `alarm` interval above 1. same: within the half, and the
    whole `interval` closer to 1 than the threshold. A narrow interval always decides.
    """
    half, limit = 1 + threshold / 2, 1 + threshold
    if comparison.ratio > half and comparison.alarm.low > 1:
        return "slower"
    if comparison.ratio < 1 / half and comparison.alarm.high < 1:
        return "faster"
    near = 1 / half <= comparison.ratio <= half
    if near and comparison.interval.low > 1 / limit and comparison.interval.high < limit:
        return "same"
    return "undecided"


class _Side(NamedTuple):
    level: float  # log seconds
    variance: float
    parts: list[tuple[float, int]]  # the estimated part of it, with its degrees of freedom


def _side(name: str, runs: Runs, errors: Errors, run_spread: float) -> _Side:
    if len(runs) == 0 or any(len(run) == 0 for run in runs):
        raise ConfigError(f"{name}: a run without times cannot be compared")
    if not all(0 < seconds < math.inf for run in runs for seconds in run):
        raise ConfigError(f"{name}: times must be above 0 and finite")
    stated = [error or 0.0 for error in (errors or [None] * len(runs))]
    levels = np.array([log_level(run) for run in runs])
    within = within_variance(runs)
    own = np.maximum(within, (np.array(stated) / 2) ** 2)
    if len(runs) == 1:
        level, count = float(levels[0]), len(runs[0])
        if count == 1 and not stated[0]:
            return _Side(level, math.inf, [])
        freedom = count - 1 if within >= own[0] > 0 else ASSUMED_FREEDOM
        parts = [(float(own[0]), freedom), (run_spread**2, ASSUMED_FREEDOM)]
        return _Side(level, float(own[0]) + run_spread**2, parts)
    weights = 1 / np.maximum(run_spread**2 + own, MIN_VARIANCE)
    total, freedom = float(weights.sum()), ASSUMED_FREEDOM + len(runs) - 1
    scatter = float(weights @ (levels - weights @ levels / total) ** 2)
    effective = total**2 / float((weights**2).sum())  # runs, if all had the same weight
    variance = _median_over_mean(round(effective)) / total
    variance *= (ASSUMED_FREEDOM + scatter) / freedom
    return _Side(_weighted_median(levels, weights), variance, [(variance, freedom)])


def log_level(run: Sequence[float]) -> float:
    """Return the logarithm of the median of a run's repeats."""
    return float(np.log(np.median(run)))


def within_variance(runs: Runs) -> float:
    """Return the mean relative variance of the runs' medians, by the scatter of their repeats."""
    return float(np.mean([median_variance(np.log(run)) for run in runs]))


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    share = weights[order] / weights.sum()
    return float(np.interp(0.5, np.cumsum(share) - share / 2, values[order]))


def _median_over_mean(count: int) -> float:
    """Return the variance of the median of so many normal values, over that of their mean."""
    small = count <= len(MEDIAN_OVER_MEAN)
    return MEDIAN_OVER_MEAN[count - 1] if small else math.pi / 2


def median_variance(values: NDArray[np.float64]) -> float:
    """Return the variance of the median over all bootstrap samples of these values (Maritz and
    Jarrett, 1978).

    An order statistic is the median of a sample with the weight of a beta distribution over the
    corresponding share of the ranks.
    """
    weights, ordered = _weights(len(values)), np.sort(values)
    mean = float(weights @ ordered)
    return float(weights @ (ordered - mean) ** 2)


@cache
def _weights(count: int) -> NDArray[np.float64]:
    middle = (count + 1) / 2
    return np.diff(beta.cdf(np.arange(count + 1) / count, middle, middle))


def _freedom(variance: float, parts: list[tuple[float, int]]) -> float:
    """Return Welch and Satterthwaite's degrees of freedom; infinite if nothing was estimated."""
    doubt = sum(part**2 / freedom for part, freedom in parts)
    return variance**2 / doubt if doubt else math.inf


def _reach(error: float, freedom: float, tail: float) -> float:
    if not error:
        return 0.0
    if not math.isfinite(error):
        return math.inf
    quantile = stdtrit(freedom, tail) if math.isfinite(freedom) else ndtri(tail)
    return -float(error * quantile)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
