"""Exact mode: time whole decodes."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import first_block_passes, prefill_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import Work, laps_of
from dlm_bench.timing.graphs import Steps
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


def time_decodes(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    warmup: int,
    repeats: int,
    watch: AbstractContextManager[object] | None = None,
) -> Decodes:
    """Time whole decodes in three laps: the prefill pass, the first block, the rest. `watch` is
    entered around the timed ones, not around the warm-up."""
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

    warm = warm_up(lambda: sum(decode()), warmup)
    with watch or nullcontext():
        laps = [decode() for _ in range(repeats)]
    return Decodes(
        seconds=[begin + rest for _, begin, rest in laps],
        warmup_seconds=warm,
        prefill_seconds=[first for first, *_ in laps] if prefill else [],
        first_block_seconds=[first + begin if prefill else begin for first, begin, _ in laps],
        busy_seconds=sum(map(sum, laps)),
    )
