"""Sampled mode: time units of a decode until they say enough, and integrate over the schedule.

See units.py for what a unit and a node are.
"""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from dlm_bench.results.record import PassTiming
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import first_block_passes
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.precision import ANY_ERROR, Stopping
from dlm_bench.timing.unit_timer import UnitTimer
from dlm_bench.timing.units import (
    Unit,
    first_nodes,
    interpolation_error,
    misses,
    prefill_unit,
    strata,
    weights,
)

CLEAR = 3.0  # standard errors by which a node must be off to be more than noise
LEAST_SECONDS = 1.0  # of rounds that are to reach a tolerance: a drift has to have time to show


@dataclass(frozen=True)
class Estimate:
    """Seconds of a decode, estimated once a round.

    seconds: of the whole decode of each round, its prefill pass excluded.
    relative_error: half the 95 % interval of their mean plus the interpolation error, relative to
        the mean (see Stopping); None of fewer than three rounds.
    interpolated: the interpolation error in it, in seconds.
    passes: seconds of one pass of each kind at each node.
    warmup_seconds: of the warm-up runs of units.
    prefill_seconds: of the prefill pass of each round, if there is one.
    first_block_seconds: until the first block is unmasked, of each round.
    busy_seconds: that the device worked while `watch` was entered.
    """

    seconds: list[float]
    relative_error: float | None
    interpolated: float
    passes: list[PassTiming]
    warmup_seconds: list[float]
    prefill_seconds: list[float]
    first_block_seconds: list[float]
    busy_seconds: float


def estimate(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    *,
    warmup: int,
    repeats: int,
    most_nodes: int,
    tolerance: float,
    most_seconds: float,
    watch: AbstractContextManager[object] | None = None,
) -> Estimate:
    """Time a decode by units of its passes.

    Warm-up: `warmup` runs of the first node of each stratum, until they have taken WARMUP_SECONDS,
    and at most as many more while they still get faster. Then all nodes run in turn, until the
    warm-up has taken SETTLE_SECONDS, or half of `most_seconds` if less.
    Rounds: a round goes through all nodes, and its times make an estimate of the decode: a machine
    with a drift shows as a spread of the rounds. There are `repeats` rounds, and more until the
    relative error is within `tolerance` and they have taken LEAST_SECONDS, but none after
    `most_seconds` beyond the second of two or more. `watch` is entered around the rounds, and a
    prefill pass is timed in each, too.
    Nodes: a bent stratum, as seen by leaving a node out, gets more nodes there, up to
    `most_nodes`, and earlier rounds do not count any more.
    """
    tables = [_Table(stratum, first_nodes(stratum, most_nodes)) for stratum in strata(state.passes)]
    prefill = prefill_unit(state.passes)
    timed = tables if prefill is None else [_Table([prefill], [0]), *tables]
    timer = UnitTimer(sampler, state, steps, state.tokens.device)
    if warmup:
        for table in timed:
            timer.warm_up(table.stratum[table.at[0]], warmup)
        timer.settle(
            [table.stratum[node] for table in timed for node in table.at],
            most_seconds / 2,
        )
    with watch or nullcontext():
        begin, stopping = time.perf_counter(), Stopping(repeats, tolerance)
        timer.busy_seconds = 0.0
        least_seconds = LEAST_SECONDS if tolerance < ANY_ERROR else 0.0
        while True:
            began = time.perf_counter()
            for table in timed:
                table.add_round(timer.laps)
            rounds = min(table.rounds for table in tables)
            now = time.perf_counter()
            late = 2 * now - began - begin > most_seconds and rounds >= min(repeats, 2)
            if rounds < stopping.look_at and not late:
                continue
            totals = np.sum([table.totals(rounds) for table in tables], axis=0).tolist()
            interpolated = sum(table.interpolation_error(rounds) for table in tables)
            done = stopping.look(totals, interpolated)
            if late or (done and now - begin >= least_seconds):
                break
            if interpolated > tolerance / 2 * fmean(totals):
                refined = [table.refine(most_nodes, rounds) for table in tables]
                if any(refined):
                    stopping.restart()
    stop = first_block_passes(state.passes)
    first_block = np.sum([table.until(stop, rounds) for table in timed], axis=0)
    return Estimate(
        seconds=totals,
        relative_error=stopping.error,
        interpolated=interpolated,
        passes=[timing for table in timed for timing in table.timings()],
        warmup_seconds=timer.warmup_seconds,
        prefill_seconds=[] if prefill is None else timed[0].totals(rounds).tolist(),
        first_block_seconds=first_block.tolist(),
        busy_seconds=timer.busy_seconds,
    )


class _Table:
    """The times of one stratum: of each node, of each run of its passes, in each round."""

    def __init__(self, stratum: list[Unit], at: list[int]) -> None:
        self.stratum = stratum
        self._laps: dict[int, list[list[float]]] = {node: [] for node in at}

    @property
    def at(self) -> list[int]:
        """The nodes, in the order of the stratum."""
        return sorted(self._laps)

    @property
    def rounds(self) -> int:
        """The number of rounds with all nodes."""
        return min(map(len, self._laps.values()))

    def add_round(self, laps: Callable[[Unit], list[float]]) -> None:
        """Time all nodes once."""
        for node in self.at:
            self._laps[node].append(laps(self.stratum[node]))

    def seconds(self, rounds: int) -> np.ndarray:
        """Return the seconds of each node in each of the last rounds, (nodes, rounds), in order."""
        return np.array([[sum(laps) for laps in self._laps[node][-rounds:]] for node in self.at])

    def totals(self, rounds: int) -> np.ndarray:
        """Return the seconds of all units of the stratum by each of the last rounds, (rounds,)."""
        return weights(self.at, len(self.stratum)) @ self.seconds(rounds)

    def until(self, stop: int, rounds: int) -> np.ndarray:
        """Return the seconds of the stratum's passes before pass `stop`, the first block's end, by
        each of the last rounds, (rounds,).

        A unit beyond `stop` is the first of its stratum, and the first node stands for it: the same
        unit, or a unit of the same cost.
        """
        before = sum(unit.index + unit.count <= stop for unit in self.stratum)
        if before:
            return weights(self.at, before) @ self.seconds(rounds)
        unit = self.stratum[0]
        begins = unit.index + np.cumsum([0, *(run.count for run in unit.runs[:-1])])
        counts = np.array([run.count for run in unit.runs])
        share = np.clip(stop - begins, 0, counts) / counts
        return np.array([share @ laps for laps in self._laps[self.at[0]][-rounds:]])

    def interpolation_error(self, rounds: int) -> float:
        """Return the possible error of all units together by interpolation, in seconds."""
        return interpolation_error(self.at, self.seconds(rounds).mean(axis=1))

    def refine(self, most: int, rounds: int) -> bool:
        """Add nodes on both sides of the node farthest off its neighbours, if the distance is more
        than noise and there is room for them. Return True if any was added.
        """
        at = self.at
        if len(at) < 3 or rounds < 2:
            return False
        missed = misses(at, self.seconds(rounds))  # (inner nodes, rounds)
        mean = np.abs(missed.mean(axis=1))
        noise = missed.std(axis=1, ddof=1) / math.sqrt(rounds)
        clear = np.where(mean > CLEAR * noise, mean * weights(at, len(self.stratum))[1:-1], 0)
        worst = int(clear.argmax())
        if clear[worst] == 0:
            return False
        left, node, right = at[worst : worst + 3]
        for new in ((left + node) // 2, (node + right + 1) // 2):
            if new not in self._laps and len(self._laps) < most:
                self._laps[new] = []
        return len(self._laps) > len(at)

    def timings(self) -> list[PassTiming]:
        """Return the seconds of a single pass of each run of each node."""
        return [
            PassTiming(
                kind=run.first.kind,
                query_len=run.first.query_len,
                context_len=run.first.context_len,
                pass_index=self.stratum[node].index
                + sum(r.count for r in self.stratum[node].runs[:i]),
                seconds=[laps[i] / run.count for laps in self._laps[node]],
            )
            for node in self.at
            for i, run in enumerate(self.stratum[node].runs)
        ]
