"""The numbers of a trace: those of an earlier decode."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlm_bench.samplers.acceptance.acceptance import Acceptance
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import remaining

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Traced(Acceptance):
    """The passes of `trace`. A `rule` by which the model decides still decides in each pass: the
    trace is then that of this very decode."""

    trace: Trace
    rule: Acceptance

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.rule.name

    @property
    def decides(self) -> bool:  # type: ignore[override]
        return self.rule.decides

    def block_passes(self, number: int, block_len: int) -> Iterator[tuple[int, int]]:
        return remaining(self.trace.counts(number, block_len), block_len)

    def count(self, scores: "Tensor") -> "Tensor":
        return self.rule.count(scores)
