"""Whole decodes on a GPU in bfloat16: captured against eager, tokens against float32, memory."""

import pytest
import torch
from support.agreement import clear_places, passes_side_by_side
from support.cases import DENOISERS, FIELD, pairs, samplers

from dlm_bench import build_model, build_sampler, measure
from dlm_bench.kernels.choice import IMPLEMENTATIONS
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.timing.graphs import Steps

PLAIN = dict.fromkeys(IMPLEMENTATIONS, "torch")
SAMPLERS = samplers()
LENGTH = 300  # whole blocks, and a last one of 12 tokens


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [(backbone, "240m", name) for backbone, name in pairs()] + FIELD,
)
def test_captured_decodes_are_the_eager_ones_token_by_token(backbone, size, name):
    graphs = "require" if name != "prefix" else "auto"
    assert torch.equal(*eager_and_captured(backbone, size, SAMPLERS[name], graphs))


@pytest.mark.parametrize(
    ("backbone", "size", "name", "options"),
    [
        ("fast-dllm-v2", "1.5b", "block-cache", {"sub_block_size": 8, "commit": "fused"}),
        ("fast-dllm-v2", "1.5b", "block-cache", {"sub_block_size": 8, "first_token": "commit"}),
        ("diffutran", "240m", "block-cache", {"sub_block_size": 8, "tokens_per_step": 2}),
        ("diffutran", "240m", "full", {"block_size": 32, "steps": 40, "spread": "dream"}),
        ("diffutran", "240m", "full", {"steps": 40, "spread": "mdlm", "order": "random"}),
        ("diffutran", "240m", "remdm", {"eta": 0.2, "temperature": 0.8}),
    ],
)
def test_captured_decodes_of_other_structures_are_the_eager_ones(backbone, size, name, options):
    sampler = build_sampler(name, **options)
    assert torch.equal(*eager_and_captured(backbone, size, sampler, "require"))


@pytest.mark.parametrize("name", ["separate", "fused", "dual"])
@pytest.mark.parametrize("backbone", DENOISERS)
def test_kernels_that_begin_early_decode_the_same_tokens(backbone, name):
    if torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("programmatic dependent launch needs compute capability 9.0")
    kernels = [{"small_pass": each} for each in ("triton", "triton-pdl")]
    usual, dependent = (
        eager_and_captured(backbone, "240m", SAMPLERS[name], "require", each) for each in kernels
    )
    assert all(torch.equal(tokens, usual[0]) for tokens in (*usual, *dependent))


@pytest.mark.parametrize(
    ("backbone", "size"), [("diffutran", "240m"), ("diffumamba-h", "240m"), ("sdar", "1.7b")]
)
def test_captured_decodes_of_rows_at_blocks_of_their_own_are_the_eager_ones(backbone, size):
    # Rows of 8 and 1, 1 and 8, 4 and 4 passes a block: one commits while another denoises.
    trace = Trace.by_hand([[[4] * 8, [32]], [[32], [4] * 8], [[8] * 4, [8] * 4]], 32)
    together, apart = (
        build_sampler("block-cache", trace=trace, batching=batching)
        for batching in ("lockstep", "fdfo")
    )
    shape = DecodeShape(LENGTH, batch=3)
    plans = [list(each.planned(shape)) for each in (together, apart)]
    assert {each.kind for each in plans[1]} == {"mixed"}
    assert len(plans[1]) < len(plans[0])
    assert torch.equal(*eager_and_captured(backbone, size, apart, "require", batch=3))


@torch.inference_mode()
def eager_and_captured(backbone, size, sampler, graphs, kernels=None, batch=1):
    """The tokens of a decode by single launches, and by graphs."""
    model = build_model(backbone, size, "cuda", "bfloat16", layers=6, kernels=kernels)
    decoded = []
    for how in ("off", graphs):
        state = sampler.prepare(model, LENGTH, batch)
        steps = Steps(model, sampler, state, how)
        kinds = [place.kind for place in state.passes]
        steps.prepare(kinds)
        sampler.seek(state, 0)
        for kind in kinds:
            steps(kind)
        assert not (state.tokens == model.config.mask_id).any()
        decoded.append(state.tokens.clone())
    return decoded


@pytest.mark.parametrize("name", ["full", "separate", "fused", "dual"])
@pytest.mark.parametrize("backbone", DENOISERS)
def test_a_decode_unmasks_the_tokens_of_float32_where_the_margin_is_clear(backbone, name):
    """Both the places, by their confidences, and the tokens there, of every pass of a decode."""
    half = build_model(backbone, "240m", "cuda", "bfloat16", layers=6)
    exact = build_model(backbone, "240m", "cuda", "float32", layers=6, kernels=PLAIN)
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    compared = 0
    for place, before, got, expected in passes_side_by_side(SAMPLERS[name], half, exact, LENGTH):
        places = clear_places(exact, place, before, expected)
        assert torch.equal(got.tokens[places], expected.tokens[places])
        compared += int(places.sum())
    assert compared >= LENGTH // 10


def test_one_graph_serves_a_cache_of_any_length():
    """The cost of a block pass grows with the keys that it sees, not with the cache."""
    model = build_model("diffutran", "240m", "cuda", "bfloat16")
    record = measure(
        model,
        build_sampler("block-cache"),
        65536,
        mode="sampled",
        repeats=3,
        tolerance=1,
        max_seconds=3,
    )
    passes = [p for p in record.passes if p.kind == "denoise"]
    first, last = passes[0], passes[-1]
    assert record.graphs["denoise"] == "captured"
    # 3 GB of keys and values at the end, almost none at the start, and 0.5 GB of weights.
    assert min(last.seconds) > 1.5 * max(first.seconds)


@pytest.mark.parametrize("backbone", DENOISERS)
def test_a_record_names_what_was_captured(backbone):
    model = build_model(backbone, "240m", "cuda", "bfloat16", layers=2)
    record = measure(model, build_sampler("block-cache"), 128, graphs="require", warmup=1)
    assert record.graphs == {"denoise": "captured", "commit": "captured"}
    assert record.kernels == model.kernels.named()


@torch.inference_mode()
def test_a_full_pass_of_131072_tokens_stays_under_24_gb():
    model, sampler = build_model("diffumamba", "1.3b", "cuda", "bfloat16"), build_sampler("full")
    state = sampler.prepare(model, 131072)
    sampler.step(model, state, "denoise")  # compiles and tunes, with buffers of its own
    sampler.seek(state, 0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    sampler.step(model, state, "denoise")
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() < 24e9
