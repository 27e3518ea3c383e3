"""The numbers of a trace: those of an earlier decode."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError
from dlm_bench.samplers.acceptance.acceptance import Acceptance, Edits, Now
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import DecodeShape, PlannedPass, Rows, behind_known, remaining

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

    def passes_behind(self, number: int, block_len: int, known: int) -> Iterator[tuple[int, int]]:
        # A trace counts them to the first pass over the block.
        return behind_known(self.block_passes(number, block_len), block_len - known)

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


def alike(trace: Trace, shape: DecodeShape, seed: int, sampler: str) -> Trace:
    """Return `trace` as a decode follows it whose rows cannot differ: the sequence of `seed`.
    Raises ConfigError as `check_alike` does."""
    check_alike(trace, shape.batch, sampler)
    return trace.for_batch(1, seed)


def check_alike(trace: Trace, batch: int, sampler: str) -> None:
    """Raise ConfigError for rows that would follow different sequences of a trace."""
    if batch > 1 and trace.differs:
        raise ConfigError(
            f"batch: {batch} is not allowed with sampler {sampler!r} and trace "
            f"{trace.label!r}: its {len(trace.sequences)} sequences take different passes; must be "
            "1, or replay a trace of one sequence"
        )


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
            [(*at, not at[0]) for at in behind_known(remaining(counts, block_len), steps[0].masked)]
            + [(0, 0, False)] * (len(steps) - len(counts))
            for counts in trace.row_counts(number, block_len)
        ]
        number += 1
        for step, at in zip(steps, zip(*rows, strict=True), strict=True):
            masked, reveal, edits = zip(*at, strict=True)
            starts, lengths = (start,) * batch, (block_len,) * batch
            found = Rows(starts, lengths, masked, reveal, edits=edits if any(edits) else ())
            yield step._replace(rows=found)
