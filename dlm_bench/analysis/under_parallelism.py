"""Accuracy under parallelism (AUP): one number for a curve of accuracy against tokens per forward.

The metric of d3LLM's leaderboard (https://hao-ai-lab.github.io/blogs/text-diffusion), written down
from its definition there.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

from dlm_bench.errors import ConfigError

PENALTY = 3.0  # alpha
ALLOWED_LOSS = 5.0  # points of accuracy below that of the least parallelism


def aup(points: Iterable[tuple[float, float]], best: float, alpha: float = PENALTY) -> float:
    """Return the AUP of points (tokens per forward, accuracy in percent), `best` being the highest
    accuracy that any method has on the task:

    rho_1 y_1 + 1/2 sum_i (rho_i - rho_{i-1}) (y_i W(y_i) + y_{i-1} W(y_{i-1})),
    W(y) = min(exp(-alpha (1 - y / best)), 1),

    over the points in the order of tokens per forward, without those whose accuracy is more than
    ALLOWED_LOSS below the first. Raises ConfigError without a point, or for a best of 0.
    """
    curve = sorted(points)
    if not curve or best <= 0:
        raise ConfigError("aup: needs a point, and a best accuracy above 0")
    least = curve[0][1] - ALLOWED_LOSS
    kept = [(rho, y) for rho, y in curve if y >= least]

    def weighted(y: float) -> float:
        return y * min(math.exp(-alpha * (1 - y / best)), 1.0)

    area = sum(
        (rho - before) * (weighted(y) + weighted(y_before)) / 2
        for (before, y_before), (rho, y) in pairwise(kept)
    )
    return kept[0][0] * kept[0][1] + area
