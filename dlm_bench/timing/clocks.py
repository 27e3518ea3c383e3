"""Seconds of pieces of work: CUDA events on a GPU, the monotonic clock on a CPU."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

Work = Callable[[], object]

QUEUE_CYCLES = 200_000  # some 0.1 ms of the GPU's clock, in which the host queues the first work


def seconds_of(work: Work, device: torch.device) -> float:
    """Run `work` once and return its seconds, from an idle device to an idle device."""
    return laps_of([work], device)[0]


def laps_of(works: Sequence[Work], device: torch.device, before: Work | None = None) -> list[float]:
    """Run works in turn, with nothing between them, and return the seconds of each.

    `before` runs first, untimed, so that they start with its data in the caches.
    """
    if device.type == "cuda":
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(works) + 1)]
        torch.cuda.synchronize(device)
        # Else the clock would start at once and wait for the first launch: in a decode each pass
        # is queued while the one before it runs.
        torch.cuda._sleep(QUEUE_CYCLES)
        if before is not None:
            before()
        marks[0].record()
        for work, mark in zip(works, marks[1:], strict=True):
            work()
            mark.record()
        torch.cuda.synchronize(device)
        return [a.elapsed_time(b) / 1e3 for a, b in pairwise(marks)]
    if before is not None:
        before()
    ticks = [time.perf_counter_ns()]
    for work in works:
        work()
        ticks.append(time.perf_counter_ns())
    return [(b - a) / 1e9 for a, b in pairwise(ticks)]
