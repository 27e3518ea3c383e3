"""The CUDA path in bfloat16 on a GPU, against float32 and against the plain path's own error."""

import pytest
import torch
from support.agreement import disagreements, ends_of_each_kind, run_pass
from support.cases import CAUSAL, DENOISERS, FIELD, pairs, samplers
from support.close import relative_error

from dlm_bench import build_model
from dlm_bench.kernels.choice import IMPLEMENTATIONS

PLAIN = dict.fromkeys(IMPLEMENTATIONS, "torch")
SAMPLERS = samplers()
LENGTH = 300  # whole blocks, and a last one of 12 tokens


@pytest.mark.parametrize("backbone", [*DENOISERS, *CAUSAL])
@pytest.mark.parametrize("length", [96, 2048])
@torch.inference_mode()
def test_bfloat16_logits_are_as_near_to_float32_as_the_plain_path_s(backbone, length):
    """The whole 24 layers on the same (rounded) weights: at most 1.3 times the error of the plain
    path in bfloat16, which rounds as often and elsewhere (some 1.9e-2 for DiffuMamba)."""
    half = build_model(backbone, "1.3b", "cuda", "bfloat16")
    plain = build_model(backbone, "1.3b", "cuda", "bfloat16", kernels=PLAIN)
    exact = build_model(backbone, "1.3b", "cuda", "float32", kernels=PLAIN)
    plain.load_state_dict(half.state_dict())
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    tokens = torch.randint(half.config.bos_id, (1, length), device="cuda")
    t = torch.full((1, 1), 0.5, device="cuda") if half.config.denoiser else None
    got, rounded, expected = (m.logits(m(tokens, t)) for m in (half, plain, exact))
    error, allowed = (relative_error(each, expected, "l2") for each in (got, rounded))
    print(f"{backbone}, {length} tokens: {error:.2e}, the plain path {allowed:.2e}")
    assert error < 1.3 * allowed


@pytest.mark.parametrize(
    ("backbone", "size", "name"),
    [(backbone, "240m", name) for backbone, name in pairs("warm", "warm ar", "random")] + FIELD,
)
def test_bfloat16_passes_are_near_the_float32_reference(backbone, size, name):
    """Passes over caches too, which the kernels of blocks, steps and refreshes run in.

    6 layers, of hidden states as of the logits: 2e-2. What a pass writes is less far off.
    """
    near_reference(backbone, size, name)


# On this GPU a measurement may find those of libraries faster.
@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        ("diffutran", "full"),
        ("diffutran", "prefix"),
        ("diffumamba", "full"),
        ("diffumamba", "dual"),
    ],
)
def test_own_kernels_of_whole_sequences_are_near_the_float32_reference(backbone, name):
    near_reference(backbone, "240m", name, attention="triton", walking_scan="triton")


@torch.inference_mode()
def near_reference(backbone, size, name, **kernels):
    sampler = SAMPLERS[name]
    half = build_model(backbone, size, "cuda", "bfloat16", layers=6, kernels=kernels)
    exact = build_model(backbone, size, "cuda", "float32", layers=6, kernels=PLAIN)
    exact.load_state_dict({name: weight.float() for name, weight in half.state_dict().items()})
    plan = list(sampler.passes(LENGTH))
    for index in ends_of_each_kind(plan)[-4:]:
        got, expected = (run_pass(sampler, model, LENGTH, index) for model in (half, exact))
        assert not disagreements(got, expected, 2e-2), plan[index]
