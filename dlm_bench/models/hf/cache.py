"""The cache of keys and values of a causal model of `transformers`."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, StaticLayer


class Layer(StaticLayer):
    """The keys and values of a layer, in static buffers.

    first: the pass under way is the first, and attends to own tokens alone. The model then need
    not read the position on the device, nor mask the rest of the buffers.
    """

    first = False

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write these keys and values; return those to attend to."""
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        return (key_states, value_states) if self.first else (keys, values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of keys of a pass, and the position of the first key."""
        return (query_length, 0) if self.first else super().get_mask_sizes(query_length)

    def get_seq_length(self) -> Any:
        """Number of tokens before the pass, on the device unless the pass is the first."""
        return 0 if self.first else super().get_seq_length()


class KeyValueCache:
    """The keys and values of all layers; where the next token goes is on the device."""

    def __init__(self, layers: int, length: int) -> None:
        self.layers: list[Any] = [Layer(max_cache_len=length) for _ in range(layers)]
        self.cache = Cache(layers=self.layers)
        self.filled = False

    def start_at(self, position: Tensor, first: bool) -> None:
        """The next pass begins at `position`, (1,) int64 on the device; `first` says that this is
        the first token's."""
        for layer in self.layers:
            layer.first = first
            layer.cumulative_length.copy_(position[0])

    def reset(self) -> None:
        """Nothing to do: a pass never reads a position before a write there."""

    def fill(self, generator: torch.Generator) -> None:
        """Fill with random keys and values, once, for the timing of a pass in mid-decode."""
        if not self.filled:
            for layer in self.layers:
                layer.keys.normal_(generator=generator)
                layer.values.normal_(generator=generator)
            self.filled = True
