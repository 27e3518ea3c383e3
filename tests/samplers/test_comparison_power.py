"""What the comparison with the reference is worth: it notices every broken cache and timestep."""

import pytest
from support.close import relative_error
from support.reference import TOLERANCE, lively_model, package_steps, reference_steps

from dlm_bench import build_sampler
from dlm_bench.models.cache import AttentionCache, MambaCache

LENGTH, BLOCK, PER_STEP = 24, 8, 3


def caches(state, kind):
    found = [cache for cache in state.caches if isinstance(cache, kind)]
    assert found
    return found


def forget_keys(state):
    for cache in caches(state, AttentionCache):
        cache.k.zero_()


def forget_values(state):
    for cache in caches(state, AttentionCache):
        cache.v.zero_()


def move_keys_by_one(state):
    for cache in caches(state, AttentionCache):
        cache.k.copy_(cache.k.roll(1, dims=2))


def forget_forward_state(state):
    for cache in caches(state, MambaCache):
        cache.states[0].zero_()


def forget_forward_tail(state):
    for cache in caches(state, MambaCache):
        cache.tails[0].zero_()


def forget_reverse_state(state):
    for cache in caches(state, MambaCache):
        cache.states[1].zero_()


def forget_reverse_tail(state):
    for cache in caches(state, MambaCache):
        cache.tails[1].zero_()


def swap_sequences(state):
    for cache in caches(state, MambaCache):
        cache.states[0].copy_(cache.states[0].flip(0))


def late_timestep(state):
    t = state.table["t"]
    t.copy_(t.roll(1))


BREAKS = [
    (forget_keys, "diffutran", "block-cache", {"commit": "separate"}),
    (forget_keys, "diffutran", "fast-dllm", {"cache": "dual"}),
    (forget_keys, "diffutran", "fast-dllm", {"cache": "prefix"}),
    (forget_keys, "ar-transformer", "ar", {}),
    (forget_values, "diffumamba-h", "block-cache", {"commit": "fused"}),
    (forget_values, "diffumamba-h", "fast-dllm", {"cache": "dual"}),
    (move_keys_by_one, "diffutran", "block-cache", {"commit": "none"}),
    (move_keys_by_one, "diffutran", "fast-dllm", {"cache": "prefix"}),
    (forget_forward_state, "diffumamba", "block-cache", {"commit": "separate"}),
    (forget_forward_state, "diffumamba", "block-cache", {"commit": "fused"}),
    (forget_forward_state, "diffumamba-h", "block-cache", {"commit": "none"}),
    (forget_forward_state, "diffumamba", "fast-dllm", {"cache": "dual"}),
    (forget_forward_state, "diffumamba-h", "fast-dllm", {"cache": "prefix"}),
    (forget_forward_state, "ar-mamba", "ar", {}),
    (forget_forward_tail, "diffumamba", "block-cache", {"commit": "separate"}),
    (forget_forward_tail, "diffumamba", "fast-dllm", {"cache": "prefix"}),
    (forget_forward_tail, "ar-mamba", "ar", {}),
    (forget_reverse_state, "diffumamba", "fast-dllm", {"cache": "dual"}),
    (forget_reverse_tail, "diffumamba", "fast-dllm", {"cache": "dual"}),
    (swap_sequences, "diffumamba", "block-cache", {"commit": "separate"}),
    (swap_sequences, "diffumamba", "fast-dllm", {"cache": "dual"}),
    (late_timestep, "diffutran", "full", {}),
    (late_timestep, "diffumamba", "block-cache", {"commit": "separate"}),
    (late_timestep, "diffumamba-h", "fast-dllm", {"cache": "dual"}),
]


@pytest.mark.parametrize(("broken", "backbone", "name", "option"), BREAKS)
def test_the_comparison_notices(broken, backbone, name, option):
    if name in ("block-cache", "fast-dllm"):
        option = option | {"block_size": BLOCK}
    if name != "ar":
        option = option | {"tokens_per_step": PER_STEP, "order": "random"}
    sampler, model = build_sampler(name, **option), lively_model(backbone)
    batch = 1 if name == "ar" else 2

    # As the priorities are drawn in `prepare`, breaking a cache does not change them.
    sound, state = package_steps(sampler, model, LENGTH, batch)
    priority = None if name == "ar" else state.priority
    expected = reference_steps(sampler, model, LENGTH, batch, priority, witness=sound)
    steps, _ = package_steps(sampler, model, LENGTH, batch, before_pass=broken)

    def first_error(got):
        errors = (relative_error(a.hidden, b.hidden) for a, b in zip(got, expected, strict=True))
        return next((error for error in errors if error > TOLERANCE), 0.0)

    assert first_error(sound) == 0
    # Ten times what is tolerated, in the very first pass that differs: later ones differ by more,
    # because other tokens are decoded.
    assert first_error(steps) > 10 * TOLERANCE
