"""Units and strata of the sampled mode: parts of a decode's plan, and groups of alike parts.

A unit is the passes of a block, from the first to the commit: they warm the caches for each
other as in a decode. Without blocks a unit is a single pass over the whole sequence, some blocks of
a small pass each (the tokens of an autoregressive decode), or a part of a very long block. Units
of one make form a stratum along which the cost changes smoothly: the context grows, the masked rows
of the head get fewer. Some units of each stratum are timed, its nodes; the others are interpolated
between them.

Where the model, or a trace, decides how many passes each block takes, hardly two blocks are alike.
Then units are single passes, and those of one role with about as many masked tokens form a stratum.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from dlm_bench.samplers.schedule import MIXED, PlannedPass, prefill_passes, role_of

LONGEST_UNIT = 64  # passes; a longer block is cut into parts
TOGETHER = 16  # blocks of one pass that make a unit, as the tokens of an autoregressive decode,
SMALL = 64  # if their passes have no more query tokens than this
MOST_MAKES = 8  # of blocks; a plan with more of them is cut into passes
SHARES = 4  # parts of a block's tokens: passes with as many of them masked are alike


@dataclass(frozen=True)
class Run:
    """`count` consecutive passes of a kind, from pass `first` on."""

    first: PlannedPass
    count: int


@dataclass(frozen=True)
class Unit:
    """Consecutive passes of a plan.

    index: the first pass.
    runs: the passes, in runs of a kind.
    part: number of the part, of a cut block; or the masked share of the block.
    """

    index: int
    runs: tuple[Run, ...]
    part: int = 0

    @property
    def count(self) -> int:
        """The number of passes."""
        return sum(run.count for run in self.runs)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the passes, a kind a run."""
        return [run.first.kind for run in self.runs]


def units(plan: list[PlannedPass]) -> Iterator[Unit]:
    """Cut a plan, but for the prefill pass, into units."""
    first = prefill_passes(plan)
    decode = plan[first:]
    if _irregular(decode):
        for number, step in enumerate(decode, first):
            share = math.ceil(SHARES * step.mean_masked / step.block_len)
            yield Unit(number, (Run(step, 1),), part=share)
        return
    single = all(a.block_start != b.block_start for a, b in pairwise(decode))
    bundle = TOGETHER if single and max(step.query_len for step in decode) <= SMALL else 1
    blocks = groupby(
        enumerate(decode),
        key=lambda item: item[0] // bundle if single else item[1].block_start,
    )
    for _, numbered in blocks:
        numbers, steps = zip(*numbered, strict=True)
        index = [first + number for number in numbers]
        longest = 1 if len(steps) == len(decode) and not single else LONGEST_UNIT
        for part, start in enumerate(range(0, len(steps), longest)):
            runs = _runs(steps[start : start + longest])
            yield Unit(index[start], runs, part=0 if longest == 1 else part)


def _irregular(plan: list[PlannedPass]) -> bool:
    """Tell if blocks are of too many makes for a stratum each."""
    if any(step.kind == MIXED for step in plan):
        return True
    makes = set()
    for _, steps in groupby(plan, key=lambda step: step.block_start):
        runs = groupby(steps, key=lambda step: (_shape(step), step.block_len))
        makes.add(tuple((make, len(list(run))) for make, run in runs))
        if len(makes) > MOST_MAKES:
            return True
    return False


def _shape(step: PlannedPass) -> str:
    """The role of a pass; the kind of one over several blocks, which says how many there are, and
    of one over a block in sub-blocks, which may be the shorter last one."""
    role = role_of(step.kind)
    return step.kind if step.parts or role in ("refresh", "fused") else role


def _runs(steps: tuple[PlannedPass, ...]) -> tuple[Run, ...]:
    runs = (list(run) for _, run in groupby(steps, key=lambda step: step.kind))
    return tuple(Run(run[0], len(run)) for run in runs)


def prefill_unit(plan: list[PlannedPass]) -> Unit | None:
    """The prefill pass of a plan as a unit of its own, None if there is none."""
    return Unit(0, _runs((plan[0],))) if prefill_passes(plan) else None


def strata(plan: list[PlannedPass]) -> list[list[Unit]]:
    """Return groups of units with a smoothly changing cost, in order."""
    found: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units(plan):
        roles = ((_shape(run.first), run.count) for run in unit.runs)
        make = (unit.runs[0].first.block_len, unit.part, *roles)
        found.setdefault(make, []).append(unit)
    return list(found.values())


def first_nodes(stratum: list[Unit], most: int) -> list[int]:
    """Indices along a stratum of the units to begin with: its ends and the middle, or the middle
    alone where all units cost the same."""
    costs = {
        tuple((r.first.query_len, r.first.context_len, r.first.mean_masked) for r in unit.runs)
        for unit in stratum
    }
    if len(costs) == 1:
        return [len(stratum) // 2]
    return sorted({round(i) for i in np.linspace(0, len(stratum) - 1, min(most, 3))})


def weights(at: list[int], length: int) -> np.ndarray:
    """The weight of each node in the sum over the first `length` units of a stratum, interpolated
    linearly between nodes."""
    if len(at) == 1:
        return np.array([float(length)])
    basis = np.eye(len(at))
    return np.array([np.interp(np.arange(length), at, row).sum() for row in basis])


def misses(at: list[int], seconds: np.ndarray) -> np.ndarray:
    """Distance of each inner node off the straight line between its neighbours; `seconds` is
    (nodes,) or (nodes, rounds), the result has two nodes less."""
    nodes = np.asarray(at, dtype=float)
    share = (nodes[1:-1] - nodes[:-2]) / (nodes[2:] - nodes[:-2])
    share = share.reshape(-1, *[1] * (seconds.ndim - 1))
    return seconds[1:-1] - (1 - share) * seconds[:-2] - share * seconds[2:]


def interpolation_error(at: list[int], seconds: np.ndarray) -> float:
    """Return a bound of the error of linear interpolation in the sum over a stratum, in seconds.

    Each inner node is predicted from its neighbours (leave one out). A smooth cost misses by four
    times the largest error at the spacing in use, so by six times the mean error, taken for the
    whole stratum where at least three misses are of the same sign. A kink or a step can make the
    mean error half of the miss, the assumption otherwise. With two nodes nothing is known; where
    every unit is a node there is no error.
    """
    length = at[-1] - at[0] + 1
    if len(at) < 3 or len(at) == length:
        return 0.0
    missed = misses(at, seconds)
    smooth = len(missed) >= 3 and (np.all(missed > 0) or np.all(missed < 0))
    mean = np.average(np.abs(missed), weights=weights(at, length)[1:-1])
    return float(mean * length / (6 if smooth else 2))
