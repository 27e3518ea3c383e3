"""How many of a block's masked tokens a pass accepts, by how sure the network is of them.

The rules of Fast-dLLM (arXiv 2505.22618), as functions of tensors on the device: the number is
never read by the host. The surest token is always accepted, so that a block of B tokens ends after
at most B passes.
"""

import torch
from torch import Tensor

RULES = ("threshold", "factor")
ACCEPTS = ("fixed", *RULES)


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
    return (scores >= threshold).sum(dim=1)


def by_factor(scores: Tensor, factor: float) -> Tensor:
    """The largest n with (n + 1) (1 - c_n) < factor, c_n being the n-th largest score.

    The left side never falls as n grows, in float32 either, so that n is how many satisfy it.
    """
    n = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return ((n + 1) * (1 - scores) < factor).sum(dim=1)
