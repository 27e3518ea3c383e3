"""The caches of the layers between passes, and the window of a pass relative to them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from dlm_bench.kernels.rotary import rotary_angles
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.transformer_config import TransformerConfig


@dataclass(frozen=True)
class Window:
    """The position of the query tokens of a cached pass, their sight and their traces.

    start: (1,) int64 on the device, the position of the first query token.
    segments: lengths of the consecutive parts of the query. A part's tokens see each other both
        ways and the parts before them; its reverse Mamba scan starts anew at its end.
    whole_context: attention sees the whole sequence in the cache (Fast-dLLM), else only up to the
        end of its own segment (block cache, AR).
    edges: in a refresh (a pass over the whole sequence that fills every cache), the block's first
        position and the position after its last, (1,) int64 each: where the Mamba states are kept.
    advance: the forward Mamba state moves on past the first segment (a commit).
    first: the query is the first of the sequence (a prefill). Its tokens see each other, in a
        causal model those before them; nothing is read of the caches; the Mamba states are those
        after its last token.
    """

    start: Tensor
    segments: tuple[int, ...]
    whole_context: bool = False
    edges: tuple[Tensor, Tensor] | None = None
    advance: bool = False
    first: bool = False

    def positions(self) -> Tensor:
        """Positions of the query tokens, (query_len,) int64."""
        return self.start + torch.arange(sum(self.segments), device=self.start.device)


class AttentionCache:
    """Keys (after rotary) and values of every position: (batch, kv_heads, length, head_dim).

    `angles` are the rotary embedding's of every position, the same in all layers.
    """

    def __init__(
        self,
        config: ModelConfig | TransformerConfig,
        batch: int,
        length: int,
        device: torch.device,
        dtype: torch.dtype,
        angles: tuple[Tensor, Tensor],
    ) -> None:
        shape = (batch, config.kv_heads, length, config.head_dim)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.angles = angles
        self.filled = False

    def write(self, positions: Tensor, k: Tensor, v: Tensor) -> None:
        """Store the keys and values of these positions."""
        self.k.index_copy_(2, positions, k)
        self.v.index_copy_(2, positions, v)

    def reset(self) -> None:
        """Nothing to do: a pass never reads a position that was not written before it."""

    def fill(self, generator: torch.Generator) -> None:
        """Random keys and values, once: what a pass in mid-decode is timed on."""
        if not self.filled:
            self.k.normal_(generator=generator)
            self.v.normal_(generator=generator)
            self.filled = True


class ShiftCache:
    """The hidden state in front of the next window, (batch, 1, d_model): with a token shift it
    predicts the window's first token."""

    def __init__(self, batch: int, width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.hidden = torch.zeros((batch, 1, width), device=device, dtype=dtype)

    def update(self, hidden: Tensor, window: Window) -> None:
        """Keep the hidden state of a pass, (batch, len, d_model), in front of the next window: at
        the block's start (a refresh), or at the end of the segment that is committed."""
        if window.edges is not None:
            before = (window.edges[0] - 1).clamp(min=0)
            self.hidden.copy_(hidden.index_select(1, before))
        elif window.advance:
            last = window.segments[0] - 1
            self.hidden.copy_(hidden[:, last : last + 1])

    def reset(self) -> None:
        """Nothing to do: the first token of a sequence has nothing in front."""

    def fill(self, generator: torch.Generator) -> None:
        """A random hidden state: what a pass in mid-decode is timed on."""
        self.hidden.normal_(generator=generator)


class MambaCache:
    """State (batch, heads, headdim, d_state) in float32 and conv tail of each direction.

    The forward ones belong to the block's start, the reverse ones (None where the reverse scan
    always starts anew, as in a block cache) to its end.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
        directions: int,
    ) -> None:
        state = (batch, config.ssm_heads, config.headdim, config.d_state)
        tail = (batch, config.d_conv - 1, config.d_inner + 2 * config.d_state)
        self.states = [torch.zeros(state, device=device) for _ in range(directions)]
        self.tails = [torch.zeros(tail, device=device, dtype=dtype) for _ in range(directions)]

    def reset(self) -> None:
        """The states before the first token: zeros."""
        for buffer in (*self.states, *self.tails):
            buffer.zero_()

    def fill(self, generator: torch.Generator) -> None:
        """Random states and tails: what a pass in mid-decode is timed on."""
        for buffer in (*self.states, *self.tails):
            buffer.normal_(generator=generator)


Cache = AttentionCache | MambaCache


def new_caches(
    config: ModelConfig,
    batch: int,
    length: int,
    device: torch.device,
    dtype: torch.dtype,
    *,
    reverse_state: bool = False,
) -> list[Cache]:
    """One cache a layer, for a decode of `length` tokens.

    `reverse_state`: the reverse Mamba scans continue from a state too (Fast-dLLM's dual cache).
    """
    directions = 2 if reverse_state else 1
    angles = rotary_angles(torch.arange(length, device=device), config.head_dim)
    return [
        AttentionCache(config, batch, length, device, dtype, angles)
        if config.is_attention(layer)
        else MambaCache(config, batch, device, dtype, directions)
        for layer in range(config.layers)
    ]
