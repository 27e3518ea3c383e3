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
    advance: the forward Mamba state moves on past the first segment (a commit), or past as many as
        `commits` says.
    sight: in a pass over a part of a block, the position after the block's last, (1,) int64: so far
        attention sees, and the rest of the block is read from the cache.
    inner: in a pass over a block, the position of the part that the next passes take alone, (1,)
        int64.
    first: the query is the first of the sequence (a prefill). Its tokens see each other, in a
        causal model those before them; nothing is read of the caches; the Mamba states are those
        after the last token.
    causal: attention sees the tokens up to the query token, as if each were a segment, and the
        hidden state of a token predicts the one after it (a denoiser's drafts verified).
    ahead: the hidden state of a token predicts the one after it, by the model's token shift.
    modulation: adaLN's rows at the pass's timesteps, (1, segments, columns), if they are known
        before the pass.
    """

    start: "Tensor"
    segments: tuple[int, ...]
    whole_context: bool = False
    edges: "tuple[Tensor, Tensor] | None" = None
    advance: bool = False
    commits: int = 1
    sight: "Tensor | None" = None
    inner: "Tensor | None" = None
    first: bool = False
    causal: bool = False
    ahead: bool = False
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
            flat, shape = at.flatten(), (*at.shape, 1, -1)
            rows = first.index_select(0, flat), second.index_select(0, flat)
            kept[first] = rows[0].view(shape), rows[1].view(shape)
        return kept[first]

    @property
    def committed(self) -> int:
        """The tokens of the segments that an `advance` moves past."""
        return sum(self.segments[: self.commits])

    @cached_property
    def seen_start(self) -> "Tensor":
        """The start of a query as long that would end where the sight ends, (1,) int64."""
        return self.start if self.sight is None else self.sight - sum(self.segments)

    @cached_property
    def host_seen_start(self) -> int:
        """`seen_start` on the host, which waits for the device: for a CPU."""
        return self.host_start if self.sight is None else int(self.seen_start)

    @cached_property
    def host_start(self) -> int:
        """`start` on the host, which waits for the device: for a CPU."""
        return int(self.start)

    @cached_property
    def _positions(self) -> "Tensor":
        import torch

        return self.start + torch.arange(sum(self.segments), device=self.start.device)


@dataclass(frozen=True)
class RowsWindow(Window):
    """The window of a pass in which each sequence of the batch is at a block of its own.

    start: (batch,), and so positions() (batch, query_len) and rows(...) (batch, query_len, 1,
        width).
    advances: (batch,) bool on the device, the sequences whose forward Mamba state moves on.
    lengths: (batch,) int64 on the device, the tokens of each block; None where all are of
        query_len. The tokens behind a shorter block are not there for the others, and what a pass
        gives for them has no meaning.
    """

    advances: "Tensor" = field(kw_only=True)
    lengths: "Tensor | None" = field(default=None, kw_only=True)

    @cached_property
    def present(self) -> "Tensor | None":
        """True for the tokens of the blocks, (batch, query_len); None if all are."""
        import torch

        if self.lengths is None:
            return None
        offsets = torch.arange(sum(self.segments), device=self.start.device)
        return offsets < self.lengths[:, None]

    def keys(self, length: int) -> "tuple[int, Tensor]":
        """The number of keys to read of a cache of `length` tokens, and True for those in sight,
        (batch, 1, 1, keys)."""
        import torch

        kept = self._keys_of
        if length not in kept:
            end = self.start + (sum(self.segments) if self.lengths is None else self.lengths)
            # A CPU reads no further than the furthest sequence; a GPU is not waited for.
            read = int(end.max()) if end.device.type == "cpu" else length
            places = torch.arange(read, device=end.device)
            kept[length] = read, (places < end[:, None])[:, None, None]
        return kept[length]

    @cached_property
    def seen_start(self) -> "Tensor":
        """The starts of queries as long that would end where each block ends, (batch,) int64."""
        if self.lengths is None:
            return self.start
        return self.start + self.lengths - sum(self.segments)

    @cached_property
    def _keys_of(self) -> "dict[int, tuple[int, Tensor]]":
        return {}

    @cached_property
    def _positions(self) -> "Tensor":
        import torch

        return self.start[:, None] + torch.arange(sum(self.segments), device=self.start.device)
