"""One layer: mixer and MLP, each behind a LayerNorm, modulated by the timestep in a denoiser."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlm_bench.models.attention import Attention
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import AttentionCache, Cache, MambaCache, Window
from dlm_bench.models.config import ModelConfig


def per_token(modulation: Tensor, segments: tuple[int, ...]) -> Tensor:
    """(batch, segments, width) to what broadcasts over the tokens of these segments."""
    if len(segments) == 1:
        return modulation
    parts = [modulation[:, i : i + 1].expand(-1, n, -1) for i, n in enumerate(segments)]
    return torch.cat(parts, dim=1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """adaLN's affine step (DiT, arXiv 2212.09748)."""
    return torch.addcmul(shift, x, 1 + scale)


class Block(nn.Module):
    """x (batch, len, d_model) to the same shape.

    In a denoiser `modulation` (batch, segments, 6 d_model) is shift, scale and gate for the mixer
    and for the MLP; the autoregressive blocks have none, and LayerNorms with weights instead.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        width, hidden = config.d_model, config.mlp_ratio * config.d_model
        plain = not config.denoiser
        self.norm1 = nn.LayerNorm(width, elementwise_affine=plain)
        self.mixer = Attention(config) if config.is_attention(layer) else BiMamba(config)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=plain)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        modulation: Tensor | None,
        window: Window | None,
        cache: Cache | None,
    ) -> Tensor:
        if modulation is None:
            x = x + self._mix(self.norm1(x), angles, window, cache)
            return x + self._mlp(self.norm2(x))
        segments = window.segments if window is not None else (x.shape[1],)
        shift1, scale1, gate1, shift2, scale2, gate2 = per_token(modulation, segments).chunk(6, -1)
        mixed = self._mix(modulate(self.norm1(x), shift1, scale1), angles, window, cache)
        x = torch.addcmul(x, gate1, mixed)
        return torch.addcmul(x, gate2, self._mlp(modulate(self.norm2(x), shift2, scale2)))

    def _mix(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        window: Window | None,
        cache: Cache | None,
    ) -> Tensor:
        if isinstance(self.mixer, Attention):
            assert cache is None or isinstance(cache, AttentionCache)
            return self.mixer(x, angles, window, cache)
        assert cache is None or isinstance(cache, MambaCache)
        return self.mixer(x, window, cache)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))
