"""What the sampled mode times: a decode's plan cut into units, and units lined up.

A unit is what a decode does with one block, from its first pass to its commit: its passes warm the
caches for each other as in a decode. Where there are no blocks it is a single pass over the whole
sequence, or some tokens of an autoregressive decode. Units of one make form a line along which the
cost changes smoothly: the context grows, the masked rows of the head get fewer. Some units of each
line are timed, its nodes; the others are interpolated between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from dlm_bench.samplers.schedule import PlannedPass, role_of

LONGEST_UNIT = 64  # passes; a block of more, or one that is the whole decode, is cut into passes
TOKENS = 16  # of an autoregressive decode that make a unit


@dataclass(frozen=True)
class Run:
    """`count` consecutive passes of one kind, the first of which is `place`."""

    place: PlannedPass
    count: int


@dataclass(frozen=True)
class Unit:
    """Consecutive passes, from pass `index` of the plan, in runs of one kind."""

    index: int
    runs: tuple[Run, ...]

    @property
    def count(self) -> int:
        """The number of passes."""
        return sum(run.count for run in self.runs)

    @property
    def kinds(self) -> list[str]:
        """The kinds of its passes, one a run."""
        return [run.place.kind for run in self.runs]


def units(plan: list[PlannedPass]) -> Iterator[Unit]:
    """Cut a plan into units."""
    single = all(a.block_start != b.block_start for a, b in pairwise(plan))
    blocks = groupby(
        enumerate(plan),
        key=lambda item: item[0] // TOKENS if single else item[1].block_start,
    )
    for _, numbered in blocks:
        index, steps = zip(*numbered, strict=True)
        if single or len(steps) <= min(LONGEST_UNIT, len(plan) - 1):
            yield Unit(index[0], _runs(steps))
        else:
            for i, step in zip(index, steps, strict=True):
                yield Unit(i, (Run(step, 1),))


def _runs(steps: tuple[PlannedPass, ...]) -> tuple[Run, ...]:
    runs = (list(run) for _, run in groupby(steps, key=lambda step: step.kind))
    return tuple(Run(run[0], len(run)) for run in runs)


def lines(plan: list[PlannedPass]) -> list[list[Unit]]:
    """Units whose cost changes smoothly from one to the next, in order."""
    found: dict[tuple[object, ...], list[Unit]] = {}
    for unit in units(plan):
        roles = ((role_of(run.place.kind), run.count) for run in unit.runs)
        make = (unit.runs[0].place.block_len, *roles)
        found.setdefault(make, []).append(unit)
    return list(found.values())


def first_nodes(line: list[Unit], most: int) -> list[int]:
    """Indices along a line of the units to begin with: its ends and the middle, or the middle
    alone where all units cost the same."""
    costs = {
        tuple((r.place.query_len, r.place.context_len, r.place.masked) for r in unit.runs)
        for unit in line
    }
    if len(costs) == 1:
        return [len(line) // 2]
    return sorted({round(i) for i in np.linspace(0, len(line) - 1, min(most, 3))})


def weights(at: list[int], length: int) -> np.ndarray:
    """What each node counts for in the sum over a line, interpolated linearly between nodes."""
    if len(at) == 1:
        return np.array([float(length)])
    basis = np.eye(len(at))
    return np.array([np.interp(np.arange(length), at, row).sum() for row in basis])


def misses(at: list[int], seconds: np.ndarray) -> np.ndarray:
    """By how much each inner node is off the straight line between its neighbours; `seconds` is
    (nodes,) or (nodes, rounds), the result has two nodes less."""
    places = np.asarray(at, dtype=float)
    share = (places[1:-1] - places[:-2]) / (places[2:] - places[:-2])
    share = share.reshape(-1, *[1] * (seconds.ndim - 1))
    return seconds[1:-1] - (1 - share) * seconds[:-2] - share * seconds[2:]


def interpolation_error(at: list[int], seconds: np.ndarray) -> float:
    """Seconds that linear interpolation may be off by in the sum over one line.

    Each inner node is predicted from its neighbours (leave one out). For a smooth cost that misses
    by four times the largest error at the spacing in use, so by six times the mean one, which is
    taken to hold for the whole line. A kink can make the mean error half of the miss: that is what
    the one miss of three nodes, which cannot tell, is taken for.
    """
    if len(at) < 3:
        return 0.0
    length = at[-1] - at[0] + 1
    missed = np.average(np.abs(misses(at, seconds)), weights=weights(at, length)[1:-1])
    return float(missed * length / (6 if len(at) >= 5 else 2))
