"""How many of a block's masked tokens a pass accepts, by how sure the network is of them.

The rules of Fast-dLLM (arXiv 2505.22618), as functions of tensors on the device: the number is
never read by the host. The surest token is always accepted, so that a block of B tokens ends after
at most B passes. A confidence within TIE of a bound is at the bound, whatever its rounding.
"""

import torch
from torch import Tensor

from dlm_bench.kernels.unmask import TIE


def accepted(scores: Tensor, rule: str, value: float) -> Tensor:
    """The number of tokens that each row accepts, (batch,) int64.

    scores (batch, n) float32, descending: the confidences of the masked tokens, and behind them a
    negative number for each decoded one. A row with masked tokens accepts at least one, a row
    without any none.
    """
    count = by_threshold(scores, value) if rule == "threshold" else by_factor(scores, value)
    return count.clamp(min=1).minimum((scores >= 0).sum(dim=1))


def by_threshold(scores: Tensor, threshold: float) -> Tensor:
    """The number of scores >= threshold, both in float32."""
    return (scores >= threshold * (1 - TIE)).sum(dim=1)


def by_factor(scores: Tensor, factor: float) -> Tensor:
    """The largest n with (n + 1) (1 - c_n) < factor, c_n being the n-th largest score.

    So c_n > 1 - factor / (n + 1), a bound that rises with n as c_n falls: n is how many satisfy it.
    """
    n = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    bound = 1 - factor / (n + 1)
    return (scores > bound + bound.abs() * TIE).sum(dim=1)
