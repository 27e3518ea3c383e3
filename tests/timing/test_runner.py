"""What a measurement keeps beside its times: warm-up, flags and telemetry."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from dlm_bench import ConfigError, build_model, build_sampler, measure
from dlm_bench.results.record import Record
from dlm_bench.timing import clocks, conditions, exact
from dlm_bench.timing import measure as timing
from dlm_bench.timing.exact import Until, time_decodes
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.measure import flags_of, watch_of
from dlm_bench.timing.telemetry import Telemetry

STEADY = [1.0, 1.01, 0.99, 1.005, 0.995]


@pytest.mark.parametrize(
    ("seconds", "telemetry", "flags"),
    [
        (STEADY, {}, []),
        (STEADY, {"throttled_share": 0.5}, ["throttled"]),
        ([1.0, 1.1, 1.2, 1.3, 1.4], {}, ["drifting"]),
        ([*STEADY, 5.0], {}, ["outliers"]),
        (STEADY, {"source": "host", "waiting_threads": 0.5}, ["contended"]),
        (STEADY, {"source": "nvml", "waiting_threads": 0.5}, []),
        (
            [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 9.0],
            {"source": "host", "throttled_share": 1.0, "waiting_threads": 1.0},
            ["throttled", "drifting", "outliers", "contended"],
        ),
    ],
)
def test_flags_say_what_makes_the_repeats_less_sure(seconds, telemetry, flags):
    assert flags_of(seconds, Telemetry(**telemetry)) == flags


def decodes(monkeypatch, seconds, warmup, repeats):
    """Run decodes that take these seconds; the times kept, and what happened in which order."""
    model, sampler, events, left = build_model("diffutran", "tiny"), build_sampler("full"), [], []
    left += seconds

    def laps_of(works, device):
        events.append("run")
        return [0.0, left.pop(0), 0.0]

    monkeypatch.setattr(exact, "laps_of", laps_of)

    @contextmanager
    def watch():
        events.append("enter")
        yield
        events.append("exit")

    state = sampler.prepare(model, 16)
    steps = Steps(model, sampler, state)
    return time_decodes(sampler, state, steps, warmup, Until(repeats), watch()), events


def test_the_warm_up_goes_on_while_decodes_get_faster_and_is_kept(monkeypatch):
    taken = [5.0, 1.0, 0.9, 0.8, 0.8, 0.7, 0.7]
    times, _ = decodes(monkeypatch, taken, 3, 2)
    assert times.warmup_seconds == taken[:5]
    assert times.seconds == taken[5:]


def test_only_the_repeats_are_watched(monkeypatch):
    _, events = decodes(monkeypatch, [1.0] * 5, 3, 2)
    assert events == ["run", "run", "run", "enter", "run", "run", "exit"]


class Clock:
    """Takes the place of the CPU's clock: a pass takes one second, and one more for every ten of
    its tokens."""

    def __init__(self, monkeypatch):
        self.now = 0
        step = Steps.__call__

        def timed(steps, kind):
            step(steps, kind)
            self.now += 10**9 + 10**8 * steps._state.shapes[kind][0]

        monkeypatch.setattr(Steps, "__call__", timed)
        monkeypatch.setattr(clocks.time, "perf_counter_ns", lambda: self.now)


@pytest.mark.parametrize(
    ("backbone", "name", "prefill", "first_block", "seconds", "tokens"),
    [
        # Passes of 32 tokens, 4 a block and a commit, take 4.2 s; one of 100 tokens 11 s.
        ("diffutran", "block-cache", [11.0], 11.0 + 4 * 4.2, 9 * 4.2, 64),
        # 8 passes of 164 tokens, all of which are for the only block.
        ("diffutran", "full", [], 8 * 17.4, 8 * 17.4, 64),
        # Two blocks of one pass of 164 tokens and three of 32.
        ("diffumamba", "fast-dllm", [], 17.4 + 3 * 4.2, 2 * (17.4 + 3 * 4.2), 64),
        # The prefill is the first token's; the other 63 take 1.1 s each.
        ("ar-mamba", "ar", [11.0], 11.0, 63 * 1.1, 63),
    ],
)
def test_a_prompt_is_timed_apart_and_never_counted(
    backbone, name, prefill, first_block, seconds, tokens, monkeypatch
):
    Clock(monkeypatch)
    model, sampler = build_model(backbone, "tiny"), build_sampler(name)
    record = measure(model, sampler, 64, warmup=0, repeats=2, batch=3, prompt_len=100)
    assert record.prefill_seconds == prefill * 2
    assert record.first_block_seconds == pytest.approx([first_block] * 2)
    assert record.seconds == pytest.approx([seconds] * 2)
    assert record.tokens == 3 * tokens
    assert record.tokens_per_second == pytest.approx(3 * tokens / seconds)
    schedule = sampler.schedule(64, 100)
    assert (record.nfe, record.query_tokens) == (schedule.forward_passes, schedule.query_tokens)
    assert record.ms_per_pass == pytest.approx(1e3 * seconds / record.nfe)
    assert record.point.prompt_len == 100
    assert record.point.describe().endswith("L=64 prompt=100 batch=3")


def test_without_a_prompt_the_first_block_is_timed_all_the_same(monkeypatch):
    Clock(monkeypatch)
    record = measure(
        build_model("diffutran", "tiny"), build_sampler("block-cache"), 64, warmup=0, repeats=1
    )
    assert record.prefill_seconds == []
    assert record.first_block_seconds == pytest.approx([4 * 4.2])
    assert record.seconds == pytest.approx([9 * 4.2])


def test_nothing_can_be_timed_of_the_one_token_that_a_prefill_decodes():
    model, sampler = build_model("ar-mamba", "tiny"), build_sampler("ar")
    assert sampler.decode(model, 1, prompt_len=5).shape == (1, 1)
    with pytest.raises(ConfigError, match=r"length: 1 is not allowed after a prompt .* at least 2"):
        measure(model, sampler, 1, prompt_len=5)


@pytest.mark.parametrize("mode", ["exact", "sampled"])
def test_a_record_keeps_warm_up_telemetry_and_flags_as_json(mode, monkeypatch):
    seen = []
    monkeypatch.setattr(timing, "flags_of", lambda *told: seen.append(told) or ["drifting"])
    record = measure(
        build_model("diffutran", "tiny"),
        build_sampler("block-cache"),
        64,
        mode,
        warmup=1,
        max_seconds=1,
    )
    lines = 1 if mode == "exact" else len({timing.kind for timing in record.passes})
    assert len(record.warmup_seconds) == lines
    assert record.flags == ["drifting"]
    ((seconds, telemetry),) = seen
    assert seconds == record.seconds
    assert telemetry.model_dump() == record.telemetry
    assert telemetry.source == "host"
    # The region holds every repeat; in sampled mode only a part of each decode.
    assert telemetry.region_seconds > (sum(seconds) if mode == "exact" else 0)
    again = Record.model_validate_json(record.model_dump_json())
    assert again.telemetry == record.telemetry
    assert again.flags == record.flags


def test_a_record_of_before_there_were_flags_still_loads():
    line = Path(__file__).parents[2] / "results/cpu/quick.jsonl"
    old = json.loads(line.read_text().splitlines()[0])
    for name in ("flags", "warmup_seconds"):
        old.pop(name, None)
    record = Record.model_validate(old)
    assert record.flags == []
    assert record.warmup_seconds == []


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="needs Linux's schedstat")
def test_a_run_next_to_busy_processes_is_contended():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [min(allowed)])  # this thread's and the busy processes' one CPU
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        watch = watch_of(torch.device("cpu"))
        with watch:
            total = sum(i for i in range(10_000_000))  # a second or so of one thread
    finally:
        os.sched_setaffinity(0, allowed)
        for process in busy:
            process.kill()
            process.wait()
    assert total
    # Two busy processes on each CPU: a thread waits about two thirds of the time.
    assert watch.telemetry([1.0], 1).contended


def test_a_gpu_is_asked_by_its_properties_or_says_why_not(monkeypatch):
    device, asked = torch.device("cuda", 1), []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: f"of {device}")
    monkeypatch.setattr(conditions, "nvml_source", lambda told: asked.append(told) or "no luck")
    assert watch_of(device).telemetry([1.0], 1) == Telemetry(note="no luck")
    assert asked == ["of cuda:1"]


def test_a_device_that_nothing_is_known_of_says_so():
    told = watch_of(torch.device("meta")).telemetry([1.0], 1)
    assert told == Telemetry(note="nothing is known of a meta")
