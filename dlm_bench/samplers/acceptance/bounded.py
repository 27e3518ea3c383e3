"""All tokens above a threshold, and as many more as the passes left need."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.errors import check_int, check_number
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Now, masked
from dlm_bench.samplers.acceptance.threshold import above
from dlm_bench.samplers.schedule import evenly, remaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Bounded(Adaptive):
    """All of the m masked tokens with a confidence above `threshold`, but at least m / n with n
    passes left of `max_passes` a block (TwoTower)."""

    name = "bounded"
    threshold: float
    max_passes: int

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, maximum=1.0)
        check_int("max_passes", self.max_passes)

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        return remaining(evenly(block_len, min(self.max_passes, block_len)), block_len)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        # A sequence that is done may idle beside others for longer.
        left = (self.max_passes - now("passes_done")).clamp(min=1)
        return above(scores, self.threshold).maximum((masked(scores) + left - 1) // left)
