"""The attention kernel of whole sequences against SDPA, under Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close
from triton.runtime.interpreter import InterpreterBuilder

from dlm_bench.kernels.attention import choose_attend
from dlm_bench.kernels.cuda.whole_attention import attend_whole

pytestmark = pytest.mark.usefixtures("poisoned")

# float32: the exponents reach 30, whose rounding is an error of 2e-6 in a weight. float16: the
# weights and the output are rounded to 2^-11; the reference is computed in float32.
TOLERANCES = {torch.float32: 5e-6, torch.float16: 1e-3}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float16"])
CAUSAL = pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])


def _inputs(length, *, head_dim=16, heads=1, group=1, batch=1, dtype=torch.float32):
    """q, k and v as the views of a projection that they are in a model."""
    kv_heads = heads // group
    qkv = torch.randn(batch, length, heads + 2 * kv_heads, head_dim)
    qkv[:, :, :heads] *= 2
    return qkv.to(dtype).transpose(1, 2).split((heads, kv_heads, kv_heads), dim=1)


def _check(q, k, v, causal=False):
    q_before, k_before = q.clone(), k.clone()
    out = attend_whole(q, k, v, causal=causal)
    assert out.shape == q.shape
    assert out.dtype == q.dtype
    assert out.transpose(1, 2).is_contiguous()
    exact = (x.float() for x in (q, k, v))
    expected = F.scaled_dot_product_attention(*exact, is_causal=causal, enable_gqa=True)
    # Every token by itself: one wrong limit is not lost among the others.
    for token in range(q.shape[2]):
        got = out[:, :, token].float()
        assert_close(got, expected[:, :, token], TOLERANCES[q.dtype], "l2", where=f"token {token}")
    assert torch.equal(q, q_before)
    assert torch.equal(k, k_before)


# Tiles of 32 queries and 32 keys in float32, of 128 and 64 in float16.
@DTYPES
@CAUSAL
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 64, 65, 127, 129])
def test_any_length(length, causal, dtype):
    _check(*_inputs(length, dtype=dtype), causal)


@CAUSAL
@pytest.mark.parametrize("length", [128, 192, 257])
def test_several_tiles_of_queries(length, causal):
    _check(*_inputs(length, dtype=torch.float16), causal)


@DTYPES
@CAUSAL
@pytest.mark.parametrize("head_dim", [8, 16, 24, 40, 60, 64, 80, 96, 128])
def test_widths_of_heads(head_dim, causal, dtype):
    _check(*_inputs(37, head_dim=head_dim, dtype=dtype), causal)


# With wide heads, tiles of 128 keys.
@CAUSAL
@pytest.mark.parametrize("length", [127, 128, 130])
def test_wide_heads_have_a_tile_of_their_own(length, causal):
    _check(*_inputs(length, head_dim=96, dtype=torch.float16), causal)


@DTYPES
@CAUSAL
@pytest.mark.parametrize("length", [1, 35])
@pytest.mark.parametrize(("heads", "group"), [(3, 1), (6, 3), (7, 7)])
def test_heads_of_a_group_share_keys_and_values_in_a_batch(heads, group, length, causal, dtype):
    _check(*_inputs(length, head_dim=24, heads=heads, group=group, batch=2, dtype=dtype), causal)


@DTYPES
@pytest.mark.parametrize(("length", "keys"), [(1, 70), (40, 129), (33, 64), (70, 3)])
def test_other_keys_than_those_of_the_queries(length, keys, dtype):
    q = _inputs(length, heads=2, batch=2, dtype=dtype)[0]
    _, k, v = _inputs(keys, heads=2, batch=2, dtype=dtype)
    _check(q, k, v)


def test_keys_that_are_not_given_are_not_read():
    cache = torch.full((2, 1, 2, 50, 16), torch.nan)
    q, k, v = _inputs(37, heads=2)
    k, v = (each[:, :, :37].copy_(x) for each, x in zip(cache, (k, v), strict=True))
    _check(q, k, v)
    _check(q, k, v, causal=True)


@CAUSAL
def test_keys_and_values_may_lie_differently(causal):
    q, k, v = _inputs(37, heads=2, batch=2)
    _check(q, k, v.transpose(2, 3).contiguous().transpose(2, 3), causal)


def test_extreme_logits_stay_finite():
    q, k, v = _inputs(70)
    for sign in (1, -1):
        _check(1e4 * q, sign * 1e4 * k, v)


def test_a_causal_pass_computes_no_tile_that_no_query_sees(monkeypatch):
    products, dot = 0, InterpreterBuilder.create_dot

    def counted(*args):
        nonlocal products
        products += 1
        return dot(*args)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", counted)
    q, k, v = _inputs(512, dtype=torch.float16)
    attend_whole(q, k, v)
    assert products == 2 * 4 * 8  # two products for each of 4 tiles of queries and 8 of keys
    products = 0
    attend_whole(q, k, v, causal=True)
    assert products == 2 * (2 + 4 + 6 + 8)


def test_a_head_of_80_is_computed_without_padding(monkeypatch):
    columns, dot = [], InterpreterBuilder.create_dot

    def seen(self, a, b, *rest):
        rows, inner, outer = *a.data.shape, b.data.shape[1]
        columns.append(rows * inner * outer)
        return dot(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", seen)
    attend_whole(*_inputs(128, head_dim=80, dtype=torch.float16))
    assert sum(columns) == 2 * 128 * 128 * 80


def test_too_wide_heads_are_refused():
    with pytest.raises(RuntimeError, match="heads of 130 columns; at most 128"):
        choose_attend("triton")(*_inputs(3, head_dim=130))
