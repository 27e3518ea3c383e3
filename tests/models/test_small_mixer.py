"""The mixer's form for few tokens has the numbers, caches and gradients of the plain one."""

import pytest
import torch
from support.close import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from dlm_bench.models import bimamba_small as small
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import MambaCache, Window
from dlm_bench.models.config import model_config

# Two orders of the same float32 sums: 4e-7 is measured. A lost tap or a wrong mask is 1e-2 away.
ROUNDING = 1e-5
# The plain form rounds to bfloat16 between its steps, this one does not: 2^-8 a rounding.
BFLOAT16 = 2e-2


def case(backbone, segments, directions=1, batch=2, dtype=torch.float32, **window):
    """A mixer, tokens, their window and a cache of random states."""
    generator = torch.Generator().manual_seed(0)
    config = model_config(backbone, "tiny")
    mixer = BiMamba(config).requires_grad_(False)
    mixer.init_weights(generator)
    for weight in (mixer.D, mixer.norm_weight):
        weight.normal_(generator=generator)
    for name in ("in_proj", "conv_weight", "conv_bias", "norm_weight", "out_proj"):
        getattr(mixer, name).data = getattr(mixer, name).data.to(dtype)
    cache = MambaCache(config, batch, torch.device("cpu"), dtype, directions)
    cache.fill(generator)
    x = torch.randn(batch, sum(segments), config.d_model, generator=generator).to(dtype)
    return mixer, x, Window(torch.tensor([8]), segments, **window), cache


@pytest.mark.parametrize("advance", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("backbone", "segments", "directions"),
    [
        ("diffumamba", (32,), 1),
        ("diffumamba", (32, 32), 1),
        ("diffumamba", (5, 4, 3), 1),
        ("diffumamba", (1, 2), 1),
        ("diffumamba", (1,), 1),
        ("diffumamba", (32,), 2),
        ("diffumamba", (7, 9), 2),
        ("ar-mamba", (1,), 1),
        ("ar-mamba", (40,), 1),
        ("ar-mamba", (2, 30), 1),
    ],
)
def test_few_tokens_are_mixed_as_by_the_plain_form(backbone, segments, directions, dtype, advance):
    outs, caches = [], []
    for form in (small.block, BiMamba._continue):
        mixer, x, window, cache = case(backbone, segments, directions, dtype=dtype, advance=advance)
        outs.append(form(mixer, x, window, cache))
        caches.append(cache)
    tolerance = ROUNDING if dtype == torch.float32 else BFLOAT16
    assert outs[0].dtype == dtype
    assert_close(outs[0].float(), outs[1].float(), tolerance)
    for direction in range(directions):
        assert_close(caches[0].states[direction], caches[1].states[direction], tolerance)
        assert_close(caches[0].tails[direction], caches[1].tails[direction], tolerance)


@pytest.mark.parametrize("backbone", ["diffumamba", "ar-mamba"])
@pytest.mark.parametrize("length", [1, 2, 33, 64, 65])
def test_a_short_sequence_is_mixed_and_kept_as_by_the_plain_form(backbone, length):
    mixer, x, window, cache = case(backbone, (length,), advance=True, first=True)
    expected = BiMamba._sequence(mixer, x)
    assert_close(small.sequence(mixer, x), expected, ROUNDING)
    # A prefill reads nothing of the cache, which is full here.
    assert_close(small.prefill(mixer, x, window, cache), expected, ROUNDING)
    plain = case(backbone, (length,), advance=True, first=True)[3]
    BiMamba._prefill(mixer, x, window, plain)
    assert_close(cache.states[0], plain.states[0], ROUNDING)
    assert_close(cache.tails[0], plain.tails[0], ROUNDING)


def test_the_form_for_few_tokens_has_the_gradients_of_the_plain_one():
    gradients = []
    for form in (small.block, BiMamba._continue):
        mixer, x, window, cache = case("diffumamba", (9, 6), directions=2)
        mixer.requires_grad_()
        form(mixer, x, window, cache).square().sum().backward()
        gradients.append([weight.grad for weight in mixer.parameters()])
    for found, expected in zip(*gradients, strict=True):
        assert_close(found, expected, 1e-4)


class Calls(TorchDispatchMode):
    """Counts PyTorch's operations."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@torch.inference_mode()
def test_the_calls_do_not_grow_with_heads_and_hardly_with_directions():
    counts = {}
    for backbone in ("ar-mamba", "diffumamba"):
        mixer, x, window, cache = case(backbone, (32,))
        mixer(x, window, cache)  # which prepares the weights
        with Calls() as calls:
            mixer(x, window, cache)
        counts[backbone] = calls.count
    assert counts["diffumamba"] <= counts["ar-mamba"] + 8
    assert counts["diffumamba"] <= 90
