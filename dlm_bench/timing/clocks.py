"""Seconds of pieces of work: CUDA events on a GPU, the monotonic clock on a CPU."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

Work = Callable[[], object]

QUEUE_CYCLES = 200_000  # some 0.1 ms of the GPU's clock, in which the host queues the first work


@dataclass(frozen=True)
class Laps:
    """Times of works that ran in turn, in seconds.

    seconds: of each work.
    before: of the untimed work in front of them.
    queued: of the host until all were queued, `before` included; on a CPU until all were over.
    """

    seconds: list[float]
    before: float
    queued: float


def seconds_of(work: Work, device: torch.device) -> float:
    """Run `work` once and return the seconds, from an idle device to an idle device."""
    return laps_of([work], device)[0]


def laps_of(works: Sequence[Work], device: torch.device, before: Work | None = None) -> list[float]:
    """Run works in turn, with nothing between them, and return the seconds of each.

    `before` runs first, untimed, to leave data in the caches.
    """
    return timed(works, device, before).seconds


def timed(works: Sequence[Work], device: torch.device, before: Work | None = None) -> Laps:
    """As `laps_of`, with the time of the host and of `before`."""
    parts = [before or _nothing, *works]
    if device.type == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(parts) + 1)]
        torch.cuda.synchronize(device)
        # Else the clock would start at once and wait for the first launch: in a decode each pass
        # is queued while the pass before runs.
        torch.cuda._sleep(QUEUE_CYCLES)
        begin = time.perf_counter()
        marks[0].record()
        for part, mark in zip(parts, marks[1:], strict=True):
            part()
            mark.record()
        queued = time.perf_counter() - begin
        torch.cuda.synchronize(device)
        first, *laps = [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]
        return Laps(laps, first, queued)
    ticks = [time.perf_counter_ns()]
    for part in parts:
        part()
        ticks.append(time.perf_counter_ns())
    first, *laps = [(b - a) / 1e9 for a, b in pairwise(ticks)]
    return Laps(laps, first, (ticks[-1] - ticks[0]) / 1e9)


def _nothing() -> None:
    pass
