"""Measure two sides alternately on one machine until every point is settled, or time is up.

A round starts a fresh worker on each side, warms it up, and visits each undecided point four times,
A B B A, so that a drift of the machine falls on both; and so on, turn after turn, for some times as
long as the start took. Who goes first changes from turn to turn and from point to point.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from dlm_bench.compare.ab.sides import Failure, Visit
from dlm_bench.compare.sequential import Contest, round_ratio
from dlm_bench.compare.statistics import FAILURES, THRESHOLD, Verdict
from dlm_bench.results.record import Record

VISIT_SECONDS = 0.1  # of repeats: short, as the machine's speed wanders from second to second
MOST_REPEATS = 10
PER_START = 4.0  # times as long as the start of its workers the turns of a round take
FEWEST_ROUNDS = 12  # that a budget is to hold, for the spread between processes
MOST_TURNS = 16
NAMES = ("base", "head")


class Measurable(Protocol):
    """The interface of a side for `run_ab` (see `dlm_bench.compare.ab.sides.Side`)."""

    def begin(self) -> None: ...
    def ready(self) -> None: ...
    def warm(self, points: Sequence[int], timeout: float) -> None: ...
    def stop(self) -> None: ...
    def measure(self, index: int, repeats: int, timeout: float) -> Visit | Failure: ...


class Pace:
    """The seconds of a round, the turns of a round and the repeats of a visit."""

    def __init__(self, points: int, budget: float) -> None:
        self.start = 0.0  # seconds until the workers are there and warm
        self.costs = [0.0] * points  # seconds of a turn
        self.repeats = [2] * points
        self._longest = budget / FEWEST_ROUNDS

    def turns(self, points: Sequence[int]) -> int:
        """Turns of these points in a round."""
        cost = sum(self.costs[point] for point in points)
        seconds = min(PER_START * self.start, self._longest - self.start)
        return max(1, min(MOST_TURNS, round(seconds / cost))) if cost else 1

    def round_seconds(self, points: Sequence[int]) -> float:
        """Return the seconds of a round of these points."""
        return self.start + self.turns(points) * sum(self.costs[point] for point in points)

    def learn(self, point: int, decodes: Sequence[float], seconds: float) -> None:
        """A visit took these seconds, and its decodes theirs: the next is to decode for
        VISIT_SECONDS, or for as long as the rest of a visit takes, such as a capture."""
        besides = seconds - sum(decodes)
        wanted = max(VISIT_SECONDS, besides) / min(decodes)
        self.repeats[point] = max(2, min(MOST_REPEATS, int(wanted)))


@dataclass
class Course:
    """State of an A/B run: rounds and seconds so far, the verdict of each point, the records of
    each side (one a round and point), and by side and point the seconds of each round's fastest
    decode and the failures."""

    contest: Contest
    pace: Pace
    rounds: int = 0
    seconds: float = 0.0
    records: tuple[list[Record], list[Record]] = field(default_factory=lambda: ([], []))
    failures: dict[tuple[int, int], list[Failure]] = field(default_factory=dict)
    times: dict[tuple[int, int], list[float]] = field(default_factory=dict)


def run_ab(
    sides: tuple[Measurable, Measurable],
    pairs: Sequence[tuple[int, int]],
    *,
    budget: float,
    threshold: float = THRESHOLD,
    clock: Callable[[], float] = time.monotonic,
    after_round: Callable[[Course], object] = lambda course: None,
    settle: bool = True,
) -> Course:
    """Compare base and head on these points, each the pair of its numbers in the sides' sweeps.

    `budget` is in seconds from now on; a round that is not expected to fit is not begun, but the
    first is. It is also the longest that a single visit may take, after which it has failed. With
    `settle` False no point is ever settled by its times (to record a machine's noise). The sides'
    workers are stopped at the end.
    """
    contest, pace, begun = Contest(len(pairs), threshold), Pace(len(pairs), budget), clock()
    course = Course(contest, pace)
    try:
        while contest.undecided:
            left = budget - (clock() - begun)
            if course.rounds and pace.round_seconds(contest.undecided) > left:
                break
            started = clock()
            for side in sides if course.rounds % 2 == 0 else sides[::-1]:
                side.begin()
            _ready(sides, [pairs[point] for point in contest.undecided], budget)
            pace.start = clock() - started
            ratios = _round(course, sides, pairs, begun + budget, budget, clock)
            course.rounds += 1
            course.seconds = clock() - begun
            if settle:
                contest.add(ratios, course.seconds / budget)
            _settle_failures(course, FAILURES)
            after_round(course)
    finally:
        for side in sides:
            side.stop()
    if settle:
        contest.look(1.0)
    _settle_failures(course, 1)
    return course


def _ready(
    sides: tuple[Measurable, Measurable], pairs: Sequence[tuple[int, int]], timeout: float
) -> None:
    """Wait for both workers, and have each build its models and load what its first decodes load:
    both at once, as nothing is timed yet."""
    for side in sides:
        side.ready()
    with ThreadPoolExecutor(len(sides)) as pool:
        list(pool.map(lambda side, own: side.warm(own, timeout), sides, zip(*pairs, strict=True)))


def _round(
    course: Course,
    sides: tuple[Measurable, Measurable],
    pairs: Sequence[tuple[int, int]],
    deadline: float,
    timeout: float,
    clock: Callable[[], float],
) -> dict[int, float]:
    """Visit each undecided point A B B A, or B A A B, in one or more turns of all of them; the log
    ratios of those that neither side failed at."""
    points, pace = course.contest.undecided, course.pace
    found: dict[int, tuple[list[Record], list[Record]]] = {point: ([], []) for point in points}
    failed: set[tuple[int, int]] = set()
    for turn in range(pace.turns(points)):
        for point in points:
            first, before = (course.rounds + turn + point) % 2, clock()
            # Slower than expected: the machine has got other work. The first turn is whole.
            if before > deadline and course.rounds + turn > 0:
                break
            repeats = pace.repeats[point]
            for which in (first, 1 - first, 1 - first, first):
                if (which, point) in failed:
                    continue
                answer = sides[which].measure(pairs[point][which], repeats, timeout)
                if isinstance(answer, Failure):
                    failed.add((which, point))
                    course.failures.setdefault((which, point), []).append(answer)
                else:
                    found[point][which].append(answer.record)
                    pace.learn(point, answer.record.seconds, answer.seconds)
            pace.costs[point] = clock() - before
    for point, both in found.items():
        for which, records in enumerate(both):
            if records:
                merged = _merged(records)
                course.records[which].append(merged)
                course.times.setdefault((which, point), []).append(min(merged.seconds))
    return {
        point: round_ratio(_seconds(base), _seconds(head))
        for point, (base, head) in found.items()
        if base and head and not {(0, point), (1, point)} & failed
    }


def _seconds(records: Sequence[Record]) -> list[float]:
    return [each for record in records for each in record.seconds]


def _merged(records: Sequence[Record]) -> Record:
    """One record of what a worker measured of a point in one round. It has no identity: a sweep
    that resumes must not take it for a point of its own."""
    seconds = _seconds(records)
    return records[0].model_copy(
        update={
            "seconds": seconds,
            "repeats": len(seconds),
            "warmup_seconds": [each for record in records for each in record.warmup_seconds],
            "flags": sorted({flag for record in records for flag in record.flags}),
            "passes": [],  # of the first visit alone, as is the telemetry
            "telemetry": {},
        }
    )


def _settle_failures(course: Course, enough: int) -> None:
    """Settle the points that failed `enough` times on a side, or on every try at the end."""
    for point in course.contest.undecided:
        counts = [len(course.failures.get((which, point), ())) for which in (0, 1)]
        base, head = (
            count >= FAILURES or (count >= enough and (which, point) not in course.times)
            for which, count in enumerate(counts)
        )
        verdict: Verdict = "undecided"
        if head:
            verdict = "still failing" if base else "newly failing"
        elif base:
            verdict = "fixed"
        course.contest.verdicts[point] = verdict
