"""The 95 % interval of the mean of repeats that may follow each other.

Plain Python: a command that only reads records does without numpy.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

FEWEST = 3  # values; an interval of two is 12.7 standard errors of a scatter that is a guess
MOST_FOLLOWS = 0.9  # of an autocorrelation: beyond, the series says next to nothing


class Scatter(NamedTuple):
    """A series in numbers.

    n: number of values. mean: of the values. squares: sum of the squared deviations from the mean.
    follows: first autocorrelation, without the bias of few values (Kendall, 1954), 0 or more.
    """

    n: int
    mean: float
    squares: float
    follows: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Scatter":
        """Return the numbers of a series of one or more."""
        count = len(values)
        mean = math.fsum(values) / count
        deviations = [float(value) - mean for value in values]
        squares = math.fsum(each * each for each in deviations)
        if squares == 0:
            return cls(count, mean, 0.0, 0.0)
        follows = math.fsum(one * other for one, other in pairwise(deviations)) / squares
        return cls(count, mean, squares, max(follows + (1 + 4 * max(follows, 0.0)) / count, 0.0))


def interval_of(rate: float | None, error: float | None) -> tuple[float, float] | None:
    """Return the 95 % interval of a rate with a relative error: divided and multiplied by 1 + the
    error, equally far on a logarithmic axis. None where the error is not known."""
    if rate is None or error is None or not 0 <= error < math.inf:
        return None
    return rate / (1 + error), rate * (1 + error)


def half_interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of a series of two or more: Student's t, with the variance
    of a mean of autocorrelated values by their first autocorrelation.

    No interval knows of a drift slower than the series, which shows only in part.
    """
    from scipy.special import stdtrit  # heavy

    count, _, squares, follows = Scatter.of(values)
    if squares == 0:
        return 0.0
    follows = min(follows, MOST_FOLLOWS)
    inflation = math.sqrt((1 + follows) / (1 - follows))
    return float(stdtrit(count - 1, 0.975)) * math.sqrt(squares / (count - 1) / count) * inflation


def relative_error(
    seconds: Sequence[float], interpolated: float = 0.0, fewest: int = FEWEST
) -> float | None:
    """Half the 95 % interval of the mean of `seconds` with `interpolated` seconds on top, relative
    to the mean; None of fewer values than `fewest`, two or more."""
    count = len(seconds)
    if count < fewest:
        return None
    return (half_interval(seconds) + interpolated) * count / math.fsum(seconds)
