"""The most memory in use while a point is measured."""

import contextlib
from pathlib import Path

import torch

from dlm_bench.timing.host import machine_memory

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def total_memory(device: torch.device) -> int | None:
    """Return the bytes of a GPU's memory, or of the machine's for a CPU; None where the system does
    not tell."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return machine_memory()


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak. On a CPU outside Linux there is none to start."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            _CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since the reset: of torch's allocations on a GPU, of the resident set of
    the whole process on a CPU; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    peaks = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    return peaks[0] if peaks else None
