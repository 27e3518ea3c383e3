"""The FLOPs of the cost model are held against what the real models do, pass by pass."""

import time

import pytest
import torch
from support.costs import LENGTH, PROMPT, all_pairs, ends_of_each_shape, pairs, sampler_of
from support.flops import counted_flops

from dlm_bench import build_model, build_sampler
from dlm_bench.cost.flops import decode_cost, pass_costs
from dlm_bench.cost.work import layer_counts
from dlm_bench.errors import ConfigError
from dlm_bench.kernels.ssd import CHUNK
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import AttentionCache, MambaCache
from dlm_bench.models.config import model_config


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


def test_the_recurrence_is_the_least_a_scan_costs_and_chunks_add_to_it():
    config, sampler = model_config("diffumamba", "1.3b"), build_sampler("full")
    least, *chunked = (
        decode_cost(config, sampler, 512, chunk=q).flops for q in (None, 16, 64, 256)
    )
    assert least < chunked[0] < chunked[1] < chunked[2]
    # 256 (n + d_inner) on top of 2 d_inner n is half of the scan, and the scan 4 % of a layer.
    assert chunked[2] < 1.05 * least


@pytest.mark.parametrize(
    ("backbone", "name"),
    [("ar-transformer", "ar"), ("diffutran", "full"), ("diffumamba-h", "fast-dllm")],
)
def test_the_time_for_the_cost_of_a_schedule_grows_no_faster_than_its_length(backbone, name):
    config, sampler = model_config(backbone, "1.3b"), build_sampler(name)

    def seconds(length):
        begin = time.process_time()
        decode_cost(config, sampler, length)
        return time.process_time() - begin

    # Other lengths each time, as schedules are kept. At 131072 tokens it takes 0.1 to 0.7 s.
    pairs = [(seconds(16384 - less), seconds(131072 - 8 * less)) for less in (0, 32, 64)]
    shorter, longer = map(min, zip(*pairs, strict=True))
    assert longer < 3 * 8 * shorter  # work for every pair of passes is 64 times as long


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
