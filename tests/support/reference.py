"""Slow, obvious decodes: every pass recomputed from scratch, with no cache, state or counter, by
the plain network (reference_network) and the plain unmasking (reference_rules)."""

import functools
from typing import NamedTuple

import torch

from dlm_bench import build_model
from dlm_bench.samplers.schedule import run_lengths
from support.close import assert_close
from support.reference_network import mixed, network, shifted
from support.reference_rules import counts_of, masked_fraction, reveal

# Both sides are float32 and sum in different orders through three layers: 1.4e-5 of the largest
# value is measured, 1e-4 allowed. A broken cache is 6e-3 off or more: test_comparison_power.py.
TOLERANCE = 1e-4


class Step(NamedTuple):
    """One pass: hidden states of its query tokens (batch, query_len, d_model), and all tokens
    (batch, length) after its unmasking."""

    hidden: torch.Tensor
    tokens: torch.Tensor


@functools.cache
def lively_model(backbone, size="tiny", layers=None):
    """A network in which no parameter is at a value that hides it (biases of 0, scales of 1), and
    whose attention is sharp enough that tokens depend on their places."""
    # Of seed 0 open-dcoder, whose head is tied, decodes two tokens.
    model = build_model(backbone, size, layers=layers, seed=1 if backbone == "open-dcoder" else 0)
    generator = torch.Generator().manual_seed(5)
    for name, weight in model.named_parameters():
        if "qkv.weight" in name:
            weight.mul_(3)
        elif weight.std() == 0 or "adaln.bias" in name:
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return model


# The package's side.


def package_steps(sampler, model, length, batch=1, seed=0, before_pass=None, prompt_len=0):
    """Decode by the schedule; returns the steps and the final state. `before_pass(state)` may
    meddle with the state."""
    hidden, steps = [], []
    hook = model.register_forward_hook(lambda module, inputs, output: hidden.append(output))
    try:
        state = sampler.prepare(model, length, batch, seed, prompt_len)
        if batch == 1:  # else the sequences of a trace may need more passes together
            schedule = sampler.schedule(length, prompt_len)
            assert run_lengths(length, state.passes, prompt_len) == schedule
        for planned in state.passes:
            if before_pass is not None:
                before_pass(state)
            sampler.step(model, state, planned.kind)
            steps.append(Step(hidden[-1], state.tokens.clone()))
            assert hidden[-1].shape[1] == planned.query_len
    finally:
        hook.remove()
    assert len(hidden) == len(steps)
    return steps, state


def assert_same_decode(steps, expected):
    """Every pass has the same hidden states and leaves the same tokens."""
    assert len(steps) == len(expected)
    for i, (step, wanted) in enumerate(zip(steps, expected, strict=True)):
        assert_close(step.hidden, wanted.hidden, TOLERANCE, where=f"pass {i}")
        assert torch.equal(step.tokens, wanted.tokens), f"pass {i}"


# The samplers, as generators of passes: after each, its tokens are unmasked by `reference_steps`.


class Evaluated(NamedTuple):
    """A pass's hidden states, of which those from `offset` on, `block_len` of them, belong to the
    tokens at `start`, of which `count` (see counts_of) are unmasked."""

    hidden: torch.Tensor
    offset: int
    start: int
    block_len: int
    count: int


def reference_steps(
    sampler, model, length, batch=1, priority=None, witness=None, prompt=None, passes=None
):
    """The decode by definition. `priority` (batch, prompt_len + length) is the order of `random`
    unmasking, `witness` the steps of a decode that settles near ties, `prompt` (batch, prompt_len)
    what stands before the decoded tokens, `passes` the generator of a sampler's own structure."""
    of_sampler = {
        "full": full_passes,
        "fast-dllm": fast_dllm_passes,
        "block-cache": block_cache_passes,
        "ar": autoregressive_passes,
    }
    passes = passes or of_sampler[sampler.name]
    tokens = torch.full((batch, length), model.config.mask_id)
    if prompt is not None:
        tokens = torch.cat((prompt, tokens), dim=1)
    first = tokens.shape[1] - length
    steps = []
    for hidden, offset, start, block_len, count in passes(sampler, model, tokens, first):
        if count:
            settled = None if witness is None else witness[len(steps)].tokens
            block = hidden[:, offset : offset + block_len]
            reveal(sampler, model, tokens, block, start, count, priority, settled)
        steps.append(Step(hidden, tokens.clone()))
    return steps


def block_spans(length, size, first=0):
    return [(start, min(start + size, length)) for start in range(first, length, size)]


def full_passes(sampler, model, tokens, first):
    length = tokens.shape[1]
    for count in counts_of(sampler, tokens[:, first:], model.config.mask_id):
        times = [masked_fraction(model, tokens)] * length
        hidden = network(model, tokens, times, lambda _, mixer, x: mixed(mixer, x, [(0, length)]))
        hidden = shifted(model, hidden)
        yield Evaluated(hidden, first, first, length - first, count)


def fast_dllm_passes(sampler, model, tokens, first):
    length = tokens.shape[1]
    stale = {}  # layer -> the mixer's inputs at the block's first pass

    def refresh(layer, mixer, x):
        stale[layer] = x
        return mixed(mixer, x, [(0, length)])

    def continued(layer, mixer, x):
        whole = stale[layer].clone()
        whole[:, rows] = x
        return mixed(mixer, whole, [(0, length)])[:, rows]

    for start, stop in block_spans(length, sampler.block_size, first):
        counts = counts_of(sampler, tokens[:, start:stop], model.config.mask_id)
        for i, count in enumerate(counts):
            if i == 0:
                rows, mix = slice(0, length), refresh
            else:
                rows = slice(start, stop if sampler.cache == "dual" else length)
                mix = continued
            times = [masked_fraction(model, tokens)] * (rows.stop - rows.start)
            hidden = network(model, tokens[:, rows], times, mix)
            if i == 0 and start:
                front = hidden[:, start - 1 : start]
            hidden = shifted(model, hidden, front if i and start else None)
            yield Evaluated(hidden, start - rows.start, start, stop - start, count)


def block_cache_passes(sampler, model, tokens, first):
    length, size = tokens.shape[1], sampler.block_size
    spans = block_spans(length, size, first)
    # What the cache of the blocks before was made from: the prompt is one of them.
    past, past_times, before = tokens[:, :first].clone(), [0.0] * first, []
    if first:
        before = [(0, first)]
        hidden = network(model, past, past_times, lambda _, mixer, x: mixed(mixer, x, before))
        hidden = shifted(model, hidden)
        yield Evaluated(hidden, 0, 0, first, 0)
    for number, (start, stop) in enumerate(spans):

        def block_causal(inputs, times, visible=before + spans[: number + 1]):
            hidden = network(model, inputs, times, lambda _, mixer, x: mixed(mixer, x, visible))
            return shifted(model, hidden)

        counts = counts_of(sampler, tokens[:, start:stop], model.config.mask_id)
        for i, count in enumerate(counts):
            block = tokens[:, start:stop]
            times = past_times + [masked_fraction(model, block)] * (stop - start)
            inputs = torch.cat((past, block), dim=1)
            hidden = block_causal(inputs, times)
            clean = size if sampler.commit == "fused" and i == 0 and number > 0 else 0
            yield Evaluated(hidden[:, start - clean :], clean, start, stop - start, count)
        if sampler.commit == "none":
            past, past_times = inputs, times
            continue
        past, past_times = tokens[:, :stop].clone(), [0.0] * stop
        if sampler.commit == "separate" and stop < length:
            yield Evaluated(block_causal(past, past_times)[:, start:], 0, start, stop - start, 0)


def autoregressive_passes(sampler, model, tokens, first):
    batch, length = tokens.shape
    start_of_text = torch.full((batch, 1 if first == 0 else 0), model.config.bos_id)
    for i in range(first, length):
        inputs = torch.cat((start_of_text, tokens[:, :i]), dim=1)
        spans = block_spans(inputs.shape[1], 1)
        hidden = network(model, inputs, None, lambda _, mixer, x, s=spans: mixed(mixer, x, s))
        new = first if 0 < i == first else 1  # of the whole prompt, or of one token
        yield Evaluated(hidden[:, -new:], new - 1, i, 1, 1)
