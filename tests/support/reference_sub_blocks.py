"""The slow decode with sub-blocks (Fast-dLLM v2): a pass is the mixer over all that has been
computed so far, in which the pass' own tokens are new."""

import torch

from support.reference import (
    Evaluated,
    block_spans,
    counts_of,
    masked_fraction,
    mixed,
    network,
    shifted,
)


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

    if first:
        yield Evaluated(computed(0, first, [0.0] * first), 0, 0, first, 0)
    for number, (start, stop) in enumerate(blocks):
        for part, end in block_spans(stop, sampler.sub_block_size, start):
            counts = counts_of(sampler, tokens[:, part:end], model.config.mask_id)
            for i, count in enumerate(counts):
                begin, until, clean = (start, stop, 0) if i == 0 else (part, end, 0)
                if sampler.commit == "fused" and i == 0 and part == start and number > 0:
                    begin, clean = start - sampler.block_size, sampler.block_size
                time = masked_fraction(model, tokens[:, start:stop])
                times = [0.0] * clean + [time] * (until - begin - clean)
                hidden = computed(begin, until, times)
                yield Evaluated(hidden, part - begin, part, end - part, count)
        if sampler.commit == "separate" and stop < length:
            hidden = computed(start, stop, [0.0] * (stop - start))
            yield Evaluated(hidden, 0, start, stop - start, 0)
