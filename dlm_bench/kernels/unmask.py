"""The choice of the most confident tokens, independent of rounding."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Confidences this close, relatively, are a tie: rounding orders them, and rounding differs between
# batches, threads and processors. Under rotary attention a sequence of MASKs has one hidden state
# at all places; in float32 its confidences were found up to 4e-6 apart (2 to 36 layers, width 64
# to 960). A wider band would reorder what trained weights tell apart.
TIE = 1e-5


def most_confident(score: "Tensor", order: "Tensor", count: "Tensor") -> "Tensor":
    """Choose `count` places of each row, (batch, n) bool; fewer where fewer are masked.

    score (batch, n) float32, negative where nothing is masked; order: the same, descending; count
    (batch,) int64. With c the count-th score of `order`, all places above c (1 + TIE) are chosen;
    the lowest places within TIE of c fill the rest.
    """
    last = (count - 1).clamp(0, score.shape[1] - 1)
    least = order.gather(1, last[:, None]).clamp(min=0)  # 0 where fewer are masked
    slack = least * TIE
    above = score > least + slack
    tied = (score >= least - slack) ^ above  # all that are above are in the first set, too
    left = count[:, None] - above.sum(dim=1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=1) <= left))
