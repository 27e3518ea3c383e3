"""The DiffuMamba mixer over many tokens on a CPU (Eq. 4-6, plain in `bimamba`).

Both directions go through one set of calls, each in its own scan order: the forward one takes the
sequence from its start and the reverse one from its end, a span of both at a time. Spans consist of
whole chunks. Rows of zeros with dt = 0, which leave a state as it is, fill the last chunk; in front
of a sequence they shift the chunks, so that a state to be kept lies between two of them.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.conv import conv_silu
from dlm_bench.kernels.linear import linear
from dlm_bench.kernels.norm import gated_rms_norm
from dlm_bench.kernels.ssd import CHUNK, scan_chunks
from dlm_bench.kernels.wide import wide
from dlm_bench.models.cache import MambaCache
from dlm_bench.models.window import Window

if TYPE_CHECKING:
    from dlm_bench.models.bimamba import BiMamba

SPAN = 1024  # tokens of a direction at a time: the wide buffers stay flat in the length


class Edge(NamedTuple):
    """What a scan starts from or leaves, of one direction.

    state: (batch, d_state, heads * headdim) in float32.
    tail: the convolution's inputs before it in scan order, (batch, d_conv - 1, channels).
    """

    state: Tensor
    tail: Tensor


def sequence(mixer: "BiMamba", x: Tensor) -> Tensor:
    """A whole sequence from zero states; see BiMamba._sequence."""
    if _needs_gradient(mixer, x):
        return mixer._sequence(x)
    return _mix(mixer, x)[0]


def refresh(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """The whole sequence anew, keeping the states at the block's edges; see BiMamba._refresh."""
    assert window.edges is not None
    start, stop = map(int, window.edges)
    y, left = _mix(mixer, x, at=(start, x.shape[1] - stop)[: len(cache.states)])
    _keep(cache, left)
    return y


def prefill(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """The first tokens of a sequence; see BiMamba._prefill."""
    y, left = _mix(mixer, x)
    _keep(cache, left[:1])
    return y


def continued(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """Segment by segment from the cached states; see BiMamba._continue."""
    if _needs_gradient(mixer, x):
        return mixer._continue(x, window, cache)
    start = [_edge(*each) for each in zip(cache.states, cache.tails, strict=True)]
    forward, outs = start[0], []
    for part, segment in enumerate(x.split(window.segments, dim=1)):
        y, left = _mix(mixer, segment, (forward, *start[1:]))
        forward = left[0]
        if part == window.commits - 1 and window.advance:
            _keep(cache, left[:1])
        outs.append(y)
    return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]


def _needs_gradient(mixer: "BiMamba", x: Tensor) -> bool:
    """Tell if a gradient is wanted, which buffers written in place have not."""
    wanted = x.requires_grad or any(weight.requires_grad for weight in mixer.parameters())
    return wanted and torch.is_grad_enabled()


def _mix(
    mixer: "BiMamba", x: Tensor, start: tuple[Edge, ...] = (), at: tuple[int, ...] = ()
) -> tuple[Tensor, list[Edge]]:
    """Mix a sequence from the given edges of the first directions, zeros in the others.

    Returns the output and what each direction leaves after its first `at` tokens, the forward one
    first; after all tokens where `at` says nothing.
    """
    batch, length, _ = x.shape
    directions = mixer.directions
    at = (*at, *[length] * (directions - len(at)))
    lead = [-kept % CHUNK if kept < length else 0 for kept in at]
    total = -(-(max(lead) + length) // CHUNK) * CHUNK
    state = x.new_zeros((directions, batch, mixer.d_state, mixer.d_inner), dtype=torch.float32)
    for direction, edge in enumerate(start):
        state[direction] = edge.state
    state = state.flatten(0, 1)
    out = torch.zeros_like(x)
    left: list[Edge | None] = [None] * directions
    for low in range(0, total, SPAN):
        high = min(low + SPAN, total)
        places = [(low - first, high - first) for first in lead]  # of tokens, in scan order
        tails = [edge.tail for edge in start] if low == 0 else []
        y, xbc, before, state = _scan_span(mixer, x, places, state, tails)
        for direction, (a, b) in enumerate(places):
            if a <= at[direction] <= b:
                left[direction] = _left(mixer, direction, at[direction] - a, xbc, before, state)
            tokens = slice(max(a, 0), min(b, length))
            part = y[direction][:, tokens.start - a : tokens.stop - a]
            if direction == 1:
                tokens, part = slice(length - tokens.stop, length - tokens.start), part.flip(1)
            out[:, tokens].add_(part)
    return out, [edge for edge in left if edge is not None]


def _scan_span(
    mixer: "BiMamba",
    x: Tensor,
    places: list[tuple[int, int]],
    state: Tensor,
    tails: list[Tensor],
) -> tuple[list[Tensor], tuple[Tensor, ...], Tensor, Tensor]:
    """Mix the tokens of each direction's place, from (directions * batch, ...) states.

    Returns the outputs (batch, len, d_model) and the convolution's inputs with those of the tokens
    in front, of each direction; the states before each chunk, and the state after the last.
    """
    directions, batch, length = mixer.directions, x.shape[0], places[0][1] - places[0][0]
    inner, reach, heads = mixer.d_inner, mixer.reach, mixer.heads
    # The tokens in front are projected again: cheaper than a copy that puts them there.
    projected = [
        _project(mixer, _rows(x, a - reach, b, direction), direction)
        for direction, (a, b) in enumerate(places)
    ]
    z, xbc, dt = zip(*projected, strict=True)
    for padded, tail in zip(xbc, tails, strict=False):
        padded[:, :reach] = tail

    channels = inner + 2 * mixer.d_state
    mixed = x.new_empty(directions, batch, length, channels, dtype=torch.float32)
    for i, padded in enumerate(xbc):
        conv_silu(padded, mixer.conv_weight[i], mixer.conv_bias[i], out=mixed[i])
    u, B, C = mixed.flatten(0, 1).split((inner, mixer.d_state, mixer.d_state), dim=-1)
    steps = wide(torch.stack(dt)[:, :, reach:])
    steps = F.softplus(steps + mixer.dt_bias[:, None, None])
    for i, (a, b) in enumerate(places):
        if a < 0:
            steps[i, :, :-a].zero_()
        if b > x.shape[1]:
            steps[i, :, x.shape[1] - b :].zero_()

    def of_sequences(weight: Tensor) -> Tensor:
        """(directions, heads) to (directions * batch, 1, heads)."""
        return weight[:, None].expand(-1, batch, -1).reshape(-1, 1, heads)

    y, before, state = scan_chunks(
        u.unflatten(-1, (heads, -1)),
        steps.flatten(0, 1),
        of_sequences(-torch.exp(mixer.A_log)),
        B,
        C,
        of_sequences(mixer.D),
        state,
        CHUNK,
    )
    y = y.view(directions, batch, length, inner)
    outs = []
    for i, gate in enumerate(z):
        normed = gated_rms_norm(y[i], gate[:, reach:], mixer.norm_weight[i])
        outs.append(linear(normed.to(x.dtype), mixer.out_proj[:, i]))
    return outs, xbc, before, state


def _project(mixer: "BiMamba", rows: Tensor, direction: int) -> list[Tensor]:
    """Return z, the convolution's inputs and dt of a direction's tokens, (batch, len, ...) each: by
    a product each, as the convolution takes no columns of a wider tensor without a copy."""
    parts = mixer.d_inner, mixer.d_inner + 2 * mixer.d_state, mixer.heads
    flat = rows.flatten(0, 1)
    weights = mixer.in_proj[direction].split(parts)
    return [linear(flat, weight).view(*rows.shape[:2], -1) for weight in weights]


def _rows(x: Tensor, a: int, b: int, direction: int) -> Tensor:
    """The tokens from a to b of a sequence in a direction's order; zeros outside."""
    length = x.shape[1]
    low, high = max(a, 0), min(b, length)
    rows = x[:, length - high : length - low].flip(1) if direction == 1 else x[:, low:high]
    return F.pad(rows, (0, 0, low - a, b - high)) if (low, high) != (a, b) else rows


def _left(
    mixer: "BiMamba",
    direction: int,
    at: int,
    xbc: tuple[Tensor, ...],
    before: Tensor,
    state: Tensor,
) -> Edge:
    """What a direction leaves after the first `at` places of a span: whole chunks, or all tokens of
    the sequence."""
    chunk, batch = -(-at // CHUNK), len(xbc[direction])
    of_direction = slice(direction * batch, (direction + 1) * batch)
    kept = state if chunk == before.shape[1] else before[:, chunk]
    return Edge(kept[of_direction], xbc[direction][:, at : at + mixer.reach])


def _edge(state: Tensor, tail: Tensor) -> Edge:
    """Return the edge of a cache's state (batch, heads, headdim, d_state) and tail."""
    return Edge(state.permute(0, 3, 1, 2).flatten(2), tail)


def _keep(cache: MambaCache, left: list[Edge]) -> None:
    """Put edges of the first directions into the cache."""
    for edge, state, tail in zip(left, cache.states, cache.tails, strict=False):
        state.copy_(edge.state.unflatten(-1, state.shape[1:3]).permute(0, 2, 3, 1))
        tail.copy_(edge.tail)
