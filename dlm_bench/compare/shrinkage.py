"""Empirical-Bayes shrinkage of variances with few values each.

Smyth (2004), "Linear models and empirical Bayes methods": the true variances scatter around a
common variance, by as much as the estimates scatter beyond chance. Each estimate is drawn towards
the common variance, and gets the degrees of freedom of both.

Estimates of correlated series agree without being right: shared noise moves all alike. Sample
variances correlate by the square of the series' correlation, so m of them know as much as m² over
the sum of these squares (the sum over all pairs, each with itself included; as in Greenhouse and
Geisser, 1959).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import digamma, polygamma

MIN_VARIANCES = 3  # with a scatter of their own
MAX_ADDED_FREEDOM = 20.0  # few estimates may agree by chance
MIN_VARIANCE = 1e-14  # zero has no logarithm


def shrunk_variances(
    estimates: Sequence[tuple[float, int]], shared: float = 0.0
) -> list[tuple[float, float]]:
    """Shrink variances with these degrees of freedom (1 or more); return both.

    shared: mean squared correlation between two series (see `shared_noise`).

    Fewer than three are returned as they are.
    """
    if len(estimates) < MIN_VARIANCES:
        return [(variance, float(freedom)) for variance, freedom in estimates]
    variances = np.maximum([variance for variance, _ in estimates], MIN_VARIANCE)
    freedoms = np.array([freedom for _, freedom in estimates], dtype=float)
    half = freedoms / 2
    logs = np.log(variances) - digamma(half) + np.log(half)
    chance = (1 - shared) * float(polygamma(1, half).mean())
    beyond_chance = float(logs.var(ddof=1)) - chance
    added = MAX_ADDED_FREEDOM
    if beyond_chance > 0:
        added = min(added, 2 * _inverse_trigamma(beyond_chance))
    common = math.exp(logs.mean() + digamma(added / 2) - math.log(added / 2))
    independent = len(estimates) / (1 + (len(estimates) - 1) * shared)
    total = np.minimum(freedoms + added, np.maximum(freedoms, freedoms.mean() * independent))
    drawn = (added * common + freedoms * variances) / (added + freedoms)
    return list(zip(drawn.tolist(), total.tolist(), strict=True))


def shared_noise(series: Sequence[Sequence[float]]) -> float:
    """Return the mean squared correlation between two of these series, from 0 to 1.

    Series end at different rounds, and a pair is compared over the rounds of both. Chance alone
    gives few rounds some correlation, which is left in: doubt must not add degrees of freedom.
    """
    lengths = np.array([len(each) for each in series])
    squares: list[float] = []
    for length in np.unique(lengths[lengths > 1]):
        rows = np.array([each[:length] for each in series if len(each) >= length], dtype=float)
        rows -= rows.mean(axis=1, keepdims=True)
        norms = np.sqrt((rows**2).sum(axis=1))
        rows /= np.where(norms, norms, 1.0)[:, None]
        ends = lengths[lengths >= length] == length  # other pairs have more rounds in common
        pairs = np.triu(ends[:, None] | ends[None, :], k=1)
        squares += ((rows @ rows.T)[pairs] ** 2).tolist()
    return float(np.mean(squares)) if squares else 0.0


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
