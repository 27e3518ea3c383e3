"""The numbers of a trace: those of an earlier decode."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from dlm_bench.samplers.acceptance.acceptance import Acceptance, Edits, Now
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import PlannedPass, Rows, remaining

if TYPE_CHECKING:
    from torch import Tensor

    from dlm_bench.kernels.lm_head import Score


@dataclass(frozen=True)
class Traced(Acceptance):
    """The passes of `trace`, with its edits. A `rule` by which the model decides still decides in
    each pass: the trace is then that of this very decode."""

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

    @property
    def score(self) -> "Score":  # type: ignore[override]
        return self.rule.score

    @property
    def edits(self) -> Edits | None:  # type: ignore[override]
        options = self.trace.options
        if self.decides or options.get("accept") != "joint":
            return self.rule.edits
        return Edits(float(options["edit_threshold"]), int(options["max_edit_passes"]))

    def count(self, scores: "Tensor", now: Now) -> "Tensor":
        return self.rule.count(scores, now)


def in_step(plan: Iterable[PlannedPass], trace: Trace) -> Iterator[PlannedPass]:
    """Add to the passes of a plan what each row that `trace` was drawn for does in them; a row
    whose block is done unmasks nothing until the slowest one's is."""
    blocks = groupby(plan, key=lambda each: (each.denoises, each.block_start))
    number = 0
    for (decoding, start), passes in blocks:
        if not decoding:  # a prefill or a commit
            yield from passes
            continue
        steps = list(passes)
        batch, block_len = len(trace.drawn), steps[0].block_len
        rows = [
            [*remaining(counts, block_len)] + [(0, 0)] * (len(steps) - len(counts))
            for counts in trace.row_counts(number, block_len)
        ]
        number += 1
        for step, at in zip(steps, zip(*rows, strict=True), strict=True):
            masked, reveal = zip(*at, strict=True)
            alike = Rows((start,) * batch, (block_len,) * batch, masked, reveal)
            yield step._replace(rows=alike)
