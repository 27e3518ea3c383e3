"""Multi-head attention with rotary embedding: bidirectional in a denoiser, causal in AR.

Heads of keys and values may be fewer than those of queries; groups of queries then share them.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlm_bench.kernels.attention import (
    attend_cached,
    attend_causal,
    attend_masked,
    choose_attend,
    choose_attend_cached,
)
from dlm_bench.kernels.choice import Kernels
from dlm_bench.kernels.linear import linear
from dlm_bench.kernels.rms_norm import rms_norm
from dlm_bench.kernels.rotary import rotate
from dlm_bench.models.cache import AttentionCache
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.models.window import RowsWindow, Window

# Cosine and sine of every position, (length, head_dim / 2) each, or `kernels.rotary.widened`.
Angles = tuple[Tensor, Tensor]


class Steps(NamedTuple):
    """The steps of a mixer around attention itself, plain or fused.

    rotated: q, k and v of a whole sequence, q and k turned.
    stored: q of a window, turned; k and v go into the cache.
    attend_window: attention of a window over the cache.
    """

    rotated: Callable[["Attention", Tensor, Angles], tuple[Tensor, Tensor, Tensor]]
    stored: Callable[["Attention", Tensor, Angles, Window, AttentionCache], Tensor]
    attend_window: Callable[["Attention", Tensor, Window, AttentionCache], Tensor]


def choose_steps(kernels: Kernels) -> Steps:
    """Return the steps by a model's kernels."""
    plain = Steps(rotated, stored, attend_window)
    if "triton" not in (kernels.elementwise, kernels.cached_attention):
        return plain
    from dlm_bench.models import attention_fused as fused  # needs Triton

    rotation = fused if kernels.elementwise == "triton" else plain
    window = fused if kernels.cached_attention == "triton" else plain
    return Steps(rotation.rotated, rotation.stored, window.attend_window)


def choose_rows_steps(kernels: Kernels) -> Steps:
    """Return the steps of passes whose sequences are at blocks of their own, by a model's kernels:
    attention alone is fused."""
    if kernels.cached_attention != "triton":
        return Steps(rotated, stored, attend_rows)
    from dlm_bench.models import attention_fused as fused  # needs Triton

    return Steps(rotated, stored, fused.attend_window)


class Attention(nn.Module):
    """The attention mixer: x (batch, len, d_model) to the same shape.

    `qkv` has the heads of q, then those of k, then those of v.
    """

    def __init__(self, config: ModelConfig | TransformerConfig, kernels: Kernels) -> None:
        super().__init__()
        self.config = config
        self.groups = (config.heads, config.kv_heads, config.kv_heads)
        self.causal = not config.denoiser
        self.attend = choose_attend(kernels.attention)
        self.attend_cached = choose_attend_cached(kernels.cached_attention)
        self.steps, self.rows_steps = choose_steps(kernels), choose_rows_steps(kernels)
        columns = sum(self.groups) * config.head_dim
        self.qkv = nn.Linear(config.d_model, columns, bias=config.qkv_bias)
        self.out = nn.Linear(config.heads * config.head_dim, config.d_model, bias=False)
        self.q_norm = self.k_norm = None
        if config.qk_norm:
            self.q_norm = nn.RMSNorm(config.head_dim, eps=config.norm_eps)
            self.k_norm = nn.RMSNorm(config.head_dim, eps=config.norm_eps)

    def forward(
        self,
        x: Tensor,
        angles: Angles,
        window: Window | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """Mix the tokens; `angles` has a row for each position (kernels.rotary.rotary_angles)."""
        heads = -1, self.config.head_dim  # of q, k and v
        packed = None if cache is None else cache.packed
        qkv = linear(x, self.qkv.weight, self.qkv.bias, packed)
        qkv = qkv.view(*x.shape[:2], *heads)  # (batch, len, heads, head_dim)
        if cache is None or window is None:
            q, k, v = self.steps.rotated(self, qkv, angles)
            mixed = self.attend(q, k, v, causal=self.causal)
        else:
            steps = self.rows_steps if isinstance(window, RowsWindow) else self.steps
            q = steps.stored(self, qkv, angles, window, cache)
            if window.first:
                k, v = (each[:, :, : q.shape[2]] for each in (cache.k, cache.v))
                mixed = self.attend(q, k, v, causal=self.causal or window.causal)
            else:
                mixed = steps.attend_window(self, q, window, cache)
        return linear(mixed.transpose(1, 2).flatten(2), self.out.weight, packed=packed)

    def head_norms(self) -> Tensor:
        """Return the norms' weights, a row for each head of q and of k, (heads, head_dim)."""
        assert self.q_norm is not None
        assert self.k_norm is not None
        queries, keys, _ = self.groups
        weights = self.q_norm.weight.expand(queries, -1), self.k_norm.weight.expand(keys, -1)
        return torch.cat(weights)

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return views of q, k and v, (batch, heads of each, len, head_dim)."""
        q, k, v = qkv.transpose(1, 2).split(self.groups, dim=1)
        return q, k, v


def rotated(layer: Attention, qkv: Tensor, angles: Angles) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (batch, heads of each, len, head_dim) of a sequence from position 0 on."""
    cos, sin = (table[: qkv.shape[1], None] for table in angles)
    return turned(layer, qkv, (cos, sin))


def turned(
    layer: Attention, qkv: Tensor, angles: Angles, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (batch, heads of each, len, head_dim), q and k normalised in a model with norms
    for them (`weights`, its `head_norms`), and turned by a row (1, head_dim / 2) of the angles for
    each token."""
    queries, keys, values = layer.groups
    both, v = qkv.split((queries + keys, values), dim=2)
    if layer.q_norm is not None and layer.k_norm is not None:
        weights = layer.head_norms() if weights is None else weights
        both = rms_norm(both, weights, layer.config.norm_eps)
    q, k = rotate(both, angles).transpose(1, 2).split((queries, keys), dim=1)
    return q, k, v.transpose(1, 2)


def stored(
    layer: Attention,
    qkv: Tensor,
    angles: Angles,
    window: Window,
    cache: AttentionCache,
) -> Tensor:
    """Put the window's keys and values in the cache; return q (batch, heads, len, head_dim)."""
    if cache.head_norms is None and layer.q_norm is not None:
        cache.head_norms = layer.head_norms()
    q, k, v = turned(layer, qkv, window.rows(angles), cache.head_norms)
    cache.write(window, k, v)
    return q


def attend_window(layer: Attention, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
    """Attention of a window over the cache, part by part, (batch, heads, len, head_dim)."""
    if window.whole_context:
        return layer.attend(q, cache.k, cache.v)
    # The plain form asks the device for the cache's length: once a pass, not in every layer.
    plain = layer.attend_cached is attend_cached
    start = window.host_seen_start if plain else window.seen_start
    if window.causal:
        visible = window.host_seen_start + q.shape[2] if plain else cache.k.shape[2]
        return attend_causal(
            q, cache.k[:, :, :visible], cache.v[:, :, :visible], window.positions()
        )
    if len(window.segments) == 1:
        return layer.attend_cached(q, cache.k, cache.v, start + q.shape[2])
    parts, stop = [], 0
    for part, length in zip(q.split(window.segments, dim=2), window.segments, strict=True):
        stop += length
        parts.append(layer.attend_cached(part, cache.k, cache.v, start + stop))
    return torch.cat(parts, dim=2)


def attend_rows(layer: Attention, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
    """As `attend_window`, of a window whose sequences are at places of their own."""
    assert isinstance(window, RowsWindow)
    read, seen = window.keys(cache.k.shape[2])
    return attend_masked(q, cache.k[:, :, :read], cache.v[:, :, :read], seen)
