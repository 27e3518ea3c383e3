"""Whole passes of the CUDA path, every kernel interpreted, against the plain PyTorch path."""

import pytest
import torch
from support.agreement import disagreements, ends_of_each_kind, run_pass
from support.cases import FIELD_CAUSAL, FIELD_DENOISERS, FUSED, pairs, samplers

from dlm_bench.models import bimamba
from dlm_bench.models.factory import build_model
from dlm_bench.samplers import build_sampler
from dlm_bench.samplers.acceptance.trace import Trace

SAMPLERS = samplers(block_size=8, tokens_per_step=4)
RULES = ("threshold", "factor")  # whose passes are those of others, but for the unmasking
LENGTH = 21  # two blocks of 8 and a shorter one


@pytest.mark.parametrize(("backbone", "name"), pairs("warm", "warm ar", *RULES))
def test_passes_agree(backbone, name):
    agree(backbone, SAMPLERS[name], 3 if name == "prefix" else None)


# Every backbone of the field by one sampler with a cache, and each kind of pass by one of them.
@pytest.mark.parametrize("backbone", FIELD_DENOISERS)
def test_passes_of_the_field_agree(backbone):
    agree(backbone, SAMPLERS["separate"])


@pytest.mark.parametrize("name", ["full", "dual", "prefix", "fused", "none"])
def test_grouped_heads_with_a_token_shift_agree_by_every_sampler(name):
    agree("dream", SAMPLERS[name], 3 if name == "prefix" else None)


@pytest.mark.parametrize("name", ["full", "fused"])
def test_normed_heads_agree(name):
    agree("sdar", SAMPLERS[name])


@pytest.mark.parametrize(
    ("backbone", "option"),
    [
        ("diffutran", {"commit": "fused"}),
        ("dream", {"commit": "none"}),
        ("dream", {"first_token": "commit"}),
    ],
)
def test_passes_over_sub_blocks_agree(backbone, option):
    sampler = build_sampler(
        "block-cache", block_size=8, sub_block_size=4, tokens_per_step=2, **option
    )
    agree(backbone, sampler)


def test_passes_that_unmask_a_block_of_a_whole_sequence_agree():
    agree("dream", build_sampler("full", block_size=8, steps=9, spread="dream"), 2)


@pytest.mark.parametrize("option", [{"eta": 0.5}, {"remask": "conf"}])
def test_passes_that_mask_again_agree(option):
    agree("dream", build_sampler("remdm", steps=4, **option))


@pytest.mark.parametrize("backbone", ["diffumamba", "dream"])
def test_a_pass_over_several_blocks_agrees(backbone):
    sampler = build_sampler("pipeline", block_size=8, tokens_per_step=4, add_at=0.5)
    assert next(p for i, p in enumerate(sampler.passes(LENGTH)) if i == 2).kind == "fused:8+13"
    plain = build_model(backbone, "tiny", layers=1)
    # More than two blocks go by the scan for many tokens; the plain one is quicker interpreted.
    kernels = FUSED | {"ssd": "torch", "conv": "torch"}
    fused = build_model(backbone, "tiny", layers=1, kernels=kernels)
    got, expected = (run_pass(sampler, each, LENGTH, 2, batch=1) for each in (fused, plain))
    assert not disagreements(got, expected, 2e-5)  # as in `agree`
    assert torch.equal(got.tokens, expected.tokens)


@pytest.mark.parametrize(("backbone", "prompt_len"), [("diffutran", 0), ("dream", 0), ("sdar", 9)])
def test_drafts_and_their_causal_verification_agree(backbone, prompt_len):
    sampler = build_sampler("self-speculation", block_size=8, accept_len=4)
    agree(backbone, sampler, None if prompt_len else 4, prompt_len)


def test_a_pass_whose_sequences_are_at_blocks_of_their_own_agrees():
    counts = ((8,), (8,), (5,)), ((1,) * 8, (2,) * 4, (5,))
    trace = Trace.by_hand(counts, 8)
    sampler = build_sampler("block-cache", block_size=8, trace=trace, batching="fdfo")
    plain = build_model("diffumamba-h", "tiny", layers=2)
    fused = build_model("diffumamba-h", "tiny", layers=2, kernels=FUSED)
    # One sequence is at its shorter last block, the other at its first.
    got, expected = (run_pass(sampler, each, LENGTH, 4, batch=2) for each in (fused, plain))
    assert not disagreements(got, expected, 2e-5)  # as in `agree`


@pytest.mark.parametrize("backbone", FIELD_CAUSAL)
@pytest.mark.parametrize("prompt_len", [0, 9])
def test_causal_passes_of_the_field_agree(backbone, prompt_len):
    agree(backbone, SAMPLERS["ar"], prompt_len=prompt_len)


@pytest.mark.parametrize("name", ["dual", "prefix", "separate", "fused"])
def test_a_window_too_long_for_the_block_kernel_agrees(name, monkeypatch):
    monkeypatch.setattr(bimamba, "BLOCK_TOKENS", 4)
    agree("diffumamba", SAMPLERS[name], 3, small_pass="torch")


@pytest.mark.parametrize(
    ("backbone", "name"), [("diffumamba", "fused"), ("diffutran", "separate"), ("ar-mamba", "ar")]
)
def test_block_passes_with_a_kernel_for_each_step_agree(backbone, name):
    agree(backbone, SAMPLERS[name], 3, small_pass="torch")


@pytest.mark.parametrize(
    ("backbone", "name", "prompt_len"),
    [
        ("diffumamba", "full", 0),
        ("diffumamba-h", "dual", 0),
        ("diffumamba", "prefix", 0),
        ("diffumamba", "separate", 9),
        ("ar-mamba", "ar", 9),
    ],
)
def test_whole_sequences_by_a_walking_scan_agree(backbone, name, prompt_len):
    agree(backbone, SAMPLERS[name], None if prompt_len else 3, prompt_len, walking_scan="triton")


def test_single_tokens_by_mamba_ssm_agree():
    agree("ar-mamba", SAMPLERS["ar"], step="mamba-ssm", small_pass="torch")


@pytest.mark.parametrize(
    ("backbone", "name", "prompt_len"),
    [
        ("diffutran", "separate", 9),
        ("diffumamba", "fused", 9),
        ("diffumamba-h", "none", 1),
        ("ar-transformer", "ar", 9),
        ("ar-mamba", "ar", 9),
        ("ar-mamba", "ar", 1),
        ("sdar", "separate", 9),
        ("nemotron-ld", "fused", 9),
    ],
)
def test_the_prefill_pass_of_a_batch_agrees(backbone, name, prompt_len):
    agree(backbone, SAMPLERS[name], prompt_len=prompt_len)


@pytest.mark.parametrize(
    ("backbone", "name", "last"), [("diffutran", "fused", 3), ("ar-transformer", "ar", 1)]
)
def test_passes_of_a_batch_after_a_prompt_agree(backbone, name, last):
    agree(backbone, SAMPLERS[name], last, prompt_len=9)


def agree(backbone, sampler, last=None, prompt_len=0, **kernels):
    """The ends of each kind of pass, or the last few of them, by both paths; after a prompt of a
    batch, and without `last` the prefill pass alone."""
    layers = 2 if backbone == "diffumamba-h" else 1  # one of each mixer
    plain = build_model(backbone, "tiny", layers=layers)
    fused = build_model(backbone, "tiny", layers=layers, kernels=FUSED | kernels)
    indices = ends_of_each_kind(list(sampler.passes(LENGTH, prompt_len)))
    place = {"batch": 2, "prompt_len": prompt_len} if prompt_len else {}
    for index in indices[-last:] if last else [0] if prompt_len else indices:
        got = run_pass(sampler, fused, LENGTH, index, **place)
        expected = run_pass(sampler, plain, LENGTH, index, **place)
        # Both in float32; sums in another order, through all layers.
        assert not disagreements(got, expected, 2e-5), index
        if backbone in ("diffutran", *FIELD_DENOISERS) and index == 0:
            # Rotary embedding gives no absolute position: of a sequence of MASKs alone all hidden
            # states are equal, and rounding breaks the tie between their confidences.
            mask_id = fused.config.mask_id
            assert (got.tokens == mask_id).sum() == (expected.tokens == mask_id).sum()
        else:
            assert torch.equal(got.tokens, expected.tokens), index
