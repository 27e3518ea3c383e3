"""A pipeline decodes, pass by pass, what a recomputation from scratch decodes."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from support.cases import DENOISERS, FIELD_DENOISERS
from support.close import assert_close
from support.reference import (
    TIE,
    TOLERANCE,
    deal,
    lively_model,
    mixed,
    network,
    package_steps,
    reveal,
    shifted,
)
from torch import nn

from dlm_bench import ConfigError, build_sampler
from dlm_bench.kernels.choice import UnmaskKernels
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.trace import Trace, load_trace, save_trace
from dlm_bench.samplers.schedule import DecodeShape, first_block_passes
from dlm_bench.testing import check_decode

LENGTH, BLOCK = 22, 8  # two blocks and a shorter one


def sampler_of(**options):
    return build_sampler("pipeline", block_size=BLOCK, **options)


# The rules of D2F's released code, with its words: each block is active, to be cached, or cached.


class Evaluated(NamedTuple):
    hidden: torch.Tensor
    tokens: torch.Tensor


def reference_steps(sampler, model, tokens, first, priority=None):
    """Each pass over the whole sequence up to the last block under way. `tokens` (batch, length)
    are MASK from `first` on."""
    mask, length = model.config.mask_id, tokens.shape[1]
    spans = [(i, min(i + sampler.block_size, length)) for i in range(first, length, BLOCK)]
    prompt = [(0, first)] if first else []
    state, cached, passes_of = {}, first, {}

    def progress(number):
        start, stop = spans[number]
        return (tokens[0, start:stop] != mask).sum().item() / (stop - start)

    def evaluate(stop, known):
        """The hidden states up to `stop`; tokens before `known` are clean."""
        times, visible = [0.0] * known, [*prompt, *(span for span in spans if span[1] <= stop)]
        for number, (begin, end) in enumerate(spans):
            if known <= begin < stop:
                times += [1 - progress(number)] * (end - begin)
        inputs = tokens[:, :stop]
        hidden = network(model, inputs, times, lambda _, mixer, x: mixed(mixer, x, visible))
        return shifted(model, hidden)

    if prompt:
        yield Evaluated(evaluate(first, first), tokens.clone())
    while (tokens == mask).any():
        active = [number for number in state if state[number] == "active"]
        added = len(state)
        ready = not added or progress(added - 1) >= sampler.add_at
        if added < len(spans) and ready and len(active) < sampler.max_blocks:
            state[added] = "active"
            active.append(added)
        to_cache = [number for number in state if state[number] == "to cache"]
        stop, known = spans[max(state)][1], spans[active[0]][0]
        hidden = evaluate(stop, known)
        for number in to_cache:
            state[number] = "cached"
        complete = {n: n == 0 or progress(n - 1) >= sampler.activate_at for n in active}
        for number in active:
            start, end = spans[number]
            left = (tokens[0, start:end] == mask).sum().item()
            if not left:
                continue
            done = passes_of[number] = passes_of.get(number, -1) + 1
            if sampler.accept == "fixed":
                count = deal(end - start, sampler.tokens_per_step)[done]
            else:

                def count(probabilities, complete=complete[number]):
                    sure = [p for p in probabilities if p >= sampler.threshold * (1 - TIE)]
                    return max(len(sure), int(complete))

            block = hidden[:, start:end]
            if reveals_any(model, block, tokens, start, count):
                reveal(sampler, model, tokens, block, start, count, priority)
        for number in active:
            start, end = spans[number]
            before = all(state[n] != "active" for n in range(number))
            if before and not (tokens[0, start:end] == mask).any():
                state[number] = "to cache"
        yield Evaluated(hidden[:, cached:], tokens.clone())
        if to_cache:
            cached = spans[max(to_cache)][1]


def reveals_any(model, hidden, tokens, start, count):
    """A block that is not activated may take none, which `reveal` does not know."""
    if not callable(count):
        return count > 0
    logits = model.logits(hidden).clone()
    logits[..., model.config.mask_id] = -torch.inf
    masked = tokens[0, start : start + hidden.shape[1]] == model.config.mask_id
    found = torch.softmax(logits, dim=-1).amax(dim=-1)[0][masked]
    return count(sorted(found.tolist(), reverse=True)) > 0


def compare(backbone, sampler, prompt_len, batch=1):
    model = lively_model(backbone, layers=2)
    with torch.inference_mode():
        known = sampler.scheduled(model, LENGTH, batch, prompt_len=prompt_len)
        fresh = known.prepare(model, LENGTH, batch, prompt_len=prompt_len)
        steps, state = package_steps(known, model, LENGTH, batch, prompt_len=prompt_len)
        priority = state.priority if sampler.order == "random" else None
        expected = list(reference_steps(sampler, model, fresh.tokens, prompt_len, priority))
    assert len(steps) == len(expected)
    for i, (step, wanted) in enumerate(zip(steps, expected, strict=True)):
        assert_close(step.hidden, wanted.hidden, TOLERANCE, where=f"pass {i}")
        assert torch.equal(step.tokens, wanted.tokens), f"pass {i}"
    assert (state.tokens != model.config.mask_id).all()
    return known, state


@pytest.mark.parametrize("prompt_len", [0, 7])
@pytest.mark.parametrize("backbone", [*DENOISERS, *FIELD_DENOISERS])
def test_it_decodes_what_a_recomputation_decodes(backbone, prompt_len):
    # Random orders, so that the rows of a batch differ.
    sampler = sampler_of(tokens_per_step=3, add_at=0.3, order="random")
    known, _ = compare(backbone, sampler, prompt_len, batch=2)
    assert max(len(each.parts) for each in known.passes(LENGTH)) == 3


# Around the confidences of the models: blocks that are not activated accept some, none, or all.
@pytest.mark.parametrize(
    ("backbone", "threshold"), [("diffumamba-h", 0.05), ("sdar", 0.04), ("dream", 0.04)]
)
def test_by_confidence_it_decodes_what_a_recomputation_decodes(backbone, threshold):
    sampler = sampler_of(accept="threshold", threshold=threshold, add_at=0.1, activate_at=0.9)
    known, _ = compare(backbone, sampler, 7)
    parts = [part for each in known.passes(LENGTH, 7) for part in each.parts]
    waiting = [part.reveal for part in parts if not part.activated]
    assert 0 in waiting
    assert any(waiting)


# 96 tokens are more than the Mamba form for few tokens takes.
@pytest.mark.parametrize(
    ("backbone", "size"), [("diffumamba", 8), ("dream", 8), ("diffumamba", 32)]
)
def test_several_blocks_may_enter_the_cache_by_one_pass(backbone, size):
    # The first block ends in four passes; the second, which waits once, a pass earlier.
    part = size // 4
    trace = trace_of([[part] * 4, [0, size], [part, 2]], size)
    sampler = build_sampler("pipeline", block_size=size, trace=trace, add_at=0.2, max_blocks=2)
    length, last = 2 * size + part + 2, part + 2
    model = lively_model(backbone, layers=2)
    with torch.inference_mode():
        steps, state = package_steps(sampler, model, length)
        times = [0.0] * (2 * size) + [2 / last] * last
        spans = [(0, size), (size, 2 * size), (2 * size, length)]
        expected = network(
            model, steps[-2].tokens, times, lambda _, mixer, x: mixed(mixer, x, spans)
        )
    kinds = [each.kind for each in state.passes[-2:]]
    assert kinds == [f"fused:{2 * size}+{last}", f"denoise:{last}"]
    # The last pass continues from the states behind both.
    assert_close(steps[-1].hidden, shifted(model, expected)[:, -last:], TOLERANCE)


@pytest.mark.parametrize("prompt_len", [0, 5])
@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba", "dream"])
def test_one_block_at_a_time_is_a_block_cache_with_fused_commits(backbone, prompt_len):
    model = lively_model(backbone, layers=2)
    for options in ({"tokens_per_step": 3}, {"accept": "threshold", "threshold": 0.05}):
        alone = sampler_of(max_blocks=1, **options)
        fused = build_sampler("block-cache", block_size=BLOCK, commit="fused", **options)
        tokens = [each.decode(model, LENGTH, prompt_len=prompt_len) for each in (alone, fused)]
        assert torch.equal(*tokens)
        one, other = (
            [
                (p.query_len, p.context_len, p.count)
                for p in each.scheduled(model, LENGTH, prompt_len=prompt_len).schedule(
                    LENGTH, prompt_len
                )
            ]
            for each in (alone, fused)
        )
        assert one == other


@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("diffumamba-h", {"tokens_per_step": 3, "temperature": 1.0}),
        ("diffutran", {"accept": "threshold", "threshold": 0.05}),
    ],
)
def test_every_check_for_authors_holds(backbone, options):
    check_decode(lively_model(backbone, layers=2), sampler_of(**options), length=LENGTH)


# Confidences by hand.

WORDS = 16  # of the vocabulary, beside MASK


class Scripted(nn.Module):
    """A model whose confidence in token 0 at each place is as written for the pass."""

    def __init__(self, passes):
        super().__init__()
        self.config = SimpleNamespace(
            backbone="scripted", size="tiny", vocab_size=WORDS + 1, mask_id=WORDS, bos_id=1
        )
        self.kernels, self.checkpoint = UnmaskKernels(), ""
        self.supports = ("full", "pipeline")
        self.head = nn.Linear(WORDS + 1, WORDS + 1, bias=False)
        self.head.weight.data = torch.eye(WORDS + 1)
        self.passes, self.seen = iter(passes), []

    def new_caches(self, batch, length, *, reverse_state=False):
        return []

    def forward(self, tokens, t=None, window=None, caches=None):
        self.seen.append((tokens[0] == WORDS).nonzero().flatten().tolist())
        confidence = torch.tensor(next(self.passes))[None, :, None]
        assert confidence.shape[1] == tokens.shape[1]
        rest = ((1 - confidence) / (WORDS - 1)).expand(-1, -1, WORDS - 1)
        unknown = torch.ones_like(confidence)  # of MASK, which is never predicted
        return torch.cat((confidence, rest, unknown), dim=-1).log()


def test_the_places_that_d2f_takes_worked_by_hand():
    # Two blocks of 4. A block begins when a quarter of the last is decoded, and is activated when
    # three quarters of it are; above 0.9 is sure. x stands for a decoded place.
    x = 0.5
    model = Scripted(
        [
            # Place 0 is sure.
            [0.95, 0.3, 0.2, 0.1],
            # Block 1: none is sure, so the surest, 2. Block 2 has begun: 4 is sure, and 5 is not.
            [x, 0.5, 0.6, 0.4, 0.95, 0.9, 0.2, 0.1],
            # Place 3 is sure. Block 2 is not activated, half of block 1 being decoded: none.
            [x, 0.5, x, 0.95, x, 0.8, 0.7, 0.6],
            # The last place, 1. Block 2 is activated now: its surest, 5.
            [x, 0.4, x, x, x, 0.8, 0.7, 0.6],
            # Block 1 enters the cache. Places 6 and 7 are sure.
            [x, x, x, x, x, x, 0.99, 0.92],
        ]
    )
    sampler = build_sampler(
        "pipeline", block_size=4, accept="strict", threshold=0.9, add_at=0.25, activate_at=0.75
    )
    trace = record_trace(model, sampler, 8)
    assert trace.accepted == ((1, 1, 1, 1), (1, 0, 1, 2))
    assert model.seen == [
        [0, 1, 2, 3],
        [1, 2, 3, 4, 5, 6, 7],
        [1, 3, 5, 6, 7],
        [1, 5, 6, 7],
        [6, 7],
    ]
    # D2F's code counts a forward pass a turn of its loop, the commit of block 1 being in the last.
    replay = build_sampler("pipeline", block_size=4, trace=trace, add_at=0.25)
    assert [(p.kind, p.count) for p in replay.schedule(8)] == [
        ("denoise:4", 1),
        ("denoise:8", 3),
        ("fused:4+4", 1),
    ]


# The schedule.


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


def trace_of(accepted, block_size=BLOCK, sampler="pipeline"):
    return Trace.by_hand([accepted], block_size, sampler=sampler)


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
        ({"accept": "entropy"}, "accept: 'entropy' .* allowed: fixed, threshold, strict, factor"),
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
