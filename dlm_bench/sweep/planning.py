"""The making of a plan, in a worker: this file imports torch."""

from pathlib import Path
from typing import Any

import torch

from dlm_bench.sweep.load import Sweep, load_sweep
from dlm_bench.sweep.plan import ANY_HARDWARE, Plan
from dlm_bench.sweep.work import by_schedule, expected_load
from dlm_bench.timing.environment import environment
from dlm_bench.timing.memory import total_memory


def make_plan(path: str | Path, *, on_this_machine: bool = True, **overrides: Any) -> Plan:
    """Read and check a sweep file (see `load_sweep`) and work out the cost of the points, on this
    machine or, with on_this_machine=False, on ANY_HARDWARE.

    Raises ConfigError.
    """
    sweep = load_sweep(path, on_this_machine=on_this_machine, **overrides)
    device = torch.device(sweep.points[0].device)
    names: list[str] = []
    if on_this_machine and device.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    loads = [(0.0, 0.0)] * len(sweep.points)
    for index in by_schedule(sweep):
        point = sweep.points[index]
        loads[index] = expected_load(point, sweep.measuring, sweep.options_of(point))
    return Plan(
        sweep=sweep,
        work=[work for work, _ in loads],
        passes=[passes for _, passes in loads],
        environment=environment(device.type, device.index or 0)
        if on_this_machine
        else {"hardware": ANY_HARDWARE},
        gpus=names,
        memory=device_memory(sweep) if on_this_machine else None,
    )


def device_memory(sweep: Sweep) -> int | None:
    """Return the bytes that a worker may use of the device; None if unknown."""
    total, limit = total_memory(torch.device(sweep.points[0].device)), sweep.memory_limit
    return min((size for size in (total, limit) if size is not None), default=None)
