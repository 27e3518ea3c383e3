"""Replays of traces: the sequence that a schedule is of, and what a trace is recorded of."""

import pytest
import torch
from support.reference import lively_model

from dlm_bench import ConfigError, build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.prompt import Prompts
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.testing import check_decode

BLOCK = 8
EDITS = {"accept": "joint", "threshold": 0.5, "edit_threshold": 0.0, "max_edit_passes": 3}


def tiny():
    return lively_model("diffutran", layers=1)


def of_two(sampler, block_size=BLOCK):
    """A trace whose sequences, of seeds 1 and 2, take 1 and 8 passes."""
    return Trace.by_hand([[[8]], [[1] * 8]], block_size, sampler=sampler, seed=1)


@pytest.mark.parametrize(
    ("name", "options", "nfe"),
    [
        ("block-cache", {}, 8),
        ("block-cache", {"batching": "fdfo"}, 8),
        ("fast-dllm", {}, 8),
        ("pipeline", {}, 8),
        ("self-speculation", {}, 15),  # a draft and a verify pass a pair, the last one without
    ],
)
def test_a_schedule_is_of_seed_0_and_not_of_the_traces_first_sequence(name, options, nfe):
    trace = of_two(name, None if name == "self-speculation" else BLOCK)
    sampler = build_sampler(name, block_size=BLOCK, trace=trace, **options)
    assert sampler.schedule(8).forward_passes == nfe
    assert len(list(sampler.planned(DecodeShape(8), seed=0))) == nfe


def test_the_checks_for_authors_take_such_a_schedule():
    sampler = build_sampler("block-cache", block_size=BLOCK, trace=of_two("block-cache"))
    check_decode(tiny(), sampler, length=9)


@pytest.mark.parametrize("name", ["fast-dllm", "block-cache"])
def test_a_replay_of_passes_that_unmask_nothing_at_first_has_a_trace(name):
    first = Trace.by_hand(
        [[[0, 0, 8], [0, 4, 4]]], BLOCK, sampler="full", options={"spread": "dream"}
    )
    replay = build_sampler(name, block_size=BLOCK, trace=first)
    again = record_trace(tiny(), replay, 16)
    assert again.sequences == first.sequences
    assert again.options["trace"] == first.label


def test_a_trace_of_a_replay_edits_as_the_replay_did():
    first = Trace.by_hand([[[4, 4, 0, 0], [8, 0]]], BLOCK, options=EDITS)
    replay = build_sampler("block-cache", block_size=BLOCK, trace=first)
    again = record_trace(tiny(), replay, 16)
    assert again.label.startswith("diffutran-tiny-joint-0.5-edit-0-max-3@")
    twice = build_sampler("block-cache", block_size=BLOCK, trace=again)
    assert twice.acceptance.edits == replay.acceptance.edits
    assert torch.equal(twice.decode(tiny(), 16), replay.decode(tiny(), 16))


def test_prompts_are_each_decoded_by_themselves():
    prompts = Prompts("two@0", ((1, 2, 3), (4, 5, 6, 7, 8)), ("a", "b"))
    sampler = build_sampler("block-cache", block_size=BLOCK, accept="threshold", threshold=0.05)
    assert len(record_trace(tiny(), sampler, 8, prompts=prompts).sequences) == 2
    with pytest.raises(ConfigError, match=r"batch: 2 is not allowed with prompts.* must be 1"):
        record_trace(tiny(), sampler, 8, batch=2, prompts=prompts)
