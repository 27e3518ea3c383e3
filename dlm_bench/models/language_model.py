"""The whole network: embedding, timestep, blocks, final norm, and the LM head's weight."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlm_bench.kernels.adaln import AddNorm, add_norm_ready, ready_rows
from dlm_bench.kernels.choice import REFERENCE, Kernels
from dlm_bench.kernels.forms import choose_add_norm, choose_embed, choose_launch, fused
from dlm_bench.kernels.rotary import rotary_angles
from dlm_bench.models.bimamba import BiMamba
from dlm_bench.models.block import Block, Rows, Stream
from dlm_bench.models.cache import AttentionCache, Cache, new_caches
from dlm_bench.models.config import FREQUENCIES, ModelConfig
from dlm_bench.models.own import own_passes
from dlm_bench.models.window import RowsWindow, Window

KEPT = 64  # timesteps of which a block cache on a CPU keeps the adaLN rows; its decode has B/p + 1


SMALL = 64  # tokens of a pass, of all sequences, that has kernels of its own on a GPU
SmallPass = Callable[..., Tensor]


def choose_small_pass(kernels: Kernels) -> SmallPass | None:
    """Return the form of a pass over few tokens by a model's kernels; None is that of others."""
    if kernels.small_pass == "torch":
        return None
    from dlm_bench.models import small_pass  # needs Triton

    return choose_launch(kernels.small_pass)(small_pass.run)


class TimestepEmbedding(nn.Module):
    """t (batch, segments) in [0, 1] to (batch, segments, time_dim)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(FREQUENCIES, config.time_dim)
        self.down = nn.Linear(config.time_dim, config.time_dim)

    def forward(self, t: Tensor) -> Tensor:
        half = FREQUENCIES // 2
        index = torch.arange(half, device=t.device, dtype=torch.float32)
        # DiT's frequencies are made for t in [0, 1000].
        angles = 1000 * t.float()[..., None] * torch.exp(-math.log(10000) / half * index)
        waves = torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.up.weight.dtype)
        return self.down(F.silu(self.up(waves)))


class LanguageModel(nn.Module):
    """A backbone of the paper, denoiser or autoregressive: the latter is causal and takes no t.

    `model(tokens, t)` is a pass over a whole sequence; with a `window` and `caches`, over a part
    (see `dlm_bench.models.window`). Both return hidden states for the LM head, (batch, len,
    d_model); logits are left to the caller, because in a long decode (len, vocabulary) of them
    must never exist at once.

    checkpoint: the digest of the weights' file, empty for random weights.
    """

    checkpoint: str = ""

    def __init__(self, config: ModelConfig, kernels: Kernels = REFERENCE) -> None:
        super().__init__()
        self.config, self.kernels = config, kernels
        self.add_norm = choose_add_norm(kernels.elementwise)
        self.embed = choose_embed(kernels.elementwise)
        self.small_pass = choose_small_pass(kernels)
        width = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.blocks = nn.ModuleList(Block(config, layer, kernels) for layer in range(config.layers))
        self.final_norm = nn.LayerNorm(width, elementwise_affine=not config.denoiser)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        if config.denoiser:
            self.time_embedding = TimestepEmbedding(config)
            # adaLN of all layers in one matmul: 6 vectors each, then the final shift and scale.
            self.adaln = nn.Linear(config.time_dim, (6 * config.layers + 2) * width)

    def use_small_pass(self, name: str) -> None:
        """Take this implementation of `small_pass` from now on."""
        self.kernels = replace(self.kernels, small_pass=name)
        self.small_pass = choose_small_pass(self.kernels)

    @property
    def supports(self) -> tuple[str, ...]:
        """The capabilities of the model (`dlm_bench.plugins.api.CAPABILITIES`)."""
        return own_passes(self.config.denoiser, self.config.attention_every == 1)

    def new_caches(self, batch: int, length: int, *, reverse_state: bool = False) -> list[Cache]:
        """Return empty caches on the model's device, in the model's dtype."""
        weight = self.head.weight
        return new_caches(
            self.config,
            batch,
            length,
            weight.device,
            weight.dtype,
            reverse_state=reverse_state,
            wide_angles=self.kernels.elementwise == "torch",
        )

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Normal weights of gain 1, zero biases, gates around 1: every layer counts, so that the
        untrained network's tokens depend on each other and on their positions."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                module.weight.normal_(generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(std=module.in_features**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
                module.weight.fill_(1)
                module.bias.zero_()
            elif isinstance(module, BiMamba):
                module.init_weights(generator)
        if self.config.denoiser:
            layers = self.adaln.bias[: 6 * self.config.layers * self.config.d_model]
            layers.view(self.config.layers, 6, -1)[:, [2, 5]] = 1

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        window: Window | None = None,
        caches: list[Cache] | None = None,
    ) -> Tensor:
        """Run a pass.

        tokens (batch, len) int64; t the masked fraction, (batch, segments) or (batch, 1), None in
        an autoregressive model. Returns (batch, len, d_model).
        """
        angles = self._angles(tokens, caches)
        segments = window.segments if window is not None else (tokens.shape[1],)
        if t is not None and self._takes_ready_rows(t):
            add_norm: AddNorm = partial(add_norm_ready, dtype=self.head.weight.dtype)
            # Fast-dLLM's t, the masked fraction of the whole sequence, never comes back in a
            # decode, nor need those of several blocks under way: kept rows would make a pass that
            # is timed again faster than one of a decode.
            of_block = window is not None and not window.whole_context and len(segments) <= 2
            if caches and of_block:
                modulations = self._kept_rows(t, segments, caches[0])
            else:
                modulations = self._ready_rows(t, segments)
        else:
            ready = None if window is None else window.modulation
            modulations, add_norm = self._modulations(t, ready), self.add_norm
        if window is not None and caches and self._is_small(tokens, window):
            assert self.small_pass is not None
            return self.small_pass(self, tokens, modulations, angles, window, caches)
        x = Stream(self.embed(tokens, self.embedding.weight), segments, add_norm)
        for layer, block in enumerate(self.blocks):
            block(x, modulations[layer], angles, window, caches[layer] if caches else None)
        final = modulations[-1] or (self.final_norm.bias, self.final_norm.weight)
        return x.adaln(*final)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d_model) to (..., vocabulary). For short sequences and tests."""
        return self.head(hidden)

    def _angles(self, tokens: Tensor, caches: list[Cache] | None) -> tuple[Tensor, Tensor] | None:
        """The rotary angles of every position, None if no layer turns anything."""
        if not self.config.attention_every:
            return None
        for cache in caches or ():
            if isinstance(cache, AttentionCache):
                return cache.angles
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        return rotary_angles(positions, self.config.head_dim)

    def _takes_ready_rows(self, t: Tensor) -> bool:
        """Tell if a pass takes `ready_rows`: on a CPU, with one timestep for all sequences."""
        plain = self.kernels.elementwise == "torch" and not torch.is_grad_enabled()
        return plain and t.device.type == "cpu" and t.shape[0] == 1

    def _is_small(self, tokens: Tensor, window: Window) -> bool:
        """Tell if a pass continues from the caches with few enough tokens for its own kernels,
        which take two segments at most."""
        alike = not isinstance(window, RowsWindow) and len(window.segments) <= 2
        continues = not window.first and window.edges is None and alike
        return self.small_pass is not None and continues and tokens.numel() <= SMALL

    def _kept_rows(self, t: Tensor, segments: tuple[int, ...], cache: Cache) -> list[Rows | None]:
        """Return `_ready_rows`; the first layer's cache keeps those of the last KEPT timesteps."""
        key, kept = (*t.flatten().tolist(), segments), cache.rows
        if key not in kept:
            if len(kept) == KEPT:
                kept.pop(next(iter(kept)))
            kept[key] = self._ready_rows(t, segments)
        return kept[key]

    def _ready_rows(self, t: Tensor, segments: tuple[int, ...]) -> list[Rows | None]:
        """Return `_modulations` made ready for `add_norm_ready`."""
        rows = self.modulation(t)[0].unflatten(-1, (-1, self.config.d_model))
        vectors = ready_rows(rows, segments)
        return [vectors[first : first + 6] for first in range(0, len(vectors), 6)]

    def modulation(self, t: Tensor) -> Tensor:
        """Compute adaLN's rows of all layers at some timesteps, (..., columns) of t (...)."""
        time = self.time_embedding
        if self.kernels.elementwise == "torch":
            hidden = F.silu(time(t))
        else:
            hidden = fused().embed_timestep(
                t, time.up.weight, time.up.bias, time.down.weight, time.down.bias
            )
        rows: Tensor = self.adaln(hidden)
        return rows

    def _modulations(self, t: Tensor | None, ready: Tensor | None = None) -> list[Rows | None]:
        """Shift, scale and gate of a layer's mixer and of its MLP, (batch, segments, d_model) each,
        for every layer; then the final shift and scale. `ready`: what `modulation` computes."""
        config = self.config
        if not config.denoiser:
            return [None] * (config.layers + 1)
        if t is None:
            raise TypeError("a denoiser's pass needs t, the masked fraction")
        widths = [6 * config.d_model] * config.layers + [2 * config.d_model]
        every = (self.modulation(t) if ready is None else ready).split(widths, dim=-1)
        return [rows.split(config.d_model, dim=-1) for rows in every]
