"""The number of tokens that the passes of a denoising sampler unmask, as an object.

A sampler holds an acceptance, a rule of a file of its own (see `options.RULES`). The fields of a
rule are its options. Importing one takes no torch: `count` alone works on tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dlm_bench.samplers.schedule import reveals

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.kernels.lm_head import Score

Now = Callable[[str], "Tensor"]


@dataclass(frozen=True)
class Edits:
    """The replacement of tokens that stand already, where others are predicted now.

    threshold: the confidence above which another token replaces one.
    max_passes: passes over a block without MASK in which tokens are replaced.
    """

    threshold: float
    max_passes: int


class Acceptance(ABC):
    """The rule by which a pass unmasks more tokens of a block or fewer.

    name: the value of the option `accept`.
    is_fixed: the numbers are fixed before a decode.
    decides: the model's scores decide the number of a pass (`count`), planned or not.
    score: those that the rule reads, and by which it takes the tokens.
    edits: the replacement of tokens that stand already, if there is any.
    """

    name: ClassVar[str]
    is_fixed: bool = True
    decides: bool = False
    score: "Score" = "confidence"
    edits: Edits | None = None

    @abstractmethod
    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        """List (tokens masked before, tokens to unmask) of each pass over block `number`; of the
        most possible passes if their number is not fixed."""

    def passes_behind(self, number: int, block_len: int, known: int) -> Iterator[tuple[int, int]]:
        """As `block_passes`, of a block whose first `known` tokens are decoded before."""
        return self.block_passes(number, block_len - known)

    def count(self, scores: "Tensor", now: Now) -> "Tensor":
        """Count the tokens that a pass unmasks in each row, (batch,) int64 on the device.

        scores (batch, n) float32, descending: of the masked tokens, and behind them a negative
        number for each decoded one. now: reads a number of the pass (`DecodeState.now`). A row with
        masked tokens accepts at least one, a row without any none.
        """
        raise NotImplementedError(f"accept {self.name!r} plans the number of tokens of a pass")


class Adaptive(Acceptance):
    """A rule by which the model's confidence decides.

    The surest token is always accepted, so a block of B tokens ends after at most B passes. A
    confidence within TIE of a bound is at the bound, whatever its rounding.
    """

    is_fixed = False
    decides = True

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        return reveals(block_len, 1)

    def count(self, scores: "Tensor", now: Now) -> "Tensor":
        return self.sure(scores, now).clamp(min=1).minimum(masked(scores))

    @abstractmethod
    def sure(self, scores: "Tensor", now: Now) -> "Tensor":
        """Count the tokens of each row, (batch,), that the model is sure enough of."""


def masked(scores: "Tensor") -> "Tensor":
    """Count the masked tokens of each row of `scores` (see `Acceptance.count`)."""
    return (scores >= 0).sum(dim=1)
