"""The slow decode of several blocks under way, in the words of D2F's released code: each block is
active, to be cached, or cached. The rule of acceptance is any of `reference_rules.sure_of`."""

from dlm_bench.samplers.acceptance.trace import Trace
from support.reference import Step
from support.reference_network import mixed, network, shifted
from support.reference_rules import deal, reveal, sure_of


def pipeline_steps(sampler, model, tokens, first, priority=None):
    """Each pass over the whole sequence up to the last block under way. `tokens` (batch, length)
    are MASK from `first` on."""
    mask, length = model.config.mask_id, tokens.shape[1]
    spans = [
        (i, min(i + sampler.block_size, length)) for i in range(first, length, sampler.block_size)
    ]
    prompt = [(0, first)] if first else []
    state, cached, passes_of = {}, first, {}

    def progress(number):
        start, stop = spans[number]
        return (tokens[0, start:stop] != mask).sum().item() / (stop - start)

    def evaluate(stop, known):
        """The hidden states up to `stop`; tokens before `known` are clean."""
        times, visible = [0.0] * known, [*prompt, *(span for span in spans if span[1] <= stop)]
        for number, (begin, end) in enumerate(spans):
            if known <= begin < stop:
                times += [1 - progress(number)] * (end - begin)
        inputs = tokens[:, :stop]
        hidden = network(model, inputs, times, lambda _, mixer, x: mixed(mixer, x, visible))
        return shifted(model, hidden)

    if prompt:
        yield Step(evaluate(first, first), tokens.clone())
    while (tokens == mask).any():
        active = [number for number in state if state[number] == "active"]
        added = len(state)
        ready = not added or progress(added - 1) >= sampler.add_at
        if added < len(spans) and ready and len(active) < sampler.max_blocks:
            state[added] = "active"
            active.append(added)
        to_cache = [number for number in state if state[number] == "to cache"]
        stop, known = spans[max(state)][1], spans[active[0]][0]
        hidden = evaluate(stop, known)
        for number in to_cache:
            state[number] = "cached"
        complete = {n: n == 0 or progress(n - 1) >= sampler.activate_at for n in active}
        for number in active:
            start, end = spans[number]
            left = (tokens[0, start:end] == mask).sum().item()
            if not left:
                continue
            done = passes_of[number] = passes_of.get(number, -1) + 1
            if sampler.accept == "fixed":
                count = deal(end - start, sampler.tokens_per_step)[done]
            else:

                def count(scores, complete=complete[number]):
                    return max(sure_of(sampler, scores), int(complete))

            reveal(sampler, model, tokens, hidden[:, start:end], start, count, priority)
        for number in active:
            start, end = spans[number]
            before = all(state[n] != "active" for n in range(number))
            if before and not (tokens[0, start:end] == mask).any():
                state[number] = "to cache"
        yield Step(hidden[:, cached:], tokens.clone())
        if to_cache:
            cached = spans[max(to_cache)][1]


def trace_of(accepted, block_size=8, sampler="pipeline"):
    """A trace of one sequence, of which the passes over each block accepted so many tokens."""
    return Trace.by_hand([accepted], block_size, sampler=sampler)
