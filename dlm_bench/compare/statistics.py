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
from scipy.stats import beta
from scipy.stats import t as student_t

from dlm_bench.errors import ConfigError

THRESHOLD = 0.05  # the slowdown that must not pass
FALSE_ALARMS = 0.002  # chance that any of the points is called slower where nothing changed
INTERVAL_ERROR = 0.05  # chance that the plain interval misses the truth
RUN_SPREAD = 0.02  # assumed standard deviation of runs of the same code
FAILURES = 2  # of a point on one side: the first may be an accident
ASSUMED_FREEDOM = 6  # degrees of freedom of this assumption, next to those of the runs

Runs = Sequence[Sequence[float]]
Verdict = Literal[
    "slower", "newly failing", "faster", "same", "undecided", "missing", "new", "still failing",
    "fixed",
]  # fmt: skip
REGRESSIONS: tuple[Verdict, ...] = ("slower", "newly failing")


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
) -> TimeRatio:
    """Compare two sides of times in seconds, each a list of runs (processes) of repeats.

    A side's level is the median over the runs of their medians. The variance is the bootstrap's of
    this median, in closed form, so the answer is always the same: over the repeats, and over the
    runs, as repeats of a process tell nothing of the next process. The spread of the runs is drawn
    towards `run_spread` (a relative standard deviation), the only knowledge about a single run. The
    intervals are Student's t with Welch and Satterthwaite's degrees of freedom, since a percentile
    interval of five repeats is far too narrow; `alarm` is Bonferroni's for this many `comparisons`.
    Raises ConfigError for a side without times, or with a time that is not positive and finite.
    """
    before, after = _side("base", base, run_spread), _side("head", head, run_spread)
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


def _side(name: str, runs: Runs, run_spread: float) -> _Side:
    if len(runs) == 0 or any(len(run) == 0 for run in runs):
        raise ConfigError(f"{name}: a run without times cannot be compared")
    if not all(0 < seconds < math.inf for run in runs for seconds in run):
        raise ConfigError(f"{name}: times must be above 0 and finite")
    logs = [np.log(np.asarray(run, dtype=float)) for run in runs]
    middles = np.array([np.median(each) for each in logs])
    level, count = float(np.median(middles)), len(runs)
    within = [median_variance(each) for each in logs]
    if count == 1:
        if len(logs[0]) == 1:
            return _Side(level, math.inf, [])
        parts = [(within[0], len(logs[0]) - 1), (run_spread**2, ASSUMED_FREEDOM)]
        return _Side(level, within[0] + run_spread**2, parts)
    assumed = (run_spread**2 + float(np.mean(within))) / count
    freedom = ASSUMED_FREEDOM + count - 1
    seen = median_variance(middles)
    variance = (ASSUMED_FREEDOM * assumed + (count - 1) * seen) / freedom
    return _Side(level, variance, [(variance, freedom)])


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
    return float(error * student_t.isf(tail, freedom)) if math.isfinite(error) else math.inf


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
