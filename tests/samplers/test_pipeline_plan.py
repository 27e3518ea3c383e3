"""The passes of a pipeline of blocks: the schedule, traces and options."""

import pytest
import torch
from support.reference import lively_model
from support.reference_pipeline import trace_of

from dlm_bench import ConfigError, build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace, load_trace, save_trace
from dlm_bench.samplers.schedule import DecodeShape, first_block_passes

LENGTH, BLOCK = 22, 8  # two blocks and a shorter one


def sampler_of(**options):
    return build_sampler("pipeline", block_size=BLOCK, **options)


def passes(length, prompt_len=0, **options):
    sampler = build_sampler("pipeline", block_size=8, tokens_per_step=2, **options)
    schedule = sampler.schedule(length, prompt_len)
    return [(p.kind, p.query_len, p.context_len, p.count) for p in schedule]


def test_a_pipeline_of_a_fixed_number_worked_by_hand():
    # Blocks take 4 passes each; the next one begins when half of a block is decoded, 2 passes on:
    # the third ends with pass 8. One after the other they take 12.
    assert passes(24, add_at=0.5) == [
        ("denoise:8", 8, 0, 2),
        ("denoise:16", 16, 0, 2),
        ("fused:8+16", 24, 0, 1),
        ("denoise:16", 16, 8, 1),
        ("fused:8+8", 16, 8, 1),
        ("denoise:8", 8, 16, 1),
    ]
    assert passes(24, 100, add_at=0.5)[:2] == [("prefill", 100, 0, 1), ("denoise:8", 8, 100, 2)]


@pytest.mark.parametrize(
    ("options", "nfe"),
    [
        ({"add_at": 0.1}, 4 + 2 * 1),
        ({"add_at": 0.25}, 4 + 2 * 1),
        ({"add_at": 0.26}, 4 + 2 * 2),
        ({"add_at": 1.0}, 4 * 3),
        ({"add_at": 0.0}, 4 + 2 * 1),  # one block a pass is added
        ({"add_at": 0.1, "max_blocks": 2}, 4 + 4),  # the third waits for the first
        ({"add_at": 0.1, "max_blocks": 1}, 4 * 3),
    ],
)
def test_passes_by_the_shares_and_the_bound(options, nfe):
    sampler = build_sampler("pipeline", block_size=8, tokens_per_step=2, **options)
    assert sampler.schedule(24).forward_passes == nfe


def test_the_first_block_is_done_when_the_next_ones_are_under_way():
    plan = list(build_sampler("pipeline", block_size=8, tokens_per_step=2).passes(24))
    assert first_block_passes(plan) == 4
    assert sum(each.reveal for each in plan[:4]) == 8 + 6 + 4


def test_a_seek_masks_as_many_places_of_each_block_as_planned():
    model = lively_model("diffutran", layers=1)
    sampler = sampler_of(tokens_per_step=3, add_at=0.3)
    state = sampler.prepare(model, LENGTH, 2, prompt_len=5)
    for index, pass_ in enumerate(state.passes):
        sampler.seek(state, index)
        masked = state.tokens == model.config.mask_id
        assert not masked[:, : pass_.block_start].any()
        start = pass_.block_start
        for part in pass_.parts:
            found = masked[:, start : start + part.length].sum(dim=1)
            assert found.tolist() == [part.masked] * 2
            start += part.length
        if pass_.parts:
            assert masked[:, start:].all()


# Traces.


def test_a_trace_comes_back_from_its_file_and_decodes_the_same(tmp_path):
    model = lively_model("diffumamba-h", layers=2)
    sampler = sampler_of(accept="threshold", threshold=0.05)
    trace = record_trace(model, sampler, LENGTH)
    assert any(0 in block for block in trace.accepted)
    save_trace(trace, tmp_path / "t.json")
    assert load_trace(tmp_path / "t.json") == trace
    replay = sampler_of(trace=str(tmp_path / "t.json"))
    assert torch.equal(replay.decode(model, LENGTH), sampler.decode(model, LENGTH))
    # Any number of rows can follow it, and any length.
    assert replay.decode(model, 3 * LENGTH, batch=2).shape == (2, 3 * LENGTH)


def test_a_block_that_waits_accepts_nothing_in_a_trace_of_a_pipeline_alone():
    assert trace_of([[4, 4], [0, 8]]).accepted[1] == (0, 8)
    with pytest.raises(ValueError, match="first pass of a block must accept"):
        trace_of([[4, 4], [0, 8]], sampler="block-cache")


def test_a_pipeline_follows_the_trace_of_another_sampler_and_not_the_reverse():
    trace = trace_of([[4, 4], [8]], sampler="block-cache")
    sampler = sampler_of(trace=trace, add_at=0.5)
    assert [p.reveal for p in sampler.passes(16)] == [4, 4 + 8]
    with pytest.raises(ConfigError, match="a trace of sampler 'pipeline'"):
        build_sampler("block-cache", block_size=BLOCK, trace=trace_of([[4, 4], [0, 8]]))


def test_a_trace_with_passes_that_edit_alone_is_refused():
    edits = {"accept": "joint", "threshold": 0.5, "edit_threshold": 0.0, "max_edit_passes": 3}
    trace = Trace.by_hand([[[4, 4, 0, 0], [8, 0]]], BLOCK, options=edits)
    fused = build_sampler("block-cache", block_size=BLOCK, trace=trace, commit="fused")
    assert fused.schedule(16).forward_passes == 4 + 2
    with pytest.raises(ConfigError) as caught:
        sampler_of(trace=trace, max_blocks=1)
    assert str(caught.value) == (
        f"trace: {trace.label!r} is a trace of accept 'joint'; not allowed with sampler "
        "'pipeline', whose blocks end at their last MASK, before any pass that edits alone"
    )


def test_a_seed_follows_its_own_sequence_of_a_trace_and_a_batch_has_no_room_for_several():
    one, other = trace_of([[4, 4]]), trace_of([[8]])
    both = one.model_copy(update={"seed": 3, "sequences": (*one.sequences, *other.sequences)})
    sampler, model = sampler_of(trace=both), lively_model("diffutran", layers=1)
    for seed, reveals in ((3, [4, 4]), (4, [8]), (5, [4, 4])):
        assert [p.reveal for p in sampler.planned(DecodeShape(8), seed)] == reveals
    assert [p.reveal for p in sampler.prepare(model, 8, seed=4).passes] == [8]
    with pytest.raises(ConfigError, match=r"batch: 2 .* 2 sequences .* a trace of one sequence"):
        sampler.prepare(model, 8, batch=2)
    assert (sampler.takes_batches, sampler_of(trace=one).takes_batches) == (False, True)


# Options.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_blocks": 0}, "max_blocks: 0"),
        ({"add_at": 1.5}, "add_at: 1.5"),
        ({"activate_at": -0.1, "accept": "threshold"}, "activate_at: -0.1"),
        ({"activate_at": 0.5}, "activate_at: 0.5 is not allowed with accept 'fixed'"),
        (
            {"accept": "entropy"},
            "accept: 'entropy' .* a token of every block, .* allowed: fixed, threshold, strict, "
            "factor",
        ),
        ({"accept": "joint"}, "accept: 'joint' .* end at their last MASK, .* allowed: fixed, thr"),
        ({"tokens_per_step": 9}, r"tokens_per_step: 9 .* at most block_size \(8\)"),
    ],
)
def test_what_cannot_be_is_one_line(options, said):
    with pytest.raises(ConfigError, match=said):
        sampler_of(**options)


def test_by_confidence_a_decode_is_of_one_sequence():
    sampler = sampler_of(accept="threshold")
    with pytest.raises(ConfigError, match="batch: 2 is not allowed with sampler 'pipeline'"):
        sampler.decode(lively_model("diffutran", layers=1), 8, batch=2)
