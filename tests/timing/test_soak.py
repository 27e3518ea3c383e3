"""The soak, on a machine whose clock, heat and speed follow a law of time."""

import math

import pytest
from support.plans import SAMPLERS

from dlm_bench import ConfigError, build_model, measure
from dlm_bench.timing import soak as module
from dlm_bench.timing.soak import Soak
from dlm_bench.timing.telemetry import Reading


class Heating:
    """A machine that heats by 30 degrees and gets slower by a share, with a time constant."""

    def __init__(self, monkeypatch, slower=0.1, tau=20.0, sensors=True):
        self.now, self.slower, self.tau = 0.0, slower, tau
        self.source = self if sensors else None
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    @property
    def warmth(self):
        return 1 - math.exp(-self.now / self.tau)

    def decode(self):
        seconds = 0.1 * (1 + self.slower * self.warmth)
        self.now += seconds
        return seconds

    def sample(self):
        return Reading({"temperature_celsius": 40 + 30 * self.warmth, "power_watts": 1e9})


def test_decodes_go_on_until_speed_and_heat_are_flat(monkeypatch):
    machine = Heating(monkeypatch)
    soak = Soak(1000.0, machine.source)
    soak.run(machine.decode)
    assert soak.flat
    # A rise of a degree over the later half of 30 is when some 5 time constants are over.
    assert 60 < soak.took < 200
    told = soak.summary(64)
    assert told["sustained_ratio"] == pytest.approx(1 / 1.1, rel=0.01)
    assert told["first_tokens_per_second"] == pytest.approx(640, rel=0.01)
    assert told["sustained_tokens_per_second"] == pytest.approx(640 / 1.1, rel=0.01)


def test_heat_alone_keeps_a_soak_going(monkeypatch):
    even = Heating(monkeypatch, slower=0.0)
    soak = Soak(1000.0, even.source)
    soak.run(even.decode)
    blind = Heating(monkeypatch, slower=0.0, sensors=False)
    short = Soak(1000.0, blind.source)
    short.run(blind.decode)
    assert short.took == pytest.approx(module.LEAST_SECONDS, abs=0.2)
    assert soak.took > 2 * short.took


def test_a_soak_ends_with_its_time(monkeypatch):
    machine = Heating(monkeypatch, tau=100.0)
    soak = Soak(40.0, machine.source)
    soak.run(machine.decode)
    assert not soak.flat
    assert soak.took == pytest.approx(40, abs=0.2)


def test_a_record_has_its_soak(monkeypatch):
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.0)
    model = build_model("diffutran", "tiny")
    record = measure(model, SAMPLERS["dual"], 64, warmup=1, repeats=1, soak=0.2)
    assert record.soak["decodes"] >= 1
    assert record.soak["sustained_ratio"] > 0
    assert measure(model, SAMPLERS["dual"], 64, warmup=1, repeats=1).soak == {}


@pytest.mark.parametrize("name", ["soak", "min_time", "min_warmup"])
def test_sampled_timing_has_no_whole_decodes_to_soak_with(name):
    with pytest.raises(ConfigError, match=f"{name}: 1 s is not allowed in mode 'sampled'"):
        measure(build_model("diffutran", "tiny"), SAMPLERS["dual"], 64, "sampled", **{name: 1.0})
