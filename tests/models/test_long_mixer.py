"""The mixer's form for many tokens has the numbers, caches and gradients of the plain one."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.models import bimamba_long as long
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import MambaCache, Window
from dlm_bench.models.config import model_config

# Two orders of the same float32 sums: 4e-7 is measured. A lost token or a wrong state is 1e-2 away.
ROUNDING = 1e-5
# The plain form rounds to bfloat16 between its steps, this one rarely: 2^-8 a rounding.
BFLOAT16 = 2e-2


def case(backbone, length, directions=2, batch=2, dtype=torch.float32):
    """A mixer, tokens, and a cache of random states."""
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
    return mixer, torch.randn(batch, length, config.d_model, generator=generator).to(dtype), cache


def assert_same_caches(one, other, tolerance=ROUNDING):
    for state, expected in zip(one.states, other.states, strict=True):
        assert_close(state, expected, tolerance)
    for tail, expected in zip(one.tails, other.tails, strict=True):
        assert_close(tail.float(), expected.float(), tolerance)


@pytest.fixture
def short_spans(monkeypatch):
    """Spans of two chunks of eight, so that short sequences have several."""
    monkeypatch.setattr(long, "CHUNK", 8)
    monkeypatch.setattr(long, "SPAN", 16)


@pytest.mark.parametrize("backbone", ["diffumamba", "ar-mamba"])
@pytest.mark.parametrize("length", [1, 8, 15, 16, 17, 50])
def test_a_sequence_is_mixed_and_kept_as_by_the_plain_form(short_spans, backbone, length):
    mixer, x, cache = case(backbone, length, directions=1)
    plain = case(backbone, length, directions=1)[2]
    window = Window(torch.tensor([0]), (length,), first=True)
    expected = BiMamba._prefill(mixer, x, window, plain)
    assert_close(long.sequence(mixer, x), expected, ROUNDING)
    # A prefill reads nothing of the cache, which is full here.
    assert_close(long.prefill(mixer, x, window, cache), expected, ROUNDING)
    assert_same_caches(cache, plain)


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(
    "edges", [(0, 5), (1, 9), (8, 16), (13, 14), (16, 24), (24, 33), (33, 50), (0, 50)]
)
def test_a_refresh_keeps_what_the_plain_form_keeps(short_spans, edges, directions):
    length = 50
    mixer, x, cache = case("diffumamba", length, directions)
    plain = case("diffumamba", length, directions)[2]
    places = tuple(torch.tensor([edge]) for edge in edges)
    window = Window(torch.tensor([0]), (length,), whole_context=True, edges=places)
    expected = BiMamba._refresh(mixer, x, window, plain)
    assert_close(long.refresh(mixer, x, window, cache), expected, ROUNDING)
    assert_same_caches(cache, plain)


@pytest.mark.parametrize("advance", [False, True])
@pytest.mark.parametrize(
    ("backbone", "segments", "directions"),
    [
        ("diffumamba", (30,), 1),
        ("diffumamba", (17, 20), 1),
        ("diffumamba", (3, 40), 2),
        ("diffumamba", (32,), 2),
        ("ar-mamba", (2, 30), 1),
    ],
)
def test_tokens_are_continued_as_by_the_plain_form(
    short_spans, backbone, segments, directions, advance
):
    outs, caches = [], []
    for form in (long.continued, BiMamba._continue):
        mixer, x, cache = case(backbone, sum(segments), directions)
        window = Window(torch.tensor([8]), segments, advance=advance)
        outs.append(form(mixer, x, window, cache))
        caches.append(cache)
    assert_close(*outs, ROUNDING)
    assert_same_caches(*caches)


def test_bfloat16_is_mixed_as_by_the_plain_form(short_spans):
    mixer, x, cache = case("diffumamba", 50, dtype=torch.bfloat16)
    plain = case("diffumamba", 50, dtype=torch.bfloat16)[2]
    window = Window(torch.tensor([0]), (50,), edges=(torch.tensor([21]), torch.tensor([29])))
    out = long.refresh(mixer, x, window, cache)
    assert out.dtype == torch.bfloat16
    assert_close(out.float(), BiMamba._refresh(mixer, x, window, plain).float(), BFLOAT16)
    assert_same_caches(cache, plain, BFLOAT16)


def test_a_gradient_is_that_of_the_plain_form():
    gradients = []
    for form in (long.sequence, BiMamba._sequence):
        mixer, x, _ = case("diffumamba", 70)
        mixer.requires_grad_()
        form(mixer, x).square().sum().backward()
        gradients.append([weight.grad for weight in mixer.parameters()])
    for found, expected in zip(*gradients, strict=True):
        assert torch.equal(found, expected)  # the same operations


def test_a_number_that_is_none_reaches_the_output_and_the_states():
    mixer, x, cache = case("diffumamba", 70, directions=1)
    x[:, 3] = torch.nan
    window = Window(torch.tensor([0]), (70,), first=True)
    assert long.prefill(mixer, x, window, cache)[:, 69].isnan().all()
    assert cache.states[0].isnan().all()
