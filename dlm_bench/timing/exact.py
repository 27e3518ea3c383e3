"""Exact mode: time whole decodes."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from dlm_bench.results.interval import relative_error
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import first_block_passes, prefill_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import Work, laps_of
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.precision import Stopping
from dlm_bench.timing.soak import Soak
from dlm_bench.timing.steady import warm_up


class Decodes(NamedTuple):
    """Seconds of whole decodes.

    seconds: of each timed decode, without the prefill pass.
    warmup_seconds: of each warm-up decode, with the prefill pass.
    prefill_seconds: of the prefill pass of each timed decode, if there is one.
    first_block_seconds: until the first block of each timed decode is unmasked.
    busy_seconds: of all timed decodes, with their prefill passes.
    """

    seconds: list[float]
    warmup_seconds: list[float]
    prefill_seconds: list[float]
    first_block_seconds: list[float]
    busy_seconds: float


class Until:
    """The rule that ends the repeats.

    There are `repeats` decodes, and more until they have taken `min_time` seconds. With a
    tolerance there are more until the relative error is within, but none beyond `max_seconds`.
    error: half the 95 % interval of the mean, relative; None of fewer than three repeats.
    """

    def __init__(
        self,
        repeats: int,
        min_time: float = 0.0,
        tolerance: float | None = None,
        max_seconds: float = 0.0,
    ) -> None:
        self.error: float | None = None
        self._repeats, self._min_time, self._max_seconds = repeats, min_time, max_seconds
        self._stopping = None if tolerance is None else Stopping(repeats, tolerance)

    def enough(self, seconds: Sequence[float], spent: float) -> bool:
        """Tell if decodes of these seconds, measured in `spent` seconds, are enough."""
        if len(seconds) < self._repeats or spent < self._min_time:
            return False
        if self._stopping is None:
            self.error = relative_error(seconds)
            return True
        late = spent + seconds[-1] > self._max_seconds
        if len(seconds) < self._stopping.look_at and not late:
            return False
        done = self._stopping.look(seconds)
        self.error = self._stopping.error
        return done or late


def time_decodes(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    warmup: int,
    until: Until,
    watch: AbstractContextManager[object] | None = None,
    *,
    min_warmup: float = 0.0,
    soak: Soak | None = None,
) -> Decodes:
    """Time whole decodes in three laps: the prefill pass, the first block, the rest.

    `warmup` untimed ones, that take `min_warmup` seconds at least, those of a soak, then timed ones
    until there are enough. `watch` is entered around the timed ones, not around the warm-up.
    """
    kinds = [planned.kind for planned in state.passes]
    steps.prepare(kinds)
    prefill, first_block = prefill_passes(state.passes), first_block_passes(state.passes)

    def run(kinds: list[str]) -> Work:
        def work() -> None:
            for kind in kinds:
                steps(kind)

        return work

    works = [run(kinds[:prefill]), run(kinds[prefill:first_block]), run(kinds[first_block:])]

    def decode() -> list[float]:
        sampler.seek(state, 0)
        return laps_of(works, state.tokens.device)

    warm = warm_up(lambda: sum(decode()), warmup, least_seconds=min_warmup)
    if soak is not None:
        soak.run(lambda: sum(decode()[1:]))
    laps: list[list[float]] = []
    seconds: list[float] = []
    with watch or nullcontext():
        began = time.perf_counter()
        while not until.enough(seconds, time.perf_counter() - began):
            laps.append(decode())
            seconds.append(laps[-1][1] + laps[-1][2])
    return Decodes(
        seconds=seconds,
        warmup_seconds=warm,
        prefill_seconds=[first for first, *_ in laps] if prefill else [],
        first_block_seconds=[first + begin if prefill else begin for first, begin, _ in laps],
        busy_seconds=sum(map(sum, laps)),
    )
