"""The split-KV attention kernel against plain PyTorch, under Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton.language as tl
from support.close import assert_close, relative_error
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from dlm_bench.kernels.attention import attend_cached
from dlm_bench.kernels.cuda import split_kv
from dlm_bench.kernels.cuda.common import counters
from dlm_bench.kernels.cuda.split_kv import _tile, attend_split_kv

pytestmark = pytest.mark.usefixtures("poisoned")

# float32: the exponents reach 30, whose rounding is an error of 2e-6 in a weight. float16: the
# weights and the output are rounded to 2^-11; the reference is computed in float32.
TOLERANCES = {torch.float32: 5e-6, torch.float16: 1e-3}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float16"])
LENGTH = 512


@pytest.fixture(params=["last program", "launch"])
def combined(request, monkeypatch):
    """The splits are combined by the program that ends last, or by a launch of its own."""
    if request.param == "launch":
        monkeypatch.setattr(split_kv, "PARTS", 0)


def _inputs(
    query_len,
    *,
    batch=1,
    heads=2,
    group=1,
    head_dim=16,
    length=LENGTH,
    dtype=torch.float32,
):
    """q as the view of a projection that it is in a model, and the caches."""
    q = torch.randn(batch, query_len, 3, heads, head_dim)[:, :, 0]
    k, v = torch.randn(2, batch, heads // group, length, head_dim)
    return (2 * q).to(dtype), k.to(dtype), v.to(dtype)


def _strided(q):
    buffer = torch.full((*q.shape[:2], 3, *q.shape[2:]), torch.nan, dtype=q.dtype)
    buffer[:, :, 0] = q
    return buffer[:, :, 0]


def _expected(q, k, v, start, segments):
    q, k, v = q.transpose(1, 2).float(), k.float(), v.float()
    parts, stop = [], 0
    for part, length in zip(q.split(segments, dim=2), segments, strict=True):
        stop += length
        visible = torch.tensor([k.shape[2] if start is None else start + stop])
        parts.append(attend_cached(part, k, v, visible))
    return torch.cat(parts, dim=2).transpose(1, 2)


def _check(q, k, v, start, segments):
    expected = _expected(q, k, v, start, segments)
    q = _strided(q)
    begin = None if start is None else torch.tensor([start])
    if start is not None:  # what no query sees may be anything
        k[:, :, start + sum(segments) :] = torch.nan
        v[:, :, start + sum(segments) :] = torch.inf
    kept = [tensor.clone() for tensor in (q, k, v)]
    out = attend_split_kv(q, k, v, begin, segments)
    assert not counters(q.device).any()  # ready for the next launch
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    assert out.is_contiguous()
    # Every token by itself: one wrong limit is not lost among the others.
    for token in range(q.shape[1]):
        got = out[:, token].float()
        assert_close(got, expected[:, token], TOLERANCES[q.dtype], "l2", where=f"token {token}")
    for tensor, before in zip((q, k, v), kept, strict=True):
        assert torch.equal(tensor.nan_to_num(7.0), before.nan_to_num(7.0))


# Tiles of keys end at multiples of 32 (float32) or 64, splits at multiples of 128 here.
@DTYPES
@pytest.mark.parametrize(
    "start", [0, 1, 24, 31, 32, 56, 57, 119, 120, 121, 248, 249, 376, 400, LENGTH - 8]
)
@pytest.mark.parametrize("segments", [(8,), (3, 5)], ids=["one", "two"])
def test_sees_the_keys_up_to_the_end_of_a_segment(segments, start, dtype):
    _check(*_inputs(8, dtype=dtype), start, segments)


@pytest.mark.parametrize("start", [0, 27, 121, LENGTH - 18])
@pytest.mark.parametrize("group", [1, 2])
@pytest.mark.parametrize(
    "segments", [(8, 4, 4, 2), (6, 6, 6), (1,) * 18], ids=["last shorter", "equal", "causal"]
)
def test_sees_the_keys_up_to_the_end_of_one_of_many_segments(segments, group, start):
    _check(*_inputs(18, group=group), start, segments)


@DTYPES
@pytest.mark.parametrize("segments", [(1,), (17,), (70,), (16, 16), (20, 50), (1, 1), (64, 6)])
@pytest.mark.parametrize("start", [0, 115, LENGTH - 70])
def test_tiles_of_queries(segments, start, dtype):
    _check(*_inputs(sum(segments), heads=1, dtype=dtype), start, segments)


@pytest.mark.usefixtures("combined")
@DTYPES
@pytest.mark.parametrize("head_dim", [8, 16, 32, 40, 60, 64, 80, 128])
@pytest.mark.parametrize("length", [100, 300])  # one split, and two
def test_widths_of_heads(head_dim, length, dtype):
    _check(*_inputs(5, head_dim=head_dim, length=length, dtype=dtype), length - 9, (2, 3))


@DTYPES
@pytest.mark.parametrize("length", [5, 100, 384, LENGTH])
@pytest.mark.parametrize("segments", [(5,), (2, 3)])
def test_without_a_start_sees_the_whole_cache(segments, length, dtype):
    _check(*_inputs(5, length=length, dtype=dtype), None, segments)


@pytest.mark.usefixtures("combined")
@DTYPES
@pytest.mark.parametrize("start", [3, 250])
def test_batch(start, dtype):
    _check(*_inputs(6, batch=2, heads=3, head_dim=40, dtype=dtype), start, (4, 2))


# Rows of a tile are queries times heads: the limit of a segment falls inside a tile or on its edge.
@pytest.mark.usefixtures("combined")
@pytest.mark.parametrize(
    ("segments", "heads", "group", "dtype"),
    [
        ((1,), 7, 7, torch.float32),
        ((3, 5), 6, 3, torch.float32),  # 24 rows, in tiles of 16
        ((1, 2), 8, 4, torch.float32),
        ((32, 32), 7, 7, torch.float16),  # 7 tiles of 64 rows
        ((8, 24), 7, 7, torch.float16),  # 2 tiles of 128, whose edge falls inside a token
        ((16, 16), 8, 4, torch.float16),  # a tile of 128 rows, both segments in it
        ((5, 6), 8, 8, torch.float16),
    ],
    ids=str,
)
@pytest.mark.parametrize("start", [0, 117])
def test_heads_of_a_group_share_keys_and_values(segments, heads, group, dtype, start):
    inputs = _inputs(sum(segments), heads=heads, group=group, length=300, dtype=dtype)
    _check(*inputs, start, segments)


def test_groups_of_a_batch():
    _check(*_inputs(3, batch=2, heads=6, group=3, length=140), 90, (1, 2))


@DTYPES
def test_grouped_heads_see_the_whole_cache_without_a_start(dtype):
    _check(*_inputs(5, heads=7, group=7, head_dim=128, length=300, dtype=dtype), None, (5,))


@pytest.mark.parametrize(
    ("rows", "group", "tile"),
    [(7, 7, 16), (64, 1, 64), (128, 1, 64), (128, 4, 128), (192, 6, 64), (224, 7, 128)],
)
def test_a_tile_of_a_group_is_as_large_as_pads_least(rows, group, tile):
    assert _tile(rows, group, exact=False)[0] == tile


@pytest.mark.usefixtures("combined")
@pytest.mark.parametrize("start", [9, 300, 8191])
def test_as_many_splits_as_there_are(start):
    _check(*_inputs(1, heads=1, length=8192), start, (1,))


def test_takes_any_strides_of_the_queries():
    q, k, v = _inputs(6, batch=2, heads=3, head_dim=40)
    expected = attend_split_kv(q, k, v, torch.tensor([100]), (6,))
    for dims in [(0, 1, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3)]:
        view = q.permute(dims).contiguous().permute(dims)
        assert torch.equal(attend_split_kv(view, k, v, torch.tensor([100]), (6,)), expected)


@pytest.mark.parametrize("sign", [-1, 1])
def test_large_logits_keep_their_precision(sign, monkeypatch):
    def fma(self, x, y, z):  # rounds once, as a GPU's does and the interpreter of Triton 3.6 not
        exact = x.data.astype(np.float64) * y.data + z.data
        return TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    monkeypatch.setattr(InterpreterBuilder, "create_fma", fma)
    # Scores of 16384, exact in float32, that differ by a few: a log-sum-exp in float32 would
    # already be off by 5e-5.
    _, _, v = _inputs(4)
    q = torch.full((1, 4, 2, 16), 32.0)
    k = sign * 32 + torch.randint(-3, 4, v.shape) / 32
    expected = _expected(q.double(), k.double(), v.double(), 400, (4,))
    out = attend_split_kv(q, k, v, torch.tensor([400]), (4,))
    assert relative_error(out, expected, "l2") < TOLERANCES[torch.float32]


def test_extreme_logits_stay_finite():
    q, k, v = _inputs(8)
    _check(1e4 * q, 1e4 * k, v, 300, (8,))


# In this cache a split has at least two tiles of 64 keys, and takes two when all are visible.
@pytest.mark.parametrize(
    ("start", "tiles", "splits", "group"),
    [
        (0, 1, 1, 1),
        (56, 1, 1, 1),
        (57, 2, 1, 1),
        (120, 2, 1, 1),
        (121, 3, 2, 1),
        (1000, 16, 8, 1),
        (4088, 64, 32, 1),
        (1000, 16, 8, 4),
    ],
)
def test_reads_the_visible_keys_once_and_no_others(start, tiles, splits, group, monkeypatch):
    products = loaded = 0
    dot, load = InterpreterBuilder.create_dot, InterpreterBuilder.create_masked_load

    def counted_dot(*args):
        nonlocal products
        products += 1
        return dot(*args)

    def counted_load(self, pointers, mask, *args):
        nonlocal loaded
        if pointers.get_element_ty() == tl.float16:  # q, k and v
            loaded += mask.data.sum()
        return load(self, pointers, mask, *args)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted_dot)
    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", counted_load)
    q, k, v = _inputs(8, heads=2 * group, group=group, length=4096, dtype=torch.float16)
    attend_split_kv(q, k, v, torch.tensor([start]), (8,))
    kv_heads, head_dim = k.shape[1], k.shape[3]
    assert products == 2 * tiles * kv_heads
    assert loaded == (2 * (start + 8) + 8 * group * splits) * kv_heads * head_dim


@pytest.mark.usefixtures("combined")
def test_sequences_of_a_batch_may_be_at_places_of_their_own():
    q, k, v = _inputs(4, batch=3, heads=4, group=2)
    starts = [0, 250, 61]
    expected = torch.cat(
        [
            _expected(*(each[row : row + 1] for each in (q, k, v)), starts[row], (4,))
            for row in range(3)
        ]
    )
    for row, start in enumerate(starts):
        k[row, :, start + 4 :] = torch.nan
    out = attend_split_kv(_strided(q), k, v, torch.tensor(starts), (4,))
    for row in range(3):
        assert_close(out[row], expected[row], TOLERANCES[q.dtype], "l2", where=f"sequence {row}")
