"""What a GPU reports, from a fake NVML with the names of nvidia-ml-py."""

import sys
from types import SimpleNamespace

import pytest
from support.nvml import SLICE, FakeNvml

from dlm_bench.timing.nvml import REASONS, NvmlSource, driver_version, nvml_source
from dlm_bench.timing.telemetry import Reading


def test_a_gpu_tells_clocks_power_heat_use_and_energy_in_plain_units():
    source = NvmlSource(FakeNvml(bits=0x24), 0)
    assert source.sample() == Reading(
        {
            "sm_clock_mhz": 1980,
            "memory_clock_mhz": 3201,
            "power_watts": 700,
            "temperature_celsius": 66,
            "utilisation_percent": 97,
        },
        frozenset({"sw_power_cap", "sw_thermal_slowdown"}),
        slow=False,
    )
    assert source.joules() == 5000.25


def test_a_gpu_is_found_by_its_uuid_or_its_bus_not_by_an_index():
    def clock_of(**properties):
        source = nvml_source(SimpleNamespace(**properties), FakeNvml())
        return source.sample().values["sm_clock_mhz"]

    assert clock_of(uuid="bbbb") == 1981
    assert clock_of(uuid="GPU-aaaa") == 1980
    pci = {"pci_domain_id": 0, "pci_device_id": 0}
    assert clock_of(uuid="cccc", pci_bus_id=0xCA, **pci) == 1981
    assert clock_of(pci_bus_id=0x17, **pci) == 1980


BOARD = {"pci_domain_id": 0, "pci_bus_id": 0x17, "pci_device_id": 0}


@pytest.mark.parametrize(
    "properties",
    [
        {"uuid": "cccc"} | BOARD,  # NVML does not know the slice, and finds its board by its place
        {"uuid": "aaaa"} | BOARD,  # CUDA says the board's own
        {"uuid": "GPU-aaaa"},
        {"uuid": ""} | BOARD,
        {"uuid": None} | BOARD,
        BOARD,
    ],
)
def test_the_sensors_of_a_board_are_never_those_of_a_slice_of_it(properties):
    assert nvml_source(SimpleNamespace(**properties), FakeNvml(mig=1)) == SLICE
    assert isinstance(nvml_source(SimpleNamespace(**properties | BOARD), FakeNvml()), NvmlSource)


def test_a_slice_is_known_by_its_uuid_and_its_name_too():
    assert nvml_source(SimpleNamespace(uuid="MIG-aaaa"), FakeNvml("init")) == SLICE
    named = SimpleNamespace(uuid="cccc", name="NVIDIA H100 80GB HBM3 MIG 1g.10gb", **BOARD)
    assert nvml_source(named, FakeNvml("init")) == SLICE
    nvml = FakeNvml()
    nvml.UUIDS = ("MIG-cccc", *nvml.UUIDS)
    assert nvml_source(SimpleNamespace(uuid="cccc", **BOARD), nvml) == SLICE


def test_a_gpu_that_knows_of_no_slices_is_a_whole_one():
    gpu = SimpleNamespace(uuid="aaaa")
    for code in (FakeNvml.NVML_ERROR_NOT_SUPPORTED, FakeNvml.NVML_ERROR_FUNCTION_NOT_FOUND):
        nvml = FakeNvml(mig=FakeNvml.NVMLError("no", code))
        assert isinstance(nvml_source(gpu, nvml), NvmlSource)
    older = FakeNvml()
    older.nvmlDeviceGetMigMode = None
    assert isinstance(nvml_source(gpu, older), NvmlSource)


def test_a_gpu_that_may_be_a_slice_has_no_sensors_and_the_reason_is_said():
    hidden = FakeNvml(mig=FakeNvml.NVMLError("No Permission", FakeNvml.NVML_ERROR_NO_PERMISSION))
    told = nvml_source(SimpleNamespace(uuid="aaaa"), hidden)
    assert told == "NVML: does not say whether this GPU is a MIG slice: No Permission"


def test_functions_that_a_version_lacks_and_values_that_are_none_are_left_out():
    nvml = FakeNvml()
    nvml.nvmlDeviceGetTotalEnergyConsumption = None
    nvml.nvmlDeviceGetUtilizationRates = None
    nvml.nvmlDeviceGetPowerUsage = lambda handle: 2**32 - 1  # NVML_VALUE_NOT_AVAILABLE
    nvml.nvmlDeviceGetTemperature = lambda handle, sensor: -1
    source = NvmlSource(nvml, 0)
    assert set(source.sample().values) == {"sm_clock_mhz", "memory_clock_mhz"}
    assert source.joules() is None


def test_what_finds_no_gpu_by_its_uuid_for_whatever_reason_finds_it_by_its_place():
    nvml = FakeNvml()

    def takes_bytes(name):
        raise TypeError("bytes or integer address expected instead of str instance")

    nvml.nvmlDeviceGetHandleByUUID = takes_bytes
    source = nvml_source(SimpleNamespace(uuid="aaaa", **BOARD), nvml)
    assert source.sample().values["sm_clock_mhz"] == 1980


def test_why_there_is_no_gpu_to_ask_is_said(monkeypatch):
    assert nvml_source(SimpleNamespace(uuid="cccc"), FakeNvml()) == "NVML: does not know this GPU"
    assert nvml_source(SimpleNamespace(uuid="aaaa"), FakeNvml("init")) == "NVML: Not Supported"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_source(SimpleNamespace(uuid="aaaa")) == "nvidia-ml-py is not installed"


def test_what_a_gpu_lacks_is_left_out_and_asked_for_once():
    nvml = FakeNvml("power", "energy", "throttle reasons", "event reasons")
    source = NvmlSource(nvml, 0)
    for _ in range(3):
        reading = source.sample()
    assert "power_watts" not in reading.values
    assert len(reading.values) == 4
    assert reading.reasons == frozenset()
    for name in ("power", "throttle reasons", "event reasons"):
        assert nvml.calls.count(name) == 1
    assert source.joules() is None


def test_throttling_is_read_by_its_older_name_where_the_newer_one_fails():
    source = NvmlSource(FakeNvml("event reasons", bits=0x8), 0)
    assert source.sample().reasons == {"hw_slowdown"}
    older = FakeNvml(bits=0x40)
    older.nvmlDeviceGetCurrentClocksEventReasons = None
    assert NvmlSource(older, 0).sample().reasons == {"hw_thermal_slowdown"}


OPEN_MODULE = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root)\n"
    "GCC version:  gcc version 13.3.0\n"
)
CLOSED_MODULE = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Wed Jan 22\n"


def test_the_driver_is_told_by_nvml_or_by_the_kernel_module(tmp_path):
    nowhere, module = tmp_path / "none", tmp_path / "version"
    assert driver_version(FakeNvml(), nowhere) == "580.95.05"
    old = FakeNvml()
    old.nvmlSystemGetDriverVersion = lambda: b"470.57.02"
    assert driver_version(old, nowhere) == "470.57.02"
    for text, version in ((OPEN_MODULE, "580.95.05"), (CLOSED_MODULE, "570.86.15")):
        module.write_text(text)
        assert driver_version(FakeNvml("driver"), module) == version
        assert driver_version(FakeNvml("init"), module) == version
    assert driver_version(FakeNvml("driver"), nowhere) is None


def test_the_names_asked_for_are_those_of_nvidia_ml_py():
    nvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    for name in dir(FakeNvml):
        assert hasattr(nvml, name) or name.startswith("_") or name in ("UUIDS", "BUSES")
    for name in dir(FakeNvml):
        if not name.startswith("NVML_"):
            continue
        assert getattr(nvml, name) == getattr(FakeNvml, name)
    for bit, name in REASONS.items():
        camel = "".join(word.capitalize() for word in name.split("_"))
        assert getattr(nvml, f"nvmlClocksEventReason{camel}") == bit
