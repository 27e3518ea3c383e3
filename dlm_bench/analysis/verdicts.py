"""The verdicts of a comparison of two sides, point by point, and what they come to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from dlm_bench.analysis.compare import REGRESSIONS, Comparison, Verdict
from dlm_bench.results.record import Point, Record


@dataclass(frozen=True)
class PointVerdict:
    """One point: seconds of a decode on each side (None where it has none), how they compare
    (None where they cannot be), and in `note` what else there is to know. `tokens` are those that a
    decode's seconds generated, of all sequences; None for all that the point asks for."""

    point: Point
    verdict: Verdict
    base_seconds: float | None = None
    head_seconds: float | None = None
    comparison: Comparison | None = None
    note: str = ""
    tokens: int | None = None

    @property
    def base_speed(self) -> float | None:
        """Base's tokens per second."""
        return self._speed(self.base_seconds)

    @property
    def head_speed(self) -> float | None:
        """Head's tokens per second."""
        return self._speed(self.head_seconds)

    def _speed(self, seconds: float | None) -> float | None:
        tokens = self.tokens or self.point.batch * self.point.length
        return tokens / seconds if seconds else None


def tokens_of(records: Iterable[Record]) -> int | None:
    """The tokens that a decode of these records' point generates while it is timed; None if none of
    them was measured."""
    return next((record.tokens for record in records if record.status == "ok"), None)


@dataclass(frozen=True)
class Report:
    """All points of a comparison. `base` and `head` say what was compared, `threshold` is that of
    the verdicts (0.05: 5 %), `how` a line on how it was measured, `warnings` what to mistrust."""

    base: str
    head: str
    threshold: float
    points: Sequence[PointVerdict]
    how: str = ""
    warnings: Sequence[str] = ()

    @property
    def regressions(self) -> list[PointVerdict]:
        """The points for which a CI job fails."""
        return [each for each in self.points if each.verdict in REGRESSIONS]

    @property
    def exit_code(self) -> int:
        """1 if there is a regression, else 0."""
        return 1 if self.regressions else 0

    def counts(self) -> dict[Verdict, int]:
        """How many points have each verdict that occurs, the worst first."""
        found = Counter(each.verdict for each in self.points)
        return {verdict: found[verdict] for verdict in get_args(Verdict) if found[verdict]}

    def summary(self) -> str:
        """The whole in a few words, e.g. `1 slower, 9 same of 10 points (threshold 5 %)`."""
        counted = ", ".join(f"{count} {verdict}" for verdict, count in self.counts().items())
        points = f"{len(self.points)} point{'s' * (len(self.points) != 1)}"
        return f"{counted} of {points} (threshold {100 * self.threshold:g} %)"
