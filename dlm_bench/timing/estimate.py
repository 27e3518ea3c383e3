"""Sampled mode: time a few passes of each role and integrate over the schedule.

The plan is cut into units: a run of passes that one block takes at one context length, or single
passes where a run is long (full-sequence denoising). Units of one role form a line along which
the cost changes smoothly: the context grows, the masked rows of the head get fewer. A few units
of each line are timed; the others are interpolated between them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from scipy.stats import t as student_t

from dlm_bench.results.record import PassTiming
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PlannedPass, role_of
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import seconds_of
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.steady import warm_up

LONGEST_UNIT = 64  # passes; a longer run, or one that is the whole decode, is cut into passes
WARMUP_SECONDS = 1.0  # after one warm-up run of a unit, no further one beyond this
SHORT_SECONDS = 0.1  # a unit this long is not moved by the caches it starts with


@dataclass(frozen=True)
class Unit:
    """`count` consecutive passes of one kind, from pass `index` of the plan."""

    index: int
    count: int
    place: PlannedPass


@dataclass(frozen=True)
class Estimate:
    """Seconds of a whole decode, one an independent repeat, and how far off they may be."""

    seconds: list[float]
    relative_error: float | None
    passes: list[PassTiming]
    warmup_seconds: list[float]


def units(plan: list[PlannedPass]) -> Iterator[Unit]:
    """Cut a plan into units."""
    index = 0
    for _, run in groupby(plan, key=lambda p: p[:4]):  # kind, query, context and block
        steps = list(run)
        if len(steps) <= LONGEST_UNIT and len(steps) < len(plan):
            yield Unit(index, len(steps), steps[0])
        else:
            yield from (Unit(index + i, 1, step) for i, step in enumerate(steps))
        index += len(steps)


def lines(plan: list[PlannedPass]) -> list[list[Unit]]:
    """Units whose cost changes smoothly from one to the next, in order."""
    found: dict[tuple[str, int, int], list[Unit]] = {}
    for unit in units(plan):
        role = role_of(unit.place.kind)
        found.setdefault((role, unit.count, unit.place.block_len), []).append(unit)
    return list(found.values())


def nodes(line: list[Unit], most: int) -> list[int]:
    """Indices along a line of the units to time: its ends and evenly between, or one in the
    middle where all units cost the same."""
    costs = {(u.place.query_len, u.place.context_len, u.place.masked) for u in line}
    if len(costs) == 1:
        return [len(line) // 2]
    return sorted({round(i) for i in np.linspace(0, len(line) - 1, min(most, len(line)))})


def weights(at: list[int], length: int) -> np.ndarray:
    """What each node counts for in the sum over a line, interpolated linearly between nodes."""
    if len(at) == 1:
        return np.array([float(length)])
    basis = np.eye(len(at))
    return np.array([np.interp(np.arange(length), at, row).sum() for row in basis])


def interpolation_error(at: list[int], seconds: np.ndarray, weight: np.ndarray) -> float:
    """Seconds that linear interpolation may be off by on one line.

    Each inner node is predicted from its neighbours. For a smooth cost that misses by four times
    the largest error at the spacing in use, so by six times the mean one, which is taken to hold
    for the whole line.
    """
    if len(at) < 3:
        return 0.0
    misses = [
        abs(np.interp(at[i], [at[i - 1], at[i + 1]], [seconds[i - 1], seconds[i + 1]]) - seconds[i])
        for i in range(1, len(at) - 1)
    ]
    return float(np.average(misses, weights=weight[1:-1]) / 6 * weight.sum())


def noise(variances: list[float], repeats: int) -> float:
    """Half the 95 % interval of a sum of means over `repeats` with these variances of the mean.

    Student's t with Welch and Satterthwaite's degrees of freedom. `repeats` must be 2 or more.
    """
    total = sum(variances)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(v**2 / (repeats - 1) for v in variances)
    return float(student_t.ppf(0.975, freedom) * total**0.5)


def estimate(
    sampler: Sampler,
    state: DecodeState,
    steps: Steps,
    *,
    warmup: int,
    repeats: int,
    most_nodes: int,
    watch: AbstractContextManager[object] | None = None,
) -> Estimate:
    """Time a decode by its passes.

    `warmup` runs precede the first node of each line, until they have taken WARMUP_SECONDS, and at
    most as many more where they still get faster. Each repeat then goes through all nodes, so that
    a machine that drifts shows as their spread; `watch` is entered around the repeats. The relative
    error is that of a 95 % interval of the mean plus the interpolation's; None where one repeat
    leaves nothing to tell it from.
    """
    found = [(line, nodes(line, most_nodes)) for line in lines(state.plan)]
    steps.prepare(line[place].place.kind for line, at in found for place in at)
    timer = _UnitTimer(sampler, state, steps)
    for line, at in found:
        timer.warm_up(line[at[0]], warmup)
    times = [np.empty((len(at), repeats)) for _, at in found]
    with watch or nullcontext():
        for repeat in range(repeats):
            for (line, at), taken in zip(found, times, strict=True):
                for row, place in enumerate(at):
                    taken[row, repeat] = timer.seconds(line[place])

    totals = np.zeros(repeats)
    variances: list[float] = []
    interpolated = 0.0
    timings = []
    for (line, at), taken in zip(found, times, strict=True):
        weight = weights(at, len(line))
        totals += weight @ taken
        interpolated += interpolation_error(at, taken.mean(axis=1), weight)
        if repeats > 1:
            variances += list(weight**2 * taken.var(axis=1, ddof=1) / repeats)
        for unit, each in zip((line[place] for place in at), taken, strict=True):
            timings.append(
                PassTiming(
                    kind=unit.place.kind,
                    query_len=unit.place.query_len,
                    context_len=unit.place.context_len,
                    pass_index=unit.index,
                    seconds=(each / unit.count).tolist(),
                )
            )
    error = None
    if repeats > 1:
        error = float((noise(variances, repeats) + interpolated) / totals.mean())
    return Estimate(totals.tolist(), error, timings, timer.warmup_seconds)


@dataclass
class _UnitTimer:
    sampler: Sampler
    state: DecodeState
    steps: Steps
    warmup_seconds: list[float] = field(default_factory=list)

    def warm_up(self, unit: Unit, runs: int) -> None:
        if unit.place.kind in self.steps.warm:
            return
        self.warmup_seconds += warm_up(
            lambda: self._run(unit),
            runs,
            most_seconds=WARMUP_SECONDS,
            extra_seconds=WARMUP_SECONDS,
        )

    def seconds(self, unit: Unit) -> float:
        """Seconds of a unit from the state it would start in. A short one is run twice: in a
        decode its weights would be in the caches from the pass before."""
        taken = self._run(unit)
        return self._run(unit) if taken < SHORT_SECONDS else taken

    def _run(self, unit: Unit) -> float:
        self.sampler.seek(self.state, unit.index)

        def run() -> None:
            for _ in range(unit.count):
                self.steps(unit.place.kind)

        return seconds_of(run, self.state.tokens.device)
