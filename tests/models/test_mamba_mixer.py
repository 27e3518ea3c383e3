"""The Mamba-2 mixer is that of `transformers`, once or in both directions."""

import pytest
import torch
from support.close import assert_close, relative_error
from transformers import Mamba2Config
from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import MambaCache, Window
from dlm_bench.models.config import model_config

# Two float32 implementations of one layer: 3e-7 is measured at 1100 tokens. What is not the same
# layer (another epsilon, gate after the norm, a lost tap) is 1e-2 or more away.
ROUNDING = 1e-4
LENGTHS = [1, 2, 17, 64, 150, 1100]  # around a chunk of the scan; more than a span of 1024


def mixer_of(backbone):
    """A mixer of which no parameter is at a value that hides it (ones, zeros)."""
    mixer = BiMamba(model_config(backbone, "tiny")).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    mixer.init_weights(generator)
    for weight in (mixer.D, mixer.norm_weight):
        weight.normal_(generator=generator)
    return mixer


def from_transformers(mixer, direction):
    """One direction's weights in the independent implementation."""
    theirs = Mamba2Mixer(
        Mamba2Config(
            hidden_size=mixer.in_proj.shape[-1],
            num_heads=mixer.heads,
            head_dim=mixer.d_inner // mixer.heads,
            state_size=mixer.d_state,
            expand=2,
            n_groups=1,
            conv_kernel=4,
            chunk_size=16,
            layer_norm_epsilon=1e-5,
            use_bias=False,
            use_conv_bias=True,
            num_hidden_layers=1,
        ),
        layer_idx=0,
    )
    weights = {
        "in_proj.weight": mixer.in_proj[direction],
        "conv1d.weight": mixer.conv_weight[direction][:, None],
        "conv1d.bias": mixer.conv_bias[direction],
        "dt_bias": mixer.dt_bias[direction],
        "A_log": mixer.A_log[direction],
        "D": mixer.D[direction],
        "norm.weight": mixer.norm_weight[direction],
        "out_proj.weight": mixer.out_proj[:, direction],
    }
    theirs.load_state_dict(weights)
    return theirs.eval().requires_grad_(False)


def sequence(length, width=64):
    return torch.randn(2, length, width, generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("length", LENGTHS)
def test_one_direction_is_mamba2_of_transformers(length):
    mixer, x = mixer_of("ar-mamba"), sequence(length)
    assert_close(mixer(x), from_transformers(mixer, 0)(x), ROUNDING)


@pytest.mark.parametrize("length", LENGTHS)
def test_both_directions_are_two_layers_added_one_of_them_reversed(length):
    mixer, x = mixer_of("diffumamba"), sequence(length)
    forward, reverse = from_transformers(mixer, 0), from_transformers(mixer, 1)
    expected = forward(x) + reverse(x.flip(1)).flip(1)
    assert_close(mixer(x), expected, ROUNDING)


def test_the_directions_have_their_own_weights():
    mixer, x = mixer_of("diffumamba"), sequence(17)
    assert relative_error(mixer(x.flip(1)).flip(1), mixer(x)) > 0.1  # else equal


@pytest.mark.parametrize("edges", [(0, 32), (32, 64), (1000, 1032), (1024, 1056), (1100, 1132)])
def test_a_refresh_leaves_the_states_at_the_edges_of_the_block(edges):
    length = 1132
    mixer, x = mixer_of("diffumamba"), sequence(length)
    config, (start, stop) = model_config("diffumamba", "tiny"), edges
    cache = MambaCache(config, 2, torch.device("cpu"), torch.float32, directions=2)
    window = Window(
        torch.tensor([0]),
        (length,),
        whole_context=True,
        edges=(torch.tensor([start]), torch.tensor([stop])),
    )
    out = mixer(x, window, cache)
    assert_close(out, mixer(x), ROUNDING)
    # The block alone, continued from those states, is that part of the whole.
    block = Window(torch.tensor([start]), (stop - start,), whole_context=True)
    continued = mixer(x[:, start:stop], block, cache)
    assert_close(continued, out[:, start:stop], ROUNDING)
    cache.reset()
    forgotten = mixer(x[:, start:stop], block, cache)
    assert relative_error(forgotten, out[:, start:stop]) > 1e-2  # the states matter


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 4, 3), (2, 10), (1100, 40)])
def test_pieces_with_an_advancing_state_are_one_run(sizes):
    mixer, x = mixer_of("ar-mamba"), sequence(sum(sizes))
    cache = MambaCache(
        model_config("ar-mamba", "tiny"), 2, torch.device("cpu"), torch.float32, directions=1
    )
    outs, start = [], 0
    for piece in x.split(sizes, dim=1):
        window = Window(torch.tensor([start]), (piece.shape[1],), advance=True)
        outs.append(mixer(piece, window, cache))
        start += piece.shape[1]
    assert_close(torch.cat(outs, dim=1), mixer(x), ROUNDING)


def test_a_window_that_does_not_advance_leaves_the_state_as_it_was():
    mixer, x = mixer_of("diffumamba"), sequence(8)
    config = model_config("diffumamba", "tiny")
    cache = MambaCache(config, 2, torch.device("cpu"), torch.float32, directions=1)
    cache.fill(torch.Generator().manual_seed(0))
    before = [buffer.clone() for buffer in (*cache.states, *cache.tails)]
    mixer(x, Window(torch.tensor([8]), (8,)), cache)
    for now, then in zip((*cache.states, *cache.tails), before, strict=True):
        assert torch.equal(now, then)
