"""The more tokens, the surer they must be: the factor rule of Fast-dLLM (arXiv 2505.22618)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.errors import check_number
from dlm_bench.kernels.unmask import TIE
from dlm_bench.samplers.acceptance.acceptance import Adaptive, Now, masked

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Factor(Adaptive):
    """The n surest tokens, n the largest with (n + 1) (1 - c_n) < factor, c_n being the n-th
    largest confidence.

    So c_n > 1 - factor / (n + 1), a bound rising with n as c_n falls: n is the number above.
    """

    name = "factor"
    factor: float

    def __post_init__(self) -> None:
        check_number("factor", self.factor, above=True)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        bound = _bound(scores, self.factor)
        return (scores > bound + bound.abs() * TIE).sum(dim=1)


@dataclass(frozen=True)
class ReleasedFactor(Adaptive):
    """The rule `factor` as the code released by Fast-dLLM decides: c_n may be at the bound, and the
    last masked token is taken, too, if no other fails."""

    name = "factor-released"
    factor: float

    def __post_init__(self) -> None:
        check_number("factor", self.factor, above=True)

    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        bound = _bound(scores, self.factor)
        count = (scores >= bound - bound.abs() * TIE).sum(dim=1).clamp(min=1)
        return count + (count == masked(scores) - 1)


def _bound(scores: "Tensor", factor: float) -> "Tensor":
    """1 - factor / (n + 1) for n = 1, 2, ..., (n,); no less than -1, below any confidence."""
    import torch

    n = torch.arange(1, scores.shape[1] + 1, device=scores.device)
    return (1 - factor / (n + 1)).clamp(min=-1)
