"""Empirical-Bayes shrinkage of variances with few values each.

Smyth (2004), "Linear models and empirical Bayes methods": the true variances scatter around a
common variance, by as much as the estimates scatter beyond chance. Each estimate is drawn towards
the common variance, and gets the degrees of freedom of both.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import digamma, polygamma

MIN_VARIANCES = 3  # with a scatter of their own
MAX_ADDED_FREEDOM = 20.0  # few estimates may agree by chance
MIN_VARIANCE = 1e-14  # zero has no logarithm


def shrunk_variances(estimates: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Shrink variances with these degrees of freedom (1 or more); return both.

    Fewer than three are returned as they are.
    """
    if len(estimates) < MIN_VARIANCES:
        return [(variance, float(freedom)) for variance, freedom in estimates]
    variances = np.maximum([variance for variance, _ in estimates], MIN_VARIANCE)
    freedoms = np.array([freedom for _, freedom in estimates], dtype=float)
    half = freedoms / 2
    logs = np.log(variances) - digamma(half) + np.log(half)
    beyond_chance = float(logs.var(ddof=1) - polygamma(1, half).mean())
    added = MAX_ADDED_FREEDOM
    if beyond_chance > 0:
        added = min(added, 2 * _inverse_trigamma(beyond_chance))
    common = math.exp(logs.mean() + digamma(added / 2) - math.log(added / 2))
    total = np.minimum(freedoms + added, freedoms.sum())
    drawn = (added * common + freedoms * variances) / (added + freedoms)
    return list(zip(drawn.tolist(), total.tolist(), strict=True))


def _inverse_trigamma(value: float) -> float:
    """Return x > 0 with trigamma(x) = value, by Newton's method on 1 / trigamma: nearly linear, so
    the steps from this start converge from below."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
