"""Time units of a decode, on a GPU at the clocks of a decode.

After a rest between two units a GPU is cooler and faster than in a decode of minutes. There the
same passes run before a unit, for long enough to make the GPU as busy as in a decode.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import torch

from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import Laps, timed
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.steady import warm_up
from dlm_bench.timing.units import Unit

WARMUP_SECONDS = 1.0  # after one warm-up run of a unit, no further one beyond this
SETTLE_SECONDS = 1.0  # that all warm-up runs take at least: memory that is new to the process is
# slow for some hundred ms, as are clocks that ramp
SETTLE_LED_SECONDS = 0.3  # the same where passes lead in to each unit
SHORT_SECONDS = 0.1  # a unit this long is not moved by the caches it starts with
LEAD_SECONDS = 0.2  # of passes that lead in to a shorter unit, at most,
LEAD_TIMES = 20  # and of as many times the seconds that the GPU rested: it is busy for 95 %


@dataclass
class UnitTimer:
    """Runs units of a decode and tells their seconds.

    device: of the clock; passes lead in to a unit on a GPU.
    busy_seconds: of all passes since the last reset to 0, lead-ins included.
    """

    sampler: Sampler
    state: DecodeState
    steps: Steps
    device: torch.device
    warmup_seconds: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0
    _seconds: dict[int, float] = field(
        default_factory=dict
    )  # of units at their first run, by index
    _rested_from: float = -math.inf  # by the host's clock

    @property
    def leads_in(self) -> bool:
        """True where passes lead in to a unit."""
        return self.device.type == "cuda"

    def warm_up(self, unit: Unit, runs: int) -> None:
        """Run a unit some times, or until WARMUP_SECONDS are over."""
        self.steps.prepare(unit.kinds)
        if self.steps.warm.issuperset(unit.kinds):
            return
        self.warmup_seconds += warm_up(
            lambda: sum(self._run(unit).seconds),
            runs,
            most_seconds=WARMUP_SECONDS,
            extra_seconds=WARMUP_SECONDS,
        )

    def settle(self, nodes: Sequence[Unit], most_seconds: float) -> None:
        """Run units in turn until the warm-up has lasted; not if capturing them was enough."""
        if all(self.steps.warm.issuperset(unit.kinds) for unit in nodes):
            return
        seconds = min(SETTLE_LED_SECONDS if self.leads_in else SETTLE_SECONDS, most_seconds)
        self.steps.prepare(kind for unit in nodes for kind in unit.kinds)
        begin, before = time.perf_counter(), sum(self.warmup_seconds)
        for unit in cycle(nodes):
            if before + time.perf_counter() - begin >= seconds:
                return
            self._run(unit)

    def laps(self, unit: Unit) -> list[float]:
        """Return the seconds of each run of a unit from its starting state. A short unit is timed
        right after the pass before, with the caches of a decode; the decode's first unit after
        itself.
        """
        new = unit.index not in self._seconds
        laps = None
        if new or unit.index == 0 or not self._is_short(unit):
            if new:
                self.steps.prepare([*self._before(unit), *unit.kinds])
            laps = self._run(unit)
            if new:
                self.state.check_unmasked(self.state.passes[unit.index + unit.count - 1])
                self._seconds[unit.index] = sum(laps.seconds)
        if self._is_short(unit):
            laps = self._run(unit, self._before(unit))
        elif laps is None or (new and self._lead_seconds(unit)):
            laps = self._run(unit)
        return laps.seconds

    def _is_short(self, unit: Unit) -> bool:
        return self._seconds[unit.index] < SHORT_SECONDS

    def _before(self, unit: Unit) -> list[str]:
        """Return the kinds of passes before a short unit."""
        return [self.state.passes[unit.index - 1].kind] if unit.index else []

    def _run(self, unit: Unit, before: Sequence[str] = ()) -> Laps:
        def begin() -> None:
            # All of this is queued, so that the GPU does not rest in between.
            self._lead_in(unit)
            self.sampler.seek(self.state, unit.index - len(before))
            self._passes(before)()

        runs = [self._passes([run.first.kind] * run.count) for run in unit.runs]
        laps = timed(runs, self.device, begin)
        self.busy_seconds += laps.before + sum(laps.seconds)
        self._rested_from = time.perf_counter()
        return laps

    def _passes(self, kinds: Sequence[str]) -> Callable[[], None]:
        def run() -> None:
            for kind in kinds:
                self.steps(kind)

        return run

    def _lead_in(self, unit: Unit) -> None:
        """Queue passes of a unit over and over, without the pause of a seek."""
        seconds = self._lead_seconds(unit)
        if not seconds:
            return
        self.sampler.seek(self.state, unit.index)
        kinds = [run.first.kind for run in unit.runs for _ in range(run.count)]
        for _ in range(math.ceil(seconds / self._seconds[unit.index])):
            self.state.index.fill_(unit.index)
            self._passes(kinds)()

    def _lead_seconds(self, unit: Unit) -> float:
        """Return the seconds of passes before a unit, 0 for a long unit or the first run."""
        known = self._seconds.get(unit.index)
        if not self.leads_in or known is None or known >= LEAD_SECONDS:
            return 0.0
        return min(LEAD_SECONDS, LEAD_TIMES * (time.perf_counter() - self._rested_from))
