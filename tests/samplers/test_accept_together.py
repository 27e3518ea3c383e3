"""Acceptance that the model decides, in batches and after prompts."""

from collections import Counter

import pytest
import torch
from support.cases import ADAPTIVE, RULES, adaptive
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps

from dlm_bench import build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.schedule import DecodeShape

LENGTH, BLOCK, BATCH, SEED = 22, 8, 3, 5  # two blocks of 8 and a shorter one

each_sampler = pytest.mark.parametrize(("name", "option"), ADAPTIVE)
each_rule = pytest.mark.parametrize("rule", RULES, ids=["threshold", "factor"])


def passes(trace):
    """The number of passes over each block of a trace's only sequence."""
    (blocks,) = trace.sequences
    return [len(block) for block in blocks]


@pytest.mark.parametrize("prompt_len", [0, 7])
@each_rule
@each_sampler
def test_each_sequence_is_that_of_a_decode_of_it_alone(name, option, rule, prompt_len):
    model = lively_model("diffumamba-h", layers=2)
    for temperature in (0.0, 0.8):
        sampler = adaptive(name, option, rule | {"temperature": temperature}, BLOCK)
        together = sampler.decode(model, LENGTH, BATCH, SEED, prompt_len)
        alone = [
            sampler.decode(model, LENGTH, 1, SEED + row, prompt_len)[0] for row in range(BATCH)
        ]
        assert torch.equal(together, torch.stack(alone))
        # A trace of the batch has each of them, and a block takes the passes of the slowest.
        traces = [
            record_trace(model, sampler, LENGTH, 1, SEED + row, prompt_len) for row in range(BATCH)
        ]
        found = record_trace(model, sampler, LENGTH, BATCH, SEED, prompt_len)
        assert found.sequences == tuple(trace.accepted for trace in traces)
        slowest = [max(counts) for counts in zip(*map(passes, traces), strict=True)]
        known = sampler.scheduled(model, LENGTH, BATCH, SEED, prompt_len)
        plan = known.planned(DecodeShape(LENGTH, prompt_len, BATCH), SEED)
        assert [*Counter(each.block_start for each in plan if each.masked).values()] == slowest


def test_the_sequences_above_take_different_numbers_of_passes():
    model, waits = lively_model("diffumamba-h", layers=2), 0
    for name, option in ADAPTIVE:
        sampler = adaptive(name, option, RULES[0], BLOCK)
        single = [
            passes(record_trace(model, sampler, LENGTH, 1, SEED + row, 7)) for row in range(BATCH)
        ]
        waits += single[0] != single[1]
    assert waits > len(ADAPTIVE) / 2


@pytest.mark.parametrize("prompt_len", [1, 19])
@each_rule
@each_sampler
def test_a_decode_after_a_prompt_is_that_of_a_recomputation(name, option, rule, prompt_len):
    model, sampler = lively_model("diffumamba-h", layers=2), adaptive(name, option, rule, BLOCK)
    known = sampler.scheduled(model, LENGTH, prompt_len=prompt_len)
    steps, state = package_steps(known, model, LENGTH, prompt_len=prompt_len)
    prompt = state.tokens[:, :prompt_len]
    expected = reference_steps(sampler, model, LENGTH, witness=steps, prompt=prompt)
    assert_same_decode(steps, expected)
    tokens = sampler.decode(model, LENGTH, prompt=prompt)
    assert torch.equal(tokens, steps[-1].tokens[:, prompt_len:])
    # The trace of it unmasks the same tokens by their number alone.
    blocks = {} if name == "full" else {"block_size": BLOCK}
    replay = build_sampler(name, trace=known.trace, **option, **blocks)
    assert torch.equal(replay.decode(model, LENGTH, prompt_len=prompt_len), tokens)


@each_rule
@each_sampler
def test_the_trace_of_a_batch_unmasks_the_same_tokens_by_their_number_alone(name, option, rule):
    model = lively_model("diffumamba-h", layers=2)
    sampler = adaptive(name, option, rule, BLOCK)
    place = {"batch": BATCH, "seed": SEED, "prompt_len": 7}
    trace = record_trace(model, sampler, LENGTH, **place)
    blocks = {} if name == "full" else {"block_size": BLOCK}
    replay = build_sampler(name, trace=trace, **option, **blocks)
    expected = sampler.decode(model, LENGTH, **place)
    assert torch.equal(replay.decode(model, LENGTH, **place), expected)
    # A row follows the same sequence in every batch.
    last = {"batch": 1, "seed": SEED + BATCH - 1, "prompt_len": 7}
    assert torch.equal(replay.decode(model, LENGTH, **last)[0], expected[-1])


@each_sampler
def test_after_a_seek_every_pass_unmasks_what_was_planned_in_every_sequence(name, option):
    model = lively_model("diffumamba-h", layers=2)
    place = {"batch": BATCH, "seed": SEED, "prompt_len": 7}
    known = adaptive(name, option, RULES[0], BLOCK).scheduled(model, LENGTH, **place)
    state = known.prepare(model, LENGTH, **place)
    mask_id = model.config.mask_id
    for index in {1, len(state.passes) // 2, len(state.passes) - 1}:
        known.seek(state, index)
        for planned in state.passes[index:]:
            before = (state.tokens == mask_id).sum(dim=1)
            known.step(model, state, planned.kind)
            unmasked = before - (state.tokens == mask_id).sum(dim=1)
            assert unmasked.tolist() == [*planned.of_rows(BATCH).reveal]


@each_sampler
def test_no_two_passes_that_draw_share_their_noise(name, option):
    model = lively_model("diffutran", layers=1)
    sampler = adaptive(name, option, RULES[0], BLOCK)  # planned with a token a pass
    seen = []
    for seed in (0, BATCH):
        state = sampler.prepare(model, LENGTH, BATCH, seed, prompt_len=7)
        for index, planned in enumerate(state.passes):
            if planned.reveal:
                state.index.fill_(index)
                seen += state.noise_seed().tolist()
    assert len(set(seen)) == len(seen) == 2 * BATCH * LENGTH
