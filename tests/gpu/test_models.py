"""The CUDA path in bfloat16 on a GPU: against float32, captured, and in memory."""

import pytest
import torch
from support.agreement import disagreements, ends_of_each_kind, run_pass
from support.cases import CAUSAL, DENOISERS, pairs, samplers
from support.close import relative_error

from dlm_bench import build_model, build_sampler, measure
from dlm_bench.kernels.choice import IMPLEMENTATIONS
from dlm_bench.timing.graphs import Steps

PLAIN = dict.fromkeys(IMPLEMENTATIONS, "torch")
SAMPLERS = samplers()
LENGTH = 300  # whole blocks, and a last one of 12 tokens
# Groups of 6 heads with a token shift and a tied head; norms of q and k; YaRN; a causal twin.
FIELD = [
    ("fast-dllm-v2", "1.5b", "separate"),
    ("fast-dllm-v2", "1.5b", "dual"),
    ("sdar", "1.7b", "fused"),
    ("nemotron-ld", "3b", "separate"),
    ("qwen3", "1.7b", "ar"),
]


@pytest.mark.parametrize("backbone", [*DENOISERS, *CAUSAL])
@pytest.mark.parametrize("length", [96, 2048])
@torch.inference_mode()
def test_bfloat16_logits_are_near_the_float32_reference(backbone, length):
    """The issue's bound for the whole 24 layers, on the same (rounded) weights: 2e-2."""
    half = build_model(backbone, "1.3b", "cuda", "bfloat16")
    exact = build_model(backbone, "1.3b", "cuda", "float32", kernels=PLAIN)
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    tokens = torch.randint(half.config.bos_id, (1, length), device="cuda")
    t = torch.full((1, 1), 0.5, device="cuda") if half.config.denoiser else None
    got, expected = (model.logits(model(tokens, t)) for model in (half, exact))
    error = relative_error(got, expected, "l2")
    print(f"{backbone}, {length} tokens: {error:.2e}")
    assert error < 2e-2


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [(backbone, "240m", name) for backbone, name in pairs("warm", "warm ar", "random")] + FIELD,
)
def test_bfloat16_passes_are_near_the_float32_reference(backbone, size, name):
    """Passes over caches too, which the kernels of blocks, steps and refreshes run in.

    6 layers, of hidden states as of the logits: 2e-2. What a pass writes is less far off.
    """
    sampler = SAMPLERS[name]
    half = build_model(backbone, size, "cuda", "bfloat16", layers=6)
    exact = build_model(backbone, size, "cuda", "float32", layers=6, kernels=PLAIN)
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    plan = list(sampler.passes(LENGTH))
    for index in ends_of_each_kind(plan)[-4:]:
        got, expected = (run_pass(sampler, model, LENGTH, index) for model in (half, exact))
        assert not disagreements(got, expected, 2e-2), plan[index]


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [(backbone, "240m", name) for backbone, name in pairs()] + FIELD,
)
@torch.inference_mode()
def test_captured_decodes_are_the_eager_ones_token_by_token(backbone, size, name):
    sampler = SAMPLERS[name]
    model = build_model(backbone, size, "cuda", "bfloat16", layers=6)
    decoded = []
    for graphs in ("off", "require" if name != "prefix" else "auto"):
        state = sampler.prepare(model, LENGTH)
        steps = Steps(model, sampler, state, graphs)
        kinds = [place.kind for place in state.passes]
        steps.prepare(kinds)
        sampler.seek(state, 0)
        for kind in kinds:
            steps(kind)
        assert not (state.tokens == model.config.mask_id).any()
        decoded.append(state.tokens.clone())
    assert torch.equal(*decoded)


def test_one_graph_serves_a_cache_of_any_length():
    """The cost of a block pass grows with the keys that it sees, not with the cache."""
    model = build_model("diffutran", "240m", "cuda", "bfloat16")
    record = measure(model, build_sampler("block-cache"), 65536, mode="sampled", repeats=3)
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
