"""A pipeline decodes, pass by pass, what a recomputation from scratch decodes."""

from types import SimpleNamespace

import pytest
import torch
from support.cases import DENOISERS, FIELD_DENOISERS
from support.close import assert_close
from support.reference import TOLERANCE, lively_model, package_steps
from support.reference_network import mixed, network, shifted
from support.reference_pipeline import pipeline_steps, trace_of
from torch import nn

from dlm_bench import build_sampler
from dlm_bench.kernels.choice import UnmaskKernels
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.testing import check_decode

LENGTH, BLOCK = 22, 8  # two blocks and a shorter one


def sampler_of(**options):
    return build_sampler("pipeline", block_size=BLOCK, **options)


def compare(backbone, sampler, prompt_len, batch=1):
    model = lively_model(backbone, layers=2)
    with torch.inference_mode():
        known = sampler.scheduled(model, LENGTH, batch, prompt_len=prompt_len)
        fresh = known.prepare(model, LENGTH, batch, prompt_len=prompt_len)
        steps, state = package_steps(known, model, LENGTH, batch, prompt_len=prompt_len)
        priority = state.priority if sampler.order == "random" else None
        expected = list(pipeline_steps(sampler, model, fresh.tokens, prompt_len, priority))
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


def rules(bound):
    """The rules by which the first token of a block is sure above a confidence."""
    return [
        {"accept": "threshold", "threshold": bound},
        {"accept": "strict", "threshold": bound},
        {"accept": "factor", "factor": 2 * (1 - bound)},
    ]


# Around the confidences of the models: blocks that are not activated accept some, none, or all.
@pytest.mark.parametrize(
    ("backbone", "rule"),
    [
        (backbone, rule)
        for backbone, bound in (("diffumamba-h", 0.05), ("sdar", 0.04), ("dream", 0.04))
        for rule in rules(bound)
    ],
    ids=str,
)
def test_by_confidence_it_decodes_what_a_recomputation_decodes(backbone, rule):
    sampler = sampler_of(**rule, add_at=0.1, activate_at=0.9)
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
