"""What is told of a timed region, from sensors that say what they are told to."""

import contextlib
import json
import threading
import time
from types import SimpleNamespace

import pytest

from dlm_bench.timing import telemetry
from dlm_bench.timing.telemetry import SLOW_SAMPLES, Range, Reading, Telemetry, Watch


class Source:
    """Hands out what it is told to, and keeps what it was asked for."""

    name = "host"
    energy_update = 0.0

    def __init__(self, *samples, joules=(), end=None, cost=0.0):
        self.state = {}
        self.samples, self.energies = list(samples), list(joules)
        self.counters, self.cost, self.threads = end or Reading(), cost, []

    def has_sensors(self):
        return bool(self.samples)

    def sample(self):
        self.threads.append(threading.current_thread())
        time.sleep(self.cost)
        return self.samples.pop(0) if len(self.samples) > 1 else self.samples[0]

    def joules(self):
        return self.energies.pop(0) if self.energies else None

    def begin(self):
        pass

    def end(self, seconds):
        return self.counters


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let samples take their time: the machine that runs the tests may be busy."""
    monkeypatch.setattr(telemetry, "SLOWEST", 10.0)


def watched(source, *, samples=1, seconds=(0.1,), tokens=100, busy=None):
    """What is told of a region that lasts for so many samples (or 300 s, if they do not come)."""
    watch, deadline = Watch(source, interval=0.001), time.monotonic() + 300
    with watch:
        while source.samples and len(source.threads) < samples and time.monotonic() < deadline:
            time.sleep(0.001)
    share = None if busy is None else busy * watch._seconds
    return watch.telemetry(list(seconds), tokens, share)


def watts(value):
    return Reading({"power_watts": value})


def test_a_quantity_is_told_by_its_least_middle_and_most():
    told = watched(Source(watts(100.0), watts(300.0), watts(200.0)), samples=4)
    assert told.power_watts == Range(min=100, median=200, max=300)
    assert told.samples >= 4
    assert told.sm_clock_mhz is None


def test_sampling_is_from_another_thread_which_ends_with_the_region():
    source = Source(watts(1.0))
    watched(source, samples=3)
    (thread,) = set(source.threads)
    assert thread is not threading.main_thread()
    assert not thread.is_alive()


def test_sampling_ends_where_the_run_fails():
    source = Source(watts(1.0))
    with contextlib.suppress(ZeroDivisionError), Watch(source, interval=0.001):
        while not source.threads:
            time.sleep(0.001)
        _ = 1 / 0
    assert not any(thread.is_alive() for thread in source.threads)


def test_sampling_stops_after_samples_that_take_long(monkeypatch):
    monkeypatch.setattr(telemetry, "SLOWEST", 0.001)
    source = Source(watts(1.0), joules=[0.0, 100.0], cost=0.002)
    watch = Watch(source, interval=0.001)
    with watch:
        watch._thread.join(20)
    told = watch.telemetry([1.0], 1)
    assert told.samples == len(source.threads) == SLOW_SAMPLES
    assert told.note.startswith("sampling stopped: 3 samples in a row took long, the last ")
    assert told.energy_joules is None


def test_samples_that_are_slow_now_and_then_do_not_stop_it(monkeypatch):
    took = [9, 9, 0, 9, 9, 0]  # seconds, of which above 5 are slow
    moments = iter([moment for seconds in took for moment in (0, seconds)])
    stops = iter([False] * len(took) + [True])
    watch = Watch(Source(watts(1.0)))
    watch._stop = SimpleNamespace(wait=lambda delay: next(stops))
    monkeypatch.setattr(telemetry, "SLOWEST", 5)
    monkeypatch.setattr(telemetry, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    watch._sample(watch.source)
    assert len(watch._samples) == len(took)
    assert watch._note is None


def test_a_sensor_that_breaks_ends_the_sampling_and_not_the_run():
    watch = Watch(Source(None), interval=0.001)
    watch.source.sample = lambda: 1 / 0
    with watch:
        watch._thread.join(20)
    told = watch.telemetry([1.0], 1)
    assert told.samples == 0
    assert told.note == "sampling stopped: ZeroDivisionError: division by zero"


def test_energy_is_the_regions_mean_power_over_the_seconds_of_the_repeats():
    told = watched(Source(joules=[1000.0, 1060.0]), seconds=[0.02, 0.04], tokens=50)
    # 60 J over the region; the repeats are 0.06 s of it and made 100 tokens.
    assert told.energy_joules == pytest.approx(60 * 0.06 / told.region_seconds)
    assert told.tokens_per_joule == pytest.approx(100 / told.energy_joules)


def test_a_gpu_that_rested_in_the_region_has_no_energy_and_the_note_says_for_how_long():
    told = watched(Source(joules=[1000.0, 1060.0]), busy=0.85)
    assert told.energy_joules is told.tokens_per_joule is None
    assert told.note == ("no energy: the GPU worked for 85% of the timed region, less than 90%")
    told = watched(Source(watts(100.0)), samples=10, busy=0.5)
    assert told.energy_joules is None
    assert told.power_watts.median == 100


def test_a_gpu_that_was_busy_has_its_energy():
    told = watched(Source(joules=[1000.0, 1060.0]), busy=0.95)
    assert told.energy_joules is not None
    assert told.note is None


def test_a_counter_that_went_back_gives_no_energy_and_the_sampled_power_does():
    assert watched(Source(joules=[1000.0, 60.0])).energy_joules is None
    told = watched(Source(watts(100.0), joules=[1000.0, 60.0]), samples=10, seconds=[0.5])
    assert told.energy_joules == pytest.approx(50.0)


def test_a_counter_that_hardly_moved_gives_no_energy():
    source = Source(watts(100.0), joules=[1000.0, 1060.0])
    source.energy_update = 1e3
    told = watched(source)
    assert told.energy_joules is None
    assert told.tokens_per_joule is None


def test_without_a_counter_energy_is_that_of_the_sampled_power():
    told = watched(Source(watts(100.0)), samples=10, seconds=[0.5, 0.5], tokens=10)
    assert told.energy_joules == pytest.approx(100.0)
    assert told.tokens_per_joule == pytest.approx(0.2)


def test_a_few_samples_of_power_give_no_energy(monkeypatch):
    monkeypatch.setattr(telemetry, "UPDATES", 10**9)
    assert watched(Source(watts(100.0)), samples=3).energy_joules is None


def test_a_share_of_throttled_samples_counts_and_a_single_one_of_many_does_not():
    slow, free = Reading(reasons=frozenset({"hw_thermal_slowdown"})), Reading()
    often = watched(Source(slow))
    assert often.throttled_share == 1
    assert often.throttled
    once = watched(Source(slow, free), samples=30)
    assert once.throttle_reasons == ["hw_thermal_slowdown"]
    assert 0 < once.throttled_share < 0.05
    assert not once.throttled


def test_a_power_cap_alone_is_told_and_holds_no_clock_down():
    told = watched(Source(Reading(reasons=frozenset({"sw_power_cap"}))))
    assert told.throttle_reasons == ["sw_power_cap"]
    assert not told.throttled


def test_a_clock_that_is_judged_by_itself_counts_whatever_the_reasons():
    assert watched(Source(Reading(slow=True))).throttled
    capped = frozenset({"hw_thermal_slowdown"})
    assert not watched(Source(Reading(reasons=capped, slow=False))).throttled


def test_other_processes_contend_for_a_gpu_where_they_take_a_part_that_counts():
    assert Telemetry(source="nvml", other_gpu_percent=30.0).contended
    assert not Telemetry(source="nvml", other_gpu_percent=1.0).contended
    assert not Telemetry(source="nvml").contended


def test_idleness_and_settings_are_told_but_hold_no_clock_down():
    told = watched(Source(Reading(reasons=frozenset({"gpu_idle", "applications_clocks_setting"}))))
    assert told.throttle_reasons == ["applications_clocks_setting", "gpu_idle"]
    assert told.throttled_share == 0
    assert not told.throttled


def test_a_counter_of_throttling_that_moved_is_throttling():
    told = watched(Source(end=Reading(reasons=frozenset({"core_thermal"}))), samples=0)
    assert told.throttled
    assert told.throttle_reasons == ["core_thermal"]


def test_nothing_known_is_all_null_and_says_why():
    told = Watch(None, "no luck").telemetry([1.0], 10)
    assert told == Telemetry(note="no luck")
    assert not told.throttled
    assert not told.contended


def test_telemetry_is_plain_json():
    told = watched(Source(watts(1.0))).model_dump()
    assert json.loads(json.dumps(told)) == told


def test_only_a_host_is_contended_and_only_by_more_than_a_little():
    assert Telemetry(source="host", waiting_threads=0.3).contended
    assert not Telemetry(source="host", waiting_threads=0.02).contended
    assert not Telemetry(source="nvml", waiting_threads=0.3).contended
    assert not Telemetry(source="host").contended
