"""Decodes that follow a recorded acceptance."""

import pytest
import torch
from support.reference import lively_model
from support.traces import EDITS, trace_of

from dlm_bench import ConfigError, build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import save_trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.decode_check import check_plan

OF_PASSES = ["not allowed with trace, which says how many tokens a pass unmasks; leave it out"]


def reveals(length, block_size=4, trace=None, name="block-cache", **options):
    """Tokens that the passes of each block of a replay unmask."""
    blocks = {} if name == "full" else {"block_size": block_size}
    sampler = build_sampler(name, trace=trace or trace_of(), **blocks, **options)
    found = {}
    for place in sampler.passes(length):
        if place.masked:
            found.setdefault(place.block_start, []).append(place.reveal)
    return list(found.values())


def test_a_replay_unmasks_what_was_recorded():
    assert reveals(10) == [[3, 1], [1, 1, 1, 1], [2]]


def test_a_longer_decode_takes_the_whole_blocks_again():
    assert reveals(22) == [[3, 1], [1, 1, 1, 1], [3, 1], [1, 1, 1, 1], [3, 1], [1, 1]]


def test_a_shorter_block_stops_where_nothing_is_left():
    assert reveals(3) == [[3]]
    assert reveals(7) == [[3, 1], [1, 1, 1]]


def test_a_shorter_block_keeps_the_passes_that_edit_alone():
    sequences = [[[2, 0, 2, 0, 0], [4, 0], [2, 0]]]
    trace = trace_of(options=EDITS, sequences=sequences)
    assert trace.row_counts(2, 3) == [[2, 0, 1, 0, 0]]
    assert trace.row_counts(1, 3) == [[3, 0]]
    passes = build_sampler("block-cache", block_size=4, trace=trace).passes(3)
    assert [(each.masked, each.reveal) for each in passes] == [
        (3, 2),
        (1, 0),
        (1, 1),
        (0, 0),
        (0, 0),
    ]


def test_a_trace_shorter_than_a_block_goes_on_from_its_first_pass():
    short = trace_of(length=3, accepted=[[2, 1]])
    assert reveals(8, trace=short) == [[2, 1, 1], [2, 1, 1]]


def test_a_longer_block_makes_the_passes_that_edit_alone_once_at_its_end():
    whole = {"sampler": "full", "block_size": None, "length": 8, "options": EDITS}
    trace = trace_of(**whole, accepted=[[4, 4, 0, 0]])
    assert trace.row_counts(0, 16) == [[4, 4, 4, 4, 0, 0]]
    short = trace_of(length=3, options=EDITS, accepted=[[2, 1, 0]])
    assert short.row_counts(0, 4) == [[2, 1, 1, 0]]


def test_a_trace_without_blocks_drives_full_at_any_length():
    whole = trace_of(sampler="full", block_size=None, length=8, accepted=[[4, 1, 3]])
    assert reveals(8, trace=whole, name="full") == [[4, 1, 3]]
    assert reveals(5, trace=whole, name="full") == [[4, 1]]
    assert reveals(14, trace=whole, name="full") == [[4, 1, 3, 4, 1, 1]]


THREE = {
    "block_size": 4,
    "length": 8,
    "seed": 5,
    "sequences": [[[4], [3, 1]], [[1, 1, 2], [4]], [[2, 2], [1, 1, 1, 1]]],
}


def rows_of(batch, seed, length=8, **options):
    """(start, masked, reveal) of each pass, the latter two a row each."""
    sampler = build_sampler("block-cache", trace=trace_of(**THREE), block_size=4, **options)
    plan = list(sampler.planned(DecodeShape(length, batch=batch), seed))
    check_plan(plan, DecodeShape(length, batch=batch))
    return [(p.block_start, p.of_rows(batch).masked, p.of_rows(batch).reveal) for p in plan]


def test_rows_take_the_sequences_in_turn_and_a_block_waits_for_the_slowest():
    assert rows_of(3, 5, commit="fused") == [
        (0, (4, 4, 4), (4, 1, 2)),
        (0, (0, 3, 2), (0, 1, 2)),
        (0, (0, 2, 0), (0, 2, 0)),
        (4, (4, 4, 4), (3, 4, 1)),
        (4, (1, 0, 3), (1, 0, 1)),
        (4, (0, 0, 2), (0, 0, 1)),
        (4, (0, 0, 1), (0, 0, 1)),
    ]
    assert [each[2] for each in rows_of(4, 4, length=4)] == [
        (2, 4, 1, 2),
        (2, 0, 1, 2),
        (0, 0, 2, 0),
    ]
    assert [each[2] for each in rows_of(1, 6, length=4)] == [(1,), (1,), (2,)]


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("block-cache", {"commit": "separate"}, 7 + 2),
        ("block-cache", {"commit": "fused"}, 7),
        ("block-cache", {"commit": "none"}, 7),
        ("fast-dllm", {"cache": "dual"}, 7),
        ("fast-dllm", {"cache": "prefix"}, 7),
    ],
)
def test_any_sampler_with_blocks_can_follow_it(name, options, passes):
    sampler = build_sampler(name, trace=trace_of(), block_size=4, **options)
    assert sampler.schedule(10).forward_passes == passes


@pytest.mark.parametrize("cache", ["dual", "prefix"])
def test_a_block_is_refreshed_once_though_its_first_pass_unmasks_nothing(cache):
    trace = trace_of(options={"spread": "dream"}, length=8, accepted=[[0, 0, 4], [0, 2, 2]])
    passes = build_sampler("fast-dllm", block_size=4, cache=cache, trace=trace).schedule(8)
    roles = [each.role for each in passes for _ in range(each.count)]
    assert roles == ["refresh", "denoise", "denoise"] * 2


@pytest.mark.parametrize(
    ("name", "options", "trace", "said"),
    [
        (
            "block-cache",
            {},
            {},
            ["trace of block_size 4; not allowed with block_size 32; must be block_size=4"],
        ),
        (
            "block-cache",
            {},
            {"options": {"block_size": 8, "sub_block_size": 4}},
            [
                "of block_size 8 and sub_block_size 4; not allowed with block_size 32; "
                "must be block_size=8 and sub_block_size=4"
            ],
        ),
        ("full", {}, {}, ["block_size 4; not allowed with block_size 0; must be block_size=4"]),
        (
            "full",
            {"block_size": 4, "tokens_per_step": 4},
            {"block_size": None, "sequences": [[[10]]]},
            ["without blocks; not allowed with block_size 4; must be block_size=0"],
        ),
        (
            "fast-dllm",
            {"block_size": 4},
            {"block_size": None, "sequences": [[[10]]]},
            ["without blocks", "block_size 4; must be a trace by a sampler with blocks"],
        ),
        ("block-cache", {"block_size": 4, "tokens_per_step": 2}, {}, OF_PASSES),
        ("block-cache", {"block_size": 4, "threshold": 0.9}, {}, OF_PASSES),
    ],
)
def test_what_does_not_go_with_a_trace_is_refused(name, options, trace, said):
    with pytest.raises(ConfigError) as caught:
        build_sampler(name, trace=trace_of(**trace), **options)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("full", {"accept": "threshold", "threshold": 0.05}),
        ("fast-dllm", {"accept": "factor", "factor": 2.9, "block_size": 8}),
        ("block-cache", {"accept": "threshold", "threshold": 0.05, "block_size": 8}),
        ("block-cache", {"accept": "factor", "factor": 2.9, "block_size": 8, "commit": "fused"}),
    ],
)
def test_a_replay_decodes_what_the_recorded_decode_did_in_as_many_passes(name, options, tmp_path):
    model = lively_model("diffumamba-h")
    adaptive = build_sampler(name, **options)
    save_trace(record_trace(model, adaptive, 45), tmp_path / "t.json")
    rest = {
        key: value for key, value in options.items() if key not in ("accept", options["accept"])
    }
    replay = build_sampler(name, trace=str(tmp_path / "t.json"), **rest)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    try:
        expected = adaptive.decode(model, 45)
        passes = len(calls)
        assert torch.equal(replay.decode(model, 45), expected)
    finally:
        hook.remove()
    assert len(calls) - passes == passes == replay.schedule(45).forward_passes
    assert passes < 45  # else it would follow any schedule of one token a pass
