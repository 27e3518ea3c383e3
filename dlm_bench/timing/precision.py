"""Confidence interval of the mean of autocorrelated repeats."""

import math

import numpy as np

MOST_FOLLOWS = 0.9  # of an autocorrelation: beyond, the series says next to nothing
FEWEST = 3  # values; an interval of two is 12.7 standard errors of a scatter that is a guess


def relative_error(totals: np.ndarray, interpolated: float, fewest: int = FEWEST) -> float | None:
    """Half the 95 % interval of the mean of `totals` (rounds,) with `interpolated` seconds on top,
    relative to the mean; None of fewer rounds than `fewest`, two or more."""
    if len(totals) < fewest:
        return None
    return float((half_interval(totals) + interpolated) / totals.mean())


def half_interval(values: np.ndarray) -> float:
    """Half the 95 % interval of the mean of a series of two or more: Student's t, with the variance
    of a mean of autocorrelated values by their first autocorrelation.

    No interval knows of a drift slower than the series, which shows only in part.
    """
    from scipy.special import stdtrit  # here: exact timing does without

    deviations = values - values.mean()
    squares = float(deviations @ deviations)
    if squares == 0:
        return 0.0
    count = len(values)
    error = math.sqrt(squares / (count - 1) / count)
    follows = float(deviations[1:] @ deviations[:-1]) / squares
    follows += (1 + 3 * max(follows, 0.0)) / count  # the bias of few values (Kendall, 1954)
    follows = min(max(follows, 0.0), MOST_FOLLOWS)
    inflation = math.sqrt((1 + follows) / (1 - follows))
    return float(stdtrit(count - 1, 0.975)) * error * inflation
