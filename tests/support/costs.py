"""The samplers whose costs are checked."""

import itertools

from dlm_bench import build_sampler
from support.cases import CAUSAL, DENOISERS, FIELD_CAUSAL, FIELD_DENOISERS

SAMPLERS = {
    "full": ("full", {}),
    "dual": ("fast-dllm", {"cache": "dual"}),
    "prefix": ("fast-dllm", {"cache": "prefix"}),
    "separate": ("block-cache", {"commit": "separate"}),
    "fused": ("block-cache", {"commit": "fused"}),
    "none": ("block-cache", {"commit": "none"}),
    "pipeline": ("pipeline", {"add_at": 0.3}),
    "pairs": ("self-speculation", {}),
    "ar": ("ar", {}),
}
# Blocks that do not divide the length, steps that do not divide a block.
OPTIONS = {
    "full": {"tokens_per_step": 7},
    "self-speculation": {"accept_len": 7, "block_size": 24},
    "ar": {},
}
BLOCKS = {"tokens_per_step": 7, "block_size": 24}
LENGTH = 100
PROMPT = 70  # more than a chunk


def sampler_of(name):
    kind, options = SAMPLERS[name]
    return build_sampler(kind, **options, **OPTIONS.get(kind, BLOCKS))


def pairs(names=tuple(SAMPLERS)):
    denoisers = {s: ("diffutran",) if s == "pairs" else DENOISERS for s in names}
    return [(b, s) for s in names for b in (CAUSAL if s == "ar" else denoisers[s])]


def all_pairs(names=tuple(SAMPLERS)):
    field = [(b, s) for s in names for b in (FIELD_CAUSAL if s == "ar" else FIELD_DENOISERS)]
    return pairs(names) + field


def ends_of_each_shape(plan):
    """Indices of the first and the last pass of each role and block length."""
    found = {}
    for index, place in enumerate(plan):
        role = place.kind.partition(":")[0]
        first, _ = found.get((role, place.block_len), (index, index))
        found[role, place.block_len] = (first, index)
    return sorted(set(itertools.chain.from_iterable(found.values())))
