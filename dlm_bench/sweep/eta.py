"""The seconds that the points of a sweep will still take."""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import fmean
from typing import Any

from dlm_bench.results.record import Point, Record, mean_of
from dlm_bench.sweep.load import Measuring
from dlm_bench.sweep.plan import model_key
from dlm_bench.sweep.whole import scaled_seconds

OTHER_KIND_FACTOR = 2.0  # a rate that another backbone or sampler had may be off by this factor
# Between bounds with this ratio the geometric mean is off by a factor of 2 at most.
RELIABLE_RATIO = 4.0


@dataclass(frozen=True)
class _Measured:
    """A measured point.

    work, passes: of the point. seconds: of the measurement.
    sampling, rounds: of the sampling, if the point was sampled.
    decode, repeats, soak: seconds of a decode, their number, and seconds before, if it was not.
    """

    work: float
    passes: float
    seconds: float
    sampling: float = 0.0
    rounds: float = 0.0
    decode: float = 0.0
    repeats: float = 0.0
    soak: float = 0.0

    def scaled(self, factor: float, max_seconds: float, measuring: Measuring | None) -> float:
        """Return the seconds of a point whose passes take `factor` times as long in all.

        Sampling ends after `max_seconds`, and at least two rounds. Least times of whole decodes do
        not scale.
        """
        if measuring is not None and self.repeats:
            whole = (self.seconds, self.decode, self.repeats, self.soak)
            return scaled_seconds(measuring, *whole, factor)
        if not self.rounds:
            return factor * self.seconds
        each = factor * self.sampling / self.rounds
        sampling = min(self.rounds * each, max(2 * each, max_seconds))
        return factor * (self.seconds - self.sampling) + sampling


class TimeLeft:
    """A prediction of the time left, by measured points of the same backbone and sampler, or else
    of the backbone, of the sampler, of all; and a worker's start for each new model.

    A pass takes a fixed time and a time by the work. So two points differ by a factor between the
    ratio of their passes and the ratio of their work.
    """

    def __init__(
        self,
        max_seconds: float = math.inf,
        timeout: float | None = None,
        measuring: Measuring | None = None,
    ) -> None:
        self._max_seconds, self._measuring = max_seconds, measuring
        self._timeout = math.inf if timeout is None else timeout
        self._measured: dict[tuple[str, ...], list[_Measured]] = {}  # by work
        self._pools: dict[tuple[str, ...], _Measured] = {}
        self._starts: dict[tuple[str, ...], float] = {}  # of each model, what was not measuring

    def learn(
        self,
        point: Point,
        work: float,
        seconds: float,
        overhead: float,
        passes: float | None = None,
        record: Record | None = None,
    ) -> None:
        """Take note of a point measured in `seconds`, after `overhead` seconds to get there."""
        telemetry: dict[str, Any] = {} if record is None else record.telemetry
        sampling = telemetry.get("region_seconds")
        sampled = record is not None and record.mode == "sampled" and sampling is not None
        measured = _Measured(
            work,
            work if passes is None else passes,
            seconds,
            *((min(sampling or 0.0, seconds), len(record.seconds)) if sampled and record else ()),
        )
        if record is not None and record.mode == "exact" and record.mean_seconds is not None:
            decode = record.mean_seconds + (mean_of(record.prefill_seconds) or 0.0)
            soak = record.soak.get("seconds", 0.0)
            measured = replace(measured, decode=decode, repeats=len(record.seconds), soak=soak)
        for key in _keys_of(point):
            insort(self._measured.setdefault(key, []), measured, key=_work_of)
            self._pools.pop(key, None)
        model = model_key(point)
        self._starts[model] = self._starts.get(model, 0.0) + overhead

    def seconds(self, points: Sequence[tuple[Any, ...]]) -> float | None:
        """Return the seconds for these points, each with work and passes; None before any
        measurement."""
        found = self._sums(points)
        return None if found is None else found[1]

    def reliable_seconds(
        self,
        points: Sequence[tuple[Any, ...]],
        at_once: int = 1,
        elapsed: Sequence[float] | None = None,
        *,
        fresh: bool = False,
    ) -> float | None:
        """Return the seconds for these points, `at_once` at a time; None if perhaps off by more
        than a factor of 2.

        elapsed: seconds since each point was begun, 0 for a point to come. fresh: in new workers,
        which build all models.
        """
        found = self._sums(points, at_once, elapsed, fresh)
        if found is None or found[2] > RELIABLE_RATIO * found[0]:
            return None
        least, seconds, most = found
        return min(max(seconds, most / 2), 2 * least)

    def _sums(
        self,
        points: Sequence[tuple[Any, ...]],
        at_once: int = 1,
        elapsed: Sequence[float] | None = None,
        fresh: bool = False,
    ) -> tuple[float, float, float] | None:
        """Return the least, the likely and the most seconds until the last of these points ends."""
        if not self._measured:
            return None
        if not points:
            return 0.0, 0.0, 0.0
        sums, longest = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        start = sum(self._starts.values()) / len(self._starts)
        started = set() if fresh else {*self._starts}
        gone = [0.0] * len(points) if elapsed is None else elapsed
        for (point, work, *passes), before in zip(points, gone, strict=True):
            low, high, unsure = self._bounds_of(point, work, passes[0] if passes else work)
            begin = 0.0 if model_key(point) in started else start
            started.add(model_key(point))
            for n, seconds in enumerate((low / unsure, math.sqrt(low * high), high * unsure)):
                left = max(0.0, begin + min(seconds, self._timeout) - before)
                sums[n] += left
                longest[n] = max(longest[n], left)
        workers = max(1, min(at_once, len(points)))
        # No number of workers is quicker than the longest point.
        least, likely, most = (
            max(total / workers, one) for total, one in zip(sums, longest, strict=True)
        )
        return least, likely, most

    def _bounds_of(self, point: Point, work: float, passes: float) -> tuple[float, float, float]:
        """Return bounds of a point's seconds, and a factor by which both may be off."""
        keys = _keys_of(point)
        key = next(key for key in keys if key in self._measured)
        alike = self._measured[key]
        if key == keys[0]:
            place = bisect_left(alike, work, key=_work_of)
            beside = alike[max(0, place - 1) : place + 1]
            nearest = min(beside, key=lambda each: abs(math.log(each.work / work)))
        else:  # no one of them is nearer than another
            nearest = self._pools.get(key) or self._pools.setdefault(key, _pooled(alike))
        factors = sorted((work / nearest.work, passes / nearest.passes))
        ends = (self._max_seconds, self._measuring)
        low, high = (nearest.scaled(factor, *ends) for factor in factors)
        return low, high, 1.0 if key == keys[0] else OTHER_KIND_FACTOR


def _work_of(measured: _Measured) -> float:
    return measured.work


def _pooled(measured: list[_Measured]) -> _Measured:
    """Return the mean of measured points."""
    names = [each.name for each in fields(_Measured)]
    return _Measured(*(fmean(getattr(each, name) for each in measured) for name in names))


def _keys_of(point: Point) -> list[tuple[str, ...]]:
    """Return keys that a point shares with others, the most telling first."""
    return [
        ("both", point.backbone, point.sampler, point.dtype),
        ("backbone", point.backbone, point.dtype),
        ("sampler", point.sampler, point.dtype),
        (),
    ]
