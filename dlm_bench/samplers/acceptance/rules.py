"""The number of a block's masked tokens that a pass accepts, by the network's confidence.

The rules of Fast-dLLM (arXiv 2505.22618), as functions of tensors on the device: the number is
never read by the host. The surest token is always accepted, so that a block of B tokens ends after
at most B passes. A confidence within TIE of a bound is at the bound, whatever its rounding.
"""

import torch
from torch import Tensor

from dlm_bench.kernels.unmask import TIE


def accepted(scores: Tensor, rule: str, value: float) -> Tensor:
    """Count the tokens to accept in each row, (batch,) int64.

    scores (batch, n) float32, descending: the confidences of the masked tokens, and behind them a
    negative number for each decoded one. A row with masked tokens accepts at least one, a row
    without any none.
    """
    count = RULES[rule](scores, value)
    return count.clamp(min=1).minimum(_masked(scores))


def _masked(scores: Tensor) -> Tensor:
    return (scores >= 0).sum(dim=1)


def by_threshold(scores: Tensor, threshold: float) -> Tensor:
    """The number of scores >= threshold, both in float32."""
    return (scores >= threshold * (1 - TIE)).sum(dim=1)


def by_factor(scores: Tensor, factor: float) -> Tensor:
    """The largest n with (n + 1) (1 - c_n) < factor, c_n being the n-th largest score.

    So c_n > 1 - factor / (n + 1), a bound rising with n as c_n falls: n is the number above.
    """
    bound = _factor_bound(scores, factor)
    return (scores > bound + bound.abs() * TIE).sum(dim=1)


def by_released_factor(scores: Tensor, factor: float) -> Tensor:
    """Count as `by_factor` in the code released by Fast-dLLM: c_n may be at the bound, and the last
    masked token is taken, too, if no other fails."""
    bound = _factor_bound(scores, factor)
    count = (scores >= bound - bound.abs() * TIE).sum(dim=1).clamp(min=1)
    return count + (count == _masked(scores) - 1)


def _factor_bound(scores: Tensor, factor: float) -> Tensor:
    """1 - factor / (n + 1) for n = 1, 2, ..., (n,)."""
    n = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return 1 - factor / (n + 1)


RULES = {
    "threshold": by_threshold,
    "factor": by_factor,
    "factor-released": by_released_factor,
}
