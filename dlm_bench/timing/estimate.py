"""Sampled mode: time a few passes of each role and integrate over the schedule.

The plan is cut into units: a run of passes that one block takes at one context length, or single
passes where a run is long (full-sequence denoising). Units of one role form a line along which
the cost changes smoothly: the context grows, the masked rows of the head get fewer. A few units
of each line are timed; the others are interpolated between them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from dlm_bench.models.denoiser import Denoiser
from dlm_bench.results.record import PassTiming
from dlm_bench.samplers.sampler import Sampler
from dlm_bench.samplers.schedule import PlannedPass
from dlm_bench.samplers.state import DecodeState
from dlm_bench.timing.clocks import seconds_of

LONGEST_UNIT = 64  # passes; a longer run, or one that is the whole decode, is cut into passes
WARMUP_SECONDS = 1.0  # after one warm-up run of a unit, no further one beyond this
SHORT_SECONDS = 0.1  # a unit this long is not moved by the state of the caches it starts with


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
    relative_error: float
    passes: list[PassTiming]


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
        role = unit.place.kind.partition(":")[0]
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

    Each inner node is predicted from its neighbours. Its true distance to that is the error at
    twice the spacing in use, so about four times the one made (the cost is smooth).
    """
    error = 0.0
    for i in range(1, len(at) - 1):
        guess = np.interp(at[i], [at[i - 1], at[i + 1]], [seconds[i - 1], seconds[i + 1]])
        error += abs(guess - seconds[i]) / 4 * weight[i]
    return error


def estimate(
    model: Denoiser,
    sampler: Sampler,
    state: DecodeState,
    *,
    warmup: int,
    repeats: int,
    most_nodes: int,
) -> Estimate:
    """Time a decode by its passes.

    `warmup` runs precede the first node of each line, until they have taken WARMUP_SECONDS, and one
    each of the others where units are short. The relative error is two standard errors of the
    mean of the repeats plus the interpolation's.
    """
    device = state.tokens.device
    totals = np.zeros(repeats)
    variance = interpolated = 0.0
    timings = []
    for line in lines(state.plan):
        at = nodes(line, most_nodes)
        weight = weights(at, len(line))
        times = np.empty((len(at), repeats))
        for row, place in enumerate(at):
            unit = line[place]
            if row == 0:
                runs = warmup
            else:  # the line's code and buffers are warm; a short unit's own cache lines are not
                runs = min(warmup, 1) if times[row - 1].min() < SHORT_SECONDS else 0
            times[row] = _time_unit(model, sampler, state, unit, runs, repeats, device)
            timings.append(
                PassTiming(
                    kind=unit.place.kind,
                    query_len=unit.place.query_len,
                    context_len=unit.place.context_len,
                    pass_index=unit.index,
                    seconds=(times[row] / unit.count).tolist(),
                )
            )
        totals += weight @ times
        if repeats > 1:
            variance += float(((weight**2) @ times.var(axis=1, ddof=1)) / repeats)
        interpolated += interpolation_error(at, times.mean(axis=1), weight)
    error = (2 * variance**0.5 + interpolated) / totals.mean()
    return Estimate(totals.tolist(), float(error), timings)


def _time_unit(
    model: Denoiser,
    sampler: Sampler,
    state: DecodeState,
    unit: Unit,
    warmup: int,
    repeats: int,
    device: torch.device,
) -> list[float]:
    """Seconds of each repeat of a unit, from the state it would start in."""

    def run() -> None:
        for _ in range(unit.count):
            sampler.step(model, state, unit.place.kind)

    def timed() -> float:
        sampler.seek(state, unit.index)
        return seconds_of(run, device)

    spent = 0.0
    for _ in range(warmup):
        spent += timed()
        if spent > WARMUP_SECONDS:
            break
    return [timed() for _ in range(repeats)]
