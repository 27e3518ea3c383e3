"""A decode does what its schedule says, pass by pass, and leaves no MASK."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cases import CAUSAL, DENOISERS
from support.reference import lively_model, package_steps

from dlm_bench import build_model, build_sampler


@st.composite
def decodes(draw):
    """(sampler, backbone, length, batch): any that go together."""
    name = draw(st.sampled_from(["full", "fast-dllm", "block-cache", "ar"]))
    length, batch = draw(st.integers(1, 80)), draw(st.integers(1, 2))
    options = {"temperature": draw(st.sampled_from([0.0, 0.7]))}
    if name == "ar":
        return build_sampler(name, **options), draw(st.sampled_from(CAUSAL)), length, batch
    options["order"] = draw(st.sampled_from(["confidence", "random"]))
    most = 90
    if name != "full":
        options["block_size"] = most = draw(st.integers(1, 40))
    options["tokens_per_step"] = draw(st.integers(1, most))
    if name == "fast-dllm":
        options["cache"] = draw(st.sampled_from(["dual", "prefix"]))
    if name == "block-cache":
        options["commit"] = draw(st.sampled_from(["separate", "fused", "none"]))
    return build_sampler(name, **options), draw(st.sampled_from(DENOISERS)), length, batch


@settings(max_examples=40)
@given(decode=decodes(), seed=st.integers(0, 3))
def test_every_pass_does_what_was_planned(decode, seed):
    sampler, backbone, length, batch = decode
    model = lively_model(backbone, layers=2)
    mask = model.config.mask_id
    steps, state = package_steps(sampler, model, length, batch, seed)
    schedule, plan = sampler.schedule(length), list(sampler.passes(length))

    assert len(steps) == schedule.forward_passes == len(plan)
    assert sum(step.hidden.shape[1] for step in steps) == schedule.query_tokens
    before = torch.full((batch, length), mask)
    for step, planned in zip(steps, plan, strict=True):
        revealed = (before == mask) & (step.tokens != mask)
        assert (revealed.sum(dim=1) == planned.reveal).all()
        block = slice(planned.block_start, planned.block_start + planned.block_len)
        assert (revealed[:, block].sum(dim=1) == planned.reveal).all()
        assert torch.equal(step.tokens[before != mask], before[before != mask])
        before = step.tokens
    assert ((state.tokens >= 0) & (state.tokens < mask)).all()
    if length <= 20:  # the same steps, once more
        assert torch.equal(sampler.decode(model, length, batch, seed), state.tokens)


@pytest.mark.parametrize(
    ("name", "backbone"),
    [(n, b) for n in ("full", "fast-dllm", "block-cache") for b in DENOISERS]
    + [("ar", b) for b in CAUSAL],
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_decodes_too(name, backbone, dtype):
    model = build_model(backbone, "tiny", dtype=dtype)
    tokens = build_sampler(name).decode(model, 40, batch=2)
    assert tokens.shape == (2, 40)
    assert tokens.dtype == torch.int64
    assert ((tokens >= 0) & (tokens < model.config.mask_id)).all()


def test_the_readmes_decode():
    model = build_model("diffumamba", size="tiny", device="cpu", dtype=torch.float32, seed=0)
    sampler = build_sampler("block-cache", tokens_per_step=8, block_size=32)
    tokens = sampler.decode(model, 256, seed=0)
    assert tokens.shape == (1, 256)
    assert tokens.dtype == torch.int64
    assert (tokens != model.config.mask_id).all()


def test_mask_is_not_decoded_even_if_the_head_wants_it():
    model = build_model("diffutran", "tiny")
    model.head.weight[model.config.mask_id] *= 50
    for name in ("full", "fast-dllm", "block-cache"):
        assert (build_sampler(name).decode(model, 40) != model.config.mask_id).all()


def test_two_decodes_at_a_time_do_not_meet():
    model = lively_model("diffumamba-h")
    sampler = build_sampler("block-cache", block_size=8, tokens_per_step=4, order="random")
    alone = [sampler.decode(model, 24, seed=seed) for seed in (1, 2)]
    together = [sampler.prepare(model, 24, seed=seed) for seed in (1, 2)]
    for planned in sampler.passes(24):
        for state in together:
            sampler.step(model, state, planned.kind)
    for tokens, state in zip(alone, together, strict=True):
        assert torch.equal(state.tokens, tokens)
    assert not torch.equal(*alone)


# Seeds.


def decode(seed, name="block-cache", backbone="diffumamba-h", length=40, **options):
    return build_sampler(name, **options).decode(lively_model(backbone), length, seed=seed)


@pytest.mark.parametrize("name", ["full", "fast-dllm", "block-cache"])
def test_random_unmasking_depends_on_the_seed(name):
    first, again, other = (decode(s, name, order="random") for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, decode(0, name))  # nor is it the order of confidence


def test_random_unmasking_takes_every_place_as_often():
    # Of 8 tokens 2 are unmasked by the first pass, in each of 2000 sequences: each place in a
    # quarter of them, give or take 1 % (one standard error); 5 % is five of them.
    model = lively_model("diffutran", layers=1)
    sampler = build_sampler("full", tokens_per_step=2, order="random")
    state = sampler.prepare(model, 8, batch=2000)
    sampler.step(model, state, "denoise")
    often = (state.tokens != model.config.mask_id).float().mean(dim=0)
    assert (often - 0.25).abs().max() < 0.05


@pytest.mark.parametrize(
    ("name", "backbone"),
    [
        ("full", "diffumamba"),
        ("fast-dllm", "diffumamba"),
        ("block-cache", "diffumamba"),
        ("ar", "ar-mamba"),
    ],
)
def test_temperature_zero_ignores_the_seed_and_others_do_not(name, backbone):
    cold = [decode(seed, name, backbone) for seed in (0, 1)]
    warm = [decode(seed, name, backbone, temperature=1.0) for seed in (0, 0, 1)]
    assert torch.equal(*cold)
    assert torch.equal(warm[0], warm[1])
    assert not torch.equal(warm[0], warm[2])
    assert not torch.equal(warm[0], cold[0])
    assert len(warm[0].unique()) > len(cold[0].unique())  # sampling spreads
