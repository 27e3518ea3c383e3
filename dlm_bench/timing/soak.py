"""The soak: decode on until speed, clocks and temperature are flat, before anything is timed."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlm_bench.timing.steady import means_of_parts
from dlm_bench.timing.telemetry import INTERVAL, Source

LEAST_SECONDS = 30.0  # heat takes as long to show
FLAT = 0.005  # of a speed or a clock, and a degree: less over the later half of a soak is flat
FLAT_CELSIUS = 1.0
HEAT = "temperature_celsius"
SENSORS = ("sm_clock_mhz", "cpu_clock_mhz", HEAT)
FEWEST, MOST_PARTS = 5, 50  # values of a half, whose slope is judged; means of more


@dataclass
class Soak:
    """Decodes before the warm state, at most `most_seconds` long.

    source: sensors that are read between decodes, None without any.
    seconds: of each decode. flat: the end was reached before the time was over.
    """

    most_seconds: float
    source: Source | None = None
    seconds: list[float] = field(default_factory=list)
    flat: bool = False
    took: float = 0.0
    _readings: dict[str, list[float]] = field(default_factory=dict)

    def run(self, decode: Callable[[], float]) -> None:
        """Call `decode`, for the seconds of a decode, until all is flat or the time is over."""
        began, read_at = time.perf_counter(), -INTERVAL
        while self.took < self.most_seconds and not self.flat:
            self.seconds.append(decode())
            self.took = time.perf_counter() - began
            if self.source is not None and self.took - read_at >= INTERVAL:
                read_at = self.took
                self._note(self.source.sample().values)
            self.flat = self.took >= LEAST_SECONDS and self._is_flat()

    def summary(self, tokens: int) -> dict[str, Any]:
        """Return the field of a record; `tokens` are those of a decode."""
        first, last = self.seconds[0], means_of_parts(self.seconds)[-1]
        return {
            "seconds": self.took,
            "decodes": len(self.seconds),
            "flat": self.flat,
            "first_tokens_per_second": tokens / first,
            "sustained_tokens_per_second": tokens / last,
            "sustained_ratio": first / last,
        }

    def _note(self, values: Mapping[str, float]) -> None:
        for name in values.keys() & set(SENSORS):
            self._readings.setdefault(name, []).append(values[name])

    def _is_flat(self) -> bool:
        speeds = change(self.seconds)
        if speeds is None or abs(speeds) > FLAT * self.seconds[-1]:
            return False
        for name, values in self._readings.items():
            moved = change(values)
            most = FLAT_CELSIUS if name == HEAT else FLAT * values[-1]
            if moved is None or abs(moved) > most:
                return False
        return True


def change(values: Sequence[float]) -> float | None:
    """Return how far the later half of a series rises from end to end, by the Theil-Sen slope; None
    where the half is of fewer than FEWEST."""
    later = np.asarray(values[len(values) // 2 :], dtype=float)
    if len(later) < FEWEST:
        return None
    from scipy.stats import theilslopes  # heavy

    parts = [part.mean() for part in np.array_split(later, min(MOST_PARTS, len(later)))]
    return float(theilslopes(parts).slope) * (len(parts) - 1)
