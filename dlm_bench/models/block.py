"""One layer: mixer and MLP, each behind a LayerNorm, modulated by the timestep in a denoiser."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlm_bench.kernels.adaln import add_norm
from dlm_bench.kernels.choice import Kernels
from dlm_bench.models.attention import Attention
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import AttentionCache, Cache, MambaCache, Window
from dlm_bench.models.config import ModelConfig


@dataclass(frozen=True)
class Residual:
    """x + gate * branch, (batch, len, d_model), not added up yet: the next norm does that in the
    same kernel. x is float32; branch None stands for 0, gate None for 1."""

    x: Tensor
    branch: Tensor | None = None
    gate: Tensor | None = None


class Block(nn.Module):
    """A residual stream to the same (batch, len, d_model).

    In a denoiser `modulation` (batch, segments, 6 d_model) is shift, scale and gate for the mixer
    and for the MLP; the autoregressive blocks have none, and LayerNorms with weights instead.
    """

    def __init__(self, config: ModelConfig, layer: int, kernels: Kernels) -> None:
        super().__init__()
        width, hidden = config.d_model, config.mlp_ratio * config.d_model
        plain = not config.denoiser
        self.kernels = kernels
        self.norm1 = nn.LayerNorm(width, elementwise_affine=plain)
        mixer = Attention if config.is_attention(layer) else BiMamba
        self.mixer = mixer(config, kernels)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=plain)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(
        self,
        stream: Residual,
        modulation: Tensor | None,
        angles: tuple[Tensor, Tensor] | None,
        window: Window | None,
        cache: Cache | None,
    ) -> Residual:
        rows: tuple[Tensor | None, ...]
        if modulation is None:
            rows = (
                self.norm1.bias,
                self.norm1.weight,
                None,
                self.norm2.bias,
                self.norm2.weight,
                None,
            )
        else:
            rows = modulation.chunk(6, -1)
        shift1, scale1, gate1, shift2, scale2, gate2 = rows
        x, normed = normalise(stream, scale1, shift1, window, self.kernels)
        stream = Residual(x, self._mix(normed, angles, window, cache), gate1)
        x, normed = normalise(stream, scale2, shift2, window, self.kernels)
        return Residual(x, self._mlp(normed), gate2)

    def _mix(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        window: Window | None,
        cache: Cache | None,
    ) -> Tensor:
        if isinstance(self.mixer, Attention):
            assert angles is not None
            assert cache is None or isinstance(cache, AttentionCache)
            return self.mixer(x, angles, window, cache)
        assert cache is None or isinstance(cache, MambaCache)
        return self.mixer(x, window, cache)

    def _mlp(self, x: Tensor) -> Tensor:
        if self.kernels.mlp == "cublaslt":  # GELU in the matmul's epilogue; tanh's on a GPU
            flat = x.flatten(0, 1)
            hidden = torch._addmm_activation(self.up.bias, flat, self.up.weight.t(), use_gelu=True)
            return self.down(hidden).view_as(x)
        return self.down(F.gelu(self.up(x), approximate="tanh"))


def normalise(
    stream: Residual,
    scale: Tensor | None,
    shift: Tensor | None,
    window: Window | None,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    """The residual stream added up, and its LayerNorm scaled and shifted."""
    assert scale is not None
    assert shift is not None
    return add_norm(
        stream.x,
        stream.branch,
        stream.gate,
        scale,
        shift,
        window.segments if window is not None else (stream.x.shape[1],),
        unit_scale=scale.dim() > 1,  # else a LayerNorm's own weights
        backend=kernels.elementwise,
    )
