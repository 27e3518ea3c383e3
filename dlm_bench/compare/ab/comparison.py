"""The points of `dlm-bench ab` as both sides know them, and the comparison of their times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from dlm_bench.compare.ab.checkouts import Checkout
from dlm_bench.compare.ab.rounds import SIDES, ABRun
from dlm_bench.compare.ab.sides import Side
from dlm_bench.compare.ab.sources import RevisionError
from dlm_bench.compare.environments import environment_differences
from dlm_bench.compare.flags import Compared, rounds_of_ab
from dlm_bench.compare.sequential import MIN_ROUNDS
from dlm_bench.compare.tokens import other_tokens
from dlm_bench.compare.verdicts import Comparison, PointVerdict, tokens_of
from dlm_bench.errors import counted
from dlm_bench.results.record import Point


@dataclass(frozen=True)
class Matched:
    """The points of both sides.

    pairs: numbers (in base, in head) of the points to measure.
    points: those points, as head has them.
    alone: the points of a single side.
    notes: differences of base's point, by the index in `points`.
    """

    pairs: Sequence[tuple[int, int]]
    points: Sequence[Point]
    alone: Sequence[PointVerdict] = ()
    notes: Mapping[int, str] = field(default_factory=dict)


def matched_points(sides: tuple[Side, Side], sweep: Path) -> Matched:
    """Have both sides read a sweep file, in fresh workers. Raises RevisionError."""
    try:
        for side in sides:
            side.begin()
        for side in sides:
            side.ready()
        base, head = (side.plan(sweep.resolve()) for side in sides)
    finally:
        for side in sides:
            side.stop()
    return match(base, head)


def match(base: Sequence[Point], head: Sequence[Point]) -> Matched:
    """Match the points of two revisions: in turn if they are as many, else those that are equal.

    A sampler may have got an option since base: its points differ, and their order stays. Raises
    RevisionError without a common point.
    """
    if len(base) == len(head):
        notes = {
            i: difference(*both)
            for i, both in enumerate(zip(base, head, strict=True))
            if both[0] != both[1]
        }
        return Matched([(i, i) for i in range(len(head))], head, notes=notes)
    pairs = [(base.index(point), i) for i, point in enumerate(head) if point in base]
    if not pairs:
        raise RevisionError("base and head have no point of the sweep in common")
    alone = [
        PointVerdict(point, "missing", note="head does not have this point")
        for point in base
        if point not in head
    ]
    alone += [
        PointVerdict(point, "new", note="base does not have this point")
        for point in head
        if point not in base
    ]
    return Matched(pairs, [head[i] for _, i in pairs], alone)


def difference(base: Point, head: Point) -> str:
    """Name the difference of two points: `not the same point: length 64 / 96 (base / head)`."""
    sides = [point.model_dump() for point in (base, head)]
    one, other = (side | side.pop("options") for side in sides)
    told = [
        f"{name} {one.get(name, 'none')} / {other.get(name, 'none')}"
        for name in one | other
        if one.get(name) != other.get(name)
    ]
    return f"not the same point: {', '.join(told)} (base / head)"


def comparison_of(
    run: ABRun, matched: Matched, both: tuple[Checkout, Checkout], threshold: float
) -> Comparison:
    """Return the verdicts of a run, in the order of the sweep."""
    rounds = [_rounds(run, point) for point in matched.points]
    points = [
        PointVerdict(
            point,
            rounds[i].verdict(run.test.verdicts[i]),
            base_seconds=_mean(run.times.get((0, i))),
            head_seconds=_mean(run.times.get((1, i))),
            change=run.test.changes[i],
            tail=run.test.tails[i],
            note="; ".join(
                filter(
                    None,
                    [
                        matched.notes.get(i, ""),
                        _tokens(run, point),
                        _note(run, i),
                        rounds[i].note,
                    ],
                )
            ),
            tokens=tokens_of(record for record in run.records[1] if record.point == point),
        )
        for i, point in enumerate(matched.points)
    ]
    return Comparison(
        base=both[0].label,
        head=both[1].label,
        threshold=threshold,
        points=[*points, *matched.alone],
        warnings=_warnings(run),
        how="; ".join(
            [
                f"{counted(run.rounds, 'round')} of alternating fresh workers in "
                f"{run.seconds:.0f} s",
                *environment_differences([run.records]).values(),
            ]
        ),
        remedy="raise --budget or --threshold, or take shorter or fewer points",
        overall=run.test.overall,
    )


def _rounds(run: ABRun, point: Point) -> Compared:
    both = ([each for each in side if each.point == point] for side in run.records)
    return rounds_of_ab(*both)


def _warnings(run: ABRun) -> list[str]:
    if run.rounds >= MIN_ROUNDS or not run.test.undecided:
        return []
    return [
        f"the budget had room for {counted(run.rounds, 'round')}, and a verdict "
        f"needs {MIN_ROUNDS}: raise it, or take shorter or fewer points"
    ]


def _tokens(run: ABRun, point: Point) -> str:
    base, head = ([r for r in records if r.point == point] for records in run.records)
    return other_tokens(base, head)


def _mean(times: Sequence[float] | None) -> float | None:
    return fmean(times) if times else None


def _note(run: ABRun, point: int) -> str:
    notes = []
    for which, name in enumerate(SIDES):
        failures = run.failures.get((which, point), ())
        if failures:
            notes.append(f"{name} {failures[-1].status}: {failures[-1].message}")
    tail = run.test.tails[point]
    if tail is not None and run.test.verdicts[point] == "tail slower":
        low, high = (f"{100 * (end - 1):+.1f} %" for end in tail.interval)
        change = f"{100 * (tail.ratio - 1):+.1f} % [{low}, {high}]"
        notes.append(f"mean decode {change}, as some decodes are slower")
    rounds = min(len(run.times.get((which, point), ())) for which in (0, 1))
    if run.test.verdicts[point] == "undecided" and not any(
        (which, point) in run.failures for which in (0, 1)
    ):
        notes.append(f"{counted(rounds, 'round')} did not settle it")
    return "; ".join(notes)
