"""A few tokens of a Mamba-2 mixer from a cached state: convolution and scan of both directions.

One launch from the input projection to the scan's output; a second, small one moves the
convolution's tail on where the block is committed.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _softplus(x):
    """log(1 + exp(x)), in full precision for the small steps that Mamba-2 starts from."""
    small = tl.exp(-tl.abs(x))
    rounded = 1.0 + small
    # Kahan's log1p: the error of log(rounded) is that of rounded - 1, and cancels.
    log1p = tl.where(rounded == 1.0, small, tl.log(rounded) * (small / (rounded - 1.0)))
    return tl.maximum(x, 0.0) + log1p


@triton.jit
def _conv_silu(
    inputs,
    tail,
    weight,
    bias,
    column,
    inside,
    time,
    end,
    has_tail,
    step,
    CHANNELS: tl.constexpr,
    D_CONV: tl.constexpr,
):
    """SiLU of the causal convolution at scan positions `time`, (len(time), len(column)) float32.

    `inputs` points at scan position 0, and `step` elements on lies the next one: direction 1
    walks backwards, with no flipped copy. Before position 0 lies the tail.
    """
    acc = tl.load(bias + column, inside, 0.0).to(tl.float32)[None, :]
    for tap in tl.static_range(D_CONV):
        at = time + (tap - D_CONV + 1)
        before = (at < 0)[:, None]
        row = tl.where(
            before,
            tail + ((at + D_CONV - 1) * CHANNELS)[:, None],
            inputs + (at.to(tl.int64) * step)[:, None],
        )
        there = ((at < end) & (has_tail | (at >= 0)))[:, None] & inside[None, :]
        x = tl.load(row + column[None, :], there, 0.0).to(tl.float32)
        w = tl.load(weight + column * D_CONV + tap, inside, 0.0).to(tl.float32)
        acc += x * w[None, :]
    return acc / (1.0 + tl.exp(-acc))


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
    first,
    second,
    HEADS: tl.constexpr,
    HEADDIM: tl.constexpr,
    D_STATE: tl.constexpr,
    D_CONV: tl.constexpr,
    REVERSE_STATE: tl.constexpr,
    ADVANCE: tl.constexpr,
    T: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
):
    """One head (or P of its channels) of one direction: T tokens at a time, the state between
    them in registers. `first` and `second` are the segments' lengths."""
    D_INNER: tl.constexpr = HEADS * HEADDIM
    CHANNELS: tl.constexpr = D_INNER + 2 * D_STATE
    WIDTH: tl.constexpr = D_INNER + CHANNELS + HEADS
    PARTS: tl.constexpr = (HEADDIM + P - 1) // P
    head = tl.program_id(0) // PARTS
    direction = tl.program_id(1)
    directions = tl.num_programs(1)
    batch = tl.program_id(2)
    reverse = direction == 1

    p = (tl.program_id(0) % PARTS) * P + tl.arange(0, P)
    n = tl.arange(0, N)
    in_p = p < HEADDIM
    in_n = n < D_STATE
    x_column = head * HEADDIM + p
    t = tl.arange(0, T)
    lower = t[:, None] >= t[None, :]

    state = state_0
    tail = tail_0
    has_tail = direction == 0
    if REVERSE_STATE:
        state = tl.where(reverse, state_1, state_0)
        tail = tl.where(reverse, tail_1, tail_0)
        has_tail = True
    tail += batch.to(tl.int64) * (D_CONV - 1) * CHANNELS
    state += (batch.to(tl.int64) * HEADS + head) * HEADDIM * D_STATE
    state_at = p[:, None] * D_STATE + n[None, :]
    in_state = in_p[:, None] & in_n[None, :]

    weight = conv_weight + direction * CHANNELS * D_CONV
    bias = conv_bias + direction * CHANNELS
    decay_rate = -tl.exp(tl.load(A_log + direction * HEADS + head)) * LOG2_E  # of powers of 2
    dt_shift = tl.load(dt_bias + direction * HEADS + head)
    skip = tl.load(D + direction * HEADS + head)

    token_0 = batch.to(tl.int64) * (first + second)
    S = tl.zeros((P, N), tl.float32)
    tiles = tl.cdiv(first, T)
    for tile in range(tiles + tl.cdiv(second, T)):
        # Forward the scan runs through both segments; reversed, from the end of each to its start.
        in_second = tile >= tiles
        length = tl.where(in_second, second, first)
        start = tl.where(in_second, tile - tiles, tile) * T
        low = tl.where(in_second, first, 0)
        origin = tl.where(reverse, low + length - 1, 0)
        passed = tl.where(reverse, 0, low)
        time = passed + start + t  # scan positions
        end = passed + length
        row = directions * WIDTH
        step = tl.where(reverse, -row, row)
        inputs = projected + ((token_0 + origin) * directions + direction) * WIDTH + D_INNER
        if (start == 0) & (reverse | (tile == 0)):
            S = tl.load(state + state_at, in_state & has_tail, 0.0)

        x = _conv_silu(
            inputs, tail, weight, bias, x_column, in_p, time, end, has_tail, step, CHANNELS, D_CONV
        )
        B = _conv_silu(
            inputs,
            tail,
            weight,
            bias,
            D_INNER + n,
            in_n,
            time,
            end,
            has_tail,
            step,
            CHANNELS,
            D_CONV,
        )
        C = _conv_silu(
            inputs,
            tail,
            weight,
            bias,
            D_INNER + D_STATE + n,
            in_n,
            time,
            end,
            has_tail,
            step,
            CHANNELS,
            D_CONV,
        )
        dt_at = inputs + CHANNELS + head + time.to(tl.int64) * step
        dt = tl.load(dt_at, time < end, 0.0).to(tl.float32)
        dt = tl.where(time < end, _softplus(dt + dt_shift), 0.0)  # beyond the end nothing happens
        if T == 1:
            S = S * tl.exp2(dt * decay_rate)[:, None] + tl.trans(x * dt[:, None]) * B
            out = tl.sum(S * C, 1)[None, :]
        else:
            dtype: tl.constexpr = projected.dtype.element_ty
            decay = tl.cumsum(dt * decay_rate, 0)  # log2 of the decay from the tile's start
            total = tl.sum(dt * decay_rate, 0)
            B = B.to(dtype)
            C = C.to(dtype)
            scores = tl.dot(C, tl.trans(B), input_precision="ieee")  # (T, T)
            # Above the diagonal the difference is positive and its power may be infinite.
            since = tl.where(lower, decay[:, None] - decay[None, :], float("-inf"))
            mixing = scores * tl.exp2(since) * dt[None, :]
            out = tl.dot(C, tl.trans(S.to(dtype)), input_precision="ieee")
            out = out * tl.exp2(decay)[:, None]
            out = tl.dot(mixing.to(dtype), x.to(dtype), out, input_precision="ieee")
            weighted = x * (tl.exp2(total - decay) * dt)[:, None]
            S = S * tl.exp2(total)
            S = tl.dot(tl.trans(weighted.to(dtype)), B, S, input_precision="ieee")
        out += skip * x
        y_row = (token_0 + origin + time * tl.where(reverse, -1, 1)) * directions + direction
        y_at = y + (y_row * D_INNER)[:, None] + x_column[None, :]
        tl.store(y_at, out.to(y.dtype.element_ty), (time < end)[:, None] & in_p[None, :])
        if ADVANCE:
            if (tile == tiles - 1) & (direction == 0):
                tl.store(state + state_at, S, in_state)
