"""The joint threshold: tokens that stand already are replaced, and blocks end when none is."""

import pytest
import torch
from support.cases import ADAPTIVE, adaptive
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.cost.flops import pass_costs, passes_of
from dlm_bench.samplers import unmask
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.decode_check import check_passes
from dlm_bench.timing.measure import decode_fields

JOINT = {"accept": "joint", "threshold": 0.5}
LIVELY = {"accept": "joint", "threshold": 0.05, "max_edit_passes": 4}


def tiny():
    return build_model("diffutran", "tiny", layers=1)


@pytest.fixture
def script(monkeypatch):
    """script(passes): the tokens and confidences that each pass over a block of 4 predicts, the
    last two over and over."""

    def script(*passes):
        left = [*passes]

        def predict(hidden, weight, mask_id, needed, **_):
            assert needed is None  # all places of the block
            tokens, confidences = left.pop(0)
            if len(left) < 2:
                left.append((tokens, confidences))
            return torch.tensor(tokens), torch.tensor(confidences)

        monkeypatch.setattr(unmask, "choose_predict", lambda _: predict)

    return script


SURE = [0.9] * 4
FIRST = ([10, 11, 12, 13], [0.9, 0.6, 0.4, 0.3])  # places 0 and 1 are above 0.5
# Place 0 gives way; no MASK is above 0.5, and 2 is the surest.
SECOND = ([20, 11, 12, 13], [0.8, 0.9, 0.45, 0.4])
THIRD = ([20, 11, 22, 13], SURE)  # place 3 is unmasked, 2 gives way
FINAL = ([20, 11, 22, 13], SURE)


def decoded(sampler, model):
    tokens = sampler.decode(model, 4)
    return tokens[0].tolist()


def test_tokens_that_stand_give_way_and_a_block_ends_when_nothing_changes(script):
    sampler = build_sampler("block-cache", block_size=4, **JOINT)
    script(FIRST, SECOND, THIRD, FINAL, FINAL)
    assert record_trace(tiny(), sampler, 4).accepted == ((2, 1, 1, 0),)
    script(FIRST, SECOND, THIRD, FINAL, FINAL)
    assert decoded(sampler, tiny()) == [20, 11, 22, 13]


def test_a_token_gives_way_above_the_edit_threshold_alone(script):
    sampler = build_sampler("block-cache", block_size=4, edit_threshold=0.85, **JOINT)
    script(FIRST, SECOND, (THIRD[0], [0.85, 0.9, 0.9, 0.9]), (FINAL[0], [0.85] * 4), FINAL)
    # 20 is predicted with 0.8 and 0.85: never above, so pass 4 changes nothing.
    assert record_trace(tiny(), sampler, 4).accepted == ((2, 1, 1, 0),)
    script(FIRST, SECOND, (THIRD[0], [0.85, 0.9, 0.9, 0.9]), (FINAL[0], [0.85] * 4), FINAL)
    assert decoded(sampler, tiny()) == [10, 11, 22, 13]


def test_a_block_that_changes_for_ever_ends_after_the_edit_passes(script):
    sampler = build_sampler("block-cache", block_size=4, max_edit_passes=3, **JOINT)
    flip, flop = ([1, 2, 3, 4], SURE), ([5, 6, 7, 8], SURE)
    script(flip, flop)
    assert record_trace(tiny(), sampler, 4).accepted == ((4, 0, 0, 0),)
    script(flip, flop)
    assert decoded(sampler, tiny()) == [5, 6, 7, 8]  # the fourth of flip, flop, flip, flop


@pytest.mark.parametrize("edit_threshold", [0.0, 0.03])
@pytest.mark.parametrize(("name", "option"), ADAPTIVE)
@pytest.mark.parametrize("backbone", ["diffumamba-h", "dream"])
def test_a_decode_is_what_a_recomputation_from_scratch_decodes(
    backbone, name, option, edit_threshold
):
    model = lively_model(backbone, layers=2)
    rule = LIVELY | {"edit_threshold": edit_threshold}
    sampler = adaptive(name, option, rule)
    known = sampler.scheduled(model, 22, prompt_len=5)
    steps, state = package_steps(known, model, 22, prompt_len=5)
    prompt = state.tokens[:, :5]
    assert_same_decode(steps, reference_steps(sampler, model, 22, witness=steps, prompt=prompt))
    assert torch.equal(sampler.decode(model, 22, prompt_len=5), state.tokens[:, 5:])
    tokens = torch.stack([step.tokens for step in steps])
    before, after = tokens[:-1], tokens[1:]
    assert ((before != after) & (before != model.config.mask_id)).any()  # it edits


@pytest.mark.parametrize(
    ("name", "option"),
    [("block-cache", {}), ("block-cache", {"commit": "fused"}), ("fast-dllm", {})],
)
def test_a_sequence_of_a_batch_and_a_replay_decode_the_same(name, option):
    model = lively_model("diffumamba-h", layers=2)
    sampler = build_sampler(name, block_size=8, **LIVELY, **option)
    place = {"seed": 5, "prompt_len": 7}
    together = sampler.decode(model, 22, 3, **place)
    alone = [sampler.decode(model, 22, 1, 5 + row, 7)[0] for row in range(3)]
    assert torch.equal(together, torch.stack(alone))
    trace = record_trace(model, sampler, 22, 3, **place)
    assert any(0 in block for blocks in trace.sequences for block in blocks)
    replay = build_sampler(name, block_size=8, trace=trace, **option)
    assert torch.equal(replay.decode(model, 22, 3, **place), together)


def test_the_passes_that_edit_are_in_schedule_record_cost_and_check():
    model = lively_model("diffutran", layers=2)
    sampler = build_sampler("block-cache", block_size=8, **LIVELY)
    most = [*sampler.block_passes(0, 8)]
    assert most == [(left, 1) for left in range(8, 0, -1)] + [(0, 0)] * 4
    shape = DecodeShape(16)
    known = sampler.scheduled_for(model, shape)
    passes = sum(map(len, known.trace.accepted))
    assert known.schedule(16).forward_passes == passes + 1  # and a commit
    state = known.prepare(model, 16)
    check_passes(model, known, state)
    assert decode_fields(model, known, shape, state.passes)["decoding_passes"] == passes
    # The head runs on all 8 tokens of a block in every pass but the commit.
    flops = pass_costs(model.config, known, passes_of(known, shape)).flops
    rows = pass_costs(model.config, build_sampler("block-cache"), passes_of(known, shape)).flops
    head = 2 * model.config.vocab_size * model.config.d_model
    masked = sum(each.masked for each in state.passes)
    assert flops.sum() - rows.sum() == (8 * passes - masked) * head


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"order": "random"},
            "order: 'random' is not allowed with a trace of accept 'joint', which edits by "
            "confidence; allowed: confidence",
        ),
        (
            {"temperature": 0.5},
            "temperature: 0.5 is not allowed with accept 'joint', or a trace of it, whose blocks "
            "end where the same tokens are predicted again; must be 0",
        ),
    ],
)
def test_a_replay_of_edits_says_that_they_are_the_reason(options, said):
    edits = {"accept": "joint", "threshold": 0.5, "edit_threshold": 0.0, "max_edit_passes": 3}
    trace = Trace.by_hand([[[4, 0]]], 4, options=edits)
    with pytest.raises(ConfigError) as caught:
        build_sampler("block-cache", block_size=4, trace=trace, **options)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.5}, ["temperature", "0.5", "must be 0"]),
        ({"commit": "none"}, ["commit", "'none'", "separate, fused"]),
        ({"sub_block_size": 8}, ["sub_block_size", "8", "allowed: 0"]),
        ({"batching": "fdfo"}, ["batching", "'fdfo'", "lockstep"]),
        ({"order": "margin"}, ["order", "'margin'", "'joint'"]),
        ({"edit_threshold": 1.5}, ["edit_threshold", "1.5", "<= 1"]),
        ({"max_edit_passes": 0}, ["max_edit_passes", "0", ">= 1"]),
        (
            {"accept": "strict", "edit_threshold": 0.1},
            ["edit_threshold", "allowed with accept 'joint'"],
        ),
    ],
)
def test_what_edits_cannot_be_combined_with_is_one_line(options, said):
    with pytest.raises(ConfigError) as caught:
        build_sampler("block-cache", **({"accept": "joint"} | options))
    assert "\n" not in str(caught.value)
    for words in said:
        assert words in str(caught.value)
