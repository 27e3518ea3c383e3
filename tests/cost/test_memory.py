"""The predicted memory of a decode is held against the tensors alive in a traced pass."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from support.hopper import record_launches
from support.traced import Allocations, traced_model, traced_state

from dlm_bench import build_sampler
from dlm_bench.cost.memory import decode_memory
from dlm_bench.models.own import own_config
from dlm_bench.samplers.schedule import DecodeShape

# A length or a prompt whose pass is long enough that buffers of a fixed size do not count.
CASES = [
    ("diffutran", "1.3b", "full", DecodeShape(4096)),
    ("diffumamba", "1.3b", "full", DecodeShape(4096)),
    ("diffumamba-h", "0.5b", "full", DecodeShape(4096)),
    ("diffutran", "240m", "fast-dllm", DecodeShape(4096)),
    ("diffumamba", "240m", "block-cache", DecodeShape(64, 4096)),
    ("ar-transformer", "240m", "ar", DecodeShape(4, 4096)),
    ("ar-mamba", "240m", "ar", DecodeShape(4, 4096)),
    ("diffutran", "240m", "full", DecodeShape(1024, batch=4)),
    ("llada", "8b", "full", DecodeShape(4096)),
    ("dream", "7b", "fast-dllm", DecodeShape(4096)),
    ("sdar", "1.7b", "block-cache", DecodeShape(64, 4096)),
    ("qwen2", "7b", "ar", DecodeShape(4, 4096)),
]


def traced_peak(backbone, size, sampler, shape):
    model = traced_model(backbone, size)
    state = traced_state(model, sampler, shape.length, shape.batch, shape.prompt_len)
    peak, seen = 0, set()
    for planned in state.passes:
        if planned.kind not in seen:
            seen.add(planned.kind)
            with record_launches(hold=False), Allocations() as allocations:
                sampler.step(model, state, planned.kind)
            peak = max(peak, allocations.peak)
    return peak


@pytest.mark.parametrize(("backbone", "size", "name", "shape"), CASES)
@torch.inference_mode()
def test_activations_are_those_of_a_traced_pass(backbone, size, name, shape):
    sampler = build_sampler(name)
    memory = decode_memory(own_config(backbone, size), sampler, shape, "bfloat16")
    # A floor; left out are logits, masks and small vectors, and of a Mamba layer what it keeps of a
    # pass for the caches.
    peak = traced_peak(backbone, size, sampler, shape)
    assert 0.88 * peak < memory.activations <= 1.01 * peak


def test_weights_and_caches_count_once_and_by_sequence():
    config, sampler = own_config("llada", "8b"), build_sampler("block-cache")
    one, eight = (
        decode_memory(config, sampler, DecodeShape(32768, batch=batch), "bfloat16")
        for batch in (1, 8)
    )
    assert one.weights == eight.weights == 2 * 8_015_581_184
    assert eight.caches == 8 * one.caches == 8 * 32768 * 512 * 1024  # 512 KiB a token
    assert eight.total > 141e9  # more than an H200 has
