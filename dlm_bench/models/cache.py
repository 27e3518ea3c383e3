"""The caches of the layers between passes."""

from typing import Any

import torch
from torch import Tensor

from dlm_bench.kernels.linear import Packed
from dlm_bench.kernels.rotary import rotary_angles, widened
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.transformer_config import TransformerConfig
from dlm_bench.models.window import RowsWindow
from dlm_bench.models.window import Window as Window  # where plug-ins find it


class AttentionCache:
    """Keys (after rotary) and values of every position: (batch, kv_heads, length, head_dim).

    angles: the rotary embedding's of every position, `widened` or not, the same in all layers.
    rows: of adaLN by timestep and segments, in the first layer's cache, for all layers.
    packed: the layer's weights as the products of a CPU take them.
    head_norms: the weights of the layer's norms of q and k, if any, from its first pass.
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
        self.rows: dict[tuple[object, ...], Any] = {}
        self.packed = Packed()
        self.head_norms: Tensor | None = None
        self.filled = False

    def write(self, window: Window, k: Tensor, v: Tensor) -> None:
        """Store the keys and values of a window's tokens."""
        if isinstance(window, RowsWindow):
            places = window.positions()[:, None, :, None].expand_as(k)
            self.k.scatter_(2, places, k)
            self.v.scatter_(2, places, v)
        elif k.is_cpu:  # where nothing waits for the host to know the start
            self.k.narrow(2, window.host_start, k.shape[2]).copy_(k)
            self.v.narrow(2, window.host_start, k.shape[2]).copy_(v)
        else:
            self.k.index_copy_(2, window.positions(), k)
            self.v.index_copy_(2, window.positions(), v)

    def reset(self) -> None:
        """Nothing to do: a pass never reads a position before a write there."""

    def fill(self, generator: torch.Generator) -> None:
        """Fill with random keys and values, once, for the timing of a pass in mid-decode."""
        if not self.filled:
            self.k.normal_(generator=generator)
            self.v.normal_(generator=generator)
            self.filled = True


class ShiftCache:
    """The hidden state in front of the next window, (batch, 1, d_model): with a token shift this
    state predicts the window's first token. `inner` is that in front of a part of a block."""

    def __init__(self, batch: int, width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.hidden = torch.zeros((batch, 1, width), device=device, dtype=dtype)
        self.inner = torch.zeros_like(self.hidden)

    def before(self, window: Window) -> Tensor:
        """The hidden state in front of a window, which is not the sequence's first."""
        return self.hidden if window.sight is None else self.inner

    def update(self, hidden: Tensor, shifted: Tensor, window: Window) -> None:
        """Keep the hidden state of a pass, (batch, len, d_model), in front of the next window: at
        the block's start (a refresh), or at the end of the committed segment. `shifted` has at i
        the hidden state in front of token i."""
        if window.inner is not None:
            self.inner.copy_(shifted.index_select(1, window.inner - window.start))
        if window.edges is not None:
            before = (window.edges[0] - 1).clamp(min=0)
            self.hidden.copy_(hidden.index_select(1, before))
            return
        last = window.committed
        new = hidden[:, last - 1 : last]
        if isinstance(window, RowsWindow):
            new = torch.where(window.advances[:, None, None], new, self.hidden)
        if window.advance:
            self.hidden.copy_(new)

    def reset(self) -> None:
        """Nothing to do: the first token of a sequence has nothing in front."""

    def fill(self, generator: torch.Generator) -> None:
        """Fill with random hidden states, for the timing of a pass in mid-decode."""
        self.hidden.normal_(generator=generator)
        self.inner.normal_(generator=generator)


class MambaCache:
    """State (batch, heads, headdim, d_state) in float32 and conv tail of each direction.

    The forward ones belong to the block's start, the reverse ones (None where the reverse scan
    always starts anew, as in a block cache) to the block's end.

    stacked: the states in one tensor, (directions, batch, heads, headdim, d_state).
    rows: of adaLN by timestep and segments, in the first layer's cache, for all layers.
    packed: the layer's weights as the products of a CPU take them.
    prepared: the mixer's weights as its passes over few tokens read them, from the first of them.
    """

    prepared: Any = None

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        device: torch.device,
        dtype: torch.dtype,
        directions: int,
    ) -> None:
        state = (directions, batch, config.ssm_heads, config.headdim, config.d_state)
        tail = (batch, config.d_conv - 1, config.d_inner + 2 * config.d_state)
        self.rows: dict[tuple[object, ...], Any] = {}
        self.packed = Packed()
        self.stacked = torch.zeros(state, device=device)
        self.states = list(self.stacked.unbind())
        self.tails = [torch.zeros(tail, device=device, dtype=dtype) for _ in range(directions)]

    def advance(self, window: Window, state: Tensor, tail: Tensor) -> None:
        """Keep the forward state and tail after the first segment, if the window moves on."""
        if isinstance(window, RowsWindow):
            moves = window.advances
            state = torch.where(moves[:, None, None, None], state, self.states[0])
            tail = torch.where(moves[:, None, None], tail, self.tails[0])
        if window.advance:
            self.states[0].copy_(state)
            self.tails[0].copy_(tail)

    def reset(self) -> None:
        """The states before the first token: zeros."""
        for buffer in (*self.states, *self.tails):
            buffer.zero_()

    def fill(self, generator: torch.Generator) -> None:
        """Fill with random states and tails, for the timing of a pass in mid-decode."""
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
    wide_angles: bool = False,
) -> list[Cache]:
    """Return a cache for each layer, for a decode of `length` tokens.

    `reverse_state`: the reverse Mamba scans continue from a state too (Fast-dLLM's dual cache).
    `wide_angles`: the angles are `widened`, which PyTorch's form alone takes.
    """
    directions = 2 if reverse_state else 1
    angles = rotary_angles(torch.arange(length, device=device), config.head_dim)
    angles = widened(angles, config.head_dim) if wide_angles else angles
    return [
        AttentionCache(config, batch, length, device, dtype, angles)
        if config.is_attention(layer)
        else MambaCache(config, batch, device, dtype, directions)
        for layer in range(config.layers)
    ]
