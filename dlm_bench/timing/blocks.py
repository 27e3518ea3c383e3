"""The passes that the blocks of a decode take, and the sequences that wait meanwhile."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from dlm_bench.samplers.schedule import PlannedPass

PERCENTILES = (10, 50, 90)


def blocks_of(plan: Sequence[PlannedPass], batch: int) -> dict[str, float]:
    """Return the record's `blocks` of the passes of a decode, its prefill aside.

    passes, passes_p10, passes_p50, passes_p90: over a block of a sequence, commits and waiting
        aside, of all blocks of all sequences; a pass over several blocks counts in each.
    tokens_per_forward: tokens of all sequences over the passes, commits among them.
    waited: the share of the sequences that had nothing to do in a pass that unmasks or edits.
    """
    rows = batch if any(each.rows for each in plan) else 1
    passes = Counter[tuple[int, int]]()
    tokens = waiting = chances = 0
    for each in plan:
        at = each.of_rows(rows)
        tokens += sum(at.reveal)
        if not each.denoises:
            continue
        edits = at.edits or (each.rows is None,) * rows
        chances += rows
        if each.parts:
            passes.update((0, start) for start in _unfinished(each))
            continue
        busy = at.advance or (False,) * rows
        for row, start in enumerate(at.block_start):
            if at.masked[row] or edits[row]:
                passes[row, start] += 1
            else:
                waiting += not busy[row]
    if not passes:
        return {}
    counts = list(passes.values())
    percentiles = np.percentile(counts, PERCENTILES, method="inverted_cdf")
    named = {f"passes_p{p}": float(n) for p, n in zip(PERCENTILES, percentiles, strict=True)}
    return {
        "passes": float(np.mean(counts)),
        **named,
        "tokens_per_forward": tokens * batch / rows / len(plan),
        "waited": waiting / chances,
    }


def _unfinished(pass_: PlannedPass) -> Iterator[int]:
    """Find the starts of the blocks that a pass over several finds MASK in."""
    start = pass_.block_start
    for part in pass_.parts:
        if part.masked:
            yield start
        start += part.length
