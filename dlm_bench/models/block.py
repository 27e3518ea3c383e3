"""A layer (arXiv 2511.15927, Eq. 10-12): mixer and MLP, each behind adaLN and with a residual.

    adaLN(x)  =  (1 + scale) * LayerNorm(x) + shift            (10)
    h         =  x + gate_1 * Mixer(adaLN_1(x))                (11)
    y         =  h + gate_2 * MLP(adaLN_2(h))                  (12)

Shift, scale and gate are linear functions of the timestep's embedding, a row each for the mixer and
for the MLP. An autoregressive block has none: the LayerNorms have weights, the gates are 1.
"""

import torch
from torch import Tensor, nn

from dlm_bench.kernels.adaln import AddNorm
from dlm_bench.kernels.choice import Kernels
from dlm_bench.kernels.linear import Packed, linear, linear_gelu
from dlm_bench.models.attention import Attention
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.cache import AttentionCache, Cache, MambaCache
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.window import Window

Rows = tuple[Tensor, ...]  # shift, scale and gate of an adaLN, or of several


class Stream:
    """The residual stream x (batch, len, d_model) in float32.

    The next adaLN adds a finished branch, with x in its hands: the
    fused form reads and writes x once for both (Add -> LayerNorm -> Mixer, as in mamba's Block).
    """

    def __init__(self, x: Tensor, segments: tuple[int, ...], add_norm: AddNorm) -> None:
        self.x, self.segments, self.add_norm = x, segments, add_norm
        self.branch: Tensor | None = None
        self.gate: Tensor | None = None

    def adaln(self, shift: Tensor, scale: Tensor) -> Tensor:
        """Add the due branch and return adaLN(x), Eq. 10, in the dtype of `scale`.

        shift and scale: (batch, segments, d_model) of the timestep, or a LayerNorm's own bias and
        weight (d_model,), without the added 1.
        """
        self.x, normed = self.add_norm(
            self.x,
            self.branch,
            self.gate,
            scale,
            shift,
            self.segments,
            unit_scale=scale.dim() > 1,
        )
        self.branch = self.gate = None
        return normed

    def add(self, branch: Tensor, gate: Tensor | None) -> None:
        """Make x + gate * branch due; gate None stands for 1."""
        self.branch, self.gate = branch, gate


class Block(nn.Module):
    """A layer; moves a residual stream on in place.

    In a denoiser `modulation` is shift, scale and gate for the mixer and for the MLP, (batch,
    segments, d_model) each; the autoregressive blocks have None.
    """

    def __init__(self, config: ModelConfig, layer: int, kernels: Kernels) -> None:
        super().__init__()
        width, hidden = config.d_model, config.mlp_ratio * config.d_model
        plain = not config.denoiser
        self.norm1 = nn.LayerNorm(width, elementwise_affine=plain)
        mixer = Attention if config.is_attention(layer) else BiMamba
        self.mixer = mixer(config, kernels)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=plain)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        self.mlp = mlp_fused if kernels.mlp == "cublaslt" else mlp

    def forward(
        self,
        x: Stream,
        modulation: Rows | None,
        angles: tuple[Tensor, Tensor] | None,
        window: Window | None,
        cache: Cache | None,
    ) -> None:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(modulation)
        x.add(self._mix(x.adaln(shift1, scale1), angles, window, cache), gate1)  # Eq. 11
        packed = None if cache is None else cache.packed
        x.add(self.mlp(self.up, self.down, x.adaln(shift2, scale2), packed), gate2)  # Eq. 12

    def modulation(
        self, modulation: Rows | None
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor, Tensor | None]:
        """Shift, scale and gate of the mixer and of the MLP."""
        if modulation is not None:
            shift1, scale1, gate1, shift2, scale2, gate2 = modulation
            return shift1, scale1, gate1, shift2, scale2, gate2
        one, two = self.norm1, self.norm2
        return one.bias, one.weight, None, two.bias, two.weight, None

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


def mlp(up: nn.Linear, down: nn.Linear, x: Tensor, packed: Packed | None = None) -> Tensor:
    """Run the MLP in the plain form, (batch, len, d_model) to the same."""
    hidden = linear_gelu(x.view(-1, x.shape[-1]), up.weight, up.bias, packed)
    return linear(hidden, down.weight, down.bias, packed).view(x.shape)


def mlp_fused(up: nn.Linear, down: nn.Linear, x: Tensor, packed: Packed | None = None) -> Tensor:
    """Run the MLP with the GELU in the epilogue of the first matmul; tanh's on a GPU."""
    flat = x.flatten(0, 1)
    hidden = torch._addmm_activation(up.bias, flat, up.weight.t(), use_gelu=True)
    return down(hidden).view_as(x)
