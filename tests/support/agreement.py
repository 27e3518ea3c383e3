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


def ends_of_each_kind(plan):
    """Index of the first and the last pass of every kind."""
    first, last = {}, {}
    for index, place in enumerate(plan):
        first.setdefault(place.kind, index)
        last[place.kind] = index
    return sorted({*first.values(), *last.values()})
