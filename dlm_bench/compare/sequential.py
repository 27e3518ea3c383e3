"""Points that are measured alternately on both sides, round after round, until each is settled.

A round's log ratio of a point stands for everything that a fresh pair of processes and the
machine at that moment may do to it: rounds are what is counted, not repeats. Looking after more
and more rounds would raise false alarms, so that their chance is spent over the looks: each may
use as much of it as went by of the budget since the look before (an alpha-spending function in
calendar time, Lan and DeMets 1983; bounded by the sum over the looks, whose dependence is not
made use of). A budget that is not used up leaves some of that chance unspent.

A point has few rounds, but the others' were disturbed by the same machine: see `moderation`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from dlm_bench.compare.shrinkage import moderated
from dlm_bench.compare.statistics import (
    FALSE_ALARMS,
    OWN,
    THRESHOLD,
    Comparison,
    Verdict,
    around,
    interval,
    verdict_of,
)

FEWEST = 5  # rounds; of fewer nothing can be said at these levels
GROWTH = 1.25  # of the rounds from one look to the next: each look costs some of the chance
TRIM = 0.1  # of the rounds, at either end: a busy neighbour's


class Contest:
    """The rounds so far of some points, and what they have settled."""

    def __init__(
        self, points: int, threshold: float = THRESHOLD, false_alarms: float = FALSE_ALARMS
    ) -> None:
        self.comparisons: list[Comparison | None] = [None] * points
        self.verdicts: list[Verdict] = ["undecided"] * points
        self._ratios: list[list[float]] = [[] for _ in range(points)]
        self._threshold, self._false_alarms = threshold, false_alarms
        self._rounds, self._next_look, self._spent = 0, FEWEST, 0.0
        self._looked, self._allowed = 0, 0.0  # rounds at the last look, and its share of the chance

    @property
    def undecided(self) -> list[int]:
        """The points that need more rounds."""
        return [i for i, verdict in enumerate(self.verdicts) if verdict == "undecided"]

    def add(self, log_ratios: Mapping[int, float], share: float) -> None:
        """A round is over: log(head's seconds / base's) of each point measured, and the share of
        the budget that is gone. Looks if it is time to."""
        self._rounds += 1
        for point, ratio in log_ratios.items():
            self._ratios[point].append(ratio)
        if self._rounds >= self._next_look:
            self.look(share)

    def look(self, share: float) -> None:
        """Settle what can be; `share` is 1 at the last look.

        `comparisons` then have the plain 95 % interval; "same" is decided by a wider one, for
        looking repeatedly.
        """
        share = min(1.0, share)
        allowance = share - self._spent
        if allowance <= 0:
            return
        if self._looked == self._rounds:
            allowance += self._allowed  # the same look again, with a greater chance
        self._looked, self._allowed = self._rounds, allowance
        self._spent, self._next_look = share, math.ceil(GROWTH * self._rounds)
        middles = {
            point: middle_of(ratios)
            for point, ratios in enumerate(self._ratios)
            if len(ratios) >= FEWEST
        }
        known = moderated([(each.variance, each.freedom) for each in middles.values()])
        alarm = self._false_alarms * allowance / len(self.verdicts)
        for (point, middle), (variance, freedom) in zip(middles.items(), known, strict=True):
            if self.verdicts[point] != "undecided":
                continue
            error = math.sqrt(variance / len(self._ratios[point]))
            found = around(middle.log_ratio, error, freedom, alarm, OWN / 2 * allowance)
            own = interval(middle.log_ratio, error, freedom, OWN / 2)
            self.comparisons[point] = replace(found, own=own)
            self.verdicts[point] = verdict_of(found, self._threshold)


class Middle(NamedTuple):
    """Where the rounds of a point lie: `variance` is that of a round, with its degrees of
    freedom."""

    log_ratio: float
    variance: float
    freedom: int


def middle_of(log_ratios: Sequence[float]) -> Middle:
    """The trimmed mean of some rounds, at least two, and the variance that gives it Yuen's (1974)
    standard error: from the winsorised rounds, with as many degrees of freedom as rounds are left
    less one."""
    count = len(log_ratios)
    ordered, cut = np.sort(np.asarray(log_ratios, dtype=float)), int(TRIM * count)
    kept = ordered[cut : count - cut]
    winsorised = np.clip(ordered, kept[0], kept[-1])
    squares = float(((winsorised - winsorised.mean()) ** 2).sum())
    freedom = len(kept) - 1
    return Middle(float(kept.mean()), squares / (len(kept) * freedom) * count, freedom)


def round_ratio(base: Sequence[float], head: Sequence[float]) -> float:
    """The log ratio of one round: of the geometric means of the fastest third of either side's
    decodes. Other work only ever makes one slower, so that the fast ones scatter least. The fastest
    of more decodes are faster, so only as many are taken as the shorter side has."""
    count = min(len(base), len(head))
    return _log_fast(head[:count]) - _log_fast(base[:count])


def _log_fast(seconds: Sequence[float]) -> float:
    return float(np.log(np.sort(seconds)[: math.ceil(len(seconds) / 3)]).mean())
