"""Where the time of a pass goes: sums, ranges, and the command."""

import json

import pytest
import torch

from dlm_bench import build_model, build_sampler
from dlm_bench.cli import main
from dlm_bench.timing.graphs import Steps
from dlm_bench.timing.profile import (
    Operation,
    Span,
    chosen_passes,
    cuda_profiler,
    nvtx_range,
    profile_pass,
    range_name,
    run_in_ranges,
    summed,
)

RUN = ["profile", "diffumamba", "block-cache", "-L", "96", "--size", "tiny", "--device", "cpu"]
RUN += ["--replays", "1"]


def test_operations_are_summed_with_the_gaps_between():
    """Two runs: a gap of 5, then operations side by side and none."""
    runs = [
        [Span("a", 0, 10), Span("b", 15, 20)],
        [Span("a", 100, 110), Span("b", 105, 112)],
    ]
    found = summed(runs, 2)
    assert found.us == (20 + 12) / 2
    assert found.gaps_us == 5 / 2
    assert found.count == 2
    assert found.operations == [Operation("a", 10.0, 1.0), Operation("b", 6.0, 1.0)]


def test_the_middle_pass_of_each_role_is_chosen_and_named_by_block_and_role():
    plan = build_sampler("block-cache").prepare(build_model("diffutran", "tiny"), 96).passes
    chosen = chosen_passes(plan)
    assert {role: range_name(plan, index) for role, index in chosen.items()} == {
        "denoise": "block 1/denoise",
        "commit": "block 1/commit",
    }
    assert [*chosen_passes(plan, "commit")] == ["commit"]
    assert not chosen_passes(plan, "refresh")


def test_a_prefill_is_in_front_of_block_0():
    model = build_model("diffutran", "tiny")
    plan = build_sampler("block-cache").prepare(model, 96, prompt_len=5).passes
    assert range_name(plan, 0) == "block 0/prefill"
    assert range_name(plan, 1) == "block 0/denoise"


@pytest.fixture
def decode():
    model, sampler = build_model("diffutran", "tiny"), build_sampler("full")
    state = sampler.prepare(model, 16)
    return sampler, state, Steps(model, sampler, state)


def test_the_operations_of_a_pass_lie_within_its_time(decode):
    with torch.inference_mode():
        found = profile_pass(*decode, 0, replays=2)
    assert found.count > 10
    assert 0 < sum(each.us for each in found.operations) <= found.us
    assert found.gaps_us == pytest.approx(found.us - sum(each.us for each in found.operations))
    assert found.operations == sorted(found.operations, key=lambda each: -each.us)


def test_nsys_gets_ranges_between_start_and_stop(decode, monkeypatch):
    told = []
    for module, names in (
        (torch.cuda.nvtx, ("range_push", "range_pop")),
        (torch.cuda.profiler, ("start", "stop")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, lambda *args, name=name: told.append((name, *args)))
    with cuda_profiler(), torch.inference_mode():
        run_in_ranges(*decode, [0, 1], nvtx_range, replays=1)
    push, pop = ("range_push", "block 0/denoise"), ("range_pop",)
    assert told == [("start",), push, pop, push, pop, ("stop",)]


def test_the_command_prints_operations_floor_and_trace(tmp_path, capsys):
    trace = tmp_path / "trace.json"
    options = ["--hardware", "h200", "--dtype", "bfloat16", "--trace", str(trace), "--top", "3"]
    assert main([*RUN, *options]) == 0
    told = capsys.readouterr().out
    assert "block 1/denoise: 32 query tokens, 32 cached; eager: a cpu has no CUDA graphs" in told
    assert "block 1/commit: 32 query tokens, 32 cached" in told
    assert "us on h200" in told
    assert "aten::" in told
    assert "\nothers " in told
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert {"block 1/denoise", "block 1/commit"} <= names


def test_the_command_profiles_one_role_alone(capsys):
    assert main([*RUN, "--role", "commit"]) == 0
    told = capsys.readouterr().out
    assert "/commit:" in told
    assert "/denoise:" not in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--role", "denoize"], "role: 'denoize' is not known (did you mean 'denoise'?)"),
        (["--nvtx"], "--nvtx is not allowed on a CPU"),
        (["--replays", "0"], "replays: 0 is not allowed"),
    ],
)
def test_what_the_command_cannot_do_is_a_line(options, told, capsys):
    assert main([*RUN, *options]) == 2
    assert told in capsys.readouterr().err
