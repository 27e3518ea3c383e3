"""The first token of a block, taken from the pass over the clean tokens before (Fast-dLLM v2)."""

import pytest
import torch
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps
from support.reference_sub_blocks import sub_block_passes
from support.scripted_model import ScriptedModel

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.cost.flops import pass_costs
from dlm_bench.models.backbones import backbone_info
from dlm_bench.samplers import with_models_defaults
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.ends import find_ends
from dlm_bench.samplers.schedule import DecodeShape, first_block_passes
from dlm_bench.testing import check_decode
from dlm_bench.timing.blocks import blocks_of
from dlm_bench.timing.decode_check import check_passes, check_plan
from dlm_bench.timing.measure import decode_fields

LENGTH = 14  # a block of 8 and one of 6


def ahead(**options):
    return build_sampler("block-cache", **{"first_token": "commit", "block_size": 8} | options)


@pytest.mark.parametrize("prompt_len", [0, 1, 5])
@pytest.mark.parametrize(
    "options",
    [
        {"tokens_per_step": 3},
        {"tokens_per_step": 3, "order": "entropy"},
        {"sub_block_size": 4, "tokens_per_step": 2},
        {"sub_block_size": 4, "tokens_per_step": 1, "order": "random"},
        {"accept": "strict", "threshold": 0.05},
        {"accept": "bounded", "threshold": 0.08, "max_passes": 3},
        {"sub_block_size": 4, "accept": "strict", "threshold": 0.05},
    ],
    ids=str,
)
def test_a_decode_is_that_of_a_recomputation(options, prompt_len):
    model, sampler = lively_model("dream", layers=2), ahead(**options)
    known = sampler.scheduled(model, LENGTH, prompt_len=prompt_len)
    steps, state = package_steps(known, model, LENGTH, prompt_len=prompt_len)
    priority = state.priority if sampler.order == "random" else None
    prompt = state.tokens[:, :prompt_len]
    expected = reference_steps(sampler, model, LENGTH, 1, priority, steps, prompt, sub_block_passes)
    assert_same_decode(steps, expected)
    assert torch.equal(
        sampler.decode(model, LENGTH, prompt_len=prompt_len), state.tokens[:, prompt_len:]
    )


def test_the_passes_of_a_decode_by_hand():
    # The first sub-block of each block has three tokens left, after a prompt the first one, too.
    sampler = ahead(sub_block_size=4, tokens_per_step=2)
    found = [
        (p.kind, p.query_len, p.context_len, p.block_start, p.masked, p.reveal, p.t)
        for p in sampler.passes(14, 3)
    ]
    assert found == [
        ("prefill", 3, 0, 3, 1, 1, 0),
        ("refresh", 8, 3, 3, 3, 2, 7 / 8),
        ("denoise", 4, 7, 3, 1, 1, 5 / 8),
        ("refresh", 8, 3, 7, 4, 2, 4 / 8),
        ("denoise", 4, 7, 7, 2, 2, 2 / 8),
        ("commit", 8, 3, 11, 1, 1, 0),
        ("refresh:6", 6, 11, 11, 3, 2, 5 / 6),
        ("denoise:6", 4, 13, 11, 1, 1, 3 / 6),
        ("refresh:6:2", 6, 11, 15, 2, 2, 2 / 6),
    ]
    plan = list(sampler.passes(14, 3))
    check_plan(plan, DecodeShape(14, 3))
    assert first_block_passes(plan) == 3
    # Without a prompt nothing stands in front of the first block.
    assert [p.masked for p in sampler.passes(14)][:2] == [4, 2]


def test_a_last_block_of_one_token_has_a_pass_of_its_own():
    plan = list(ahead(tokens_per_step=8).passes(17, 2))
    assert [(p.kind, p.block_start, p.masked) for p in plan] == [
        ("prefill", 2, 1),
        ("denoise", 2, 7),
        ("commit", 10, 1),
        ("denoise", 10, 7),
        ("commit:8", 10, 0),
        ("denoise:1", 18, 1),
    ]
    assert ahead().passes(1, 2).__next__().reveal == 0
    model = lively_model("dream", layers=1)
    for length in (1, 17):
        assert ahead().decode(model, length, prompt_len=2).shape == (1, length)


def test_a_block_of_written_confidences_by_hand():
    x = 0.3  # of a place that is decoded
    model = ScriptedModel(
        [x, x],  # the prompt: its last place predicts token 2, however unsure
        [x, 0.5, 0.99, 0.99],  # over the block of 2 to 5: 3 is the surest of its sub-block
        [x, x, 0.91, 0.92],  # over the block again: both
        [x, x, x, 0.2],  # the commit predicts token 6
        [x, 0.4],  # the next block, of one sub-block: 7 is the last one left
    )
    sampler = build_sampler(
        "block-cache",
        block_size=4,
        sub_block_size=2,
        accept="strict",
        threshold=0.9,
        first_token="commit",
    )
    trace = record_trace(model, sampler, 6, prompt_len=2)
    # The token of the prompt, or of a commit, counts to the first pass over its block.
    assert trace.accepted == ((2,), (2,), (2,))
    block = [2, 3, 4, 5]
    assert model.seen == [[0, 1], block, block, block, [6, 7]]


@pytest.mark.parametrize(("threshold", "passes"), [(1.0, 31), (0.0, 4)])
def test_forward_passes_are_those_of_fast_dllm_v2(threshold, passes):
    """Its loop over a block: passes until nothing is masked, then one over the clean block that
    gives the next block's first token. Sure of nothing a pass takes one of 31 tokens left; sure of
    all of them a pass takes a sub-block."""
    shipped = with_models_defaults(
        "block-cache", {"accept": "shipped"}, backbone_info("fast-dllm-v2")
    )
    sampler = build_sampler("block-cache", **shipped | {"threshold": threshold})
    assert (sampler.block_size, sampler.sub_block_size, sampler.first_token) == (32, 8, "commit")
    model = build_model("fast-dllm-v2", "tiny", layers=1)
    known = sampler.scheduled(model, 96, prompt_len=32)
    # The pass over the last clean block is left out.
    assert known.schedule(96, 32).forward_passes == 3 * (passes + 1) - 1
    plan = list(known.passes(96, 32))
    assert blocks_of(plan[1:], 1)["passes"] == passes / 4  # over a sub-block
    assert decode_fields(model, known, DecodeShape(96, 32), plan)["decoding_passes"] == 3 * passes


def test_the_rows_of_a_batch_and_a_replay_decode_the_same():
    model = lively_model("dream", layers=2)
    sampler = ahead(sub_block_size=4, accept="strict", threshold=0.05)
    place = {"batch": 3, "seed": 3, "prompt_len": 5}
    together = sampler.decode(model, LENGTH, **place)
    alone = [sampler.decode(model, LENGTH, seed=3 + row, prompt_len=5)[0] for row in range(3)]
    assert torch.equal(together, torch.stack(alone))
    trace = record_trace(model, sampler, LENGTH, **place)
    assert trace.differs
    replay = ahead(sub_block_size=4, trace=trace)
    assert torch.equal(replay.decode(model, LENGTH, **place), together)
    check_plan(list(replay.planned(DecodeShape(LENGTH, 5, 3), 3)), DecodeShape(LENGTH, 5, 3))


def test_a_trace_without_such_tokens_takes_as_many_passes():
    model = lively_model("dream", layers=2)
    usual = build_sampler("block-cache", block_size=8, accept="strict", threshold=1.0)
    replay = ahead(trace=record_trace(model, usual, 16))
    assert [p.reveal for p in replay.passes(16)] == [1] * 8 + [1] + [0] + [1] * 7


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_check_holds(temperature):
    model = lively_model("dream", layers=2)
    for options in ({"tokens_per_step": 3}, {"sub_block_size": 4, "accept": "strict"}):
        sampler = ahead(temperature=temperature, **options)
        check_decode(model, sampler, LENGTH)
        known = sampler.scheduled(model, LENGTH, prompt_len=5)
        check_passes(model, known, known.prepare(model, LENGTH, prompt_len=5))


def test_a_decode_that_stops_at_eos_ends_with_a_block(monkeypatch):
    model, sampler = lively_model("dream", layers=2), ahead(tokens_per_step=3)
    state = sampler.prepare(model, 24, prompt_len=3)
    sampler.run(model, state)
    eos = int(state.tokens[0, 3 + 8])  # the token of the first commit
    monkeypatch.setattr("dlm_bench.samplers.ends.eos_of", lambda _: eos)
    ends = find_ends(sampler, model, sampler.prepare(model, 24, prompt_len=3))
    decoded = state.tokens[0, 3:].tolist()
    assert ends.to_eos == (decoded.index(eos) + 1,)
    assert ends.generated == (-(-ends.to_eos[0] // 8) * 8,)


def test_a_commit_that_takes_a_token_has_the_cost_of_a_row_of_the_head():
    config = build_model("dream", "tiny", device="meta").config
    sampler = ahead(tokens_per_step=3)
    plan = list(sampler.passes(16))
    usual = [p for p in build_sampler("block-cache", block_size=8).passes(16) if p.kind == "commit"]
    (index,) = (i for i, p in enumerate(plan) if p.kind == "commit")
    found = pass_costs(config, sampler, plan)
    other = pass_costs(config, sampler, usual)
    head = config.vocab_size * config.d_model
    assert found.flops[index] - other.flops[0] == 2 * head
    looked_up = 8 * config.d_model * 2
    assert found.weight_bytes[index] - other.weight_bytes[0] == 2 * head - looked_up * config.tied


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first_token": "comit"}, "first_token: 'comit' is not known"),
        ({"commit": "fused"}, "commit: 'fused' is not allowed with first_token 'commit'"),
        ({"batching": "fdfo"}, "batching: 'fdfo' is not allowed with first_token 'commit'"),
        ({"accept": "joint"}, "first_token: 'commit' is not allowed with accept 'joint'"),
    ],
)
def test_what_cannot_be_combined_is_one_line(options, said):
    with pytest.raises(ConfigError) as error:
        ahead(**options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_backbone_without_a_token_shift_is_refused():
    with pytest.raises(ConfigError, match="first_token: 'commit' is not allowed with backbone"):
        ahead().check_backbone("llada")
    with pytest.raises(ConfigError, match="first_token: 'commit' is not allowed with backbone"):
        ahead().decode(build_model("diffutran", "tiny", layers=1), 8)
    ahead().check_backbone("dream")


def test_records_name_the_option_only_where_it_is_another():
    assert ahead().options()["first_token"] == "commit"
    assert "first_token" not in build_sampler("block-cache").options()
