"""Units are timed at the clocks of a decode: on a GPU passes lead in to them."""

import numpy as np
import pytest
import torch
from support.fake_cuda import FakeCuda
from support.pass_clock import PassClock

from dlm_bench.models.factory import build_model
from dlm_bench.samplers import build_sampler
from dlm_bench.timing import sampled
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.unit_timer import (
    LEAD_SECONDS,
    LEAD_TIMES,
    SETTLE_LED_SECONDS,
    SETTLE_SECONDS,
    UnitTimer,
)
from dlm_bench.timing.units import units

CUDA = torch.device("cuda")


class Gpu:
    """A decode whose passes take `seconds` each on a stand-in for CUDA; it keeps the index that
    each pass runs at."""

    def __init__(self, monkeypatch, seconds):
        self.cuda, self.indices, sampler = FakeCuda(monkeypatch), [], build_sampler("block-cache")
        model = build_model("diffutran", "tiny", layers=1)
        state = sampler.prepare(model, 256)

        def step(sampler, model, state, kind):
            assert state.passes[int(state.index)].kind == kind
            self.indices.append(int(state.index))
            self.cuda.launch(seconds)
            state.next_pass()

        monkeypatch.setattr(type(sampler), "step", step)
        monkeypatch.setattr(type(state), "check_unmasked", lambda *_: None)
        self.unit = [*units(state.passes)][3]
        self.timer = UnitTimer(sampler, state, Steps(model, sampler, state, "off"), CUDA)

    def lap(self, rest=0.0):
        """Time the unit after the GPU rested: the unit's seconds, and those of passes before."""
        self.cuda.work(rest)
        before = self.cuda.busy
        seconds = sum(self.timer.laps(self.unit))
        return seconds, self.cuda.busy - before - seconds


@torch.inference_mode()
@pytest.mark.parametrize("rest", [0.001, 0.004, 1.0])
def test_passes_run_before_a_unit_for_twenty_times_as_long_as_the_gpu_rested(monkeypatch, rest):
    gpu = Gpu(monkeypatch, 0.002)
    gpu.lap()
    seconds, led = gpu.lap(rest)
    assert seconds == pytest.approx(0.002 * gpu.unit.count)
    wanted = min(LEAD_SECONDS, LEAD_TIMES * rest)
    # Whole units, the pass before the timed ones, and the short sleep in front.
    assert wanted <= led < wanted + 0.002 * (gpu.unit.count + 1) + 0.001


@torch.inference_mode()
def test_the_passes_before_a_unit_are_its_own_and_the_last_is_the_pass_before(monkeypatch):
    gpu = Gpu(monkeypatch, 0.002)
    gpu.lap()
    gpu.indices.clear()
    gpu.lap(rest=1.0)
    own = [*range(gpu.unit.index, gpu.unit.index + gpu.unit.count)]
    *led, before = gpu.indices[: -gpu.unit.count]
    assert led == own * (len(led) // len(own))
    assert before == gpu.unit.index - 1
    assert gpu.indices[-gpu.unit.count :] == own


@torch.inference_mode()
def test_a_long_unit_needs_no_lead_in(monkeypatch):
    gpu = Gpu(monkeypatch, LEAD_SECONDS)
    gpu.lap()
    _, led = gpu.lap(rest=1.0)
    assert led < 0.001


@torch.inference_mode()
def test_a_gpu_is_busy_for_nine_tenths_of_rounds_with_pauses(monkeypatch):
    gpu = Gpu(monkeypatch, 0.002)
    gpu.lap()
    begin, gpu.timer.busy_seconds = gpu.cuda.host, 0.0
    for _ in range(30):
        gpu.lap(rest=0.003)
    assert gpu.timer.busy_seconds / (gpu.cuda.host - begin) > 0.9


@torch.inference_mode()
def test_a_sampled_point_takes_few_seconds_for_all_its_lead_ins(monkeypatch):
    gpu = Gpu(monkeypatch, 0.0024)
    timer = gpu.timer
    monkeypatch.setattr(sampled, "UnitTimer", lambda *_: timer)
    begin = gpu.cuda.host
    found = sampled.estimate(
        timer.sampler,
        timer.state,
        timer.steps,
        warmup=1,
        repeats=5,
        most_nodes=3,
        tolerance=0.02,
        most_seconds=3.0,
    )
    assert np.mean(found.seconds) == pytest.approx(0.0024 * len(timer.state.passes))
    # The rounds last for LEAST_SECONDS, with the settling in front.
    assert gpu.cuda.host - begin < SETTLE_LED_SECONDS + 1.5
    assert len(found.seconds) >= 5


@torch.inference_mode()
def test_settling_is_short_where_passes_lead_in(monkeypatch):
    gpu = Gpu(monkeypatch, 0.002)
    gpu.timer.settle([gpu.unit], 10.0)
    assert gpu.cuda.host == pytest.approx(SETTLE_LED_SECONDS, abs=0.02)


@torch.inference_mode()
def test_a_cpu_has_neither_lead_in_nor_a_short_settling(monkeypatch):
    clock = PassClock(monkeypatch)
    model, sampler = build_model("diffutran", "tiny", layers=1), build_sampler("block-cache")
    state = sampler.prepare(model, 256)
    timer = UnitTimer(sampler, state, Steps(model, sampler, state), torch.device("cpu"))
    unit = [*units(state.passes)][3]
    timer.settle([unit], 10.0)
    assert clock.now / 1e9 == pytest.approx(SETTLE_SECONDS, abs=0.02)
    timer.laps(unit)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    timer.laps(unit)
    assert len(calls) == unit.count + 1, "with the pass before"
