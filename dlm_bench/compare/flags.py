"""Runs that were held back from outside, and what they cannot prove.

A throttled clock or a CPU with other work makes a side slow whatever the code. Where both sides
have runs without such a flag, those are compared. Where a single side has none, that side may look
slow without being so: a flagged head proves no slowdown, and a flagged base neither a speed-up nor
that head is the same. Where neither side has any, both were held back, and are compared.
"""

from collections.abc import Sequence
from typing import NamedTuple

from dlm_bench.compare.statistics import SLOWER, Verdict
from dlm_bench.results.record import Record

HELD_BACK = frozenset({"throttled", "contended"})
_HEAD_ALONE = "head alone was held back, which proves no slowdown"
_BASE_ALONE = "base alone was held back, which proves a slowdown only"


class Compared(NamedTuple):
    """The runs to compare, a note on those set aside, and the verdicts they cannot prove."""

    base: list[Record]
    head: list[Record]
    note: str
    unproven: tuple[Verdict, ...]

    def verdict(self, found: Verdict) -> Verdict:
        """Return a verdict, or "undecided" for one that these runs cannot prove."""
        return "undecided" if found in self.unproven else found


def rounds_of_ab(base: Sequence[Record], head: Sequence[Record]) -> Compared:
    """Return the rounds of `dlm-bench ab` with the verdicts that they cannot prove.

    Both sides meet the same machine in each round, so chance flags either. A side counts as held
    back alone if all of its rounds are, and none of the other's.
    """
    found = runs_to_compare(base, head)
    other = {"slower": base, "faster": head}.get(found.unproven[0]) if found.unproven else None
    if other is None or any(HELD_BACK & {*each.flags} for each in other):
        return Compared([*base], [*head], "", ())
    return found


def runs_to_compare(base: Sequence[Record], head: Sequence[Record]) -> Compared:
    """Choose among the ok records of both sides by their flags."""
    sides = [*base], [*head]
    if not base or not head:
        return Compared(*sides, "", ())
    free = [[each for each in side if not HELD_BACK & {*each.flags}] for side in sides]
    if free[0] and free[1]:
        counts = [len(side) - len(kept) for side, kept in zip(sides, free, strict=True)]
        notes = [
            f"{count} of {len(side)} runs of {name} set aside"
            for name, count, side in zip(("base", "head"), counts, sides, strict=True)
            if count
        ]
        return Compared(free[0], free[1], "; ".join(notes), ())
    if free[0]:
        return Compared(*sides, _HEAD_ALONE, SLOWER)
    if free[1]:
        unproven: tuple[Verdict, ...] = ("faster", "same")
        return Compared(*sides, _BASE_ALONE, unproven)
    return Compared(*sides, "", ())
