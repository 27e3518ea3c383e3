"""Variances of a few values each, made surer by what they have in common.

Smyth (2004), "Linear models and empirical Bayes methods": the true variances are taken to scatter
around a common one, by as much as the estimates scatter more than chance lets them. Each estimate
is drawn towards the common one, and has the degrees of freedom of both.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import digamma, polygamma

FEWEST = 3  # variances, of which a scatter can be told
MOST_FREEDOM = 20.0  # that the common variance may add; few estimates may agree by chance
LEAST = 1e-14  # a variance of nothing has no logarithm


def moderated(estimates: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """The moderated variances and their degrees of freedom, of estimates with theirs (1 or more).

    Fewer than three are returned as they are.
    """
    if len(estimates) < FEWEST:
        return [(variance, float(freedom)) for variance, freedom in estimates]
    variances = np.maximum([variance for variance, _ in estimates], LEAST)
    freedoms = np.array([freedom for _, freedom in estimates], dtype=float)
    half = freedoms / 2
    logs = np.log(variances) - digamma(half) + np.log(half)
    beyond_chance = float(logs.var(ddof=1) - polygamma(1, half).mean())
    added = MOST_FREEDOM
    if beyond_chance > 0:
        added = min(added, 2 * _inverse_trigamma(beyond_chance))
    common = math.exp(logs.mean() + digamma(added / 2) - math.log(added / 2))
    total = np.minimum(freedoms + added, freedoms.sum())
    drawn = (added * common + freedoms * variances) / (added + freedoms)
    return list(zip(drawn.tolist(), total.tolist(), strict=True))


def _inverse_trigamma(value: float) -> float:
    """x > 0 with trigamma(x) = value, by Newton's method on 1 / trigamma, which is nearly linear
    and from this start converges from below."""
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x
