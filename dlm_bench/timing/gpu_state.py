"""The settings of an NVIDIA GPU and the other processes on it, by NVML (nvidia-ml-py)."""

import os
from collections.abc import Callable
from typing import Any

OTHERS_PERCENT = 5.0  # of the SMs' time, by other processes, that slow a run down


def gpu_state(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return the settings of a GPU by name, without those that it does not tell.

    power_limit_watts, power_limit_default_watts: the enforced limit, and the board's own.
    sm_clock_max_mhz, memory_clock_max_mhz: the highest clocks of the board.
    sm_clock_application_mhz, memory_clock_application_mhz: those asked for by nvidia-smi -ac.
    sm_clock_locked_mhz: that this command locked (`NvmlSource` adds it).
    persistence, ecc, mig: on or off.
    compute_processes: processes with a CUDA context, this one among them.
    """
    sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
    reads: dict[str, Callable[[], Any]] = {
        "power_limit_watts": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1e3,
        "power_limit_default_watts": lambda: (
            nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1e3
        ),
        "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, sm),
        "memory_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, memory),
        "sm_clock_application_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(handle, sm),
        "memory_clock_application_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(handle, memory),
        "persistence": lambda: _switch(nvml.nvmlDeviceGetPersistenceMode(handle)),
        "ecc": lambda: _switch(nvml.nvmlDeviceGetEccMode(handle)[0]),
        "mig": lambda: _switch(nvml.nvmlDeviceGetMigMode(handle)[0]),
        "compute_processes": lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
    }
    found = {name: _told(read) for name, read in reads.items()}
    return {name: value for name, value in found.items() if value is not None}


def others_percent(nvml: Any, handle: Any, since: int, own: int | None = None) -> float | None:
    """Return the mean share of the SMs' time, in percent, that other processes took since `since`
    (microseconds since 1970); None where NVML does not tell, or does not know this process by its
    number, as in a container with numbers of its own."""
    own = os.getpid() if own is None else own
    running = _told(
        lambda: {each.pid for each in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
    )
    if running is None or own not in running:
        return None
    if running == {own}:
        return 0.0
    samples = _told(lambda: list(nvml.nvmlDeviceGetProcessUtilization(handle, since)))
    if samples is None:
        return None
    shares: dict[int, list[float]] = {}
    for sample in samples:
        if sample.pid != own and sample.timeStamp >= since:
            shares.setdefault(sample.pid, []).append(sample.smUtil)
    return float(sum(sum(each) / len(each) for each in shares.values()))


def _switch(mode: int) -> str:
    return "on" if mode else "off"


def _told(read: Callable[[], Any]) -> Any:
    """Return what NVML tells, None for an error or an absent value."""
    try:
        value = read()
    except Exception:  # NVMLError, or a name that a version of nvidia-ml-py lacks
        return None
    absent = isinstance(value, int | float) and not 0 <= value < 1e7  # all bits set
    return None if absent else value
