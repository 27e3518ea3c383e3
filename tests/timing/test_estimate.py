"""Sampled mode: what is timed stands for the whole schedule."""

import math

import numpy as np
import pytest
from support.pass_clock import PassClock
from support.plans import SAMPLERS, irregular, pass_cost

from dlm_bench import ConfigError, build_model, measure
from dlm_bench.samplers.schedule import first_block_passes
from dlm_bench.timing import sampled as module
from dlm_bench.timing import unit_timer
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.precision import ANY_ERROR
from dlm_bench.timing.sampled import estimate


class Machine:
    """Takes the place of the clock: every pass takes what a law says, times a noise."""

    def __init__(self, monkeypatch, law, noise=lambda: 1.0):
        self.law, self.noise = law, noise
        self.now, self.timed = 0.0, []
        monkeypatch.setattr(module.UnitTimer, "laps", lambda timer, unit: self.laps(timer, unit))
        monkeypatch.setattr(module.UnitTimer, "warm_up", lambda timer, unit, runs: None)
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def laps(self, timer, unit):
        laps, at = [], unit.index
        for run in unit.runs:
            plan = timer.state.passes[at : at + run.count]
            laps.append(sum(map(self.law, plan)) * self.noise())
            at += run.count
        self.now += sum(laps)
        self.timed.append(unit.index)
        return laps


def sample(
    name,
    length,
    repeats=3,
    tolerance=ANY_ERROR,
    most_seconds=math.inf,
    most_nodes=9,
    prompt_len=0,
):
    """An estimate, and the plan of its decode."""
    sampler = SAMPLERS.get(name) or irregular(name, length // 32)
    backbone = "dream" if getattr(sampler, "sub_block_size", 0) else "diffumamba"
    model = build_model("ar-mamba" if name == "ar" else backbone, "tiny")
    state = sampler.prepare(model, length, prompt_len=prompt_len)
    found = estimate(
        sampler,
        state,
        Steps(model, sampler, state),
        warmup=0,
        repeats=repeats,
        most_nodes=most_nodes,
        tolerance=tolerance,
        most_seconds=most_seconds,
    )
    return found, state.passes


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [100, 1000])
def test_an_estimate_of_a_known_law_is_the_sum_over_the_schedule(name, length, monkeypatch):
    Machine(monkeypatch, pass_cost)
    found, plan = sample(name, length)
    true = sum(map(pass_cost, plan))
    # The law is linear along every line but prefix's, whose query shrinks as its context grows:
    # there q(q + c) = qL stays linear too. What is left is units of uneven reveals: under 1 %.
    assert found.seconds == pytest.approx([true] * 3, rel=0.01)
    assert found.relative_error < 0.02


@pytest.mark.parametrize("prompt_len", [0, 300])
@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("length", [20, 1000])
def test_prefill_and_first_block_are_told_apart_from_the_decode(
    name, length, prompt_len, monkeypatch
):
    Machine(monkeypatch, pass_cost)
    found, plan = sample(name, length, prompt_len=prompt_len)
    first = int(plan[0].kind == "prefill")
    assert found.prefill_seconds == [pass_cost(plan[0])] * 3 * first
    # What the law is linear in is told as in the test above: under 1 %.
    true = sum(map(pass_cost, plan[first:]))
    assert found.seconds == pytest.approx([true] * 3, rel=0.01)
    until = sum(map(pass_cost, plan[: first_block_passes(plan)]))
    # Of blocks of one pass it is the mean of 16 in a row, whose context grows by 15 blocks: 240
    # tokens of 10 ns for each of 32, half of which are 5 % of the pass.
    off = 0.06 if name == "p = B" else 0.01
    assert found.first_block_seconds == pytest.approx([until] * 3, rel=off)
    assert [p.kind for p in found.passes].count("prefill") == first


@pytest.mark.parametrize("prompt_len", [0, 300])
@pytest.mark.parametrize("name", ["fast-dllm", "block-cache"])
def test_an_estimate_of_blocks_that_are_hardly_alike_is_the_sum_over_the_schedule(
    name, prompt_len, monkeypatch
):
    machine = Machine(monkeypatch, pass_cost)
    found, plan = sample(name, 32 * 100, prompt_len=prompt_len)
    first = int(plan[0].kind == "prefill")
    assert first == (name == "block-cache" and prompt_len > 0)
    true = sum(map(pass_cost, plan[first:]))
    # A line's passes differ by up to a quarter of the masked rows, which are 5 % of a pass.
    assert np.mean(found.seconds) == pytest.approx(true, rel=0.01)
    assert len(set(machine.timed)) < len(plan) / 20
    assert found.prefill_seconds == [pass_cost(plan[0])] * 3 * first
    # The first block is of many units, each at most that far from the nodes that stand for it.
    assert first_block_passes(plan) > 10
    until = sum(map(pass_cost, plan[: first_block_passes(plan)]))
    assert found.first_block_seconds == pytest.approx([until] * 3, rel=0.05)


def kinked(p):
    return 1e-3 + 1e-5 * max(0, p.context_len - 700)


def test_the_error_covers_a_kink_between_the_nodes(monkeypatch):
    Machine(monkeypatch, kinked)
    found, plan = sample("ar", 1000, repeats=3)
    true = sum(map(kinked, plan))
    off = abs(found.seconds[0] / true - 1)
    assert 0.001 < off < found.relative_error


def test_nodes_are_added_where_the_cost_bends_until_the_error_is_small(monkeypatch):
    machine = Machine(monkeypatch, kinked)
    found, plan = sample("ar", 4000, repeats=2, tolerance=0.01)
    true = sum(map(kinked, plan))
    assert np.mean(found.seconds) == pytest.approx(true, rel=0.01)
    assert found.relative_error <= 0.01
    places = set(machine.timed)
    assert 3 < len(places) <= 9 + 1  # the last block of tokens is shorter, and a line of its own
    added = sorted(places - {0, 2000, 3984})
    assert min(abs(index - 700) for index in added) < 500


def test_nodes_are_not_added_for_noise(monkeypatch):
    random = np.random.default_rng(0)
    machine = Machine(monkeypatch, pass_cost, lambda: random.normal(1, 0.05))
    sample("separate", 32 * 64, repeats=5, tolerance=0.01, most_seconds=500)
    assert len(set(machine.timed)) <= 5


def test_rounds_go_on_until_the_error_is_within_the_tolerance(monkeypatch):
    random = np.random.default_rng(0)
    Machine(monkeypatch, pass_cost, lambda: random.normal(1, 0.05))
    rough, _ = sample("full", 4096, repeats=5, tolerance=0.05)
    fine, _ = sample("full", 4096, repeats=5, tolerance=0.01)
    assert rough.relative_error <= 0.05
    assert fine.relative_error <= 0.01
    assert len(fine.seconds) > len(rough.seconds) >= 5


def test_rounds_end_with_their_time_but_not_before_the_second(monkeypatch):
    random = np.random.default_rng(0)
    machine = Machine(monkeypatch, pass_cost, lambda: random.lognormal(0, 0.5))
    sample("full", 4096, repeats=5, tolerance=0.001, most_seconds=20.0)
    assert 10 < machine.now < 20
    machine.now = 0.0
    found, _ = sample("full", 4096, repeats=5, tolerance=0.001, most_seconds=1e-9)
    assert len(found.seconds) == 2
    assert found.relative_error is None


def test_the_stated_error_covers_the_true_one(monkeypatch):
    random = np.random.default_rng(2)
    pace = [1.0]

    def noise():
        """A machine that drifts, jitters, and is interrupted now and then."""
        pace[0] = 1 + 0.9 * (pace[0] - 1) + 0.01 * random.standard_normal()
        spike = random.random() < 0.01
        return pace[0] * random.normal(1, 0.03) * (1.5 if spike else 1)

    Machine(monkeypatch, pass_cost, noise)
    inside = []
    for _ in range(60):
        found, plan = sample("separate", 2048, repeats=5, tolerance=0.02)
        true = 1.005 * sum(map(pass_cost, plan))  # spikes make up half a percent
        inside.append(abs(np.mean(found.seconds) / true - 1) <= found.relative_error)
    # 90 % are asked for; of 60 trials at 90 % fewer than 48 come with a chance of 1 %.
    assert np.sum(inside) >= 48


@pytest.mark.parametrize("repeats", [1, 2])
def test_one_or_two_rounds_leave_no_error_to_state(repeats):
    record = measure(
        build_model("diffutran", "tiny"),
        SAMPLERS["dual"],
        64,
        mode="sampled",
        repeats=repeats,
        tolerance=1,
    )
    assert len(record.seconds) == repeats
    assert record.error_estimate is None


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("diffutran", "full"), ("diffumamba-h", "dual"), ("diffumamba", "fused"), ("ar-mamba", "ar")],
)
def test_sampled_agrees_with_exact(backbone, name, monkeypatch):
    PassClock(monkeypatch)
    # A second by this clock is hundreds of passes.
    for seconds in ("WARMUP_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(unit_timer, seconds, 0.0)
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.0)
    model, sampler = build_model(backbone, "tiny"), SAMPLERS[name]
    exact = measure(model, sampler, 256, mode="exact", warmup=1, repeats=3)
    sampled = measure(model, sampler, 256, mode="sampled", warmup=2, max_seconds=2)
    # The cost of a pass is that of its query alone, so nothing is interpolated; each look at the
    # clock takes a nanosecond of decodes that take 40 ms and more.
    assert sampled.seconds == pytest.approx([exact.seconds[0]] * len(sampled.seconds), rel=1e-6)
    assert sampled.nfe == exact.nfe == sampler.schedule(256).forward_passes
    assert sampled.error_estimate is not None
    assert exact.error_estimate < 1e-6  # of the same clock
    assert sampled.passes
    assert not exact.passes


def test_sampled_steps_fewer_passes_than_a_decode_has(monkeypatch):
    PassClock(monkeypatch)  # on a slow machine a unit is long enough not to be run twice
    for name in ("WARMUP_SECONDS", "SETTLE_SECONDS"):  # or there are more units
        monkeypatch.setattr(unit_timer, name, 0.0)
    model, sampler = build_model("ar-transformer", "tiny"), SAMPLERS["ar"]
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    measure(model, sampler, 1600, mode="sampled", warmup=1, repeats=2, nodes=3, tolerance=1)
    hook.remove()
    # Units of 16 tokens: one to warm up; in the first of two rounds three nodes by themselves and
    # again after a token (the first one after itself), in the second only that. Before: two checks
    # of a pass; at the end the 16 of a short decode, for its tokens.
    assert len(calls) == 2 + 16 + 16 + 3 * 16 + (16 + 17 + 17) + (2 * 16 + 17 + 17)


def test_exact_mode_runs_every_pass_of_every_decode():
    model, sampler = build_model("diffutran", "tiny"), SAMPLERS["separate"]
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    record = measure(model, sampler, 100, warmup=2, repeats=3)
    hook.remove()
    checks = 2 * 2  # of a denoising and a commit pass, over an empty cache and a filled one
    assert len(calls) == 5 * record.nfe + checks
    assert len(record.seconds) == 3
    assert all(seconds > 0 for seconds in record.seconds)


@pytest.mark.parametrize(("max_seconds", "mode"), [(60, "exact"), (1e-6, "sampled")])
def test_auto_is_exact_where_the_decodes_take_no_longer_than_the_limit(max_seconds, mode):
    model = build_model("diffutran", "tiny")
    record = measure(
        model, SAMPLERS["dual"], 64, mode="auto", warmup=1, repeats=2, max_seconds=max_seconds
    )
    assert record.mode == mode
    assert bool(record.passes) == (mode == "sampled")
    assert len(record.seconds) == 2


def test_a_record_says_all_that_its_number_depends_on():
    model = build_model("diffumamba-h", "tiny", heads=2)
    record = measure(model, SAMPLERS["none"], 64, warmup=0, repeats=2, seed=3)
    assert record.point.options["commit"] == "none"
    assert record.point.dtype == "float32"
    assert record.model["heads"] == 2
    assert record.kernels == model.kernels.named()
    assert record.graphs == {
        "denoise": "eager: a cpu has no CUDA graphs",
        "keep": "eager: a cpu has no CUDA graphs",
    }
    assert record.environment["torch"]
    assert record.environment["hardware"]
    assert record.seed == 3
    assert record.peak_memory_bytes > 1e6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "guess"}, "mode: 'guess'"),
        ({"repeats": 0}, "repeats: 0"),
        ({"warmup": -1}, "warmup: -1"),
        ({"nodes": 1}, "nodes: 1"),
        ({"tolerance": 0}, "tolerance: 0"),
        ({"tolerance": 2}, "tolerance: 2"),
        ({"max_seconds": -1}, "max_seconds: -1"),
        ({"batch": 0}, "batch: 0"),
        ({"seed": -1}, "seed: -1"),
        ({"graphs": "on"}, "graphs: 'on'"),
        ({"graphs": "require"}, "graphs: 'require' needs a CUDA device"),
    ],
)
def test_a_wrong_setting_is_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        measure(build_model("diffutran", "tiny"), SAMPLERS["full"], 32, **wrong)
