"""Multi-head attention with rotary embedding: bidirectional in a denoiser, causal in AR.

Heads of keys and values may be fewer than those of queries, which then share them in groups.
"""

import torch
from torch import Tensor, nn

from dlm_bench.kernels.attention import attend, attend_cached
from dlm_bench.kernels.choice import Kernels
from dlm_bench.kernels.rms_norm import rms_norm
from dlm_bench.kernels.rotary import rotate
from dlm_bench.models.cache import AttentionCache, Window
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.transformer_config import TransformerConfig

# Up to so many queries the keys are split over the GPU's processors; more queries fill it anyway.
SPLIT_QUERIES = 256


class Attention(nn.Module):
    """The attention mixer: x (batch, len, d_model) to the same shape.

    `qkv` has the heads of q, then those of k, then those of v.
    """

    def __init__(self, config: ModelConfig | TransformerConfig, kernels: Kernels) -> None:
        super().__init__()
        self.config = config
        self.groups = (config.heads, config.kv_heads, config.kv_heads)
        self.causal = not config.denoiser
        self.backend = kernels.attention
        self.cached_backend = kernels.cached_attention
        fused = kernels.elementwise == "triton"
        self.rotated, self.stored = (rotated_fused, stored_fused) if fused else (rotated, stored)
        self.attend_window = attend_split if self.cached_backend == "triton" else attend_parts
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
        angles: tuple[Tensor, Tensor],
        window: Window | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """`angles` are those of all positions (kernels.rotary.rotary_angles), a row each."""
        qkv = self.qkv(x).unflatten(
            -1, (-1, self.config.head_dim)
        )  # (batch, len, heads of all, head_dim)
        if cache is None or window is None:
            q, k, v = self.rotated(self, qkv, angles)
            mixed = attend(q, k, v, causal=self.causal, backend=self.backend)
        else:
            q = self.stored(self, qkv, angles, window, cache)
            if window.first:
                k, v = (each[:, :, : q.shape[2]] for each in (cache.k, cache.v))
                mixed = attend(q, k, v, causal=self.causal, backend=self.backend)
            else:
                mixed = self.attend_window(self, q, window, cache)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v, (batch, heads of each, len, head_dim), views; q and k normalised if the model
        does so."""
        q, k, v = qkv.transpose(1, 2).split(self.groups, dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q = rms_norm(q, self.q_norm.weight, self.config.norm_eps)
            k = rms_norm(k, self.k_norm.weight, self.config.norm_eps)
        return q, k, v


def rotated(
    layer: Attention, qkv: Tensor, angles: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v (batch, heads of each, len, head_dim) of a sequence from position 0 on."""
    q, k, v = layer.split(qkv)
    cos, sin = (table[: q.shape[2]] for table in angles)
    return rotate(q, (cos, sin)), rotate(k, (cos, sin)), v


def rotated_fused(
    layer: Attention, qkv: Tensor, angles: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """As `rotated`, in place by one kernel."""
    from dlm_bench.kernels.cuda.rotary import rotate_qkv

    rotate_qkv(qkv.unflatten(2, (3, -1)), *angles)
    return layer.split(qkv)


def stored(
    layer: Attention,
    qkv: Tensor,
    angles: tuple[Tensor, Tensor],
    window: Window,
    cache: AttentionCache,
) -> Tensor:
    """Put the window's keys and values in the cache; return q (batch, heads, len, head_dim)."""
    q, k, v = layer.split(qkv)
    positions = window.positions()
    turn = angles[0].index_select(0, positions), angles[1].index_select(0, positions)
    cache.write(positions, rotate(k, turn), v)
    return rotate(q, turn)


def stored_fused(
    layer: Attention,
    qkv: Tensor,
    angles: tuple[Tensor, Tensor],
    window: Window,
    cache: AttentionCache,
) -> Tensor:
    """As `stored`, in place by one kernel."""
    from dlm_bench.kernels.cuda.rotary import rotate_qkv

    rotate_qkv(qkv.unflatten(2, (3, -1)), *angles, window.start, cache.k, cache.v)
    return layer.split(qkv)[0]


def attend_parts(layer: Attention, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
    """Attention of a window over the cache, part by part, (batch, heads, len, head_dim)."""
    if window.whole_context:
        return attend(q, cache.k, cache.v, backend=layer.backend)
    parts, stop = [], 0
    for part, length in zip(q.split(window.segments, dim=2), window.segments, strict=True):
        stop += length
        visible = window.start + stop
        parts.append(attend_cached(part, cache.k, cache.v, visible, backend=layer.cached_backend))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def attend_split(layer: Attention, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
    """As `attend_parts`, by a kernel that splits the keys over the GPU's processors."""
    if window.whole_context and q.shape[2] > SPLIT_QUERIES:
        return attend(q, cache.k, cache.v, backend=layer.backend)
    from dlm_bench.kernels.cuda.split_kv import attend_split_kv

    start = None if window.whole_context else window.start
    mixed = attend_split_kv(q.transpose(1, 2), cache.k, cache.v, start, window.segments)
    return mixed.transpose(1, 2)
