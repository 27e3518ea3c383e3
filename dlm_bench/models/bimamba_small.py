"""The DiffuMamba mixer over a few tokens without a GPU (Eq. 4-6, plain in `bimamba`).

PyTorch's calls cost more here than the arithmetic, so both directions, all heads and all segments
go through one set of them, as one chunk:

    y_i  =  sum_j exp(a_i - a_j) (C_i . B_j) dt_j x_j  +  exp(a_i) S C_i  +  D x_i

with a_i the sum of dt A from the scan's start through i. The forward direction sums over j <= i,
the reverse one over j >= i up to the end of i's segment: masks say so, and nothing is flipped.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.linear import linear
from dlm_bench.kernels.norm import EPSILON
from dlm_bench.kernels.wide import constant, wide
from dlm_bench.models import bimamba_long as long
from dlm_bench.models.cache import MambaCache
from dlm_bench.models.window import RowsWindow, Window

if TYPE_CHECKING:
    from dlm_bench.models.bimamba import BiMamba

FEW_TOKENS = 64  # of a pass: the work inside a chunk is quadratic


class Prepared(NamedTuple):
    """The weights of a mixer in float32, as a pass over few tokens reads them.

    in_proj, out_proj: those of all directions as one weight each, in the model's dtype.
    taps, bias: of the convolution in the order of positions, (directions, 1, channels) each.
    A, dt_bias, D: (directions, heads, 1), (directions, heads) and (directions, heads, 1).
    norm: (directions, d_inner), times sqrt(d_inner).
    """

    in_proj: Tensor
    out_proj: Tensor
    taps: tuple[Tensor, ...]
    bias: Tensor
    A: Tensor
    dt_bias: Tensor
    D: Tensor
    norm: Tensor


class Sight(NamedTuple):
    """Constants of a window's shape; n stands for batch * directions.

    sums: (n, len, len), 1 where position j (row) counts in the sum a_i (column).
    hidden: (n, 1, len, len), -inf where i (row) does not see j, else 0.
    rows: the convolution's outputs that are tokens, of all directions; None if all are.
    """

    sums: Tensor
    hidden: Tensor
    rows: Tensor | None


def sequence(mixer: "BiMamba", x: Tensor) -> Tensor:
    """A whole sequence from zero states; see BiMamba._sequence."""
    if x.shape[1] > FEW_TOKENS:
        return long.sequence(mixer, x)
    return _mix(mixer, x, (x.shape[1],), None)


def prefill(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """The first tokens of a sequence; see BiMamba._prefill."""
    if x.shape[1] > FEW_TOKENS:
        return long.prefill(mixer, x, window, cache)
    cache.reset()
    return _mix(mixer, x, window.segments, cache, advance=window.committed)


def block(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """A few tokens from the cached states, (batch, len, d_model); see BiMamba._continue."""
    rows = window if isinstance(window, RowsWindow) else None
    advance = window.committed if window.advance else 0
    return _mix(mixer, x, window.segments, cache, advance=advance, at=rows)


def _mix(
    mixer: "BiMamba",
    x: Tensor,
    segments: tuple[int, ...],
    cache: MambaCache | None,
    *,
    advance: int = 0,
    at: RowsWindow | None = None,
) -> Tensor:
    """Mix a few tokens from the states of a cache, or from zeros; the forward state moves past the
    first `advance` tokens, in the sequences that `at`, if given, says."""
    batch, length, _ = x.shape
    directions, heads, inner = mixer.directions, mixer.heads, mixer.d_inner
    n = batch * directions
    weights = _prepared(mixer, cache)
    sums, hidden, rows = _sight(segments, directions, batch, mixer.reach, x.device)

    # Weights that are made in every pass have no place to be kept.
    packed = None if cache is None or weights is not cache.prepared else cache.packed
    projected = linear(x, weights.in_proj, packed=packed)
    projected = wide(projected).view(batch, length, directions, -1)
    z, xbc, dt = projected.split((inner, inner + 2 * mixer.d_state, heads), dim=-1)

    present = None if at is None else at.present
    if present is not None:
        xbc = xbc * present[..., None, None]
    padded = _padded(xbc, segments, mixer.reach, cache)
    tail = padded[:, 0, advance : advance + mixer.reach]
    xbc = _conv_silu(padded, weights)
    if rows is not None:
        xbc = xbc.flatten(1, 2).index_select(1, rows)
    xbc = xbc.view(n, length, -1)
    u, B, C = xbc.split((inner, mixer.d_state, mixer.d_state), dim=-1)
    u = u.unflatten(-1, (heads, -1))  # (n, len, heads, headdim)

    dt = F.softplus(dt + weights.dt_bias).permute(0, 2, 3, 1)  # (batch, directions, heads, len)
    if present is not None:
        dt = dt * present[:, None, None]
    a = torch.bmm((dt * weights.A).reshape(n, heads, length), sums)
    decay = (a[..., :, None] - a[..., None, :]).add_(hidden).exp_()  # (n, heads, len, len)
    dt = dt.reshape(n, heads, 1, length)
    mixing = decay * torch.bmm(C, B.transpose(1, 2))[:, None] * dt
    mixing.view(batch, directions, heads, length, length).diagonal(dim1=-2, dim2=-1).add_(weights.D)
    y = torch.bmm(mixing.view(-1, length, length), u.transpose(1, 2).reshape(n * heads, length, -1))
    y = y.view(batch, directions, heads, length, -1).transpose(2, 3)

    reached = a.exp().transpose(1, 2).view(batch, directions, length, heads, 1)
    if cache is not None:
        # The states add exp(a_i) S C_i to the directions that have one.
        kept = len(cache.states)
        state = cache.states[0] if kept == 1 else cache.stacked.transpose(0, 1)
        state = state.reshape(batch * kept, inner, -1)
        C = C if kept == directions else C[::directions]
        added = torch.bmm(C, state.transpose(1, 2)).view(batch, kept, length, heads, -1)
        y[:, :kept].addcmul_(added, reached[:, :kept])
    if cache is not None and advance:
        forward, end = slice(0, n, directions), advance - 1
        weight = decay[forward, :, end] * dt[forward, :, 0]  # (batch, heads, len)
        weight = weight[..., :advance]
        weighted = (u[forward, :advance] * weight.transpose(1, 2)[..., None]).flatten(2)
        decayed = cache.states[0].mul if at is not None else cache.states[0].mul_
        state = decayed(reached[:, 0, end][..., None])
        state.view(batch, inner, -1).baddbmm_(weighted.transpose(1, 2), B[forward, :advance])
        if at is None:
            cache.tails[0].copy_(tail)
        else:
            cache.advance(at, state, tail)

    gated = F.silu(z).view(batch, length, directions, heads, -1) * y.transpose(1, 2)
    gated = gated.view(batch * length, directions, inner)
    norm = torch.linalg.vector_norm(gated, dim=-1, keepdim=True)
    scale = torch.hypot(norm, constant((EPSILON * inner) ** 0.5))
    normed = (gated / scale).mul_(weights.norm).view(batch, length, -1)
    return linear(normed.to(x.dtype), weights.out_proj, packed=packed)


def _conv_silu(padded: Tensor, weights: Prepared) -> Tensor:
    """SiLU of the convolution along positions, a tap after the other."""
    length = padded.shape[2] - len(weights.taps) + 1
    out = torch.addcmul(weights.bias, padded[:, :, :length], weights.taps[0])
    for offset, tap in enumerate(weights.taps[1:], 1):
        out.addcmul_(padded[:, :, offset : offset + length], tap)
    return F.silu(out, inplace=True)


def _padded(xbc: Tensor, segments: tuple[int, ...], reach: int, cache: MambaCache | None) -> Tensor:
    """The convolution's inputs, (batch, directions, positions, channels): the forward direction has
    its tail in front, the reverse one its tail, or zeros, behind each segment."""
    inputs, tails = xbc.unbind(2), [] if cache is None else cache.tails
    blank = _blank(len(xbc), reach, xbc.shape[-1], xbc.device)
    forward = tails[0] if tails else blank
    if len(inputs) == 1:
        return torch.cat((forward, inputs[0]), dim=1)[:, None]
    last = tails[1].flip(1) if len(tails) == 2 else blank
    if len(segments) == 1:
        behind = [inputs[1], last]
    else:
        behind = [blank] * (len(segments) - 1)  # in the place of what the reverse direction has
        for part in inputs[1].split(segments, dim=1):
            behind += part, last
    joined = torch.cat((forward, inputs[0], *behind), dim=1)
    return joined.view(joined.shape[0], 2, -1, joined.shape[-1])


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _blank(batch: int, reach: int, channels: int, device: torch.device) -> Tensor:
    """The inputs in front of a sequence, zeros."""
    return torch.zeros(batch, reach, channels, device=device, dtype=torch.float32)


def _prepared(mixer: "BiMamba", cache: MambaCache | None) -> Prepared:
    """Return the weights; the first pass of a decode makes them."""
    if cache is None or torch.is_grad_enabled():
        return _prepare(mixer)
    if cache.prepared is None:
        cache.prepared = _prepare(mixer)
    return cache.prepared


def _prepare(mixer: "BiMamba") -> Prepared:
    taps = mixer.conv_weight.float()  # (directions, channels, d_conv)
    if mixer.directions == 2:
        taps = torch.stack((taps[0], taps[1].flip(-1)))
    return Prepared(
        mixer.in_proj.flatten(0, 1),
        mixer.out_proj.flatten(1),
        tuple(taps.permute(2, 0, 1)[:, :, None].contiguous()),
        mixer.conv_bias.float()[:, None],
        -torch.exp(mixer.A_log)[..., None],
        mixer.dt_bias,
        mixer.D[..., None],
        mixer.norm_weight.float() * mixer.d_inner**0.5,
    )


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def _sight(
    segments: tuple[int, ...], directions: int, batch: int, reach: int, device: torch.device
) -> Sight:
    length = sum(segments)
    sees = torch.ones(directions, length, length, dtype=torch.bool).tril()  # i sees j <= i
    rows = None
    if directions == 2:
        own = torch.block_diag(*(torch.ones(n, n) for n in segments)).bool()
        sees[1] = sees[0].t() & own
        if len(segments) > 1:
            # A gap of `reach` follows each segment of the reverse direction (see _padded).
            part = torch.arange(len(segments)).repeat_interleave(torch.tensor(segments))
            forward = torch.arange(length)
            outputs = length + reach * (len(segments) - 1)
            rows = torch.cat((forward, outputs + forward + reach * part)).to(device)
    hidden = torch.zeros(sees.shape).masked_fill_(~sees, -torch.inf)
    return Sight(
        sees.transpose(1, 2).float().repeat(batch, 1, 1).to(device),
        hidden.repeat(batch, 1, 1)[:, None].to(device),
        rows,
    )
