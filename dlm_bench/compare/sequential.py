"""A sequential test of points that are measured alternately on both sides, round after round.

A point has a log ratio a round. Rounds are counted, not repeats: a round has a fresh pair of
processes and the state of the machine at the time. Repeated analyses would raise false alarms, so
they share the allowed chance of them: each may use as much as the share of the budget since the
analysis before (an alpha-spending function in calendar time, Lan and DeMets 1983; bounded by the
sum over the analyses, without use of their dependence). An early end leaves some of the chance
unspent.

A point has few rounds, but the machine disturbed the others alike: see `shrinkage`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlm_bench.compare.shrinkage import shrunk_variances
from dlm_bench.compare.statistics import (
    FALSE_ALARMS,
    INTERVAL_ERROR,
    THRESHOLD,
    TimeRatio,
    Verdict,
    interval_of,
    time_ratio,
    verdict_of,
)

MIN_ROUNDS = 5  # fewer say nothing at these levels
ANALYSIS_GROWTH = 1.25  # of the rounds between analyses: each costs some of the chance
TRIMMED_SHARE = 0.1  # of the rounds, at either end: those of a busy neighbour


class SequentialTest:
    """The rounds so far of some points, and their verdicts."""

    def __init__(
        self, points: int, threshold: float = THRESHOLD, false_alarms: float = FALSE_ALARMS
    ) -> None:
        self.changes: list[TimeRatio | None] = [None] * points
        self.verdicts: list[Verdict] = ["undecided"] * points
        self._ratios: list[list[float]] = [[] for _ in range(points)]
        self._threshold, self._false_alarms = threshold, false_alarms
        self._rounds, self._next_analysis, self._spent = 0, MIN_ROUNDS, 0.0
        self._analysed, self._allowed = 0, 0.0  # rounds and chance at the last analysis

    @property
    def undecided(self) -> list[int]:
        """The points in need of more rounds."""
        return [i for i, verdict in enumerate(self.verdicts) if verdict == "undecided"]

    def add(self, log_ratios: Mapping[int, float], share: float) -> None:
        """Add a round: log(head's seconds / base's) of each measured point, and the used share of
        the budget. Analyse if due."""
        self._rounds += 1
        for point, ratio in log_ratios.items():
            self._ratios[point].append(ratio)
        if self._rounds >= self._next_analysis:
            self.analyse(share)

    def analyse(self, share: float) -> None:
        """Settle points by an interim analysis; `share` is 1 at the last.

        `changes` get the plain 95 % interval. The verdict "same" needs a wider interval, as
        analyses are repeated.
        """
        share = min(1.0, share)
        allowance = share - self._spent
        if allowance <= 0:
            return
        if self._analysed == self._rounds:
            allowance += self._allowed  # the same rounds, with a greater chance
        self._analysed, self._allowed = self._rounds, allowance
        self._spent, self._next_analysis = share, math.ceil(ANALYSIS_GROWTH * self._rounds)
        means = {
            point: trimmed_mean(ratios)
            for point, ratios in enumerate(self._ratios)
            if len(ratios) >= MIN_ROUNDS
        }
        known = shrunk_variances([(each.variance, each.freedom) for each in means.values()])
        alarm = self._false_alarms * allowance / len(self.verdicts)
        for (point, mean), (variance, freedom) in zip(means.items(), known, strict=True):
            if self.verdicts[point] != "undecided":
                continue
            error = math.sqrt(variance / len(self._ratios[point]))
            tail = INTERVAL_ERROR / 2
            found = time_ratio(mean.log_ratio, error, freedom, alarm, tail * allowance)
            plain = interval_of(mean.log_ratio, error, freedom, tail)
            self.changes[point] = replace(found, interval=plain)
            self.verdicts[point] = verdict_of(found, self._threshold)


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


def round_ratio(base: Sequence[float], head: Sequence[float]) -> float:
    """Return the log ratio of a round: of the geometric means of the fastest third of either side's
    decodes.

    Other work on the machine only slows decodes down, so the fast ones scatter least. More decodes
    have faster ones among them, so both sides count as many as the shorter side has.
    """
    count = min(len(base), len(head))
    return _log_fast(head[:count]) - _log_fast(base[:count])


def _log_fast(seconds: Sequence[float]) -> float:
    return float(np.log(np.sort(seconds)[: math.ceil(len(seconds) / 3)]).mean())
