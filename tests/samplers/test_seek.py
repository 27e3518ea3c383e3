"""Seeking puts a decode where any of its passes starts."""

import pytest
import torch
from support.reference import lively_model, package_steps

from dlm_bench import ConfigError, build_sampler

CUT = {"block_size": 8, "tokens_per_step": 3}
SAMPLERS = {
    "full": ("diffumamba-h", "full", {"tokens_per_step": 4}),
    "full random": ("diffumamba", "full", {"tokens_per_step": 4, "order": "random"}),
    "dual": ("diffumamba-h", "fast-dllm", CUT | {"cache": "dual"}),
    "prefix": ("diffumamba", "fast-dllm", CUT | {"cache": "prefix"}),
    "separate": ("diffumamba-h", "block-cache", CUT | {"commit": "separate"}),
    "fused": ("diffumamba", "block-cache", CUT | {"commit": "fused"}),
    "none": ("diffutran", "block-cache", CUT | {"commit": "none", "order": "random"}),
    "ar-transformer": ("ar-transformer", "ar", {}),
    "ar-mamba": ("ar-mamba", "ar", {}),
}
LENGTH = 19
each_sampler = pytest.mark.parametrize("which", SAMPLERS)


def prepared(which, batch=2, **more):
    backbone, name, options = SAMPLERS[which]
    model, sampler = lively_model(backbone, layers=2), build_sampler(name, **options, **more)
    return model, sampler, sampler.prepare(model, LENGTH, batch)


@each_sampler
def test_as_many_tokens_are_masked_as_when_the_pass_starts(which):
    model, sampler, state = prepared(which)
    mask = model.config.mask_id
    for i, planned in enumerate(sampler.passes(LENGTH)):
        sampler.seek(state, i)
        masked = state.tokens == mask
        stop = planned.block_start + planned.block_len
        assert not masked[:, : planned.block_start].any()
        assert masked[:, stop:].all()
        assert (masked[:, planned.block_start : stop].sum(dim=1) == planned.masked).all()
        assert ((state.tokens >= 0) & (state.tokens <= mask)).all()
        assert state.index.item() == i


@each_sampler
def test_the_masked_tokens_are_as_many_as_in_a_decode_that_came_there(which):
    model, sampler, state = prepared(which)
    steps, _ = package_steps(sampler, model, LENGTH, batch=2)
    for i, step in enumerate(steps[:-1]):
        sampler.seek(state, i + 1)
        in_decode, sought = (
            (tokens == model.config.mask_id).sum(dim=1) for tokens in (step.tokens, state.tokens)
        )
        assert torch.equal(in_decode, sought)


@each_sampler
def test_the_remaining_passes_finish_the_decode(which):
    model, sampler, state = prepared(which)
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    try:
        plan = list(sampler.passes(LENGTH))
        for i in (1, len(plan) // 2, len(plan) - 1, 0):
            sampler.seek(state, i)
            calls.clear()
            for planned in plan[i:]:
                assert (state.tokens == model.config.mask_id).any() or planned.kind == "commit"
                sampler.step(model, state, planned.kind)
            assert len(calls) == sampler.schedule(LENGTH).forward_passes - i
            assert (state.tokens < model.config.mask_id).all()
    finally:
        hook.remove()


@each_sampler
def test_seeking_the_first_pass_decodes_the_same_again(which):
    model, sampler, state = prepared(which)
    sampler.run(model, state)
    first = state.tokens.clone()
    sampler.seek(state, 0)
    assert (state.tokens == model.config.mask_id).all()
    sampler.run(model, state)
    assert torch.equal(state.tokens, first)
    # Nor do the random numbers that another seek left in the caches matter.
    sampler.seek(state, len(state.passes) // 2)
    sampler.step(model, state, state.passes[len(state.passes) // 2].kind)
    sampler.seek(state, 0)
    sampler.run(model, state)
    assert torch.equal(state.tokens, first)


@each_sampler
def test_seeking_the_first_pass_decodes_the_same_again_at_any_temperature(which):
    model, sampler, state = prepared(which, temperature=1.0)
    sampler.run(model, state)
    first = state.tokens.clone()
    sampler.seek(state, 0)
    sampler.run(model, state)
    assert torch.equal(state.tokens, first)


@each_sampler
def test_what_stands_for_decoded_tokens_is_many_ids_and_no_special_one(which):
    model, sampler, state = prepared(which)
    sampler.seek(state, len(state.passes) - 1)
    known = state.tokens[state.tokens != model.config.mask_id]
    assert len(known.unique()) > len(known) // 2
    assert (known < model.config.bos_id).all()


@pytest.mark.parametrize("which", [w for w in SAMPLERS if not w.startswith("full")])
def test_what_stands_for_a_cache_is_not_zeros(which):
    _, sampler, state = prepared(which)
    sampler.seek(state, len(state.passes) - 1)
    for cache in state.caches:
        held = (cache.k, cache.v) if hasattr(cache, "k") else (*cache.states, *cache.tails)
        for buffer in held:
            assert torch.isfinite(buffer).all()
            assert buffer.std() > 0.1


@pytest.mark.parametrize("pass_index", [-1, 5, 100])
def test_a_pass_that_is_not_there_is_one_line(pass_index):
    _, sampler, state = prepared("full")  # 5 passes
    with pytest.raises(ConfigError, match=rf"pass_index: {pass_index} .* from 0 to 4$"):
        sampler.seek(state, pass_index)
