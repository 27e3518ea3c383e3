"""A batch of b sequences decodes exactly what b decodes of one sequence do, with seeds in a row."""

import dataclasses

import pytest
import torch
from support.cases import CAUSAL, DENOISERS, FIELD_CAUSAL, FIELD_DENOISERS, samplers
from support.reference import lively_model

from dlm_bench import ConfigError, build_sampler
from dlm_bench.errors import MAX_SEED

LENGTH, BATCH, SEED = 13, 2, 5  # a block of 8 and a shorter one
# Rules of unmasking with temperatures, without a prompt and after one of 7 tokens.
WAYS = {
    0: [("confidence", 0.0), ("random", 0.0), ("confidence", 0.8)],
    7: [("confidence", 0.0), ("random", 0.8)],
}
# Those whose passes the model decides: test_accept_together.py.
OTHERS = ("random", "warm", "warm ar", "threshold", "factor")
NAMES = [name for name in samplers() if name not in OTHERS]


def variants(name, prompt_len):
    """A sampler with unmasking rules, if it has any, and temperatures."""
    sampler = samplers(block_size=8, tokens_per_step=3)[name]
    for rule, temperature in WAYS[prompt_len]:
        order = {"order": rule} if hasattr(sampler, "order") else {}
        yield dataclasses.replace(sampler, temperature=temperature, **order)


@pytest.mark.parametrize("prompt_len", WAYS)
@pytest.mark.parametrize(
    ("backbone", "name"),
    [(b, n) for n in NAMES if n != "ar" for b in (*DENOISERS, *FIELD_DENOISERS)]
    + [(b, "ar") for b in (*CAUSAL, *FIELD_CAUSAL)],
)
@torch.inference_mode()
def test_each_sequence_is_that_of_a_decode_of_it_alone(backbone, name, prompt_len):
    model = lively_model(backbone, layers=2)
    for sampler in variants(name, prompt_len):
        together = sampler.decode(model, LENGTH, BATCH, SEED, prompt_len)
        for row, tokens in enumerate(together):
            alone = sampler.decode(model, LENGTH, 1, SEED + row, prompt_len)
            assert torch.equal(tokens, alone[0]), (sampler, row)
        drawn = prompt_len or sampler.temperature or getattr(sampler, "order", "") == "random"
        if drawn:  # else no sequence has anything of its own, and one could stand for another
            assert not torch.equal(together[0], together[1]), sampler


def test_what_a_sequence_is_sought_with_is_its_own_too():
    model, sampler = lively_model("diffumamba", layers=1), build_sampler("block-cache")
    together = sampler.prepare(model, 64, BATCH, SEED, prompt_len=10)
    alone = [sampler.prepare(model, 64, 1, SEED + row, prompt_len=10) for row in range(BATCH)]
    for state in (together, *alone):
        sampler.seek(state, 5)
    assert torch.equal(together.tokens, torch.cat([state.tokens for state in alone]))
    seeds = torch.cat([state.noise_seed() for state in alone])
    assert torch.equal(together.noise_seed(), seeds)
    assert len(seeds.unique()) == BATCH


def test_the_last_sequences_seed_may_not_be_too_large():
    model, sampler = lively_model("diffutran", layers=1), build_sampler("full")
    assert sampler.decode(model, 4, 2, MAX_SEED - 1).shape == (2, 4)
    with pytest.raises(ConfigError, match=f"seed: {MAX_SEED} is not allowed; .* from 0 to "):
        sampler.decode(model, 4, 2, MAX_SEED)
