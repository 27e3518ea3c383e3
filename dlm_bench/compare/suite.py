"""The change of a whole suite: the geometric mean of its points' time ratios.

Points of a round share the machine's state, so rounds are counted and not points: each round moves
the mean by the sum of its points' deviations, and these moves have the variance of the mean (a
cluster-robust variance). Points that were settled early miss in later rounds, and count alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dlm_bench.compare.statistics import (
    ASSUMED_FREEDOM,
    INTERVAL_ERROR,
    Errors,
    Runs,
    TimeRatio,
    Verdict,
    log_level,
    time_ratio,
    verdict_of,
    within_variance,
)

MIN_POINTS = 2  # fewer are no suite

SideRuns = tuple[Runs, Errors]  # a point's runs on a side, with the stated error of each


@dataclass(frozen=True)
class Overall:
    """The change of the whole suite, over the points that both sides measured.

    verdict: by `threshold`; None for both without --suite-threshold.
    """

    change: TimeRatio
    points: int
    verdict: Verdict | None = None
    threshold: float | None = None


class SuiteMean(NamedTuple):
    """The mean log ratio of a suite, the standard error and the degrees of freedom."""

    log_ratio: float
    error: float
    freedom: float


def suite_mean(rounds: Sequence[Mapping[int, float]]) -> SuiteMean | None:
    """Return the mean over points of their means over rounds, given each round's value by point;
    None for fewer than two points or rounds."""
    points = sorted({point for each in rounds for point in each})
    table = np.array([[each.get(point, math.nan) for point in points] for each in rounds])
    if len(points) < MIN_POINTS or len(rounds) < 2:
        return None
    seen = ~np.isnan(table)
    means = np.nanmean(table, axis=0)
    weights = seen / seen.sum(axis=0) / len(points)  # of each value in the mean
    moves = (weights * np.where(seen, table - means, 0.0)).sum(axis=1)
    effective = 1 / float((weights.sum(axis=1) ** 2).sum())  # rounds, if all had the same weight
    if effective <= 1.5:
        return None
    variance = float((moves**2).sum()) * effective / (effective - 1)
    return SuiteMean(float(means.mean()), math.sqrt(variance), effective - 1)


def suite_of_runs(
    points: Sequence[tuple[SideRuns, SideRuns]],
    run_spread: float,
    threshold: float | None,
    false_alarms: float,
) -> Overall | None:
    """Compare the suites of two results files, given base's and head's runs of each point.

    Runs of the same number in a file count as of one pass over the suite. Without knowledge of the
    contrary, `run_spread` moves all points of a run alike. Return None for a single point.
    """
    if len(points) < MIN_POINTS:
        return None
    sides = [_suite_side([point[which] for point in points], run_spread) for which in (0, 1)]
    variance = sum(side.variance for side in sides)
    doubt = sum(side.variance**2 / side.freedom for side in sides)
    change = time_ratio(
        sides[1].level - sides[0].level,
        math.sqrt(variance),
        variance**2 / doubt if doubt else math.inf,
        false_alarms,
        INTERVAL_ERROR / 2,
    )
    verdict = None if threshold is None else verdict_of(change, threshold)
    return Overall(change, len(points), verdict, threshold)


class _SuiteSide(NamedTuple):
    level: float
    variance: float
    freedom: float


def _suite_side(points: Sequence[SideRuns], run_spread: float) -> _SuiteSide:
    rounds: list[dict[int, float]] = [{} for _ in range(max(len(runs) for runs, _ in points))]
    own = 0.0
    for number, (runs, errors) in enumerate(points):
        stated = [error or 0.0 for error in errors]
        within = within_variance(runs)
        for i, run in enumerate(runs):
            rounds[i][number] = log_level(run)
            own += max(within, (stated[i] / 2) ** 2) / (len(runs) * len(points)) ** 2
    level = float(np.mean([np.mean([log_level(run) for run in runs]) for runs, _ in points]))
    seen = suite_mean(rounds)
    added = 0.0 if seen is None else seen.freedom
    assumed = run_spread**2 / (1 + added) + own
    scatter = 0.0 if seen is None else added * seen.error**2
    freedom = ASSUMED_FREEDOM + added
    return _SuiteSide(level, (ASSUMED_FREEDOM * assumed + scatter) / freedom, freedom)
