"""The sensors of an NVIDIA GPU, by NVML (nvidia-ml-py)."""

import importlib
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlm_bench.timing.clock_lock import BASE, VARIABLE
from dlm_bench.timing.gpu_state import gpu_state, others_percent
from dlm_bench.timing.telemetry import SLOWDOWNS, Reading

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

_MODULE = Path("/proc/driver/nvidia/version")
MIG_SLICE = "a MIG slice has no sensors"
SLOW_CLOCK = 0.95  # of the highest clock: a GPU under load below it is held down
UNKNOWN = 2**32 - 1  # NVML_VALUE_NOT_AVAILABLE, of 32 bits


class NvmlSource:
    """The sensors of a whole GPU; an unsupported sensor is asked for once.

    A sensor must not fail a measurement: an error of a driver or of a version of
    nvidia-ml-py is taken for an absent value.
    """

    name = "nvml"
    energy_update = 0.1

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self.handle = nvml, handle
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
        self.state: Mapping[str, Any] = gpu_state(nvml, handle) | _locked()
        self._since = 0

    def has_sensors(self) -> bool:
        return True

    def sample(self) -> Reading:
        values = {}
        for name, read in list(self._readers.items()):
            value = _asked(read)
            if value is None:
                del self._readers[name]
            else:
                values[name] = value
        reasons = self._throttling()
        return Reading(values, reasons, slow=self._is_slow(values.get("sm_clock_mhz"), reasons))

    def _is_slow(self, clock: float | None, reasons: frozenset[str]) -> bool | None:
        """Tell if the SM clock is held down, against the highest of the board: a power cap alone
        says nothing, as passes bound by memory may lose nothing to it. Clocks of an idle GPU, and
        clocks that the user set, are not held down. None where clocks are not told."""
        locked = self.state.get("sm_clock_locked_mhz", self.state.get("sm_clock_max_mhz"))
        highest = None if locked == BASE else locked
        if clock is None or not highest:
            return None
        capped = reasons & (SLOWDOWNS | {"sw_power_cap"})
        if "gpu_idle" in reasons or ("applications_clocks_setting" in reasons and not capped):
            return False
        return bool(clock < SLOW_CLOCK * highest)

    def _throttling(self) -> frozenset[str]:
        if self._reasons is None:
            return frozenset()
        try:
            bits = int(self._reasons(self.handle))
        except Exception:
            older = getattr(self._nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None)
            # An older driver lacks what a newer nvidia-ml-py asks for.
            self._reasons = older if older != self._reasons else None
            return self._throttling()
        return frozenset(name for bit, name in REASONS.items() if bits & bit)

    def joules(self) -> float | None:
        return _asked(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3)

    def begin(self) -> None:
        self._since = int(time.time() * 1e6)

    def end(self, seconds: float) -> Reading:
        others = others_percent(self._nvml, self.handle, self._since)
        return Reading({} if others is None else {"other_gpu_percent": others})


def _locked() -> dict[str, int | str]:
    """Return the clock that this command locked (see clock_lock), if it did."""
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return {}
    return {"sm_clock_locked_mhz": int(asked) if asked.isdigit() else asked}


def nvml_source(properties: Any, nvml: Any = None) -> NvmlSource | str:
    """Return the sensors of the GPU with these properties (torch.cuda.get_device_properties), or
    the reason for none.

    The GPU is found by UUID or PCI address: CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER renumber
    torch's devices, not NVML's. A MIG slice has the PCI address of its board, and by some versions
    of CUDA the UUID; the board's sensors tell of all slices, so a slice is given none.
    """
    uuid = str(getattr(properties, "uuid", "") or "")
    if uuid.startswith("MIG-") or " MIG " in str(getattr(properties, "name", "")):
        return MIG_SLICE
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return "nvidia-ml-py is not installed"
    try:
        nvml.nvmlInit()
    except Exception as error:
        return f"NVML: {error}"
    if _found(nvml.nvmlDeviceGetHandleByUUID, f"MIG-{uuid}") is not None:
        return MIG_SLICE
    handle = _handle(nvml, uuid, properties)
    if handle is None:
        return "NVML: does not know this GPU"
    return _why_no_board(nvml, handle) or NvmlSource(nvml, handle)


def driver_version(nvml: Any = None, module: Path = _MODULE) -> str | None:
    """Return the version of NVIDIA's driver: by NVML, or else by the kernel module; None without
    a driver."""
    try:
        nvml = importlib.import_module("pynvml") if nvml is None else nvml
        nvml.nvmlInit()
        told = nvml.nvmlSystemGetDriverVersion()
    except Exception:  # no nvidia-ml-py, or whatever a version of it raises
        told = None
    if told:
        return told.decode() if isinstance(told, bytes) else str(told)
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", module.read_text())
    except OSError:
        return None
    return found[1] if found else None


def _handle(nvml: Any, uuid: str, properties: Any) -> Any:
    """Return NVML's handle of a GPU, None without a handle."""
    if uuid:
        name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        handle = _found(nvml.nvmlDeviceGetHandleByUUID, name)
        if handle is not None:
            return handle
    where = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None in where:
        return None
    domain, bus, device = where
    address = f"{domain:08x}:{bus:02x}:{device:02x}.0"
    return _found(nvml.nvmlDeviceGetHandleByPciBusId, address)


def _found(find: Callable[[str], Any], name: str) -> Any:
    try:
        return find(name)
    except Exception:  # NVMLError; ctypes' own for a text where an old version takes bytes
        return None


def _why_no_board(nvml: Any, handle: Any) -> str:
    """The reason why the sensors of a handle are not those of the run; empty if they are."""
    asks_mode = getattr(nvml, "nvmlDeviceGetMigMode", None)
    if asks_mode is None:  # of before there were slices
        return ""
    try:
        mode, _ = asks_mode(handle)
    except Exception as error:
        code = getattr(error, "value", None)
        if code in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND):
            return ""
        return f"NVML: does not say whether this GPU is a MIG slice: {error}"
    return MIG_SLICE if mode else ""  # in this mode CUDA runs on slices alone


def _asked(read: Callable[[], float]) -> float | None:
    """Return the value of a sensor, None without a value."""
    try:
        value = float(read())
    except Exception:
        return None
    return value if 0 <= value < math.inf and value not in (UNKNOWN, UNKNOWN / 1e3) else None
