"""The window of a cached pass: the place of the query tokens, and their sight.

Samplers make windows, and import no torch before they decode.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The position of the query tokens of a cached pass, their sight and their traces.

    start: (1,) int64 on the device, the position of the first query token.
    segments: lengths of the consecutive parts of the query. A part's tokens see each other both
        ways and the parts before them; the reverse Mamba scan starts anew at the part's end.
    whole_context: attention sees the whole sequence in the cache (Fast-dLLM), else only up to the
        end of the token's own segment (block cache, AR).
    edges: in a refresh (a pass over the whole sequence that fills every cache), the block's first
        position and the position after the last, (1,) int64 each: where the Mamba states are kept.
    advance: the forward Mamba state moves on past the first segment (a commit).
    sight: in a pass over a part of a block, the position after the block's last, (1,) int64: so far
        attention sees, and the rest of the block is read from the cache.
    inner: in a pass over a block, the position of the part that the next passes take alone, (1,)
        int64.
    first: the query is the first of the sequence (a prefill). Its tokens see each other, in a
        causal model those before them; nothing is read of the caches; the Mamba states are those
        after the last token.
    causal: attention sees the tokens up to the query token, as if each were a segment, and the
        hidden state of a token predicts the one after it (a denoiser's drafts verified).
    modulation: adaLN's rows at the pass's timesteps, (1, segments, columns), if they are known
        before the pass.
    """

    start: "Tensor"
    segments: tuple[int, ...]
    whole_context: bool = False
    edges: "tuple[Tensor, Tensor] | None" = None
    advance: bool = False
    sight: "Tensor | None" = None
    inner: "Tensor | None" = None
    first: bool = False
    causal: bool = False
    modulation: "Tensor | None" = None
    _rows_of: "dict[Tensor, tuple[Tensor, Tensor]]" = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def positions(self) -> "Tensor":
        """Positions of the query tokens, (query_len,) int64; the same tensor at every call."""
        return self._positions

    def rows(self, table: "tuple[Tensor, Tensor]") -> "tuple[Tensor, Tensor]":
        """The rows of two tables (length, width) at the positions of the query tokens, each
        (query_len, 1, width): gathered once a pass, for all layers with these tables."""
        kept, (first, second) = self._rows_of, table
        if first not in kept:
            at = self._positions
            kept[first] = first.index_select(0, at)[:, None], second.index_select(0, at)[:, None]
        return kept[first]

    @cached_property
    def seen_start(self) -> "Tensor":
        """The start of a query as long that would end where the sight ends, (1,) int64."""
        return self.start if self.sight is None else self.sight - sum(self.segments)

    @cached_property
    def host_seen_start(self) -> int:
        """`seen_start` on the host, which waits for the device: for a CPU."""
        return int(self.seen_start)

    @cached_property
    def _positions(self) -> "Tensor":
        import torch

        return self.start + torch.arange(sum(self.segments), device=self.start.device)
