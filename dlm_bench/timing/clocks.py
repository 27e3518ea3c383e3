"""Seconds of a piece of work: CUDA events on a GPU, the monotonic clock on a CPU."""

import time
from collections.abc import Callable

import torch

QUEUE_CYCLES = 200_000  # some 0.1 ms of the GPU's clock, in which the host queues the first work


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Run `work` once and return its seconds, from an idle device to an idle device."""
    if device.type == "cuda":
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        # Else the clock would start at once and wait for the first launch: in a decode each pass
        # is queued while the one before it runs.
        torch.cuda._sleep(QUEUE_CYCLES)
        start.record()
        work()
        stop.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(stop) / 1e3
    begin = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begin) / 1e9
