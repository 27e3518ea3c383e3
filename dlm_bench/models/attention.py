"""Multi-head attention with rotary embedding: bidirectional in a denoiser, causal in AR."""

import torch
from torch import Tensor, nn

from dlm_bench.kernels.attention import attend, attend_cached
from dlm_bench.kernels.choice import Kernels
from dlm_bench.kernels.rotary import rotate
from dlm_bench.models.cache import AttentionCache, Window
from dlm_bench.models.config import ModelConfig

# Up to so many queries the keys are split over the GPU's processors; more queries fill it anyway.
SPLIT_QUERIES = 256


class Attention(nn.Module):
    """The attention mixer: x (batch, len, d_model) to the same shape."""

    def __init__(self, config: ModelConfig, kernels: Kernels) -> None:
        super().__init__()
        self.heads = config.heads
        self.causal = not config.denoiser
        self.kernels = kernels
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        window: Window | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        """`angles` are those of all positions (kernels.rotary.rotary_angles), a row each."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (batch, len, 3, heads, head_dim)
        if cache is None or window is None:
            q, k, v = self._rotated(qkv, angles)
            mixed = attend(q, k, v, causal=self.causal, backend=self.kernels.attention)
        else:
            mixed = self._attend_window(self._store(qkv, angles, window, cache), window, cache)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _rotated(self, qkv: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (batch, heads, len, head_dim) of a sequence from position 0 on."""
        if self.kernels.elementwise == "triton":
            from dlm_bench.kernels.cuda.rotary import rotate_qkv

            rotate_qkv(qkv, *angles)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            return q, k, v
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        cos, sin = (table[: q.shape[2]] for table in angles)
        return rotate(q, (cos, sin)), rotate(k, (cos, sin)), v

    def _store(
        self, qkv: Tensor, angles: tuple[Tensor, Tensor], window: Window, cache: AttentionCache
    ) -> Tensor:
        """Put the window's keys and values in the cache; q (batch, heads, len, head_dim)."""
        if self.kernels.elementwise == "triton":
            from dlm_bench.kernels.cuda.rotary import rotate_qkv

            rotate_qkv(qkv, *angles, window.start, cache.k, cache.v)
            return qkv[:, :, 0].transpose(1, 2)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        positions = window.positions()
        here = angles[0].index_select(0, positions), angles[1].index_select(0, positions)
        cache.write(positions, rotate(k, here), v)
        return rotate(q, here)

    def _attend_window(self, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
        """Attention of a window's queries over the cache, (batch, heads, len, head_dim)."""
        if window.first:
            k, v = (each[:, :, : q.shape[2]] for each in (cache.k, cache.v))
            return attend(q, k, v, causal=self.causal, backend=self.kernels.attention)
        backend = self.kernels.cached_attention
        if backend == "triton" and (not window.whole_context or q.shape[2] <= SPLIT_QUERIES):
            from dlm_bench.kernels.cuda.split_kv import attend_split_kv

            start = None if window.whole_context else window.start
            mixed = attend_split_kv(q.transpose(1, 2), cache.k, cache.v, start, window.segments)
            return mixed.transpose(1, 2)
        if window.whole_context:
            return attend(q, cache.k, cache.v, backend=self.kernels.attention)
        parts, stop = [], 0
        for part, length in zip(q.split(window.segments, dim=2), window.segments, strict=True):
            stop += length
            visible = window.start + stop
            parts.append(attend_cached(part, cache.k, cache.v, visible, backend=backend))
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
