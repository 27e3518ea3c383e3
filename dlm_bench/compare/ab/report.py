"""The points of `dlm-bench ab`, as both sides know them, and the report of how it went."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from dlm_bench.compare.ab.checkouts import Checkout, RevisionError
from dlm_bench.compare.ab.course import NAMES, Course
from dlm_bench.compare.ab.sides import Side
from dlm_bench.compare.sequential import FEWEST
from dlm_bench.compare.verdicts import PointVerdict, Report, tokens_of
from dlm_bench.results.record import Point


@dataclass(frozen=True)
class Matched:
    """The points of both sides: `pairs` holds the numbers (in base, in head) of those to measure,
    `points` what head calls them, `alone` those that only one side has, and `notes` what base
    calls otherwise, by its place in `points`."""

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
    """Match the points that two revisions make of one file: in turn if they are as many (a
    sampler may have got an option since), else those that are equal. Raises RevisionError if
    there are none."""
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


def report_of(
    course: Course, matched: Matched, both: tuple[Checkout, Checkout], threshold: float
) -> Report:
    """The verdicts of a course, in the order of the sweep."""
    points = [
        PointVerdict(
            point,
            course.contest.verdicts[i],
            base_seconds=_middle(course.times.get((0, i))),
            head_seconds=_middle(course.times.get((1, i))),
            comparison=course.contest.comparisons[i],
            note="; ".join(filter(None, [matched.notes.get(i, ""), _note(course, i)])),
            tokens=tokens_of(record for record in course.records[1] if record.point == point),
        )
        for i, point in enumerate(matched.points)
    ]
    return Report(
        base=both[0].label,
        head=both[1].label,
        threshold=threshold,
        points=[*points, *matched.alone],
        warnings=_warnings(course),
        how=f"{course.rounds} rounds of alternating fresh workers in {course.seconds:.0f} s",
        remedy="raise --budget or --threshold, or take shorter or fewer points",
    )


def _warnings(course: Course) -> list[str]:
    if course.rounds >= FEWEST or not course.contest.undecided:
        return []
    return [
        f"the budget had room for {course.rounds} round{'s' * (course.rounds != 1)}, and a verdict "
        f"needs {FEWEST}: raise it, or take shorter or fewer points"
    ]


def _middle(times: Sequence[float] | None) -> float | None:
    return median(times) if times else None


def _note(course: Course, point: int) -> str:
    notes = []
    for which, name in enumerate(NAMES):
        failures = course.failures.get((which, point), ())
        if failures:
            notes.append(f"{name} {failures[-1].status}: {failures[-1].message}")
    rounds = min(len(course.times.get((which, point), ())) for which in (0, 1))
    if course.contest.verdicts[point] == "undecided" and not notes:
        notes.append(f"{rounds} rounds did not settle it")
    return "; ".join(notes)
