"""A Transformer as the field converts it: Llama's and Qwen's block with bidirectional attention.

    h  =  x + Attention(RMSNorm_1(x))
    y  =  h + Down(SiLU(Gate(RMSNorm_2(h))) * Up(RMSNorm_2(h)))

No timestep enters. A causal model of the same shape is the autoregressive twin.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dlm_bench.kernels.choice import REFERENCE, Kernels
from dlm_bench.kernels.forms import choose_add_rms_norm, choose_embed, choose_swiglu
from dlm_bench.kernels.linear import linear
from dlm_bench.kernels.rms_norm import AddRMSNorm
from dlm_bench.kernels.rotary import widened
from dlm_bench.models.attention import Attention
from dlm_bench.models.cache import AttentionCache, ShiftCache
from dlm_bench.models.own import own_passes
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.models.window import Window
from dlm_bench.models.yarn import config_angles


@dataclass
class Residual:
    """The residual stream x (batch, len, d_model) in float32, and the branch that is due: the
    fused form of the next norm adds it with x in its hands."""

    x: Tensor
    epsilon: float
    add_norm: AddRMSNorm
    branch: Tensor | None = None

    def norm(self, norm: nn.RMSNorm) -> Tensor:
        """Add the due branch and return RMSNorm(x)."""
        self.x, normed = self.add_norm(self.x, self.branch, norm.weight, self.epsilon)
        self.branch = None
        return normed


class TransformerBlock(nn.Module):
    """A layer; moves a residual stream on in place."""

    def __init__(self, config: TransformerConfig, kernels: Kernels) -> None:
        super().__init__()
        width = config.d_model
        self.norm1 = nn.RMSNorm(width, eps=config.norm_eps)
        self.mixer = Attention(config, kernels)
        self.norm2 = nn.RMSNorm(width, eps=config.norm_eps)
        self.gate_up = nn.Linear(width, 2 * config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, width, bias=False)
        self.swiglu = choose_swiglu(kernels.elementwise)

    def forward(
        self,
        x: Residual,
        angles: tuple[Tensor, Tensor],
        window: Window | None,
        cache: AttentionCache | None,
    ) -> None:
        x.branch = self.mixer(x.norm(self.norm1), angles, window, cache)
        packed = None if cache is None else cache.packed
        gate_up = linear(x.norm(self.norm2), self.gate_up.weight, packed=packed)
        x.branch = linear(self.swiglu(gate_up), self.down.weight, packed=packed)


class Transformer(nn.Module):
    """A backbone of the field, with the members of `dlm_bench.plugins.api.Model`.

    checkpoint: the digest of the weights' files, empty for random weights.
    """

    checkpoint: str = ""

    def __init__(self, config: TransformerConfig, kernels: Kernels = REFERENCE) -> None:
        super().__init__()
        self.config, self.kernels = config, kernels
        self.add_norm = choose_add_rms_norm(kernels.elementwise)
        self.embed = choose_embed(kernels.elementwise)
        width = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, width)
        self.blocks = nn.ModuleList(TransformerBlock(config, kernels) for _ in range(config.layers))
        self.final_norm = nn.RMSNorm(width, eps=config.norm_eps)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.tie()

    def tie(self) -> None:
        """Make the LM head the embedding, if the configuration says so."""
        if self.config.tied:
            self.head.weight = self.embedding.weight

    @property
    def supports(self) -> tuple[str, ...]:
        """The capabilities of the model (`dlm_bench.plugins.api.CAPABILITIES`)."""
        return own_passes(self.config.denoiser, token_shift=self.config.token_shift)

    def new_caches(
        self, batch: int, length: int, *, reverse_state: bool = False
    ) -> list[AttentionCache | ShiftCache]:
        """Empty caches on the model's device, in its dtype: one a layer, and with a token shift the
        hidden state in front of the window."""
        weight, config = self.head.weight, self.config
        angles = config_angles(config, length, weight.device)
        if self.kernels.elementwise == "torch":
            angles = widened(angles, config.head_dim)
        caches: list[AttentionCache | ShiftCache] = [
            AttentionCache(config, batch, length, weight.device, weight.dtype, angles)
            for _ in range(config.layers)
        ]
        if config.token_shift:
            caches.append(ShiftCache(batch, config.d_model, weight.device, weight.dtype))
        return caches

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Normal weights of gain 1 and zero biases: every layer counts, so that the untrained
        network's tokens depend on each other and on their positions."""
        for module in self.modules():
            if isinstance(module, nn.RMSNorm):
                module.weight.fill_(1)
            elif isinstance(module, nn.Linear) and module is not self.head:
                module.weight.normal_(std=module.in_features**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
        # A tied weight has the gain of the head; the first norm makes up for the embedding's.
        width = self.config.d_model
        self.head.weight.normal_(std=width**-0.5, generator=generator)
        if not self.config.tied:
            self.embedding.weight.normal_(generator=generator)

    def forward(
        self,
        tokens: Tensor,
        t: Tensor | None = None,
        window: Window | None = None,
        caches: list[AttentionCache | ShiftCache] | None = None,
    ) -> Tensor:
        """Run a pass: tokens (batch, len) int64 to the hidden states (batch, len, d_model) that
        predict them, in a window that is causal or ahead the tokens after them. `t`, which samplers
        tell every denoiser, is not used."""
        angles = self._angles(tokens, caches)
        x = Residual(self.embed(tokens, self.embedding.weight), self.config.norm_eps, self.add_norm)
        for layer, block in enumerate(self.blocks):
            block(x, angles, window, caches[layer] if caches else None)
        hidden = x.norm(self.final_norm)
        if not self.config.token_shift or (window is not None and window.causal):
            return hidden
        shifted = self._shifted(hidden, window, caches)
        return hidden if window is not None and window.ahead else shifted

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d_model) to (..., vocabulary). For short sequences and tests."""
        return self.head(hidden)

    def _angles(
        self, tokens: Tensor, caches: list[AttentionCache | ShiftCache] | None
    ) -> tuple[Tensor, Tensor]:
        """The rotary angles of every position."""
        if caches and isinstance(caches[0], AttentionCache):
            return caches[0].angles
        return config_angles(self.config, tokens.shape[1], tokens.device)

    def _shifted(
        self,
        hidden: Tensor,
        window: Window | None,
        caches: list[AttentionCache | ShiftCache] | None,
    ) -> Tensor:
        """The hidden state at i - 1 in the place of token i; the first token of all keeps its own.
        In front of a window stands the state that the last pass over that position left."""
        if window is None or caches is None:
            return torch.cat((hidden[:, :1], hidden[:, :-1]), dim=1)
        kept, before = caches[-1], hidden[:, :1]
        assert isinstance(kept, ShiftCache)
        if not window.first and window.edges is None:
            before = torch.where((window.start == 0).view(-1, 1, 1), before, kept.before(window))
        shifted = torch.cat((before, hidden[:, :-1]), dim=1)
        kept.update(hidden, shifted, window)
        return shifted
