"""The tokens whose entropies together are small: the entropy bound (arXiv 2505.24857)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.errors import check_number
from dlm_bench.kernels.unmask import TIE
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Now

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 1e-38  # a score without a logarithm: that of logits that are not finite


@dataclass(frozen=True)
class EntropyBound(Adaptive):
    """The first k tokens by entropy H_1 <= H_2 <= ..., in nats, k the largest with
    H_1 + ... + H_(k-1) <= gamma: the joint entropy of k tokens exceeds the largest by no more."""

    name = "entropy"
    score = "entropy"
    gamma: float

    def __post_init__(self) -> None:
        check_number("gamma", self.gamma)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        entropy = -scores.clamp(min=SMALLEST).log()  # a score is exp(-H)
        before = entropy.cumsum(dim=1) - entropy
        terms = (entropy >= 0).cumsum(dim=1)  # each of them rounded by up to TIE
        return (before <= self.gamma + TIE * (terms - 1)).sum(dim=1)
