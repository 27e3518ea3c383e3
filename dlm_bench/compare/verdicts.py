"""The verdicts of a comparison of two sides, point by point, and the conclusion."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import get_args

from dlm_bench.compare.statistics import REGRESSIONS, TimeRatio, Verdict
from dlm_bench.results.record import Point, Record

UNSETTLED: tuple[Verdict, ...] = ("undecided", "missing")  # verdicts that --strict fails for
OPEN = (*UNSETTLED, "new", "still failing")  # verdicts that say nothing about speed


@dataclass(frozen=True)
class PointVerdict:
    """The verdict of a point.

    base_seconds, head_seconds: of a decode; None for a side without any.
    change: head's time over base's; None if they cannot be compared.
    note: anything else to know.
    tokens: generated in a decode, by all sequences; None for the number that the point asks for.
    """

    point: Point
    verdict: Verdict
    base_seconds: float | None = None
    head_seconds: float | None = None
    change: TimeRatio | None = None
    note: str = ""
    tokens: int | None = None

    @property
    def base_speed(self) -> float | None:
        """Return base's tokens per second."""
        return self._speed(self.base_seconds)

    @property
    def head_speed(self) -> float | None:
        """Return head's tokens per second."""
        return self._speed(self.head_seconds)

    def _speed(self, seconds: float | None) -> float | None:
        tokens = self.tokens or self.point.batch * self.point.length
        return tokens / seconds if seconds else None


def tokens_of(records: Iterable[Record]) -> int | None:
    """Return the tokens that a timed decode of these records' point generates; None without an ok
    record."""
    return next((record.tokens for record in records if record.status == "ok"), None)


@dataclass(frozen=True)
class Comparison:
    """All points of a comparison.

    base, head: names of the sides. threshold: of the verdicts (0.05: 5 %).
    how: a line about the measurement. warnings: reasons for doubt.
    remedy: advice for noise that decides nothing.
    """

    base: str
    head: str
    threshold: float
    points: Sequence[PointVerdict]
    how: str = ""
    warnings: Sequence[str] = ()
    remedy: str = ""

    @property
    def regressions(self) -> list[PointVerdict]:
        """Return the points for which a CI job fails."""
        return [each for each in self.points if each.verdict in REGRESSIONS]

    @property
    def decided(self) -> bool:
        """Return True if a point's times were compared, or a point fails on a single side only;
        False if noise, a missing side or failures of both leave all points open."""
        return any(each.verdict not in OPEN for each in self.points)

    @property
    def conclusion(self) -> str:
        """Return `N regressions`, `no regression proven` or `nothing decided`."""
        if self.regressions:
            count = len(self.regressions)
            return f"{count} regression{'s' * (count != 1)}"
        return "no regression proven" if self.decided else "nothing decided"

    @property
    def advice(self) -> str:
        """Return a line of advice if nothing was decided, else an empty string."""
        if self.decided:
            return ""
        if self.points and all(each.verdict == "still failing" for each in self.points):
            return "every point fails on both sides; run one by itself to see why"
        reaches = [_reach(each.change) for each in self.points if each.change is not None]
        known = [reach for reach in reaches if math.isfinite(reach)]
        noise = "the noise is not known"
        if known:
            noise = f"the median noise is ±{100 * median(known):.2g} %"
        return f"{noise}, and the threshold {100 * self.threshold:g} %: {self.remedy}"

    @property
    def exit_code(self) -> int:
        """Return 1 if there is a regression, else 0."""
        return 1 if self.regressions else 0

    @property
    def strict_exit_code(self) -> int:
        """Return 1 if there is a regression, 3 if a point is undecided or missing or nothing is
        decided at all, else 0: a new point alone fails no comparison."""
        unsettled = any(each.verdict in UNSETTLED for each in self.points)
        return self.exit_code or (3 if unsettled or not self.decided else 0)

    def counts(self) -> dict[Verdict, int]:
        """Count the points of each verdict, the worst first."""
        found = Counter(each.verdict for each in self.points)
        return {verdict: found[verdict] for verdict in get_args(Verdict) if found[verdict]}

    def summary(self) -> str:
        """Return the counts in words, e.g. `1 slower, 9 same of 10 points (threshold 5 %)`."""
        counted = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        points = f"{len(self.points)} point{'s' * (len(self.points) != 1)}"
        return f"{counted} of {points} (threshold {100 * self.threshold:g} %)"


def _reach(change: TimeRatio) -> float:
    """Return the relative distance from a ratio to the upper end of the interval."""
    return change.interval.high / change.ratio - 1
