"""Measure two sides alternately on one machine until every point is settled or the time is up.

A round starts a fresh worker on each side and warms both up. Then each undecided point is measured
four times, A B B A, so a drift of the machine falls on both sides. Such turns go on for several
times as long as the start took. The first side changes from turn to turn and from point to point.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol

from dlm_bench.compare.sequential import RoundRatio, SequentialTest, round_ratios
from dlm_bench.compare.statistics import FAILURES, FALSE_ALARMS, THRESHOLD, Verdict
from dlm_bench.results.record import Record
from dlm_bench.sweep.worker.messages import Failed, Failure, Outcome

# Of repeats: short, as the machine's speed wanders from second to second.
MEASUREMENT_SECONDS = 0.1
MAX_REPEATS = 10
ROUND_PER_START = 4.0  # the seconds of a round's turns, over those of the workers' start
MIN_ROUNDS_IN_BUDGET = 12  # for the spread between processes
MAX_TURNS = 16
SIDES = ("base", "head")


class Measurable(Protocol):
    """The interface of a side for `run_ab` (see `dlm_bench.compare.ab.sides.Side`)."""

    def begin(self) -> None: ...
    def ready(self) -> None: ...
    def warm(self, points: Sequence[int], timeout: float) -> None: ...
    def stop(self) -> None: ...
    def measure(self, index: int, repeats: int, timeout: float) -> Outcome: ...


class RoundPlanner:
    """The turns of a round and the repeats of a measurement, by the seconds of those before."""

    def __init__(self, points: int, budget: float) -> None:
        self.start = 0.0  # seconds until the workers are there and warm
        self.costs = [0.0] * points  # seconds of a turn
        self.repeats = [2] * points
        self._longest = budget / MIN_ROUNDS_IN_BUDGET

    def turns(self, points: Sequence[int]) -> int:
        """Return the turns of these points in a round."""
        cost = sum(self.costs[point] for point in points)
        seconds = min(ROUND_PER_START * self.start, self._longest - self.start)
        return max(1, min(MAX_TURNS, round(seconds / cost))) if cost else 1

    def round_seconds(self, points: Sequence[int]) -> float:
        """Return the seconds of a round of these points."""
        return self.start + self.turns(points) * sum(self.costs[point] for point in points)

    def learn(self, point: int, visits: Sequence[tuple[Sequence[float], float]]) -> None:
        """Plan the repeats of a point by the visits of a turn: decodes, and the seconds in all.

        The next decodes take MEASUREMENT_SECONDS, or as long as the overhead, such as a capture.
        Both sides have a say, and get the same number.
        """
        if not visits:
            return
        overhead = fmean(seconds - sum(decodes) for decodes, seconds in visits)
        fastest = fmean(min(decodes) for decodes, _ in visits)
        wanted = max(MEASUREMENT_SECONDS, overhead) / fastest
        self.repeats[point] = max(2, min(MAX_REPEATS, int(wanted)))


@dataclass
class ABRun:
    """The state of an A/B run.

    test: the verdicts so far. rounds, seconds: so far.
    records: of each side, one a round and point.
    failures, times: by side and point; times are the mean seconds of each round's decodes.
    """

    test: SequentialTest
    planner: RoundPlanner
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
    false_alarms: float = FALSE_ALARMS,
    suite_threshold: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    after_round: Callable[[ABRun], object] = lambda run: None,
    settle: bool = True,
) -> ABRun:
    """Compare base and head on these points, each a pair of numbers in the sides' sweeps.

    budget: seconds from now on. A round begins only if the rest has room for it; the first always
        begins. A single measurement that takes longer than the whole budget has failed.
    suite_threshold: judge the whole suite, too; settled points are measured on until then.
    settle: False leaves all points open whatever their times, to record a machine's noise.

    The sides' workers are stopped at the end.
    """
    begun = clock()
    test = SequentialTest(len(pairs), threshold, false_alarms, suite_threshold)
    planner = RoundPlanner(len(pairs), budget)
    run = ABRun(test, planner)
    try:
        while test.wanted:
            left = budget - (clock() - begun)
            if run.rounds and planner.round_seconds(test.wanted) > left:
                break
            started = clock()
            for side in sides if run.rounds % 2 == 0 else sides[::-1]:
                side.begin()
            _ready(sides, [pairs[point] for point in test.wanted], budget)
            planner.start = clock() - started
            ratios = _round(run, sides, pairs, begun + budget, budget, clock)
            run.rounds += 1
            run.seconds = clock() - begun
            if settle:
                fastest = {point: ratio.fastest for point, ratio in ratios.items()}
                means = {point: ratio.mean for point, ratio in ratios.items()}
                test.add(fastest, run.seconds / budget, means)
            _settle_failures(run, FAILURES)
            after_round(run)
    finally:
        for side in sides:
            side.stop()
    if settle:
        test.analyse(1.0)
    _settle_failures(run, 1)
    return run


def _ready(
    sides: tuple[Measurable, Measurable], pairs: Sequence[tuple[int, int]], timeout: float
) -> None:
    """Wait for both workers, and warm both up at once, as nothing is timed yet."""
    for side in sides:
        side.ready()
    with ThreadPoolExecutor(len(sides)) as pool:
        list(pool.map(lambda side, own: side.warm(own, timeout), sides, zip(*pairs, strict=True)))


def _round(
    run: ABRun,
    sides: tuple[Measurable, Measurable],
    pairs: Sequence[tuple[int, int]],
    deadline: float,
    timeout: float,
    clock: Callable[[], float],
) -> dict[int, RoundRatio]:
    """Measure each point that needs more rounds A B B A, or B A A B, in some turns of all of them.

    Return the log ratios of each point without a failure on either side.
    """
    points, planner = run.test.wanted, run.planner
    found: dict[int, tuple[list[Record], list[Record]]] = {point: ([], []) for point in points}
    failed: set[tuple[int, int]] = set()
    for turn in range(planner.turns(points)):
        for point in points:
            first, before = (run.rounds + turn + point) % 2, clock()
            # Slower than expected: the machine has got other work. The first turn is whole.
            if before > deadline and run.rounds + turn > 0:
                break
            repeats, visits = planner.repeats[point], []
            for which in (first, 1 - first, 1 - first, first):
                if (which, point) in failed:
                    continue
                answer = sides[which].measure(pairs[point][which], repeats, timeout)
                if isinstance(answer, Failed):
                    failed.add((which, point))
                    run.failures.setdefault((which, point), []).append(answer.failure)
                else:
                    found[point][which].append(answer.record)
                    visits.append((answer.record.seconds, answer.seconds))
            planner.learn(point, visits)
            planner.costs[point] = clock() - before
    for point, both in found.items():
        for which, records in enumerate(both):
            if records:
                merged = _merged(records)
                run.records[which].append(merged)
                run.times.setdefault((which, point), []).append(fmean(merged.seconds))
    return {
        point: round_ratios(_seconds(base), _seconds(head))
        for point, (base, head) in found.items()
        if base and head and not {(0, point), (1, point)} & failed
    }


def _seconds(records: Sequence[Record]) -> list[float]:
    return [each for record in records for each in record.seconds]


def _merged(records: Sequence[Record]) -> Record:
    """Merge the records of a point in a round. The result has no identity: a sweep that resumes
    must not find it."""
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


def _settle_failures(run: ABRun, enough: int) -> None:
    """Settle the points that failed `enough` times on a side, or on every try at the end."""
    for point in run.test.undecided:
        counts = [len(run.failures.get((which, point), ())) for which in (0, 1)]
        base, head = (
            count >= FAILURES or (count >= enough and (which, point) not in run.times)
            for which, count in enumerate(counts)
        )
        verdict: Verdict = "undecided"
        if head:
            verdict = "still failing" if base else "newly failing"
        elif base:
            verdict = "fixed"
        run.test.verdicts[point] = verdict
