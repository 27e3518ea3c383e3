"""Multi-head attention with rotary embedding: bidirectional in a denoiser, causal in AR."""

import torch
from torch import Tensor, nn

from dlm_bench.kernels.attention import attend, attend_cached
from dlm_bench.models.cache import AttentionCache, Window
from dlm_bench.models.config import ModelConfig


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of RoFormer's angles (arXiv 2104.09864), each (len, head_dim / 2)."""
    index = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[:, None] * 10000.0 ** (-index / head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (x_i, x_{i + head_dim/2}) of x (batch, heads, len, head_dim)."""
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)
    turned = (first * cos - second * sin, first * sin + second * cos)
    return torch.cat(turned, dim=-1).to(x.dtype)


class Attention(nn.Module):
    """The attention mixer: x (batch, len, d_model) to the same shape."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.causal = not config.denoiser
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        window: Window | None = None,
        cache: AttentionCache | None = None,
    ) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, len, head_dim)
        q, k = rotate(q, angles), rotate(k, angles)
        if cache is None or window is None:
            mixed = attend(q, k, v, causal=self.causal)
        else:
            cache.write(window.positions(), k, v)
            mixed = self._attend_window(q, window, cache)
        return self.out(mixed.transpose(1, 2).reshape(batch, length, width))

    def _attend_window(self, q: Tensor, window: Window, cache: AttentionCache) -> Tensor:
        if window.whole_context:
            return attend(q, cache.k, cache.v)
        parts, stop = [], 0
        for part, length in zip(q.split(window.segments, dim=2), window.segments, strict=True):
            stop += length
            parts.append(attend_cached(part, cache.k, cache.v, window.start + stop))
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
