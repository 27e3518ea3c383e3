"""Blocks in sub-blocks, with a dual cache inside the block (Fast-dLLM v2)."""

import pytest
import torch
from support.flops import counted_flops
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps
from support.reference_sub_blocks import sub_block_passes
from support.scripted_model import ScriptedModel

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.cost.flops import pass_costs
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.testing import check_decode
from dlm_bench.timing.decode_check import check_plan

# DiffuTran is told the time, Dream shifts its tokens and shares keys between heads.
ATTENTION = ("diffutran", "dream")
LENGTH = 14  # a block of 8 and one of 6, in sub-blocks of 4, 4, 4 and 2


def sub_blocks(**options):
    return build_sampler(
        "block-cache", **{"block_size": 8, "sub_block_size": 4, "tokens_per_step": 2} | options
    )


def adaptive(accept, value, **options):
    return build_sampler(
        "block-cache", accept=accept, block_size=8, sub_block_size=4, **{accept: value}, **options
    )


def compare(sampler, known, backbone, prompt_len, batch=1):
    model = lively_model(backbone, layers=2)
    steps, state = package_steps(known, model, LENGTH, batch, prompt_len=prompt_len)
    expected = reference_steps(
        sampler,
        model,
        LENGTH,
        batch,
        state.priority if sampler.order == "random" else None,
        steps,
        state.tokens[:, :prompt_len],
        sub_block_passes,
    )
    assert_same_decode(steps, expected)
    return model, state


@pytest.mark.parametrize("prompt_len", [0, 5])
@pytest.mark.parametrize("commit", ["separate", "fused", "none"])
@pytest.mark.parametrize("backbone", ATTENTION)
def test_sub_blocks_decode_what_a_recomputation_decodes(backbone, commit, prompt_len):
    for per_step, order in ((4, "confidence"), (1, "random")):
        sampler = sub_blocks(commit=commit, tokens_per_step=per_step, order=order)
        _, state = compare(sampler, sampler, backbone, prompt_len)
    assert len(state.tokens.unique()) >= 3


@pytest.mark.parametrize(("accept", "value"), [("threshold", 0.05), ("factor", 2.9)])
@pytest.mark.parametrize("commit", ["separate", "fused"])
@pytest.mark.parametrize("backbone", ATTENTION)
def test_the_rules_by_confidence_count_within_a_sub_block(backbone, commit, accept, value):
    sampler, model = adaptive(accept, value, commit=commit), lively_model(backbone, layers=2)
    known = sampler.scheduled(model, LENGTH, prompt_len=5)
    _, state = compare(sampler, known, backbone, 5)
    tokens = sampler.decode(model, LENGTH, prompt=state.tokens[:, :5])
    assert torch.equal(state.tokens[:, 5:], tokens)


def test_a_sub_block_of_each_row_waits_for_the_slowest():
    model, sampler = lively_model("diffutran", layers=2), adaptive("threshold", 0.05)
    together = sampler.decode(model, LENGTH, batch=3, seed=2, prompt_len=5)
    alone = [sampler.decode(model, LENGTH, seed=2 + row, prompt_len=5)[0] for row in range(3)]
    assert torch.equal(together, torch.stack(alone))


def test_the_passes_of_a_decode_by_hand():
    # Per block: a pass over its 8 tokens and one over the sub-block, for each of two sub-blocks.
    found = [
        (p.kind, p.query_len, p.context_len, p.block_start, p.masked, p.t)
        for p in sub_blocks().passes(14, 3)
    ]
    assert found == [
        ("prefill", 3, 0, 0, 0, 0),
        ("refresh", 8, 3, 3, 4, 8 / 8),
        ("denoise", 4, 7, 3, 2, 6 / 8),
        ("refresh", 8, 3, 7, 4, 4 / 8),
        ("denoise", 4, 7, 7, 2, 2 / 8),
        ("commit", 8, 3, 3, 0, 0),
        ("refresh:6", 6, 11, 11, 4, 6 / 6),
        ("denoise:6", 4, 13, 11, 2, 4 / 6),
        ("refresh:6:2", 6, 11, 15, 2, 2 / 6),
    ]


def test_a_block_of_written_confidences_by_hand():
    x = 0.3  # of a place that is decoded
    model = ScriptedModel(
        [0.95, 0.5, 0.99, 0.99],  # over the block: place 0 is above 0.9, and 2 and 3 wait
        [x, 0.6],  # over the sub-block: none is, so the surest
        [x, x, 0.91, 0.92],  # over the block again: both
        [x, x, x, x],  # the commit
        [0.4, 0.8],  # the next block, of one sub-block: the surest, place 5
        [0.9, x],  # not above 0.9, and the last one left
    )
    sampler = build_sampler(
        "block-cache", block_size=4, sub_block_size=2, accept="strict", threshold=0.9
    )
    assert record_trace(model, sampler, 6).accepted == ((1, 1), (2,), (1, 1))
    block = [0, 1, 2, 3]
    assert model.seen == [block, [0, 1], block, block, [4, 5], [4, 5]]


def test_a_commit_without_a_pass_keeps_the_caches_of_the_last_passes():
    one, two = sub_blocks(commit="none", tokens_per_step=4), sub_blocks(commit="none")
    assert [p.kind for p in one.passes(16)] == ["refresh", "keep:8", "refresh", "refresh"]
    assert [p.kind for p in two.passes(16)] == [
        *("refresh", "denoise", "refresh", "keep"),
        *("refresh", "denoise", "refresh", "denoise"),
    ]


def test_forward_passes_are_as_fast_dllm_v2_counts_them():
    # Its 32 tokens in sub-blocks of 8: t passes each, then the pass over the clean block.
    sampler = build_sampler("block-cache", block_size=32, sub_block_size=8, tokens_per_step=2)
    assert sampler.schedule(128).forward_passes == 4 * 4 * 4 + 3
    # Sure of all: a pass a sub-block. Sure of none: a pass a token.
    model = build_model("fast-dllm-v2", "tiny", layers=1)
    for threshold, passes in ((0.0, 4), (1.0, 32)):
        sure = build_sampler(
            "block-cache", block_size=32, sub_block_size=8, accept="threshold", threshold=threshold
        )
        trace = record_trace(model, sure, 64)
        assert [len(block) for block in trace.accepted] == [passes // 4] * 8
        assert trace.block_size == 8


def test_a_trace_of_sub_blocks_is_replayed_by_such_blocks_alone():
    # DiffuTran is told the masked fraction of each row.
    model, sure = lively_model("diffutran", layers=2), adaptive("threshold", 0.05)
    trace = record_trace(model, sure, LENGTH, batch=3, seed=3, prompt_len=5)
    assert trace.differs
    replay = build_sampler("block-cache", block_size=8, sub_block_size=4, trace=trace)
    same = {"batch": 3, "seed": 3, "prompt_len": 5}
    assert torch.equal(replay.decode(model, LENGTH, **same), sure.decode(model, LENGTH, **same))
    with pytest.raises(ConfigError, match=r"block_size 4; not allowed with block_size 8"):
        build_sampler("block-cache", block_size=8, trace=trace)


def test_sub_blocks_pass_the_checks_of_every_sampler():
    model = lively_model("dream", layers=2)
    for sampler in (sub_blocks(commit="fused"), adaptive("threshold", 0.05)):
        check_plan(list(sampler.passes(LENGTH, 5)), DecodeShape(LENGTH, 5))
        check_decode(model, sampler, LENGTH)


def test_a_pass_over_a_sub_block_reads_the_rest_of_its_block():
    model, sampler = lively_model("diffutran", layers=2), sub_blocks()
    plan = list(sampler.passes(LENGTH, 5))
    state = sampler.prepare(model, LENGTH, prompt_len=5)
    costs = pass_costs(model.config, sampler, plan, dtype="float32")
    seen = []
    model.register_forward_hook(lambda _, __, out: seen.append(out.isnan().any().item()))
    for index in (1, 2, 4, len(plan) - 3):
        step = plan[index]
        before = min(step.context_len, (step.block_start - 5) // 8 * 8 + 5)
        inside = slice(step.block_start, step.block_start + step.block_len)
        read = torch.zeros(LENGTH + 5, dtype=torch.bool)
        read[: step.query_len + step.context_len] = True
        if step.query_len == step.block_len:
            read[inside] = False
        else:
            read[before:] = False
        for poisoned in (~read, read):
            sampler.seek(state, index)
            for cache in state.caches:
                cache.k.normal_(), cache.v.normal_()
                cache.k[:, :, poisoned] = cache.v[:, :, poisoned] = torch.nan
            sampler.step(model, state, step.kind)
            assert seen.pop() == (poisoned is read)
        tokens = int(read.sum())
        assert costs.cache_read_bytes[index] == tokens * 2 * 4 * 2 * model.config.d_model


@torch.inference_mode()
def test_flops_of_every_kind_of_pass_are_those_torch_counts():
    model, sampler = build_model("diffutran", "tiny"), sub_blocks(commit="fused")
    state = sampler.prepare(model, LENGTH, 2, prompt_len=5)
    costs = pass_costs(model.config, sampler, state.passes, batch=2)
    first = {step.kind: index for index, step in reversed([*enumerate(state.passes)])}
    assert len(first) == 6
    for kind, index in first.items():
        sampler.seek(state, index)
        state.caches[0].rows.clear()  # adaLN's, of an earlier pass at the same time
        found = counted_flops(lambda kind=kind: sampler.step(model, state, kind))
        assert found == costs.flops[index], kind


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sub_block_size": 8}, "sub_block_size: 8 is not allowed; must divide block_size (8)"),
        ({"sub_block_size": 3}, "sub_block_size: 3 is not allowed; must divide block_size (8)"),
        ({"sub_block_size": -1}, "sub_block_size: -1 is not allowed"),
        ({"sub_block_size": 2.0}, "sub_block_size: 2.0 is not allowed"),
        ({"tokens_per_step": 5}, "tokens_per_step: 5 is not allowed; must be at most sub_block"),
    ],
)
def test_sub_blocks_that_no_block_has_are_refused(options, said):
    with pytest.raises(ConfigError) as error:
        sub_blocks(**options)
    assert said in str(error.value)


@pytest.mark.parametrize("backbone", ["diffumamba", "diffumamba-h"])
def test_a_backbone_with_mamba_layers_is_refused(backbone):
    with pytest.raises(ConfigError, match="sub_block_size: 4 is not allowed with backbone"):
        sub_blocks().check_backbone(backbone)
    with pytest.raises(ConfigError, match="sub_block_size: 4 is not allowed with backbone"):
        sub_blocks().decode(build_model(backbone, "tiny", layers=1), 8)
    build_sampler("block-cache").check_backbone(backbone)


def test_records_name_sub_blocks_only_where_there_are_some():
    assert sub_blocks().options()["sub_block_size"] == 4
    assert "sub_block_size" not in build_sampler("block-cache").options()
