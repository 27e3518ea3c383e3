"""The joint threshold of LLaDA2.1: tokens that stand already are replaced, too."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import TYPE_CHECKING

from dlm_bench.errors import check_int, check_number
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Edits, Now
from dlm_bench.samplers.acceptance.threshold import above

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Joint(Adaptive):
    """All masked tokens with a confidence above `threshold`; and each other token of the block
    gives way to a token that is predicted now with one above `edit_threshold` (SGLang's
    JointThreshold).

    A block ends with a pass that finds no MASK and changes nothing, or after `max_edit_passes`
    without MASK.
    """

    name = "joint"
    threshold: float
    edit_threshold: float
    max_edit_passes: int

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, maximum=1.0)
        check_number("edit_threshold", self.edit_threshold, maximum=1.0)
        check_int("max_edit_passes", self.max_edit_passes)

    @property
    def edits(self) -> Edits:  # type: ignore[override]
        return Edits(self.edit_threshold, self.max_edit_passes)

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        return chain(super().block_passes(number, block_len), repeat((0, 0), self.max_edit_passes))

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        return above(scores, self.threshold)
