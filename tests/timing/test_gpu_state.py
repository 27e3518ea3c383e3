"""The settings of a GPU, its slowdowns and its neighbours, from a fake NVML."""

from types import SimpleNamespace

import pytest
from support.nvml import SLICE, FakeNvml

from dlm_bench.cli.env import state_rows
from dlm_bench.timing.gpu_state import gpu_state, others_percent
from dlm_bench.timing.nvml import REASONS, NvmlSource
from dlm_bench.timing.telemetry import SLOWDOWNS, Watch


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
