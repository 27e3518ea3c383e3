"""A sequential test of points that are measured alternately on both sides, round after round.

A point has a log ratio a round. Rounds are counted, not repeats: a round has a fresh pair of
processes and the state of the machine at the time. Repeated analyses would raise false alarms, so
they share the allowed chance of them: each may use as much as the share of the budget since the
analysis before (an alpha-spending function in calendar time, Lan and DeMets 1983; bounded by the
sum over the analyses, without use of their dependence). An early end leaves some of the chance
unspent.

A point is judged twice, with a share of the chance each: by the fastest decodes, and by the mean of
all, which shows a head that stalls now and then. A point has few rounds, but the machine disturbed
the others alike: see `shrinkage`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlm_bench.compare.shrinkage import shared_noise, shrunk_variances
from dlm_bench.compare.statistics import (
    FAILING,
    FALSE_ALARMS,
    INTERVAL_ERROR,
    SUITE_SHARE,
    THRESHOLD,
    TimeRatio,
    Verdict,
    interval_of,
    time_ratio,
    verdict_of,
)
from dlm_bench.compare.suite import Overall, suite_mean

MIN_ROUNDS = 5  # fewer say nothing at these levels
ANALYSIS_GROWTH = 1.25  # of the rounds between analyses: each costs some of the chance
TAIL_SHARE = 0.25  # of a point's chance of an alarm, for the mean of all decodes
TRIMMED_SHARE = 0.1  # of the rounds, at either end: those of a busy neighbour


class SequentialTest:
    """The rounds so far of some points, and their verdicts.

    suite_threshold: judge the whole suite, too, with SUITE_SHARE of the chance; None leaves all of
        the chance to the points.

    `changes` and `tails` have the points' ratios by the fastest decodes and by the mean.
    """

    def __init__(
        self,
        points: int,
        threshold: float = THRESHOLD,
        false_alarms: float = FALSE_ALARMS,
        suite_threshold: float | None = None,
    ) -> None:
        self.changes: list[TimeRatio | None] = [None] * points
        self.tails: list[TimeRatio | None] = [None] * points
        self.verdicts: list[Verdict] = ["undecided"] * points
        self.overall: Overall | None = None
        self._ratios: list[list[float]] = [[] for _ in range(points)]
        self._tail_ratios: list[list[float]] = [[] for _ in range(points)]
        self._history: list[Mapping[int, float]] = []
        self._threshold, self._suite_threshold = threshold, suite_threshold
        self._suite_alarms = 0.0 if suite_threshold is None else SUITE_SHARE * false_alarms
        self._point_alarms = (false_alarms - self._suite_alarms) / points
        self._next_analysis, self._spent = MIN_ROUNDS, 0.0
        self._analysed, self._allowed = 0, 0.0  # rounds and chance at the last analysis

    @property
    def undecided(self) -> list[int]:
        """The points without a verdict."""
        return [i for i, verdict in enumerate(self.verdicts) if verdict == "undecided"]

    @property
    def wanted(self) -> list[int]:
        """The points in need of more rounds: those without a verdict, or all that do not fail while
        the suite has none."""
        if self._suite_threshold is None or (
            self.overall is not None and self.overall.verdict != "undecided"
        ):
            return self.undecided
        return [i for i, verdict in enumerate(self.verdicts) if verdict not in FAILING]

    def add(
        self,
        log_ratios: Mapping[int, float],
        share: float,
        tails: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """Add a round and analyse if due.

        log_ratios: log(head's seconds / base's) of the fastest decodes of each measured point.
        tails: of the mean decode; without any the fastest decodes alone are judged.
        share: of the budget, used by now.
        """
        self._history.append(dict(log_ratios))
        for kept, found in ((self._ratios, log_ratios), (self._tail_ratios, tails)):
            for point, ratio in found.items():
                kept[point].append(ratio)
        if len(self._history) >= self._next_analysis:
            self.analyse(share)

    def analyse(self, share: float) -> None:
        """Settle points by an interim analysis; `share` is 1 at the last.

        `changes` get the plain 95 % interval. The verdict "same" needs a wider interval, as
        analyses are repeated.
        """
        share, rounds = min(1.0, share), len(self._history)
        allowance = share - self._spent
        if allowance <= 0:
            return
        if self._analysed == rounds:
            allowance += self._allowed  # the same rounds, with a greater chance
        self._analysed, self._allowed = rounds, allowance
        self._spent, self._next_analysis = share, math.ceil(ANALYSIS_GROWTH * rounds)
        self._analyse_suite(allowance)
        alarm = self._point_alarms * allowance
        if any(self._tail_ratios):
            tails = self._judged(self._tail_ratios, TAIL_SHARE * alarm, allowance, self.tails)
            alarm *= 1 - TAIL_SHARE
        else:
            tails = {}
        for point, found in self._judged(self._ratios, alarm, allowance, self.changes).items():
            self.verdicts[point] = _joint_verdict(found, tails.get(point), self._threshold)

    def _judged(
        self,
        ratios: Sequence[Sequence[float]],
        alarm: float,
        allowance: float,
        shown: list[TimeRatio | None],
    ) -> dict[int, TimeRatio]:
        """Return the ratios of the undecided points at this analysis, and put those with a plain
        interval into `shown`."""
        means = {
            point: trimmed_mean(each)
            for point, each in enumerate(ratios)
            if len(each) >= MIN_ROUNDS
        }
        known = shrunk_variances(
            [(each.variance, each.freedom) for each in means.values()],
            shared_noise([ratios[point] for point in means]),
        )
        judged = {}
        for (point, mean), (variance, freedom) in zip(means.items(), known, strict=True):
            if self.verdicts[point] != "undecided":
                continue
            error = math.sqrt(variance / len(ratios[point]))
            tail = INTERVAL_ERROR / 2
            found = time_ratio(mean.log_ratio, error, freedom, alarm, tail * allowance)
            shown[point] = replace(
                found, interval=interval_of(mean.log_ratio, error, freedom, tail)
            )
            judged[point] = found
        return judged

    def _analyse_suite(self, allowance: float) -> None:
        if len(self._history) < MIN_ROUNDS or (
            self.overall is not None and self.overall.verdict not in (None, "undecided")
        ):
            return
        mean, tail = suite_mean(self._history), INTERVAL_ERROR / 2
        if mean is None:
            return
        plain, verdict = interval_of(*mean, tail), None
        found = TimeRatio(math.exp(mean.log_ratio), plain, plain)
        if self._suite_threshold is not None:
            judged = time_ratio(*mean, self._suite_alarms * allowance, tail * allowance)
            verdict = verdict_of(judged, self._suite_threshold)
            found = replace(judged, interval=plain)
        points = len({point for each in self._history for point in each})
        self.overall = Overall(found, points, verdict, self._suite_threshold)


def _joint_verdict(fastest: TimeRatio, mean: TimeRatio | None, threshold: float) -> Verdict:
    """Return the verdict by the fastest decodes, unless the mean is slower: "tail slower" if that
    is proven, "undecided" if that is only likely."""
    verdict = verdict_of(fastest, threshold)
    if mean is None or verdict == "slower" or mean.ratio <= 1 + threshold / 2:
        return verdict
    return "tail slower" if verdict_of(mean, threshold) == "slower" else "undecided"


class TrimmedMean(NamedTuple):
    """The trimmed mean of a point's rounds, the variance of a round, and the degrees of freedom."""

    log_ratio: float
    variance: float
    freedom: int


def trimmed_mean(log_ratios: Sequence[float]) -> TrimmedMean:
    """Return the trimmed mean of two or more rounds, with the variance for Yuen's (1974) standard
    error.

    The variance is of the winsorised rounds, with a degree of freedom fewer than rounds are left.
    """
    count = len(log_ratios)
    ordered, cut = np.sort(np.asarray(log_ratios, dtype=float)), int(TRIMMED_SHARE * count)
    kept = ordered[cut : count - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    freedom = len(kept) - 1
    return TrimmedMean(float(kept.mean()), squares / (len(kept) * freedom) * count, freedom)


class RoundRatio(NamedTuple):
    """The log ratios of head's seconds over base's in a round."""

    fastest: float
    mean: float


def round_ratios(base: Sequence[float], head: Sequence[float]) -> RoundRatio:
    """Return the log ratios of a round: of the geometric means of the fastest third of either
    side's decodes, and of their arithmetic means.

    Other work on the machine only slows decodes down, so the fast ones scatter least. More decodes
    have faster ones among them, so both sides count as many as the shorter side has, taken evenly
    over the round. The mean also sees a head that stalls in some of the decodes.
    """
    count = min(len(base), len(head))
    before, after = _evenly(base, count), _evenly(head, count)
    fastest = _log_fast(after) - _log_fast(before)
    return RoundRatio(fastest, math.log(after.mean() / before.mean()))


def _evenly(seconds: Sequence[float], count: int) -> NDArray[np.float64]:
    return np.asarray(seconds, dtype=float)[np.arange(count) * len(seconds) // count]


def _log_fast(seconds: NDArray[np.float64]) -> float:
    return float(np.log(np.sort(seconds)[: math.ceil(len(seconds) / 3)]).mean())
