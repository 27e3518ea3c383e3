"""A decode after a prompt is what a recomputation from scratch decodes after it."""

import pytest
import torch
from support.cases import CAUSAL, DENOISERS, FIELD_CAUSAL, FIELD_DENOISERS, samplers
from support.close import assert_close, relative_error
from support.reference import (
    TOLERANCE,
    assert_same_decode,
    lively_model,
    package_steps,
    reference_steps,
)

from dlm_bench import ConfigError, build_sampler
from dlm_bench.kernels.ssd import CHUNK
from dlm_bench.models.cache import AttentionCache, MambaCache
from dlm_bench.samplers.schedule import first_block_passes, prefill_passes

LENGTH, BLOCK, PER_STEP = 13, 8, 3  # a block and a shorter one
SAMPLERS = samplers(block_size=BLOCK, tokens_per_step=PER_STEP)
# Those whose passes the model decides: test_accept_together.py.
NAMES = [name for name in SAMPLERS if SAMPLERS[name].is_fixed and not name.startswith("warm")]
# A token, and blocks and a part.
PROMPTS = (1, 19)


def pairs(names=tuple(NAMES)):
    causal, denoisers = (*CAUSAL, *FIELD_CAUSAL), (*DENOISERS, *FIELD_DENOISERS)
    return [(b, n) for n in names for b in (causal if n == "ar" else denoisers)]


def compare(backbone, name, prompt_len, batch=2, before_pass=None):
    """The steps of a decode and those of the reference, from the same prompt."""
    model, sampler = lively_model(backbone, layers=2), SAMPLERS[name]
    sound, state = package_steps(sampler, model, LENGTH, batch, prompt_len=prompt_len)
    prompt = state.tokens[:, :prompt_len]
    priority = state.priority if getattr(sampler, "order", None) == "random" else None
    expected = reference_steps(sampler, model, LENGTH, batch, priority, sound, prompt)
    if before_pass is None:
        return sound, expected
    return package_steps(sampler, model, LENGTH, batch, 0, before_pass, prompt_len)[0], expected


@pytest.mark.parametrize("prompt_len", PROMPTS)
@pytest.mark.parametrize(("backbone", "name"), pairs())
def test_a_decode_after_a_prompt_is_that_of_a_recomputation(backbone, name, prompt_len):
    steps, expected = compare(backbone, name, prompt_len)
    assert_same_decode(steps, expected)
    tokens = steps[-1].tokens
    assert not torch.equal(tokens[0, prompt_len:], tokens[1, prompt_len:])


@pytest.mark.parametrize(("backbone", "name"), [("diffumamba-h", "separate"), ("ar-mamba", "ar")])
def test_a_prompt_may_be_longer_than_a_chunk_of_the_scan(backbone, name):
    assert_same_decode(*compare(backbone, name, CHUNK + 6, batch=1))


def forget_keys(cache):
    cache.k.zero_()


def forget_state(cache):
    cache.states[0].zero_()


def forget_tail(cache):
    cache.tails[0].zero_()


@pytest.mark.parametrize(
    ("forget", "kind", "backbone", "name"),
    [
        (forget_keys, AttentionCache, "diffutran", "separate"),
        (forget_keys, AttentionCache, "diffutran", "fused"),
        (forget_keys, AttentionCache, "ar-transformer", "ar"),
        (forget_state, MambaCache, "diffumamba", "separate"),
        (forget_state, MambaCache, "diffumamba-h", "none"),
        (forget_state, MambaCache, "ar-mamba", "ar"),
        (forget_tail, MambaCache, "diffumamba", "fused"),
        (forget_tail, MambaCache, "ar-mamba", "ar"),
    ],
)
def test_the_comparison_notices_what_a_prefill_failed_to_leave(forget, kind, backbone, name):
    def after_the_prefill(state):
        if state.index == 1:
            for cache in state.caches:
                if isinstance(cache, kind):
                    forget(cache)

    steps, expected = compare(backbone, name, 19, before_pass=after_the_prefill)
    assert_close(steps[0].hidden, expected[0].hidden, TOLERANCE)
    assert relative_error(steps[1].hidden, expected[1].hidden) > 10 * TOLERANCE


@pytest.mark.parametrize(("backbone", "name"), pairs())
def test_what_is_decoded_depends_on_the_prompt_and_does_not_contain_it(backbone, name):
    model, sampler = lively_model(backbone, layers=2), SAMPLERS[name]
    prompt = torch.arange(40).view(2, 20)
    tokens = sampler.decode(model, LENGTH, 2, prompt=prompt)
    assert tokens.shape == (2, LENGTH)
    ids = model.config.vocab_size
    assert ((tokens >= 0) & (tokens < ids) & (tokens != model.config.mask_id)).all()
    assert torch.equal(tokens, sampler.decode(model, LENGTH, 2, prompt=prompt, prompt_len=20))
    # The first token of the prompt counts as well as the last.
    for place in (0, 19):
        other = prompt.clone()
        other[:, place] = 200
        state = sampler.prepare(model, LENGTH, 2, prompt=other)
        same = sampler.prepare(model, LENGTH, 2, prompt=prompt)
        hidden = []
        hook = model.register_forward_hook(lambda *seen: hidden.append(seen[2]))  # noqa: B023
        for each in (state, same):
            for planned in each.passes[: prefill_passes(each.passes) + 1]:
                sampler.step(model, each, planned.kind)
        hook.remove()
        half = len(hidden) // 2
        assert relative_error(hidden[half - 1][:, -1], hidden[-1][:, -1]) > TOLERANCE


def test_a_prompt_is_drawn_by_the_seed_and_not_by_the_length():
    model, sampler = lively_model("diffutran", layers=1), build_sampler("full")
    first, longer = (sampler.prepare(model, n, seed=3, prompt_len=30).tokens for n in (8, 90))
    assert torch.equal(first[:, :30], longer[:, :30])
    other = sampler.prepare(model, 8, seed=4, prompt_len=30).tokens
    assert not torch.equal(first[:, :30], other[:, :30])
    assert len(first[0, :30].unique()) > 20
    assert (first[:, :30] < model.config.bos_id).all()


def test_seeking_keeps_the_prompt():
    model, sampler = lively_model("diffumamba", layers=1), SAMPLERS["fused"]
    prompt = torch.arange(12)[None]
    state = sampler.prepare(model, LENGTH, prompt=prompt)
    for index in range(len(state.passes)):
        sampler.seek(state, index)
        assert torch.equal(state.tokens[:, :12], prompt)
        masked = (state.tokens == model.config.mask_id).sum()
        assert masked == sum(planned.reveal for planned in state.passes[index:])


def test_seeking_the_first_pass_decodes_the_same_again():
    for backbone, name in (("diffumamba-h", "separate"), ("ar-mamba", "ar")):
        model, sampler = lively_model(backbone, layers=2), SAMPLERS[name]
        state = sampler.prepare(model, LENGTH, prompt_len=9)
        sampler.run(model, state)
        first = state.tokens.clone()
        sampler.seek(state, len(state.passes) - 1)
        sampler.seek(state, 0)
        sampler.run(model, state)
        assert torch.equal(state.tokens, first)


# The schedule.

P, L = 100, 96


def passes(name, prompt_len=P):
    sampler = samplers(block_size=32, tokens_per_step=8)[name]
    return [(p.role, p.query_len, p.context_len, p.count) for p in sampler.schedule(L, prompt_len)]


def test_samplers_without_a_prefill_take_the_prompt_along():
    assert passes("full") == [("denoise", P + L, 0, L // 8)]
    assert passes("dual") == [("refresh", P + L, 0, 1), ("denoise", 32, P + L - 32, 3)] * 3
    assert passes("prefix") == [
        run
        for b in range(3)
        for run in (("refresh", P + L, 0, 1), ("denoise", L - 32 * b, P + 32 * b, 3))
    ]


def test_the_time_of_a_pass_is_the_masked_fraction_of_prompt_and_decode():
    assert next(SAMPLERS["full"].passes(30, 90)).t == pytest.approx(30 / 120)
    assert next(SAMPLERS["dual"].passes(30, 90)).t == pytest.approx(30 / 120)
    assert [p.t for p in SAMPLERS["separate"].passes(8, 90)][:2] == [0.0, 1.0]  # of the block


def test_block_caches_and_autoregression_start_with_one_prefill_pass():
    prefill = ("prefill", P, 0, 1)
    block = [("denoise", 32, P, 4), ("commit", 32, P, 1)]
    assert passes("separate")[:3] == [prefill, *block]
    assert passes("fused")[:3] == [prefill, ("denoise", 32, P, 4), ("fused", 64, P, 1)]
    assert passes("none")[:3] == [prefill, ("denoise", 32, P, 3), ("keep", 32, P, 1)]
    assert passes("ar") == [prefill, *(("decode", 1, P + i, 1) for i in range(L - 1))]


@pytest.mark.parametrize("name", ["separate", "fused", "none", "ar"])
def test_the_prefill_is_no_function_evaluation_of_the_decode(name):
    sampler = samplers(block_size=32, tokens_per_step=8)[name]
    without, schedule = sampler.schedule(L), sampler.schedule(L, P)
    assert schedule.prefill.query_len == P
    assert without.prefill is None
    first = name == "ar"  # its first token is the prefill's
    assert schedule.forward_passes == without.forward_passes - first
    assert schedule.query_tokens == without.query_tokens - first


@pytest.mark.parametrize(
    ("name", "without", "after_a_prompt"),
    [("full", 12, 12), ("dual", 4, 4), ("separate", 4, 5), ("fused", 4, 5), ("ar", 1, 1)],
)
def test_the_first_block_takes_these_passes(name, without, after_a_prompt):
    sampler = samplers(block_size=32, tokens_per_step=8)[name]
    assert first_block_passes(list(sampler.passes(L))) == without
    assert first_block_passes(list(sampler.passes(L, P))) == after_a_prompt


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prompt_len": -1}, "prompt_len: -1 is not allowed; must be an integer from 0 to"),
        ({"prompt_len": True}, "prompt_len: True is not allowed"),
        ({"prompt_len": 1 << 24}, "prompt_len: 16777216 is not allowed; .* to 16777208"),
        ({"prompt": [[1]]}, "prompt: list is not allowed; must be a tensor of torch.int64"),
        ({"prompt": torch.zeros(1, 2)}, "prompt: torch.float32 is not allowed"),
        ({"prompt": torch.tensor([1])}, r"prompt: shape \(1,\) .* must be \(1, tokens\)"),
        ({"prompt": torch.ones(2, 3).long()}, r"prompt: shape \(2, 3\) .* must be \(1, tokens\)"),
        ({"prompt": torch.ones(1, 0).long()}, r"prompt: shape \(1, 0\) is not allowed"),
        ({"prompt": torch.ones(1, 3).long(), "prompt_len": 4}, r"must be \(1, 4\)"),
        ({"prompt": torch.tensor([[3, 258]])}, "prompt: token 258 is not allowed; .* 0 to 257"),
        ({"prompt": torch.tensor([[-1, 257]])}, "prompt: token -1 is not allowed"),
    ],
)
def test_a_wrong_prompt_is_one_line(arguments, said):
    model = lively_model("diffutran", layers=1)
    with pytest.raises(ConfigError, match=said):
        build_sampler("full").decode(model, 8, **arguments)
