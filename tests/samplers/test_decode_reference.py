"""Every sampler decodes, pass by pass, what the recomputation from scratch decodes.

Hidden states of all passes agree to float32's rounding (reference.TOLERANCE says which), tokens
are identical after every pass.
"""

import pytest
import torch
from support.cases import CAUSAL, DENOISERS, FIELD_CAUSAL, FIELD_DENOISERS
from support.close import assert_close, relative_error
from support.reference import (
    TOLERANCE,
    assert_same_decode,
    lively_model,
    package_steps,
    reference_steps,
)

from dlm_bench import build_sampler
from dlm_bench.models.cache import ShiftCache

# length, block_size, tokens_per_step, batch, order. Sequences of a batch differ only when they are
# unmasked in random orders.
SHAPES = {
    "nothing divides": (22, 8, 3, 1, "confidence"),
    "all divides": (24, 8, 4, 1, "confidence"),
    "two sequences": (21, 8, 3, 2, "random"),
    "one pass a block": (12, 4, 4, 2, "random"),
    "blocks of one": (5, 1, 1, 1, "confidence"),
    "one short block": (5, 8, 2, 2, "random"),
    "one token": (1, 4, 2, 1, "confidence"),
}
BLOCK_SAMPLERS = [
    ("block-cache", {"commit": "separate"}),
    ("block-cache", {"commit": "fused"}),
    ("block-cache", {"commit": "none"}),
    ("fast-dllm", {"cache": "dual"}),
    ("fast-dllm", {"cache": "prefix"}),
]


def compare(sampler, backbone, length, batch, **layers):
    model = lively_model(backbone, **layers)
    steps, state = package_steps(sampler, model, length, batch)
    priority = state.priority if getattr(sampler, "order", None) == "random" else None
    expected = reference_steps(sampler, model, length, batch, priority, witness=steps)
    assert_same_decode(steps, expected)
    assert (state.tokens != model.config.mask_id).all()
    return steps, state


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "option"), BLOCK_SAMPLERS)
@pytest.mark.parametrize("backbone", [*DENOISERS, *FIELD_DENOISERS])
def test_block_samplers_decode_what_a_recomputation_decodes(backbone, name, option, shape):
    length, block_size, per_step, batch, rule = SHAPES[shape]
    sampler = build_sampler(
        name, block_size=block_size, tokens_per_step=per_step, order=rule, **option
    )
    steps, state = compare(sampler, backbone, length, batch)
    if length > 20:  # a decode of one token over and over could hide which tokens a cache holds
        assert len(state.tokens[0].unique()) >= 3
    if batch > 1 and per_step < block_size:  # else the order of unmasking changes nothing
        assert relative_error(steps[-1].hidden[0], steps[-1].hidden[1]) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("length", "per_step", "batch", "rule"),
    [(22, 4, 1, "confidence"), (21, 4, 2, "random"), (5, 8, 1, "confidence"), (6, 1, 2, "random")],
)
@pytest.mark.parametrize("backbone", [*DENOISERS, *FIELD_DENOISERS])
def test_full_decodes_what_a_plain_forward_pass_decodes(backbone, length, per_step, batch, rule):
    sampler = build_sampler("full", tokens_per_step=per_step, order=rule)
    compare(sampler, backbone, length, batch)


@pytest.mark.parametrize("backbone", [*CAUSAL, *FIELD_CAUSAL])
def test_autoregression_with_a_cache_decodes_what_whole_prefixes_decode(backbone):
    steps, state = compare(build_sampler("ar"), backbone, length=30, batch=1)
    assert len(state.tokens.unique()) >= 5
    hidden = torch.cat([step.hidden for step in steps], dim=1)
    assert (hidden.std(dim=1) > 100 * TOLERANCE * hidden.abs().max()).any()


@pytest.mark.parametrize("backbone", [*CAUSAL, *FIELD_CAUSAL])
def test_every_step_of_autoregression_is_a_row_of_one_causal_pass(backbone):
    model = lively_model(backbone)
    # Sampled, so that the two sequences differ and hold many tokens.
    steps, state = package_steps(build_sampler("ar", temperature=1.0), model, 30, batch=2)
    assert len(state.tokens.unique()) > 20
    begin = torch.full((2, 1), model.config.bos_id)
    expected = model(torch.cat((begin, state.tokens[:, :-1]), dim=1))
    hidden = torch.cat([step.hidden for step in steps], dim=1)
    for position in range(30):
        assert_close(hidden[:, position], expected[:, position], TOLERANCE)


def test_deep_hybrids_mix_both_kinds_of_cache():
    # Attention at layers 0 and 5, Mamba-2 between and after them.
    sampler = build_sampler("block-cache", block_size=8, tokens_per_step=4, commit="fused")
    compare(sampler, "diffumamba-h", length=20, batch=1, layers=7)
    sampler = build_sampler("fast-dllm", block_size=8, tokens_per_step=4)
    compare(sampler, "diffumamba-h", length=20, batch=1, layers=7)


@pytest.mark.parametrize("shape", ["nothing divides", "two sequences", "one pass a block"])
@pytest.mark.parametrize("backbone", [*DENOISERS, *FIELD_DENOISERS])
def test_separate_and_fused_commits_decode_the_same_and_leave_the_same_caches(backbone, shape):
    length, block_size, per_step, batch, rule = SHAPES[shape]
    model, states = lively_model(backbone), {}
    for commit in ("separate", "fused"):
        sampler = build_sampler(
            "block-cache",
            block_size=block_size,
            tokens_per_step=per_step,
            order=rule,
            commit=commit,
        )
        states[commit] = package_steps(sampler, model, length, batch)[1]
    assert torch.equal(states["separate"].tokens, states["fused"].tokens)
    left = {commit: list(buffers(state.caches)) for commit, state in states.items()}
    shift = getattr(model.config, "token_shift", False)
    assert len(left["separate"]) == 2 * model.config.layers + shift
    for separate, fused in zip(left["separate"], left["fused"], strict=True):
        assert fused.abs().max() > 0
        # The same sums over inputs of another length: float32's rounding through three layers.
        assert_close(separate, fused, TOLERANCE)


@pytest.mark.parametrize("backbone", [*DENOISERS, *FIELD_DENOISERS])
def test_keeping_the_last_denoising_cache_is_another_decode(backbone):
    model, hidden = lively_model(backbone), {}
    for commit in ("separate", "none"):
        sampler = build_sampler("block-cache", block_size=8, tokens_per_step=4, commit=commit)
        hidden[commit] = package_steps(sampler, model, 16)[0][-2].hidden
    # Else the comparisons above could not tell one from the other.
    assert relative_error(hidden["none"], hidden["separate"]) > 100 * TOLERANCE


def buffers(caches):
    for cache in caches:
        if isinstance(cache, ShiftCache):
            yield cache.hidden
        else:
            yield from (cache.k, cache.v) if hasattr(cache, "k") else (*cache.states, *cache.tails)
