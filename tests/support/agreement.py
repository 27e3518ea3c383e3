"""One pass of a decode by two implementations of the same model, from the same state."""

from dataclasses import dataclass

import torch

from dlm_bench.models.cache import MambaCache, ShiftCache
from support.close import relative_error


@dataclass(frozen=True)
class Outcome:
    """What a pass leaves: the hidden states, every cache tensor by name, and the tokens."""

    hidden: torch.Tensor
    caches: dict[str, torch.Tensor]
    tokens: torch.Tensor


def cache_tensors(caches):
    """Every tensor that a decode's caches hold, by a name that says where."""
    for layer, cache in enumerate(caches):
        if isinstance(cache, MambaCache):
            for direction, (state, tail) in enumerate(zip(cache.states, cache.tails, strict=True)):
                yield f"{layer}.state.{direction}", state
                yield f"{layer}.tail.{direction}", tail
        elif isinstance(cache, ShiftCache):
            yield "shift", cache.hidden
        else:
            yield f"{layer}.k", cache.k
            yield f"{layer}.v", cache.v


@torch.inference_mode()
def run_pass(sampler, model, length, index, *, batch=1, prompt_len=0):
    """Run pass `index` from a random state, which is the same for models of any dtype."""
    state = sampler.prepare(model, length, batch, seed=1, prompt_len=prompt_len)
    sampler.seek(state, index)
    if index > 0:
        generator = torch.Generator().manual_seed(2)
        for _, tensor in cache_tensors(state.caches):
            tensor.copy_(torch.randn(tensor.shape, generator=generator).bfloat16())
    seen = []
    hook = model.register_forward_hook(lambda _, __, out: seen.append(out.clone()))
    sampler.step(model, state, state.passes[index].kind)
    hook.remove()
    caches = {name: tensor.clone() for name, tensor in cache_tensors(state.caches)}
    return Outcome(seen[0], caches, state.tokens.clone())


def disagreements(got, expected, tolerance):
    """What differs by more than the tolerance: name to relative error."""
    errors = {"hidden": relative_error(got.hidden, expected.hidden, "l2")}
    for name, tensor in got.caches.items():
        errors[name] = relative_error(tensor, expected.caches[name], "l2")
    return {name: error for name, error in errors.items() if error > tolerance}


@torch.inference_mode()
def passes_side_by_side(sampler, model, exact, length):
    """Decode by `exact`, and run each pass by `model`, too, from the same tokens and caches.

    Yields the pass, the tokens before it, and the outcomes of model and exact.
    """
    states = [sampler.prepare(each, length) for each in (model, exact)]
    for state in states:
        sampler.seek(state, 0)
    for place in states[1].passes:
        before = states[1].tokens.clone()
        states[0].tokens.copy_(before)
        pairs = zip(*(cache_tensors(state.caches) for state in states), strict=True)
        for (_, ours), (_, theirs) in pairs:
            ours.copy_(theirs)
        outcomes = []
        for each, state in zip((model, exact), states, strict=True):
            seen = []
            hook = each.register_forward_hook(
                lambda _, __, out, seen=seen: seen.append(out.clone())
            )
            sampler.step(each, state, place.kind)
            hook.remove()
            outcomes.append(Outcome(seen[0], {}, state.tokens.clone()))
        yield place, before, *outcomes


@torch.inference_mode()
def clear_places(exact, place, before, outcome, margin=0.1):
    """The places, (1, length) bool, that a pass unmasks and no rounding could change: the token's
    logit is above the next one's, and its log-probability above that of the first place that stays
    masked, by the margin: several times the error of a logit in bfloat16."""
    clear = torch.zeros_like(before, dtype=torch.bool)
    block = slice(place.block_start, place.block_start + place.block_len)
    masked = (before[0, block] == exact.config.mask_id).nonzero()[:, 0]
    if not len(masked) or not place.reveal:
        return clear
    whole = outcome.hidden.shape[1] == before.shape[1]
    rows = outcome.hidden[:, block] if whole else outcome.hidden[:, -place.block_len :]
    logits = exact.logits(rows)[0].float()[masked]
    logits[:, exact.config.mask_id] = -torch.inf
    first, second = logits.topk(2, dim=-1).values.unbind(-1)
    confidence = first - logits.logsumexp(-1)
    ranked = confidence.sort(descending=True).values
    best_left = ranked[place.reveal] if place.reveal < len(ranked) else -torch.inf
    sure = (first - second > margin) & (confidence > best_left + margin)
    clear[0, masked[sure] + place.block_start] = True
    return clear


def ends_of_each_kind(plan):
    """Index of the first and the last pass of every kind."""
    first, last = {}, {}
    for index, place in enumerate(plan):
        first.setdefault(place.kind, index)
        last[place.kind] = index
    return sorted({*first.values(), *last.values()})
