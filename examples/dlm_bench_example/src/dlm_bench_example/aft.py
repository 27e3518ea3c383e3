"""The Attention Free Transformer (AFT-simple, arXiv 2105.14103) as a denoiser.

A token sees the others through two sums over them, so that a pass is linear in the length and a
cache does not grow with it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlm_bench.kernels.choice import UnmaskKernels
from dlm_bench.models.cache import Window
from dlm_bench.plugins.api import BackbonePlugin

SUPPORTS = ("full", "block-cache", "prefill")
DIMENSIONS = {"tiny": (2, 64, 258), "small": (4, 128, 2050)}  # layers, d_model, vocabulary


@dataclass(frozen=True)
class Config:
    """What records keep of the model; MASK is the last id, and the one before begins a text."""

    backbone: str
    size: str
    layers: int
    d_model: int
    vocab_size: int
    mask_id: int
    bos_id: int


class Sums:
    """What a layer keeps of the tokens before a block: the sum of exp(k) v, and of exp(k)."""

    def __init__(self, batch: int, width: int, device: torch.device) -> None:
        self.values = torch.zeros(batch, 1, width, device=device)
        self.weights = torch.zeros(batch, 1, width, device=device)

    def reset(self) -> None:
        """Before the first token nothing is summed."""
        self.values.zero_()
        self.weights.zero_()

    def fill(self, generator: torch.Generator) -> None:
        """As if some tokens had been summed; their weights are positive."""
        self.values.normal_(generator=generator)
        self.weights.uniform_(1, 2, generator=generator)


class Layer(nn.Module):
    """The mixer, y_i = sigmoid(q_i) * sum_j exp(k_j) v_j / sum_j exp(k_j), and an MLP."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, window: Window | None, sums: Sums | None) -> Tensor:
        x = x + self.out(self._mix(self.norm1(x), window, sums))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def _mix(self, x: Tensor, window: Window | None, sums: Sums | None) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (batch, len, d_model) each
        weights = k.float().exp()  # of normalised inputs, so that it does not overflow
        values = weights * v.float()
        segments = (x.shape[1],) if window is None else window.segments
        seen_values = 0.0 if sums is None else sums.values
        seen_weights = 0.0 if sums is None else sums.weights
        means = []
        for i, (value, weight) in enumerate(
            zip(values.split(segments, dim=1), weights.split(segments, dim=1), strict=True)
        ):
            seen_values = seen_values + value.sum(dim=1, keepdim=True)
            seen_weights = seen_weights + weight.sum(dim=1, keepdim=True)
            means.append((seen_values / seen_weights).expand_as(value))
            if i == 0 and window is not None and window.advance:
                after = seen_values, seen_weights
        if window is not None and sums is not None and window.advance:
            sums.values.copy_(after[0])
            sums.weights.copy_(after[1])
        return torch.sigmoid(q) * torch.cat(means, dim=1).to(q.dtype)


class Denoiser(nn.Module):
    """Embeddings of token, place and time, the layers, and a norm."""

    kernels = UnmaskKernels()
    checkpoint = ""
    supports = SUPPORTS

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.time = nn.Linear(config.d_model, config.d_model)
        self.layers = nn.ModuleList(Layer(config.d_model) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)

    def forward(
        self,
        tokens: Tensor,
        t: Tensor,
        window: Window | None = None,
        caches: list[Sums] | None = None,
    ) -> Tensor:
        length = tokens.shape[1]
        places = torch.arange(length, device=tokens.device)
        if window is not None:
            places = window.positions()
        segments = (length,) if window is None else window.segments
        times = self.time(self._waves(1000 * t))  # (batch or 1, segments, d_model)
        each = [time.expand(-1, n, -1) for time, n in zip(times.split(1, 1), segments, strict=True)]
        x = self.embedding(tokens) + self._waves(places)[None] + torch.cat(each, dim=1)
        for i, layer in enumerate(self.layers):
            x = layer(x, window, None if caches is None else caches[i])
        return self.norm(x)

    def new_caches(self, batch: int, length: int, *, reverse_state: bool = False) -> list[Sums]:
        """A pair of sums for each layer, whatever the length."""
        device = self.head.weight.device
        return [Sums(batch, self.config.d_model, device) for _ in self.layers]

    def _waves(self, x: Tensor) -> Tensor:
        """(...,) to sines and cosines of it, (..., d_model)."""
        half = self.config.d_model // 2
        rates = 10000 ** -(torch.arange(half, device=x.device) / half)
        angles = x.float()[..., None] * rates
        return torch.cat((angles.sin(), angles.cos()), dim=-1).to(self.head.weight.dtype)


def build(size: str, device: torch.device, dtype: torch.dtype, seed: int) -> Denoiser:
    """The model with random weights."""
    layers, d_model, vocabulary = DIMENSIONS[size]
    config = Config("aft", size, layers, d_model, vocabulary, vocabulary - 1, vocabulary - 2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Denoiser(config)
    return model.to(device, dtype)


AFT = BackbonePlugin(build=build, sizes=tuple(DIMENSIONS), supports=SUPPORTS)
