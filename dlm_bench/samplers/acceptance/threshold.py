"""All tokens with a confidence above a threshold."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.errors import check_number
from dlm_bench.kernels.unmask import TIE
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Now

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Threshold(Adaptive):
    """All tokens with a confidence of at least `threshold` (Fast-dLLM, arXiv 2505.22618)."""

    name = "threshold"
    threshold: float

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, maximum=1.0)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        return (scores >= self.threshold * (1 - TIE)).sum(dim=1)


@dataclass(frozen=True)
class Strict(Adaptive):
    """All tokens with a confidence above `threshold`, as SGLang's LowConfidence, Fast-dLLM v2 and
    LLaDA2 have it."""

    name = "strict"
    threshold: float

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, maximum=1.0)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        return above(scores, self.threshold)


def above(scores: "Tensor", threshold: float) -> "Tensor":
    """Count the scores of each row above a threshold."""
    return (scores > threshold * (1 + TIE)).sum(dim=1)
