"""The sensors of an NVIDIA GPU, by NVML (nvidia-ml-py)."""

import importlib
from collections.abc import Callable
from typing import Any

from dlm_bench.timing.telemetry import Reading

REASONS = {  # bits of nvmlDeviceGetCurrentClocksEventReasons
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}


class NvmlSource:
    """One GPU; what it does not support is asked for once."""

    name = "nvml"
    energy_update = 0.1

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._readers: dict[str, Callable[[], float]] = {
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "memory_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
            "power_watts": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3,
            "temperature_celsius": lambda: nvml.nvmlDeviceGetTemperature(
                handle, nvml.NVML_TEMPERATURE_GPU
            ),
            "utilisation_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        }
        # Older versions have the older name only, and newer ones may drop it.
        self._reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
            nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None
        )

    def has_sensors(self) -> bool:
        return True

    def sample(self) -> Reading:
        values = {}
        for name, read in list(self._readers.items()):
            try:
                values[name] = float(read())
            except self._nvml.NVMLError:
                del self._readers[name]
        return Reading(values, self._throttling())

    def _throttling(self) -> frozenset[str]:
        if self._reasons is None:
            return frozenset()
        try:
            bits = self._reasons(self._handle)
        except self._nvml.NVMLError:
            older = getattr(self._nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
            # An older driver lacks what a newer nvidia-ml-py asks for.
            self._reasons = older if older != self._reasons else None
            return self._throttling()
        return frozenset(name for bit, name in REASONS.items() if bits & bit)

    def joules(self) -> float | None:
        try:
            return self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3
        except self._nvml.NVMLError:
            return None

    def begin(self) -> None:
        pass

    def end(self, seconds: float) -> Reading:
        return Reading()


def nvml_source(properties: Any, nvml: Any = None) -> NvmlSource | str:
    """The sensors of the GPU with these properties (torch.cuda.get_device_properties), or why
    there are none.

    It is found by its UUID or PCI address: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER renumber
    torch's devices, not NVML's.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return "nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return f"NVML: {error}"
    handle = _handle(nvml, properties)
    return "NVML: does not know this GPU" if handle is None else NvmlSource(nvml, handle)


def _handle(nvml: Any, properties: Any) -> Any:
    uuid = str(getattr(properties, "uuid", ""))
    prefixed = uuid.startswith(("GPU-", "MIG-"))
    names = ([uuid] if prefixed else [f"GPU-{uuid}", f"MIG-{uuid}"]) if uuid else []
    for name in names:
        try:
            return nvml.nvmlDeviceGetHandleByUUID(name)
        except nvml.NVMLError:
            continue
    where = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in where:
        return None
    domain, bus, device = where
    try:
        return nvml.nvmlDeviceGetHandleByPciBusId(f"{domain:08x}:{bus:02x}:{device:02x}.0")
    except nvml.NVMLError:
        return None
