"""The latency law: seconds per pass = quadratic·L² + linear·L + constant, none of them negative.

Attention costs the quadratic term, everything done once a token the linear one, launches and
weight reads the constant (the decomposition of Figure 3 in arXiv 2511.15927).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from dlm_bench.errors import ConfigError, check_int

Lengths = Sequence[float] | NDArray[np.number]
Array = NDArray[np.float64]

COEFFICIENTS = ("quadratic", "linear", "constant")


class Terms(NamedTuple):
    """The three terms of the law at one length or at several, in seconds."""

    quadratic: float | Array
    linear: float | Array
    constant: float | Array


@dataclass(frozen=True)
class LatencyFit:
    """A fitted latency law, for lengths L in tokens and times in seconds.

    quadratic, linear, constant: s/token², s/token and s, all >= 0.
    r2: R² of the unweighted values, repeats of a length averaged. The longest lengths dominate r2,
        although the fit weighs relative errors.
    intervals: for each coefficient the 95 % bootstrap interval (low, high); (0, inf) where as many
        coefficients as lengths leave no error to estimate from.
    """

    quadratic: float
    linear: float
    constant: float
    r2: float
    intervals: dict[str, tuple[float, float]]

    @overload
    def predict(self, length: float) -> float: ...
    @overload
    def predict(self, length: Lengths) -> Array: ...
    def predict(self, length: float | Lengths) -> float | Array:
        """Seconds of one pass over `length` tokens; a scalar gives a float, an array an array."""
        terms = self.terms(length)
        return terms.quadratic + terms.linear + terms.constant

    def terms(self, length: float | Lengths) -> Terms:
        """The quadratic, linear and constant term at `length`, in seconds, shaped like `length`."""
        tokens = np.asarray(length, dtype=float)
        terms = (self.quadratic * tokens**2, self.linear * tokens, self.constant * tokens**0)
        return Terms(*(float(term) if tokens.ndim == 0 else term for term in terms))

    @overload
    def quadratic_share(self, length: float) -> float: ...
    @overload
    def quadratic_share(self, length: Lengths) -> Array: ...
    def quadratic_share(self, length: float | Lengths) -> float | Array:
        """The quadratic term's fraction (0..1) of the predicted time at `length` > 0."""
        terms = self.terms(length)
        return terms.quadratic / (terms.quadratic + terms.linear + terms.constant)

    @property
    def crossover(self) -> float:
        """Length from which the quadratic term exceeds the linear one; inf if there is none."""
        return self.linear / self.quadratic if self.quadratic else math.inf


def fit_latency(
    lengths: ArrayLike, seconds: ArrayLike, *, bootstrap: int = 200, seed: int = 0
) -> LatencyFit:
    """Fit the latency law to measured passes by non-negative least squares of relative errors.

    lengths: tokens, (points,). Repeats of a length are averaged first: a deviation of that length
        from the law is common to all of them, so they are no independent evidence.
    seconds: the time of a pass, (points,).
    bootstrap: resamples behind the intervals. seed: makes them repeatable.

    Raises ConfigError for arrays of different sizes, a value not finite and positive, or fewer than
    3 distinct lengths.
    """
    # A 95 % interval from fewer than 40 resamples would end at its single most extreme ones.
    check_int("bootstrap", bootstrap, minimum=40)
    tokens, times = _average_repeats(_checked("lengths", lengths), _checked("seconds", seconds))

    # In units of the longest length, and with each column at norm 1, the columns stay comparable:
    # raw ones differ by a factor 1e10 at 131k tokens, and nnls would lose the small coefficients.
    unit = np.array([tokens[-1] ** 2, tokens[-1], 1.0])
    columns = np.stack([tokens**2, tokens, np.ones_like(tokens)], axis=1) / unit  # (points, 3)
    weighted = columns / times[:, None]
    norms = np.linalg.norm(weighted, axis=0)
    design = weighted / norms

    solution = _solve(design, np.ones_like(times))  # every measured value is 1 of itself
    predicted = columns @ (solution / norms)
    draws = _bootstrap(design, solution, bootstrap, seed)
    scale = norms * unit
    quadratic, linear, constant = (solution / scale).tolist()
    return LatencyFit(
        quadratic,
        linear,
        constant,
        r2=_r2(times, predicted),
        intervals=_intervals(solution / scale, draws / scale),
    )


def _checked(name: str, values: ArrayLike) -> Array:
    """`values` as a flat float array of finite, positive numbers, else ConfigError."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: not a sequence of numbers") from None
    if array.ndim != 1:
        raise ConfigError(f"{name}: must be a flat sequence, not of {array.ndim} dimensions")
    bad = array[~(np.isfinite(array) & (array > 0))]
    if bad.size:
        raise ConfigError(f"{name}: {bad[0]:g} is not allowed; must be finite and > 0")
    return array


def _average_repeats(lengths: Array, seconds: Array) -> tuple[Array, Array]:
    """Distinct lengths in ascending order and the mean time of each."""
    if lengths.size != seconds.size:
        raise ConfigError(
            f"lengths and seconds: {lengths.size} and {seconds.size} values; must be as many"
        )
    tokens, index, counts = np.unique(lengths, return_inverse=True, return_counts=True)
    if tokens.size < 3:
        raise ConfigError(f"lengths: {tokens.size} distinct; the law needs at least 3")
    return tokens, np.bincount(index, weights=seconds) / counts


def _solve(design: Array, target: Array) -> Array:
    return np.asarray(nnls(design, target, maxiter=100)[0])


def _bootstrap(design: Array, solution: Array, resamples: int, seed: int) -> Array:
    """Refitted solutions (resamples, 3); infinite where the residuals have no freedom left."""
    # Residuals are redrawn, not pairs: pairs of 4 to 6 points often hold fewer than 3 lengths.
    # They are drawn from a normal whose variance is itself redrawn (chi²), which makes the
    # intervals Student's t rather than far too short where 1 to 3 degrees of freedom are left.
    fitted = design @ solution
    freedom = len(fitted) - np.count_nonzero(solution)
    if freedom == 0:
        return np.full((resamples, len(solution)), np.inf)
    random = np.random.default_rng(seed)
    squares = np.sum((1 - fitted) ** 2)
    deviations = np.sqrt(squares / random.chisquare(freedom, resamples))
    noise = deviations[:, None] * random.standard_normal((resamples, len(fitted)))
    return np.stack([_solve(design, target) for target in fitted + noise])


def _intervals(values: Array, draws: Array) -> dict[str, tuple[float, float]]:
    """95 % percentile interval of each coefficient."""
    if np.isinf(draws).all():
        return dict.fromkeys(COEFFICIENTS, (0.0, math.inf))
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    # On exact data the draws differ from the fit by rounding alone, to either side.
    low, high = np.minimum(low, values), np.maximum(high, values)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(COEFFICIENTS)}


def _r2(times: Array, predicted: Array) -> float:
    """1 - SS_res/SS_tot; 1 where all values are equal, which the constant term fits exactly."""
    total = np.sum((times - times.mean()) ** 2)
    return float(1 - np.sum((times - predicted) ** 2) / total) if total else 1.0
