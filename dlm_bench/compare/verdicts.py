"""The verdicts of a comparison of two sides, point by point, and the conclusion."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import get_args

from dlm_bench.compare.statistics import REGRESSIONS, SLOWER, TimeRatio, Verdict
from dlm_bench.compare.suite import Overall
from dlm_bench.errors import unknown
from dlm_bench.results.record import Point, Record

OPEN: tuple[Verdict, ...] = ("undecided", "missing", "new", "still failing")  # without a speed
FAIL_ON: dict[str, tuple[Verdict, ...]] = {  # names of --fail-on
    "slower": SLOWER,
    "newly-failing": ("newly failing",),
    "missing": ("missing",),
    "undecided": ("undecided",),
}
DEFAULT_FAIL_ON = frozenset({"slower", "newly-failing"})
STRICT_FAIL_ON = frozenset(FAIL_ON)
REGRESSED, OPEN_CODE = 1, 3  # exit codes: a proven regression; a point left open


@dataclass(frozen=True)
class PointVerdict:
    """The verdict of a point.

    base_seconds, head_seconds: of a decode, the mean over runs of the mean of repeats, as in all
        tables; None for a side without any.
    change: head's time over base's; None if they cannot be compared.
    note: anything else to know.
    tail: the same of the mean decode, where `change` is of the fastest (`dlm-bench ab`).
    tokens: generated in a decode, by all sequences; None for the number that the point asks for.
    """

    point: Point
    verdict: Verdict
    base_seconds: float | None = None
    head_seconds: float | None = None
    change: TimeRatio | None = None
    note: str = ""
    tokens: int | None = None
    tail: TimeRatio | None = None

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
    overall: the change of the whole suite; None for a single point.
    """

    base: str
    head: str
    threshold: float
    points: Sequence[PointVerdict]
    how: str = ""
    warnings: Sequence[str] = ()
    remedy: str = ""
    overall: Overall | None = None

    @property
    def regressions(self) -> list[PointVerdict]:
        """Return the points with a proven regression."""
        return [each for each in self.points if each.verdict in REGRESSIONS]

    @property
    def suite_slower(self) -> bool:
        """True if the whole suite is proven slower."""
        return self.overall is not None and self.overall.verdict == "slower"

    @property
    def regressed(self) -> bool:
        """True if a point or the whole suite has a proven regression."""
        return bool(self.regressions) or self.suite_slower

    @property
    def decided(self) -> bool:
        """Return True if a point's times were compared, or a point fails on a single side only;
        False if noise, a missing side or failures of both leave all points open."""
        suite = self.overall is not None and self.overall.verdict not in (None, "undecided")
        return suite or any(each.verdict not in OPEN for each in self.points)

    @property
    def conclusion(self) -> str:
        """Return `N regressions`, `the suite is slower`, `no regression proven` or `nothing
        decided`."""
        if self.regressions:
            count = len(self.regressions)
            return f"{count} regression{'s' * (count != 1)}"
        if self.suite_slower:
            return "the suite is slower"
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

    def exit_code(self, fail_on: Collection[str] = DEFAULT_FAIL_ON) -> int:
        """Return 1 for a proven regression among these names of FAIL_ON, else 3 for a point left
        open among them, or if nothing is decided at all and "undecided" is among them; else 0.

        The suite counts under "slower" and "undecided". A new point alone fails no comparison.
        """
        asked = {verdict for name in fail_on for verdict in FAIL_ON[name]}
        found = {each.verdict for each in self.points}
        if self.overall is not None and self.overall.verdict is not None:
            found.add(self.overall.verdict)
        if found & asked & {*REGRESSIONS}:
            return REGRESSED
        nothing = "undecided" in fail_on and not self.decided
        return OPEN_CODE if nothing or found & asked else 0

    def counts(self) -> dict[Verdict, int]:
        """Count the points of each verdict, the worst first."""
        found = Counter(each.verdict for each in self.points)
        return {verdict: found[verdict] for verdict in get_args(Verdict) if found[verdict]}

    def summary(self) -> str:
        """Return the counts in words, e.g. `1 slower, 9 same of 10 points (threshold 5 %)`."""
        counted = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        points = f"{len(self.points)} point{'s' * (len(self.points) != 1)}"
        return f"{counted} of {points} (threshold {100 * self.threshold:g} %)"


def fail_on_of(text: str) -> frozenset[str]:
    """Return the names in a value of --fail-on, "none" for an empty set. Raises ConfigError."""
    if text.strip() == "none":
        return frozenset()
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in FAIL_ON:
            raise unknown("--fail-on", name, [*FAIL_ON, "none"])
    return frozenset(names)


def _reach(change: TimeRatio) -> float:
    """Return the relative distance from a ratio to the upper end of the interval."""
    return change.interval.high / change.ratio - 1
