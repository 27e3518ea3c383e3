"""A planted latency law, at the paper's lengths, and noisy seconds of it."""

import numpy as np

from dlm_bench.analysis.latency_fit import COEFFICIENTS

LENGTHS = 2.0 ** np.arange(10, 18)  # 1k .. 131k
REPEATS = 5
# Each term matters somewhere: the constant one is the largest up to 4k tokens, the linear one
# from there to 33k, the quadratic one above. A term that is nowhere the largest cannot be
# recovered from noisy data: the others take its place.
CONSTANT = 4e-3
LINEAR = CONSTANT / 4096
QUADRATIC = LINEAR / 32768
TRUTH = dict(zip(COEFFICIENTS, (QUADRATIC, LINEAR, CONSTANT), strict=True))


def law(lengths, quadratic=QUADRATIC, linear=LINEAR, constant=CONSTANT):
    lengths = np.asarray(lengths, dtype=float)
    return quadratic * lengths**2 + linear * lengths + constant


def noisy(lengths, seconds, noise, seed):
    return seconds * (1 + noise * np.random.default_rng(seed).standard_normal(len(lengths)))
