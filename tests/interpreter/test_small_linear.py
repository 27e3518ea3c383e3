"""Matmuls of few rows, with norms in front and what follows behind, against plain PyTorch."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.adaln import EPSILON, add_norm
from dlm_bench.kernels.cuda import small_linear as own
from dlm_bench.kernels.cuda.common import counters
from dlm_bench.kernels.cuda.lookup import embed_stream
from dlm_bench.kernels.cuda.small_linear import (
    Gated,
    Norm,
    Rows,
    Stream,
    Turn,
    add_linear,
    small_linear,
    turned_linear,
)
from dlm_bench.kernels.rotary import rotary_angles, rotate

pytestmark = pytest.mark.usefixtures("poisoned")
TOLERANCE = 2e-6  # float32: sums in another order

WIDTH = 96  # a tile of 64 columns and one of 32


def stream_of(x, width=64):
    """The stream with the moments of its tiles."""
    parts = x.split(width, dim=1)
    moments = [torch.stack((p.mean(1), p.var(1, False) * p.shape[1]), dim=1) for p in parts]
    return Stream(x.clone(), x.clone(), torch.stack(moments), width)


def modulation(batch, segments):
    """Shift, scale and gate as they are cut from the rows of all layers."""
    rows = torch.randn(batch, segments, 3 * WIDTH + 8)
    return rows[..., 8:].split(WIDTH, dim=-1)


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize(
    ("batch", "segments", "rows_of"), [(1, (5,), 1), (2, (9,), 2), (2, (4, 7), 1), (3, (2, 3), 3)]
)
def test_a_layer_of_the_stream(batch, segments, rows_of, splits, monkeypatch):
    """Norm, matmul and GELU, then a matmul back with bias, gate and the addition."""
    tiles = own._tiles
    monkeypatch.setattr(own, "_tiles", lambda *a: tiles(*a)._replace(splits=splits))
    length = sum(segments)
    x = torch.randn(batch * length, WIDTH) * 3 + 1
    shift, scale, gate = modulation(rows_of, len(segments))
    up, down = torch.randn(128, WIDTH) / 10, torch.randn(WIDTH, 128) / 10
    b_up, b_down = torch.randn(128), torch.randn(WIDTH)
    rows = Rows(length, segments[0], unit_scale=True)

    norm = Norm(scale, shift, rows, EPSILON)
    stream = stream_of(x)
    hidden = small_linear(stream, up, b_up, norm=norm, gelu=True)
    moved = add_linear(hidden, down, b_down, stream, gate, rows)

    plain = x.view(batch, length, WIDTH)
    _, normed = add_norm(plain, None, None, scale, shift, segments, unit_scale=True)
    expected = F.gelu(F.linear(normed, up, b_up), approximate="tanh")
    assert_close(hidden, expected.flatten(0, 1), TOLERANCE, "l2")
    branch = F.linear(expected, down, b_down)
    sums, _ = add_norm(plain, branch, gate, scale, shift, segments, unit_scale=True)
    assert moved.x is stream.x
    assert_close(moved.x, sums.flatten(0, 1), TOLERANCE, "l2")
    assert torch.equal(moved.copy, moved.x)
    assert_close(moved.moments, stream_of(moved.x).moments, 1e-5, "l2")
    assert not counters(x.device).any()  # ready for the next launch


# Tiles of 32 pairs: of q, of k and of v alone, or of several; heads that end inside a tile; a last
# tile partly beyond the end.
@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize(
    ("batch", "segments", "heads", "kv_heads", "head_dim", "start"),
    [
        (1, (7,), 4, 4, 16, 0),
        (2, (3, 5), 3, 1, 40, 13),
        (1, (1,), 2, 2, 80, 71),
        (3, (1,), 5, 5, 6, 9),
        (2, (32,), 4, 2, 16, 40),
        (1, (20, 44), 1, 1, 60, 8),
    ],
)
def test_queries_are_turned_and_keys_and_values_are_in_the_caches(
    batch, segments, heads, kv_heads, head_dim, start, bias, splits, monkeypatch
):
    tiles = own._tiles
    monkeypatch.setattr(own, "_tiles", lambda *a: tiles(*a)._replace(splits=splits))
    length = sum(segments)
    x = torch.randn(batch * length, WIDTH) * 3 + 1
    shift, scale, _ = modulation(batch, len(segments))
    groups = heads, kv_heads, kv_heads
    weight = torch.randn(sum(groups) * head_dim, WIDTH) / 10
    b = torch.randn(len(weight)) if bias else None
    angles = rotary_angles(torch.arange(72), head_dim)
    caches = torch.randn(2, batch, kv_heads, 72, head_dim)
    expected = caches.clone()

    norm = Norm(scale, shift, Rows(length, segments[0], unit_scale=True), EPSILON)
    turn = Turn(*angles, torch.tensor([start]), *caches)
    q = turned_linear(stream_of(x), weight, b, turn, norm=norm)

    plain = x.view(batch, length, WIDTH)
    _, normed = add_norm(plain, None, None, scale, shift, segments, unit_scale=True)
    heads_of = F.linear(normed, weight, b).unflatten(-1, (-1, head_dim)).transpose(1, 2)
    here = slice(start, start + length)
    queries, keys, values = heads_of.split(groups, dim=1)
    queries, keys = (rotate(e, tuple(table[here] for table in angles)) for e in (queries, keys))
    assert_close(q, queries.transpose(1, 2).reshape(len(x), -1), TOLERANCE, "l2")
    expected[0, :, :, here], expected[1, :, :, here] = keys, values
    assert_close(caches, expected, TOLERANCE, "l2")
    expected[:, :, :, here] = caches[:, :, :, here]
    assert torch.equal(caches, expected)  # all else is kept


def test_an_autoregressive_layer_has_weights_and_no_gate():
    x = torch.randn(3, WIDTH)
    weight, bias = torch.randn(WIDTH), torch.randn(WIDTH)
    matrix = torch.randn(WIDTH, WIDTH) / 10
    rows = Rows(1, 1, unit_scale=False)
    stream = stream_of(x)
    out = small_linear(stream, matrix, norm=Norm(weight, bias, rows, EPSILON))
    assert_close(out, F.layer_norm(x, (WIDTH,), weight, bias) @ matrix.T, TOLERANCE, "l2")
    moved = add_linear(out, matrix, None, stream, None, rows)
    assert_close(moved.x, x + out @ matrix.T, TOLERANCE, "l2")


@pytest.mark.parametrize("directions", [1, 2])
def test_the_gated_norm_of_each_direction(directions):
    rows, inner = 7, 48
    y = torch.randn(rows, directions, inner)
    weight = torch.randn(directions, inner)
    matrix = torch.randn(WIDTH, directions * inner) / 10
    squares = y.square().view(rows, directions, 3, 16).sum(-1).permute(1, 2, 0).contiguous()
    x = torch.randn(rows, WIDTH)
    norm = Gated(squares, weight, 1e-5)
    place = Rows(rows, rows, unit_scale=True)
    moved = add_linear(y.flatten(1), matrix, None, stream_of(x), None, place, norm=norm)
    normed = y * (y.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
    assert_close(moved.x, x + normed.flatten(1) @ matrix.T, TOLERANCE, "l2")


def test_a_large_mean_does_not_cost_the_variance_its_digits():
    x = torch.randn(2, WIDTH) + 1000
    matrix = torch.randn(WIDTH, WIDTH) / 10
    zero, rows = torch.zeros(1, 1, WIDTH), Rows(2, 2, unit_scale=True)
    out = small_linear(stream_of(x), matrix, norm=Norm(zero, zero, rows, EPSILON))
    # The sum of squares in float32, less the mean's, would leave two digits of the variance.
    assert_close(out, F.layer_norm(x.double(), (WIDTH,)).float() @ matrix.T, 1e-3, "l2")


def test_embeddings_are_the_first_stream():
    weight = torch.randn(11, WIDTH)
    tokens = torch.randint(11, (2, 5))
    stream = embed_stream(tokens, weight)
    expected = stream_of(weight[tokens].flatten(0, 1), WIDTH)
    assert torch.equal(stream.x, expected.x)
    assert torch.equal(stream.copy, expected.x)
    assert_close(stream.moments, expected.moments, TOLERANCE, "l2")


@pytest.mark.parametrize(("outputs", "inputs"), [(15992, 1920), (1920, 7680), (3840, 1920)])
def test_tiles_cover_all_inputs_and_fill_the_processors(outputs, inputs):
    tiles = own._tiles(outputs, inputs, exact=False)
    steps = inputs // tiles.step
    assert (tiles.splits - 1) * -(-steps // tiles.splits) < steps  # no split is empty
    programs = -(-outputs // tiles.width) * tiles.splits
    assert 100 <= programs <= 2 * 132
