"""What a GPU reports, from a fake NVML with the names of nvidia-ml-py."""

import sys
from types import SimpleNamespace

import pytest

from dlm_bench.cli.env import state_rows
from dlm_bench.timing.gpu_state import gpu_state, others_percent
from dlm_bench.timing.nvml import REASONS, NvmlSource, driver_version, nvml_source
from dlm_bench.timing.telemetry import SLOWDOWNS, Reading, Watch


class FakeNvml:
    """Two GPUs in an order of NVML's own; what is in `lacks` is not supported."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    UUIDS = ("GPU-aaaa", "GPU-bbbb")
    BUSES = ("00000000:17:00.0", "00000000:ca:00.0")

    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_FUNCTION_NOT_FOUND = 3, 4, 13

    class NVMLError(Exception):
        def __init__(self, text, value=3):
            super().__init__(text)
            self.value = value

    def __init__(self, *lacks, bits=0, mig=0):
        self.lacks, self.bits, self.mig, self.calls = lacks, bits, mig, []
        self.clock, self.pids, self.used = 1980, [], []

    def _answer(self, name, value):
        self.calls.append(name)
        if name in self.lacks:
            raise self.NVMLError("Not Supported")
        return value

    def _find(self, among, name):
        if name not in among:
            raise self.NVMLError("Not Found")
        return among.index(name)

    def nvmlInit(self):
        self._answer("init", None)

    def nvmlSystemGetDriverVersion(self):
        return self._answer("driver", "580.95.05")

    def nvmlDeviceGetHandleByUUID(self, name):
        return self._find(self.UUIDS, name)

    def nvmlDeviceGetHandleByPciBusId(self, name):
        return self._find(self.BUSES, name)

    def nvmlDeviceGetMigMode(self, handle):
        if isinstance(self.mig, Exception):
            raise self.mig
        return [self._answer("mig", self.mig), 0]

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return self._answer(("clock", kind), {1: self.clock, 2: 3201}[kind] + handle)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._answer("power", 700_000)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return self._answer("temperature", 66)

    def nvmlDeviceGetUtilizationRates(self, handle):
        return self._answer("utilisation", SimpleNamespace(gpu=97, memory=40))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle):
        return self._answer("event reasons", self.bits)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        return self._answer("throttle reasons", self.bits)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return self._answer("limit", 500_000)

    def nvmlDeviceGetPowerManagementDefaultLimit(self, handle):
        return self._answer("default limit", 700_000)

    def nvmlDeviceGetMaxClockInfo(self, handle, kind):
        return self._answer("highest", {1: 1980, 2: 2619}[kind])

    def nvmlDeviceGetApplicationsClock(self, handle, kind):
        return self._answer("application", {1: 1755, 2: 2619}[kind])

    def nvmlDeviceGetPersistenceMode(self, handle):
        return self._answer("persistence", 1)

    def nvmlDeviceGetEccMode(self, handle):
        return self._answer("ecc", [1, 1])

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return self._answer("processes", [SimpleNamespace(pid=pid) for pid in self.pids])

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        return self._answer("use of processes", self.used)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._answer("energy", 5_000_250)


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
SLICE = "a MIG slice has no sensors"


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


def test_every_slowdown_is_a_reason_that_can_be_told():
    assert set(REASONS.values()) | {"core_thermal", "package_thermal"} > SLOWDOWNS


def test_the_settings_of_a_gpu_are_told_in_plain_units():
    fake = FakeNvml()
    fake.pids = [4711, 4712]
    assert NvmlSource(fake, 0).state == {
        "power_limit_watts": 500,
        "power_limit_default_watts": 700,
        "sm_clock_max_mhz": 1980,
        "memory_clock_max_mhz": 2619,
        "sm_clock_application_mhz": 1755,
        "memory_clock_application_mhz": 2619,
        "persistence": "on",
        "ecc": "on",
        "mig": "off",
        "compute_processes": 2,
    }


def test_settings_that_a_gpu_or_a_version_does_not_tell_are_left_out():
    fake = FakeNvml("limit", "application", "ecc")
    fake.nvmlDeviceGetPersistenceMode = None
    assert gpu_state(fake, 0).keys() == {
        "power_limit_default_watts",
        "sm_clock_max_mhz",
        "memory_clock_max_mhz",
        "mig",
        "compute_processes",
    }


@pytest.mark.parametrize(
    ("clock", "bits", "slow"),
    [
        (1980, 0x4, False),  # a power cap that costs no clock
        (1900, 0x4, False),
        (1500, 0x4, True),
        (1500, 0x0, True),  # as of a limit that no bit tells
        (1500, 0x2, False),  # set by the user
        (1500, 0x2 | 0x20, True),
        (345, 0x1, False),  # idle
    ],
)
def test_a_clock_is_held_down_where_it_is_below_the_highest_under_load(clock, bits, slow):
    fake = FakeNvml(bits=bits)
    fake.clock = clock
    assert NvmlSource(fake, 0).sample().slow is slow


def test_a_gpu_without_a_highest_clock_is_judged_by_its_reasons():
    assert NvmlSource(FakeNvml("highest", bits=0x40), 0).sample().slow is None


def use(pid, percent, at=100):
    return SimpleNamespace(pid=pid, smUtil=percent, timeStamp=at)


def test_the_share_of_other_processes_is_a_mean_since_the_begin_of_the_region():
    fake = FakeNvml()
    fake.pids, fake.used = [1, 2, 3], [use(1, 90), use(2, 10), use(2, 20), use(3, 5), use(2, 99, 1)]
    assert others_percent(fake, 0, since=50, own=1) == 20


def test_an_idle_neighbour_takes_nothing_and_an_unknown_own_number_tells_nothing():
    fake = FakeNvml()
    fake.pids = [1]
    assert others_percent(fake, 0, since=0, own=1) == 0
    fake.pids = [1, 2]
    assert others_percent(fake, 0, since=0, own=1) == 0
    assert others_percent(fake, 0, since=0, own=7) is None, "numbers of another namespace"
    assert others_percent(FakeNvml("processes"), 0, since=0, own=1) is None


def test_env_tells_the_settings_or_why_there_are_none():
    fake = FakeNvml()
    assert state_rows(Watch(NvmlSource(fake, 0))) == {
        "power limit": "500 of 700 W",
        "SM clock": "up to 1980 MHz, set to 1755",
        "memory clock": "up to 2619 MHz, set to 2619",
        "persistence": "on",
        "ecc": "on",
        "mig": "off",
        "processes": "0 with CUDA on this GPU",
    }
    assert state_rows(Watch(None, SLICE)) == {"sensors": SLICE}


@pytest.mark.parametrize(
    ("locked", "clock", "slow"),
    [("1500", 1500, False), ("1500", 1300, True), ("base", 1500, None)],
)
def test_a_clock_that_the_command_locked_is_the_highest_allowed(locked, clock, slow, monkeypatch):
    monkeypatch.setenv("DLM_BENCH_LOCKED_CLOCKS", locked)
    fake = FakeNvml()
    fake.clock = clock
    source = NvmlSource(fake, 0)
    assert source.sample().slow is slow
    assert str(source.state["sm_clock_locked_mhz"]) == locked
