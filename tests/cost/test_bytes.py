"""The bytes of the cost model are held against the caches and weights of real decodes."""

from dataclasses import replace

import pytest
import torch
from support.costs import LENGTH, PROMPT, SAMPLERS, all_pairs, ends_of_each_shape, sampler_of

from dlm_bench import build_model, build_sampler
from dlm_bench.cost.flops import cache_bytes, decode_cost, parameter_bytes, pass_costs
from dlm_bench.models.cache import AttentionCache, MambaCache, ShiftCache
from dlm_bench.models.config import model_config
from dlm_bench.models.own import OWN, own_config, own_sizes

CACHED = [name for name in SAMPLERS if name != "full"]


def tensors(caches):
    for cache in caches:
        if isinstance(cache, AttentionCache):
            yield from (cache.k, cache.v)
        elif isinstance(cache, MambaCache):  # the single hidden state of a shift is not counted
            yield from (*cache.states, *cache.tails)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("backbone", "size"), [(backbone, size) for backbone in OWN for size in own_sizes(backbone)]
)
def test_parameter_bytes_are_those_of_the_model(backbone, size, dtype):
    model = build_model(backbone, size, device="meta", dtype=dtype)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    assert parameter_bytes(model.config, dtype) == held  # integers: no tolerance


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("backbone", "name"), all_pairs())
def test_cache_bytes_are_those_of_the_prepared_caches(backbone, name, dtype):
    model, sampler = build_model(backbone, "tiny", dtype=dtype), sampler_of(name)
    for prompt_len in (0, PROMPT):
        caches = sampler.prepare(model, LENGTH, batch=2, prompt_len=prompt_len).caches
        held = sum(tensor.numel() * tensor.element_size() for tensor in tensors(caches))
        said = cache_bytes(model.config, sampler, LENGTH, 2, dtype, prompt_len)
        assert said == held  # integers: no tolerance


@pytest.mark.parametrize("prompt_len", [0, PROMPT])
@pytest.mark.parametrize(("backbone", "name"), all_pairs(CACHED))
@torch.inference_mode()
def test_a_pass_writes_as_many_cache_bytes_as_said(backbone, name, prompt_len):
    model, sampler = build_model(backbone, "tiny"), sampler_of(name)
    state = sampler.prepare(model, LENGTH, prompt_len=prompt_len)
    costs = pass_costs(model.config, sampler, state.passes, dtype="float32")
    for index in ends_of_each_shape(state.passes):
        sampler.seek(state, index)
        before = [tensor.normal_().clone() for tensor in tensors(state.caches)]
        sampler.step(model, state, state.passes[index].kind)
        changed = zip(before, tensors(state.caches), strict=True)
        written = sum(int((old != new).sum()) * new.element_size() for old, new in changed)
        # Element by element; no new float32 is expected to equal the random one it replaces,
        # but one in some 1e5 may, so 1e-4, or a single one of a short pass.
        said = pytest.approx(costs.cache_write_bytes[index], rel=1e-4, abs=4)
        assert written == said, state.passes[index]


def poison(cache, read, what_is_read):
    """Put NaN into what a pass is said to read of a cache, or into all else. Returns its bytes."""
    if isinstance(cache, ShiftCache):
        return 0
    if isinstance(cache, MambaCache):
        buffers = [*cache.states, *cache.tails]
        chosen = [(buffer, slice(None)) for buffer in buffers if what_is_read == read["state"]]
    else:
        positions = read["positions"] if what_is_read else ~read["positions"]
        chosen = [
            (cache.k, (..., positions, slice(None))),
            (cache.v, (..., positions, slice(None))),
        ]
    for buffer, place in chosen:
        buffer[place] = torch.nan
    return sum(buffer[place].numel() * buffer.element_size() for buffer, place in chosen)


@pytest.mark.parametrize("prompt_len", [0, PROMPT])
@pytest.mark.parametrize(("backbone", "name"), all_pairs(CACHED))
@torch.inference_mode()
def test_a_pass_reads_what_is_said_and_nothing_else(backbone, name, prompt_len):
    model, sampler = build_model(backbone, "tiny"), sampler_of(name)
    state = sampler.prepare(model, LENGTH, prompt_len=prompt_len)
    costs = pass_costs(model.config, sampler, state.passes, dtype="float32")
    seen = []
    model.register_forward_hook(lambda _, __, out: seen.append(out.isnan().any().item()))
    for index in ends_of_each_shape(state.passes):
        place = state.passes[index]
        positions = torch.zeros(prompt_len + LENGTH, dtype=torch.bool)
        positions[: min(place.context_len, place.block_start)] = True
        if place.context_len > place.block_start:  # a dual cache: what follows the block too
            positions[place.block_start + place.block_len :] = True
        read = {"positions": positions, "state": place.kind[:7] not in ("refresh", "prefill")}
        for what_is_read in (False, True):
            sampler.seek(state, index)
            for tensor in tensors(state.caches):
                tensor.normal_()
            poisoned = sum(poison(cache, read, what_is_read) for cache in state.caches)
            sampler.step(model, state, place.kind)
            assert seen.pop() == (what_is_read and poisoned > 0), (place, what_is_read)
        # The bytes poisoned in the last round are the ones read: integers, no tolerance.
        assert poisoned == costs.cache_read_bytes[index], place


def test_a_commit_runs_no_head_and_reads_none_of_its_weights():
    config, sampler = model_config("diffutran", "1.3b"), build_sampler("block-cache")
    plan = list(sampler.passes(64))
    costs = pass_costs(config, sampler, plan)
    first, commit = 0, next(i for i, place in enumerate(plan) if place.kind == "commit")
    head = config.d_model * config.vocab_size
    assert costs.flops[first] - costs.flops[commit] == 32 * 2 * head  # integers: no tolerance
    assert costs.weight_bytes[first] - costs.weight_bytes[commit] == 2 * head


def test_a_tied_head_is_read_once_with_the_embedding():
    sampler = build_sampler("block-cache")
    plan = list(sampler.passes(64))
    kinds = [place.kind for place in plan]
    tied = own_config("open-dcoder", "0.5b")
    costs = pass_costs(tied, sampler, plan)
    free = pass_costs(replace(tied, tied=False), sampler, plan)
    rows = 32 * tied.d_model * 2  # looked up for a block, which the head's pass holds already
    saved = free.weight_bytes - costs.weight_bytes
    assert saved[kinds.index("denoise")] == rows  # integers: no tolerance
    assert saved[kinds.index("commit")] == 0


def test_weights_are_read_once_for_the_whole_batch_and_the_rest_once_a_sequence():
    config, sampler = model_config("diffumamba-h", "small"), build_sampler("fast-dllm")
    one, eight = (decode_cost(config, sampler, 256, batch=batch) for batch in (1, 8))
    for name in ("cache_read_bytes", "cache_write_bytes"):
        assert getattr(eight, name) == 8 * getattr(one, name)  # a power of two: exact in float64
    # The timestep's matrices, which all sequences share, are 0.3 % of the FLOPs here.
    assert eight.flops == pytest.approx(8 * one.flops, rel=5e-3)
    assert eight.flops < 8 * one.flops
    # Only the embedding's rows are more: at most the whole table.
    table = config.vocab_size * config.d_model * 2
    passes = sampler.schedule(256).forward_passes
    assert 0 < eight.weight_bytes - one.weight_bytes < passes * table
