"""The rule that ends timing by the error of the mean, and the interval that decides."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from dlm_bench.results.interval import Scatter, relative_error

PATIENCE = 1.5  # values are looked at when there are this many times as many: each look is a chance
# to stop because the spread happens to be small
ANY_ERROR = 1.0  # a tolerance that nothing is beyond
# Standard errors by which the autocorrelation may be larger than it looks: a series looks its best
# when a rule stops, and a short one the more so. Both by bench/stopping_coverage.py.
DOUBT, DOUBT_OF_FEW = 1.6, 10.0  # DOUBT_OF_FEW over the number of values
MOST_DOUBTED = 0.97


@dataclass
class Stopping:
    """The rule that ends timing once the error of the mean is within a tolerance.

    first: values before the first look. tolerance: relative error to reach.
    look_at: values at which the next look is due.
    error: half the 95 % interval of the last look, relative to the mean; None of fewer than three
        values. It holds for the rule's own choice of a moment where the rule says stop; elsewhere
        for a number of values that others chose.
    """

    first: int
    tolerance: float
    look_at: int = field(init=False)
    error: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew, where earlier values do not count any more."""
        self.look_at = self.first

    def look(self, totals: Sequence[float], interpolated: float = 0.0) -> bool:
        """Tell if these values, with `interpolated` seconds of error on top, are enough, and
        set the error and the next look."""
        self.look_at = math.ceil(PATIENCE * len(totals))
        self.error = relative_error(totals, interpolated)
        if self.tolerance >= ANY_ERROR or self.error is None:
            return self.tolerance >= ANY_ERROR
        chosen = (half_interval_at_a_stop(totals) + interpolated) * len(totals) / math.fsum(totals)
        if chosen > self.tolerance:
            return False
        self.error = chosen
        return True


def half_interval_at_a_stop(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of three or more values, at a moment chosen for its
    narrowness.

    The autocorrelation is taken at an upper limit, and the scatter seen around their own mean for
    the part that is left of it by such an autocorrelation, with fewer degrees of freedom: a first
    order autoregressive process.
    """
    from scipy.special import stdtrit  # heavy

    count, _, squares, seen = Scatter.of(values)
    if squares == 0:
        return 0.0
    seen = min(seen, MOST_DOUBTED)
    doubt = (DOUBT + DOUBT_OF_FEW / count) * math.sqrt((1 - seen**2) / count)
    follows = min(seen + doubt, MOST_DOUBTED)
    tail = 2 * follows * (1 - follows**count) / (count * (1 - follows) ** 2)
    of_mean = ((1 + follows) / (1 - follows) - tail) / count  # variance, of that of a value
    freedom = max((count - 1) * (1 - follows**2) / (1 + follows**2), 1.0)
    error = math.sqrt(squares / count * of_mean / (1 - of_mean))
    return float(stdtrit(freedom, 0.975)) * error
