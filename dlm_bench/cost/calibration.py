"""A calibration of this machine: the peak and the bandwidth by two short measurements."""

import os
from collections.abc import Callable

import torch

from dlm_bench.cost.hardware import MEASURED, Hardware
from dlm_bench.errors import unknown
from dlm_bench.models.factory import parse_device, parse_dtype
from dlm_bench.timing.clocks import seconds_of

RUNS = 5  # of each piece of work after a warm-up; the fastest counts


def measure_hardware(
    device: str = "cpu",
    dtype: str | None = None,
    *,
    matrix: int | None = None,
    copied: int | None = None,
) -> Hardware:
    """Measure the rates of a matrix product and of a copy, in about a second.

    device: cpu, cuda, cuda:N or auto.
    dtype: float32 on a CPU and bfloat16 on a GPU unless given.
    matrix: the side of the square matrices.
    copied: bytes, several times the last-level cache; a copy counts as bytes read and written.
    Raises ConfigError for a missing device, one without memory (meta), or an unknown dtype.
    """
    found = parse_device(device)
    if found.type == "meta":
        raise unknown("device", device, ("cpu", "cuda", "cuda:N"))
    on_cpu = found.type == "cpu"
    kind = parse_dtype(dtype or ("float32" if on_cpu else "bfloat16"))
    side = matrix or (1024 if on_cpu else 8192)
    size = copied or (1 << 28 if on_cpu else 1 << 32)

    a, b = (torch.randn(side, side, device=found).to(kind) for _ in range(2))
    out = torch.empty_like(a)
    multiply = _fastest(lambda: torch.mm(a, b, out=out), found)
    source = torch.ones(size, dtype=torch.uint8, device=found)
    target = torch.empty_like(source).fill_(0)  # touched: a first write maps the pages
    copy = _fastest(lambda: target.copy_(source), found)

    if on_cpu:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        memory = torch.cuda.get_device_properties(found).total_memory
    return Hardware(
        name=MEASURED,
        peak=2 * side**3 / multiply,
        bandwidth=2 * size / copy,
        memory=memory,
        source=f"calibration on {device}: product of {side} x {side}, copy of {size:,} bytes",
        dtype=str(kind).removeprefix("torch."),
    )


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the fastest run."""
    work()
    return min(seconds_of(work, device) for _ in range(RUNS))
