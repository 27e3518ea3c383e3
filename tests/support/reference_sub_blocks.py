"""The slow decode with sub-blocks (Fast-dLLM v2), or with whole blocks: a pass is the mixer over
all that has been computed so far, in which the pass' own tokens are new. With first_token=commit a
clean pass is shown as its own hidden states, the last of which predicts the token behind."""

import torch

from support.reference import Evaluated, block_spans
from support.reference_network import mixed, network, shifted
from support.reference_rules import counts_of, masked_fraction


def sub_block_passes(sampler, model, tokens, first):
    """The passes for `reference_steps`."""
    batch, length = tokens.shape
    blocks = block_spans(length, sampler.block_size, first)
    spans = ([(0, first)] if first else []) + blocks
    inputs = {}  # layer -> its mixer's inputs at every place, as they were last computed
    states = torch.zeros(batch, length, model.config.d_model)  # the hidden states, likewise

    def computed(start, stop, times):
        visible = [span for span in spans if span[0] < stop]

        def mix(layer, mixer, x):
            known = inputs.setdefault(layer, torch.zeros(batch, length, x.shape[-1]))
            known[:, start:stop] = x
            return mixed(mixer, known[:, : visible[-1][1]], visible)[:, start:stop]

        hidden = network(model, tokens[:, start:stop], times, mix)
        states[:, start:stop] = hidden
        return shifted(model, hidden, states[:, start - 1 : start] if start else None)

    size = sampler.sub_block_size or sampler.block_size

    def clean(start, stop):
        hidden = computed(start, stop, [0.0] * (stop - start))
        behind = min(length - stop, size)
        if sampler.first_token == "commit" and behind > 1:
            return Evaluated(states[:, start:stop].clone(), stop - start - 1, stop, 1, 1)
        return Evaluated(hidden, 0, start, stop - start, 0)

    if first:
        yield clean(0, first)
    for number, (start, stop) in enumerate(blocks):
        for part, end in block_spans(stop, size, start):
            counts = counts_of(sampler, tokens[:, part:end], model.config.mask_id)
            for i, count in enumerate(counts):
                begin, until, before = (start, stop, 0) if i == 0 else (part, end, 0)
                if sampler.commit == "fused" and i == 0 and part == start and number > 0:
                    begin, before = start - sampler.block_size, sampler.block_size
                time = masked_fraction(model, tokens[:, start:stop])
                times = [0.0] * before + [time] * (until - begin - before)
                hidden = computed(begin, until, times)
                yield Evaluated(hidden, part - begin, part, end - part, count)
        if sampler.commit == "separate" and stop < length:
            yield clean(start, stop)
