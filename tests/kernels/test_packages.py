"""The calls of optional packages, by stand-ins that compute plainly what the packages promise."""

import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from dlm_bench.kernels.attention import attend, attend_cached, choose_attend, choose_attend_cached
from dlm_bench.kernels.conv import StepWeights, causal_conv_silu, conv_causal_conv1d

BATCH, HEADS, HEAD_DIM, LENGTH = 2, 3, 8, 21


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def heads(length, group=1):
    return randn(BATCH, group * HEADS, length, HEAD_DIM)


GROUPS = pytest.mark.parametrize("group", [1, 2])  # heads of queries to one of keys


@GROUPS
@pytest.mark.parametrize("causal", [False, True])
def test_flash_attn_gets_its_own_layout(causal, group, monkeypatch):
    def flash_attn_func(q, k, v, causal):  # (batch, length, heads, head_dim)
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        return out.transpose(1, 2)

    package = SimpleNamespace(flash_attn_func=flash_attn_func)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    q, k, v = heads(LENGTH, group), heads(LENGTH) + 1, heads(LENGTH) - 1
    out = choose_attend("flash-attn")(q, k, v, causal=causal)
    torch.testing.assert_close(out, attend(q, k, v, causal=causal))


@GROUPS
@pytest.mark.parametrize("causal", [False, True])
def test_flash_attn_4_gets_its_own_layout_and_returns_more_than_the_output(
    causal, group, monkeypatch
):
    def flash_attn_func(q, k, v, causal=False):  # (batch, length, heads, head_dim)
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
        return out.transpose(1, 2), None

    cute = SimpleNamespace(flash_attn_func=flash_attn_func)
    monkeypatch.setitem(sys.modules, "flash_attn", SimpleNamespace(cute=cute))
    monkeypatch.setitem(sys.modules, "flash_attn.cute", cute)
    q, k, v = heads(LENGTH, group), heads(LENGTH) + 1, heads(LENGTH) - 1
    out = choose_attend("flash-attn-4")(q, k, v, causal=causal)
    torch.testing.assert_close(out, attend(q, k, v, causal=causal))


@GROUPS
def test_flash_attn_over_a_cache_sees_what_is_visible(group, monkeypatch):
    def flash_attn_with_kvcache(q, k, v, cache_seqlens):
        assert cache_seqlens.dtype == torch.int32
        outs = []
        for i, n in enumerate(cache_seqlens):
            row = (tensor[i].transpose(0, 1) for tensor in (q, k[:, :n], v[:, :n]))
            out = F.scaled_dot_product_attention(*row, enable_gqa=True)
            outs.append(out.transpose(0, 1))
        return torch.stack(outs)

    package = SimpleNamespace(flash_attn_with_kvcache=flash_attn_with_kvcache)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    q, k, v, visible = heads(4, group), heads(LENGTH), heads(LENGTH) + 1, torch.tensor([13])
    out = choose_attend_cached("flash-attn")(q, k, v, visible)
    torch.testing.assert_close(out, attend_cached(q, k, v, visible))


@GROUPS
def test_varlen_attn_over_a_cache_sees_what_is_visible(group, monkeypatch):
    def varlen_attn(q, k, v, cu_seq_q, cu_seq_k, max_q, max_k, *, seqused_k, enable_gqa):
        assert q.shape == (4, group * HEADS, HEAD_DIM)  # packed, one sequence
        assert enable_gqa == (group > 1)
        assert cu_seq_q.tolist() == [0, max_q] == [0, 4]
        assert cu_seq_k.tolist() == [0, max_k] == [0, LENGTH]
        (n,) = seqused_k.tolist()
        row = (tensor.transpose(0, 1) for tensor in (q, k[:n], v[:n]))
        return F.scaled_dot_product_attention(*row, enable_gqa=enable_gqa).transpose(0, 1)

    module = pytest.importorskip("torch.nn.attention.varlen", reason="torch has no varlen_attn")
    monkeypatch.setattr(module, "varlen_attn", varlen_attn)
    q, k, v, visible = heads(4, group), heads(LENGTH), heads(LENGTH) + 1, torch.tensor([13])
    out = choose_attend_cached("varlen")(q, k, v, visible)
    torch.testing.assert_close(out, attend_cached(q, k, v, visible))


def test_causal_conv1d_scans_one_direction_backwards(monkeypatch):
    def causal_conv1d_fn(x, weight, bias, initial_states, activation):  # (batch, channels, length)
        assert activation == "silu"
        tail = None if initial_states is None else initial_states.transpose(1, 2)
        return causal_conv_silu(x.transpose(1, 2), weight, bias, tail).transpose(1, 2)

    package = SimpleNamespace(causal_conv1d_fn=causal_conv1d_fn)
    monkeypatch.setitem(sys.modules, "causal_conv1d", package)
    d_inner, d_state, ssm_heads = 6, 2, 3
    channels = d_inner + 2 * d_state
    projected = randn(BATCH, LENGTH, 2, d_inner + channels + ssm_heads)
    weight, bias = randn(2, channels, 4), randn(2, channels)
    tails = randn(BATCH, 3, channels), None
    weights = StepWeights(randn(2, ssm_heads), randn(2, ssm_heads), LENGTH)
    x, B, C, steps = conv_causal_conv1d(projected, weight, bias, d_state, ssm_heads, tails, weights)
    for direction, tail in enumerate(tails):
        part = projected[:, :, direction, d_inner:]
        part = part.flip(1) if direction == 1 else part
        expected = causal_conv_silu(part[..., :channels], weight[direction], bias[direction], tail)
        own = slice(direction * ssm_heads, (direction + 1) * ssm_heads)
        torch.testing.assert_close(x[:, :, own].flatten(2), expected[..., :d_inner])
        torch.testing.assert_close(B[:, :, direction], expected[..., d_inner:-d_state])
        torch.testing.assert_close(C[:, :, direction], expected[..., -d_state:])
        dt = F.softplus(part[..., channels:] + weights.dt_bias[direction])
        torch.testing.assert_close(steps.dt[:, own, 0], dt.transpose(1, 2))
        decay = -(dt * weights.A_log[direction].exp()).cumsum(1)
        torch.testing.assert_close(steps.decay[:, own, 0], decay.transpose(1, 2))
