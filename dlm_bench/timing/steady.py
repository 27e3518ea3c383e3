"""Steadiness of times: warm-up, drift over the repeats, outliers."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

FASTER = 0.02  # a warm-up run that is faster than all before it by more was not warm yet
PARTS = 4  # of the last warm-up runs, whose means tell a trend: all in order by chance in 8 %
TREND = 0.01  # from the first part to the last; less is not worth more runs
EXTRA_SECONDS = 10.0  # further warm-up runs take at most this long together; clocks ramp faster

DRIFT_LEVEL = 0.02  # chance of a false alarm where there is no trend; five repeats can reach it
DRIFT_LEAST = 0.01  # a trend that moves the times by less is not worth a mark

OUTLIER_Z = 3.5  # modified z-score, of Iglewicz and Hoaglin (1993)
OUTLIER_FEW = 20.0  # over the number of repeats, on top of OUTLIER_Z: see outliers
OUTLIER_LEAST = 0.05  # a repeat closer than this to the median moves no mean by much


def means_of_parts(values: Sequence[float]) -> list[float]:
    """Return the means of PARTS parts of a series, in order; of fewer values the values."""
    parts = np.array_split(np.asarray(values, dtype=float), min(PARTS, len(values)))
    return [float(part.mean()) for part in parts]


def warmed_up(seconds: Sequence[float]) -> bool:
    """Tell if the last runs get neither faster nor slower.

    Not so if the last run was faster than all before by more than FASTER, or if the means of PARTS
    parts of the later half ascend or descend by more than TREND; of fewer runs the runs
    themselves, by more than FASTER. Always true of fewer than three runs: the first run also loads
    and tunes, so a faster second run says nothing about the clocks.
    """
    if len(seconds) < 3:
        return True
    later = list(seconds[1:])
    if seconds[-1] < (1 - FASTER) * min(seconds[:-1]):
        return False
    recent = later[-max(PARTS, len(later) // 2) :]
    means = means_of_parts(recent)
    steps = [other - one for one, other in pairwise(means)]
    least = TREND if len(means) == PARTS else FASTER
    in_order = all(step > 0 for step in steps) or all(step < 0 for step in steps)
    return not in_order or abs(means[-1] / means[0] - 1) <= least


def warm_up(
    run: Callable[[], float],
    runs: int,
    *,
    most_seconds: float | None = None,
    extra_seconds: float = EXTRA_SECONDS,
    least_seconds: float = 0.0,
) -> list[float]:
    """Call `run`, for the seconds of a run, until runs are warm; return the seconds of each.

    `runs` times and for `least_seconds`, or until they have taken more than `most_seconds`. Then
    more runs while they are not `warmed_up`: at most as many again, and none beyond `extra_seconds`
    of these together.
    """
    taken: list[float] = []
    while len(taken) < runs or sum(taken) < least_seconds:
        if most_seconds is not None and sum(taken) > most_seconds:
            return taken
        taken.append(run())
    runs = len(taken)
    while len(taken) < 2 * runs and not warmed_up(taken):
        if sum(taken[runs:]) + taken[-1] > extra_seconds:
            break
        taken.append(run())
    return taken


def drifting(seconds: Sequence[float]) -> float | None:
    """Return the relative trend from the first repeat to the last, positive where they get slower;
    None where the scatter explains the trend.

    The trend is the Theil-Sen slope, unmoved by a single odd repeat. It counts if the Mann-Kendall
    test (Kendall's tau of the times against their order, exact without ties) gives a chance below
    DRIFT_LEVEL and the trend is over DRIFT_LEAST. Fewer than five repeats cannot reach that level;
    five do only if each is slower than the repeat before, or each faster.
    """
    times = np.asarray(seconds, dtype=float)
    if len(times) < 5 or np.ptp(times) == 0:
        return None
    from scipy.stats import kendalltau, theilslopes  # half a second, which few repeats do without

    order = np.arange(len(times))
    slope = float(theilslopes(times, order).slope)
    trend = slope * (len(times) - 1) / float(np.median(times))
    chance = float(kendalltau(order, times).pvalue)
    return trend if chance < DRIFT_LEVEL and abs(trend) > DRIFT_LEAST else None


def outliers(seconds: Sequence[float]) -> list[int]:
    """Return the indices of repeats far from the median, in units of the median absolute deviation.

    The modified z-score (0.6745 times the distance over that deviation) must be above OUTLIER_Z
    plus OUTLIER_FEW over the number of repeats: the deviation of a few repeats is often small by
    chance, and 3.5 alone would find an outlier in every fifth set of five from one normal
    distribution. They must also be OUTLIER_LEAST off the median. None of fewer than four.
    """
    times = np.asarray(seconds, dtype=float)
    if len(times) < 4:
        return []
    middle = np.median(times)
    distance = np.abs(times - middle)
    limit = (OUTLIER_Z + OUTLIER_FEW / len(times)) * float(np.median(distance)) / 0.6745
    far = distance > max(limit, OUTLIER_LEAST * middle)
    return [int(i) for i in np.flatnonzero(far)]
