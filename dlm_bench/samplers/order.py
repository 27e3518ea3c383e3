"""The order in which a pass takes the masked places of a block.

`confidence`, `margin` and `entropy` are scores of the LM head (kernels.lm_head), by the names of
Dream (arXiv 2508.15487). `left-to-right` is SDAR's `sequential` (arXiv 2510.06303).
"""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.kernels.lm_head import Score
    from dlm_bench.samplers.state import DecodeState

OF_THE_HEAD = ("confidence", "margin", "entropy")
ORDERS = (*OF_THE_HEAD, "left-to-right", "random")


def score_of(order: str) -> "Score":
    """Return the score that an order asks of the LM head."""
    return cast("Score", order if order in OF_THE_HEAD else "confidence")


def ordered(order: str, state: "DecodeState", score: "Tensor") -> "Tensor":
    """Return the score (batch, block_len) of an order, from the head's of the current block."""
    if order in OF_THE_HEAD:
        return score
    if order == "random":  # drawn when the decode was prepared
        return state.priority_of_block(score.shape[1])
    return score.shape[1] + 1 - score.new_ones(score.shape).cumsum(dim=1)
