"""The cost model is held against what the real models and caches do, pass by pass."""

import itertools
import time
from dataclasses import replace

import pytest
import torch
from support.cases import CAUSAL, DENOISERS, FIELD_CAUSAL, FIELD_DENOISERS
from support.flops import counted_flops

from dlm_bench import build_model, build_sampler
from dlm_bench.cost.flops import cache_bytes, decode_cost, parameter_bytes, pass_costs
from dlm_bench.cost.work import layer_counts
from dlm_bench.errors import ConfigError
from dlm_bench.kernels.ssd import CHUNK
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import AttentionCache, MambaCache, ShiftCache
from dlm_bench.models.config import model_config
from dlm_bench.models.own import OWN, own_config, own_sizes

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
CACHED = [name for name in SAMPLERS if name != "full"]
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


def tensors(caches):
    for cache in caches:
        if isinstance(cache, AttentionCache):
            yield from (cache.k, cache.v)
        elif isinstance(cache, MambaCache):  # the single hidden state of a shift is not counted
            yield from (*cache.states, *cache.tails)


def count_all(model, state):
    """Make a pass do all that is counted: no adaLN rows are left of an earlier pass at the same t,
    and the plain mixer makes the products of the scan that the form for few tokens leaves out, and
    neither the convolution of the form for many nor its whole chunks."""
    if isinstance(state.caches[0] if state.caches else None, AttentionCache | MambaCache):
        state.caches[0].rows.clear()
    for mixer in model.modules():
        if isinstance(mixer, BiMamba):
            mixer.forms = mixer.forms._replace(
                sequence=BiMamba._sequence,
                refresh=BiMamba._refresh,
                prefill=BiMamba._prefill,
                block=BiMamba._continue,
                span=BiMamba._continue,
                token=BiMamba._continue,
            )


def counted(model, sampler, state, place):
    count_all(model, state)
    return counted_flops(lambda: sampler.step(model, state, place.kind))


def unseen(config, place, batch):
    """What torch's counter does not see of a scan of one token, which goes by the recurrence: the
    rank-one update of the state is no matmul, and there are no products within a chunk."""
    mamba = layer_counts(config)[1]
    if not mamba:
        return 0
    update = 2 * config.d_inner * config.d_state
    within = 2 * (config.d_inner + config.d_state)
    return (place.query_len == 1) * batch * mamba * config.directions * (update + within)


def masked_half(config, sampler, place, batch):
    """What torch's counter counts of a causal attention's squares that no token sees."""
    attention = layer_counts(config)[0]
    hidden = place.query_len * (place.query_len - 1) // 2  # (query, key) pairs of a layer
    causal = not config.denoiser or place.kind.startswith("verify")
    causal |= sampler.name == "self-speculation" and place.kind == "prefill"
    return causal * batch * attention * 4 * config.heads * config.head_dim * hidden


@pytest.mark.parametrize(
    ("backbone", "name", "size", "batch"),
    [(*pair, "tiny", 2) for pair in all_pairs()] + [(*pair, "small", 1) for pair in pairs()],
)
@torch.inference_mode()
def test_flops_of_every_role_are_those_torch_counts(backbone, name, size, batch):
    model, sampler = build_model(backbone, size), sampler_of(name)
    state = sampler.prepare(model, LENGTH, batch)
    indices = ends_of_each_shape(state.passes)
    places = [state.passes[index] for index in indices]
    costs = pass_costs(model.config, sampler, places, batch=batch, chunk=CHUNK)
    for index, place, flops in zip(indices, places, costs.flops, strict=True):
        sampler.seek(state, index)
        expected = flops - unseen(model.config, place, batch)
        expected += masked_half(model.config, sampler, place, batch)
        # Both count the same products: no tolerance.
        assert counted(model, sampler, state, place) == expected, place


@pytest.mark.parametrize(("backbone", "name"), all_pairs())
@torch.inference_mode()
def test_flops_after_a_prompt_are_those_torch_counts(backbone, name):
    model, sampler, batch = build_model(backbone, "tiny"), sampler_of(name), 2
    state = sampler.prepare(model, LENGTH, batch, prompt_len=PROMPT)
    indices = ends_of_each_shape(state.passes)
    places = [state.passes[index] for index in indices]
    assert (places[0].kind == "prefill") == (name not in ("full", "dual", "prefix"))
    costs = pass_costs(model.config, sampler, places, batch=batch, chunk=CHUNK)
    for index, place, flops in zip(indices, places, costs.flops, strict=True):
        sampler.seek(state, index)
        expected = flops - unseen(model.config, place, batch)
        expected += masked_half(model.config, sampler, place, batch)
        # Both count the same products: no tolerance.
        assert counted(model, sampler, state, place) == expected, place


def test_the_cost_of_a_decode_is_without_its_prefill():
    for backbone, name in (("diffumamba-h", "separate"), ("ar-transformer", "ar")):
        config, sampler = model_config(backbone, "tiny"), sampler_of(name)
        plan = list(sampler.passes(LENGTH, PROMPT))
        decode, prefill = (pass_costs(config, sampler, part) for part in (plan[1:], plan[:1]))
        found = decode_cost(config, sampler, LENGTH, prompt_len=PROMPT)
        assert found.flops == pytest.approx(decode.flops.sum(), rel=1e-12)  # float64's sums
        assert prefill.flops[0] > 0
        assert prefill.cache_read_bytes[0] == 0


@pytest.mark.parametrize(("backbone", "name"), pairs(("full", "separate")))
@torch.inference_mode()
def test_flops_of_a_whole_decode_are_those_torch_counts(backbone, name):
    model, sampler = build_model(backbone, "tiny"), sampler_of(name)
    state = sampler.prepare(model, LENGTH)
    total = sum(counted(model, sampler, state, place) for place in state.passes)
    # The same integers, summed in float64.
    assert decode_cost(model.config, sampler, LENGTH, chunk=CHUNK).flops == total


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


def test_the_recurrence_is_the_least_a_scan_costs_and_chunks_add_to_it():
    config, sampler = model_config("diffumamba", "1.3b"), build_sampler("full")
    least, *chunked = (
        decode_cost(config, sampler, 512, chunk=q).flops for q in (None, 16, 64, 256)
    )
    assert least < chunked[0] < chunked[1] < chunked[2]
    # 256 (n + d_inner) on top of 2 d_inner n is half of the scan, and the scan 4 % of a layer.
    assert chunked[2] < 1.05 * least


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


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("ar-transformer", "ar"), ("diffutran", "full"), ("diffumamba-h", "fast-dllm")],
)
def test_the_longest_schedules_take_less_than_a_second(backbone, name):
    config, sampler = model_config(backbone, "1.3b"), build_sampler(name)
    times = []
    for _ in range(3):
        begin = time.process_time()
        decode_cost(config, sampler, 131072)
        times.append(time.process_time() - begin)
    assert min(times) < 1  # the fastest of three: other work may share the machine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 0}, "length: 0 is not allowed"),
        ({"batch": 0}, "batch: 0 is not allowed"),
        ({"chunk": 0}, "chunk: 0 is not allowed"),
        ({"dtype": "fp4"}, "dtype: 'fp4'"),
    ],
)
def test_a_mistake_names_the_field(change, message):
    arguments = {"length": 64, **change}
    with pytest.raises(ConfigError, match=message):
        decode_cost(model_config("diffutran", "tiny"), build_sampler("full"), **arguments)


def test_a_backbone_the_sampler_cannot_decode_with_is_refused():
    with pytest.raises(ConfigError, match="does not decode with sampler 'ar'"):
        decode_cost(model_config("diffutran", "tiny"), build_sampler("ar"), 64)
