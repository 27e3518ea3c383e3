"""A few tokens of a Mamba-2 mixer from a cached state: convolution and scan of both directions.

One launch from the input projection to the scan's output, which also moves the state and the
convolution's tail on where the block is committed.
"""

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.advance_tail import advance_tail
from dlm_bench.kernels.cuda.common import LOG2E, NEVER, counters, softplus
from dlm_bench.kernels.cuda.dependent import (
    launch_options,
    prefetch,
    prefetch_rows,
    prefetch_share,
    release,
    share_of_lines,
    wait,
)
from dlm_bench.kernels.cuda.taps import one_tap, taps_at


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit(do_not_specialize=["first", "second"])
def _block_scan(
    projected,
    conv_weight,
    conv_bias,
    dt_bias,
    A_log,
    D,
    state_0,
    state_1,
    tail_0,
    tail_1,
    y,
    squares,
    ahead,
    arrived,
    first,
    second,
    HEADS: tl.constexpr,
    HEADDIM: tl.constexpr,
    D_STATE: tl.constexpr,
    D_CONV: tl.constexpr,
    REVERSE_STATE: tl.constexpr,
    ADVANCE: tl.constexpr,
    PACKED: tl.constexpr,
    GATED: tl.constexpr,
    T: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
    LINES: tl.constexpr,
    SHARE: tl.constexpr,
    PDL: tl.constexpr,
):
    """One head (or P of its rows) of one direction: T tokens at a time, between them the state in
    registers. `first` and `second` are the segments' lengths.

    x and y are (P, T) here: products with the state then have the state's layout.
    """
    D_INNER: tl.constexpr = HEADS * HEADDIM
    CHANNELS: tl.constexpr = D_INNER + 2 * D_STATE
    WIDTH: tl.constexpr = D_INNER + CHANNELS + HEADS
    PARTS: tl.constexpr = (HEADDIM + P - 1) // P
    dtype: tl.constexpr = projected.dtype.element_ty
    kind: tl.constexpr = conv_weight.dtype.element_ty
    head = tl.program_id(0) // PARTS
    direction = tl.program_id(1)
    directions = tl.num_programs(1)
    batch = tl.program_id(2).to(tl.int64)
    reverse = direction == 1

    p = (tl.program_id(0) % PARTS) * P + tl.arange(0, P)
    n = tl.arange(0, N)
    t = tl.arange(0, T)
    in_p = p < HEADDIM
    in_n = n < D_STATE
    # Columns of x, B and C, counted from x's first.
    p_column = head * HEADDIM + p
    B_column = D_INNER + n
    C_column = D_INNER + D_STATE + n

    state = state_0
    tail = tail_0
    known = direction == 0
    if REVERSE_STATE:
        state = tl.where(reverse, state_1, state_0)
        tail = tl.where(reverse, tail_1, tail_0)
        known = direction < 2
    state += (batch * HEADS + head) * (HEADDIM * D_STATE)
    state_at = p[:, None] * D_STATE + n[None, :]
    tail += (batch + 1) * ((D_CONV - 1) * CHANNELS)  # where a scan's position 0 would be
    oldest = tl.where(known, 1 - D_CONV, 0)  # scan position of the first input that there is

    weight = conv_weight + direction * (CHANNELS * D_CONV)
    if PDL:
        prefetch(weight + tl.minimum(p_column, D_INNER - 1) * D_CONV)
        prefetch(weight + tl.minimum(B_column, CHANNELS - 1) * D_CONV)
        prefetch(weight + tl.minimum(C_column, CHANNELS - 1) * D_CONV)
        if known:
            prefetch_rows(state + tl.minimum(p, HEADDIM - 1) * D_STATE, D_STATE, N)
        if ahead is not None:
            program = (tl.program_id(2) * directions + direction) * tl.num_programs(0)
            prefetch_share(ahead, program + tl.program_id(0), LINES, SHARE)
    wait(PDL)
    x_taps = taps_at(weight, p_column, in_p, D_CONV, PACKED)
    B_taps = taps_at(weight, B_column, in_n, D_CONV, PACKED)
    C_taps = taps_at(weight, C_column, in_n, D_CONV, PACKED)
    bias = conv_bias + direction * CHANNELS
    x_bias = tl.load(bias + p_column, in_p, 0.0).to(tl.float32)
    B_bias = tl.load(bias + B_column, in_n, 0.0).to(tl.float32)
    C_bias = tl.load(bias + C_column, in_n, 0.0).to(tl.float32)
    A = -tl.exp(tl.load(A_log + direction * HEADS + head)) * LOG2E  # for powers of 2
    shift = tl.load(dt_bias + direction * HEADS + head)
    skip = tl.load(D + direction * HEADS + head)

    # From one scan position to the next: a reversed scan walks backwards, with no flipped copy.
    sign = tl.where(reverse, -directions, directions)
    step = sign * WIDTH
    y_step = sign * D_INNER
    # Last of what may come from far: waiting for it is waiting for the weights too.
    rows = tl.where(known, HEADDIM, 0)
    S = tl.load(state + state_at, (p < rows)[:, None] & in_n[None, :], 0.0)
    tiles = tl.cdiv(first, T)
    for tile in range(tiles + tl.cdiv(second, T)):
        # Forward the scan runs through both segments; reversed, from the end of each to its start.
        in_second = tile >= tiles
        length = tl.where(in_second, second, first)
        start = tl.where(in_second, tile - tiles, tile) * T
        low = tl.where(in_second, first, 0)
        # The tile's first scan position, the one after the scan's last, and the token there.
        position = tl.where(reverse, start, low + start)
        end = tl.where(reverse, length, low + length)
        token = batch * (first + second) + tl.where(reverse, low + length - 1 - start, position)
        inputs = projected + (token * directions + direction) * WIDTH + D_INNER
        inside = position + t < end
        dt = tl.load(inputs + CHANNELS + head + t * step, inside, 0.0).to(tl.float32)

        x = tl.broadcast_to(x_bias[:, None], (P, T))
        B = tl.broadcast_to(B_bias[None, :], (T, N))
        C = tl.broadcast_to(C_bias[None, :], (T, N))
        # A real loop: from an unrolled one Triton would redo the convolution in the layout of
        # every product that it feeds.
        for tap in range(D_CONV):
            back = t + (tap - D_CONV + 1)
            at = position + back
            there = (at >= oldest) & (at < end)
            cached = tail + at * CHANNELS
            fresh = inputs + back * step
            # Chosen by element: by row, Triton loses sight of the columns being adjacent.
            x_at = tl.where(
                (at < 0)[None, :],
                cached[None, :] + p_column[:, None],
                fresh[None, :] + p_column[:, None],
            )
            B_at = tl.where(
                (at < 0)[:, None],
                cached[:, None] + B_column[None, :],
                fresh[:, None] + B_column[None, :],
            )
            x_in = tl.load(x_at, in_p[:, None] & there[None, :], 0.0).to(tl.float32)
            B_in = tl.load(B_at, there[:, None] & in_n[None, :], 0.0).to(tl.float32)
            C_in = tl.load(B_at + D_STATE, there[:, None] & in_n[None, :], 0.0).to(tl.float32)
            x += x_in * one_tap(x_taps, tap, in_p, kind, PACKED)[:, None]
            B += B_in * one_tap(B_taps, tap, in_n, kind, PACKED)[None, :]
            C += C_in * one_tap(C_taps, tap, in_n, kind, PACKED)[None, :]
        x = _silu(x)
        B = _silu(B)
        C = _silu(C)

        dt = tl.where(inside, softplus(dt + shift), 0.0)  # beyond the end nothing happens
        if (tile == tiles) & reverse:
            S = tl.zeros((P, N), tl.float32)
        if T == 1:
            S = S * tl.exp2(dt * A)[None, :] + (x * dt[None, :]) * B
            out = tl.sum(S * C, 1)[:, None]
        else:
            decay = tl.cumsum(dt * A, 0)  # log2 of the decay from the tile's start on
            total = tl.sum(tl.where(t == T - 1, decay, 0.0), 0)  # not a sum of another rounding
            B = B.to(dtype)
            C = tl.trans(C.to(dtype))  # (N, T)
            # Out of the causal triangle the difference is positive, its power maybe infinite.
            since = tl.where(t[:, None] <= t[None, :], decay[None, :] - decay[:, None], NEVER)
            mixing = tl.dot(B, C, input_precision="ieee") * tl.exp2(since) * dt[:, None]  # (T, T)
            out = tl.dot(S.to(dtype), C, input_precision="ieee") * tl.exp2(decay)[None, :]
            out = tl.dot(x.to(dtype), mixing.to(dtype), out, input_precision="ieee")
            left = x * (tl.exp2(total - decay) * dt)[None, :]
            S = tl.dot(left.to(dtype), B, S * tl.exp2(total), input_precision="ieee")
        out += skip * x
        if GATED:
            z_row = inputs - D_INNER
            z_at = (z_row + t * step)[None, :] + p_column[:, None]
            z = tl.load(z_at, in_p[:, None] & inside[None, :], 0.0).to(tl.float32)
            out *= _silu(z)
            part = (direction * tl.num_programs(0) + tl.program_id(0)) * tl.num_programs(2)
            of_rows = squares + part * (first + second) + token
            total_square = tl.sum(tl.where(in_p[:, None], out * out, 0.0), 0)
            tl.store(of_rows + t * tl.where(reverse, -1, 1), total_square, inside)
        release(PDL)
        y_row = y + (token * directions + direction) * D_INNER
        y_at = (y_row + t * y_step)[None, :] + p_column[:, None]
        tl.store(y_at, out.to(dtype), in_p[:, None] & inside[None, :])
        if ADVANCE and (tile == tiles - 1) & (direction == 0):
            tl.store(state + state_at, S, in_p[:, None] & in_n[None, :])
    if ADVANCE:  # noqa: SIM102  (known when compiled, the other is not)
        if direction == 0:
            row = directions * WIDTH
            origin = projected + batch * (first + second) * row + D_INNER
            ended = arrived + tl.program_id(2)
            REACH: tl.constexpr = D_CONV - 1
            advance_tail(
                tail, origin, ended, p_column, in_p, first, row, D_STATE, N, CHANNELS, REACH
            )


def block_scan(
    projected: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    segments: tuple[int, ...],
    states: Sequence[Tensor],
    tails: Sequence[Tensor],
    *,
    advance: bool,
    gated: bool = False,
    ahead: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Convolution, SiLU and SSD of a block from its cached states (see BiMamba._continue).

    projected (batch, length, directions, width), contiguous: the columns z | x B C | dt of each
    direction. conv_weight (directions, channels, d_conv) and conv_bias (directions, channels) in
    its dtype; dt_bias, A_log and D (directions, heads) in float32. segments: a length or two.
    states (batch, heads, headdim, d_state) in float32 and tails (batch, d_conv - 1, channels), as
    MambaCache has them: the forward ones at the block's start and, if there, the reverse ones at
    its end, else each segment's reverse scan starts from zeros.

    `advance` overwrites states[0] and tails[0] by those after the first segment. Returns y
    (batch, length, directions, d_inner) in sequence order, D x added; `gated`: times SiLU(z), and
    with it (directions, parts, batch * length) float32, which add up to the sum of its squares.
    """
    if len(segments) == 2 and len(states) == 2:
        raise ValueError("segments: one at most with a reverse state, which is that of its end")
    batch, length, directions, _ = projected.shape
    heads, headdim, d_state = states[0].shape[1:]
    d_conv = conv_weight.shape[-1]
    d_inner = heads * headdim
    first, second = segments if len(segments) == 2 else (*segments, 0)
    y = torch.empty(
        batch, length, directions, d_inner, dtype=projected.dtype, device=projected.device
    )
    # The largest tiles that fit in registers beside the state. A single token has no products of
    # matrices, only a state to read: its rows are split over more programs than there are heads,
    # each one warp that waits for no other.
    longest = max(first, second)
    most = 32 if projected.element_size() == 2 else 16
    tokens = 1 if longest == 1 else min(most, max(16, triton.next_power_of_2(longest)))
    rows = 16 if tokens == 1 else max(16, triton.next_power_of_2(headdim))
    grid = (heads * triton.cdiv(headdim, rows), directions, batch)
    squares = None
    if gated:
        size = directions, grid[0], batch * length
        squares = torch.empty(size, dtype=torch.float32, device=projected.device)
    lines, share = (1, 1) if ahead is None else share_of_lines(ahead, math.prod(grid))
    _block_scan[grid](
        projected,
        conv_weight,
        conv_bias,
        dt_bias,
        A_log,
        D,
        states[0],
        states[-1],
        tails[0],
        tails[-1],
        y,
        squares,
        ahead,
        counters(projected.device) if advance else None,
        first,
        second,
        HEADS=heads,
        HEADDIM=headdim,
        D_STATE=d_state,
        D_CONV=d_conv,
        REVERSE_STATE=len(states) == 2,
        ADVANCE=advance,
        PACKED=d_conv == 4 and conv_weight.element_size() == 2,
        GATED=gated,
        T=tokens,
        P=rows,
        N=max(16, triton.next_power_of_2(d_state)),
        LINES=lines,
        SHARE=share,
        num_warps=1 if tokens == 1 else 8,  # of 230 registers a thread: a program an SM
        num_stages=1,  # a tile or two: nothing to fetch ahead
        **launch_options(),
    )
    return y, squares
