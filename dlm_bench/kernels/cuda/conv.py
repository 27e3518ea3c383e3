"""The convolution with SiLU in front of the Mamba-2 scan: of a whole sequence, and of a token.

Of a sequence both directions go in a single launch: the reverse direction walks the sequence
backwards in place, and both are written in scan order, side by side like the groups of mamba-ssm.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.conv import Steps, StepWeights
from dlm_bench.kernels.cuda.common import LOG2E, softplus

ROWS = 16  # outputs of a step: ROWS + 3 independent loads are in flight before the first is used
DT_HEADS = 8  # of a program: 16 bytes of each token
STEPS = 4  # steps of a program: the weights are loaded once for all of them


@triton.jit
def _silu(x):
    # exp2 is one instruction; exp takes care of denormals, which mean nothing next to 1.
    return x / (1.0 + tl.exp2(x * -LOG2E))


@triton.jit(do_not_specialize=["length", "chunks", "batch_rows"])
def _conv_sequence(
    projected,
    weight,
    bias,
    tail_0,
    tail_1,
    out,
    dt_bias,
    A_log,
    dt,
    decay,
    length,
    chunks,
    batch_rows,
    HAS_TAIL_0: tl.constexpr,
    HAS_TAIL_1: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    D_INNER: tl.constexpr,
    D_STATE: tl.constexpr,
    HEADS: tl.constexpr,
    D_CONV: tl.constexpr,
    ROWS: tl.constexpr,
    STEPS: tl.constexpr,
    RUNS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    CHUNK_BLOCK: tl.constexpr,
    DT_BLOCK: tl.constexpr,
):
    """BLOCK channels, or DT_BLOCK heads' steps, of RUNS * ROWS * STEPS tokens of a direction.

    In each step RUNS groups of threads slide a window over ROWS tokens each.
    """
    CHANNELS: tl.constexpr = D_INNER + 2 * D_STATE
    WIDTH: tl.constexpr = D_INNER + CHANNELS + HEADS
    BLOCKS: tl.constexpr = CHANNELS // BLOCK
    TOKENS: tl.constexpr = RUNS * ROWS
    REACH: tl.constexpr = D_CONV - 1
    block = tl.program_id(0)
    direction = tl.program_id(2) % DIRECTIONS
    batch = (tl.program_id(2) // DIRECTIONS).to(tl.int64)
    reverse = direction == 1
    # `inputs` points at scan position 0, and `row` elements on lies the next one.
    origin = batch * batch_rows + tl.where(reverse, length - 1, 0)
    inputs = projected + origin * (DIRECTIONS * WIDTH) + direction * WIDTH + D_INNER
    row = tl.where(reverse, -DIRECTIONS * WIDTH, DIRECTIONS * WIDTH)
    first = tl.program_id(1) * (TOKENS * STEPS)
    steps = tl.minimum(STEPS, tl.cdiv(length - first, TOKENS))

    if block >= BLOCKS:
        head = (block - BLOCKS) * DT_BLOCK + tl.arange(0, DT_BLOCK)
        own = direction * HEADS + head
        rate = -tl.exp(tl.load(A_log + own, head < HEADS, 0.0))
        shift = tl.load(dt_bias + own, head < HEADS, 0.0)
        i = tl.arange(0, CHUNK_BLOCK)
        there = (i < CHUNK)[:, None] & (head < HEADS)[None, :]
        for chunk in range(tl.program_id(1), chunks, tl.num_programs(1)):
            t = chunk * CHUNK + i
            inside = there & (t < length)[:, None]
            source = inputs + CHANNELS + (t.to(tl.int64) * row)[:, None] + head[None, :]
            value = tl.load(source, inside, 0.0).to(tl.float32)
            value = tl.where(inside, softplus(value + shift[None, :]), 0.0)  # nothing after the end
            to = ((batch * (DIRECTIONS * HEADS) + own)[None, :] * chunks + chunk) * CHUNK + i[
                :, None
            ]
            tl.store(dt + to, value, there)
            tl.store(decay + to, tl.cumsum(value * rate[None, :], 0), there)
    else:
        channel = block * BLOCK
        lane = tl.arange(0, BLOCK)
        weight += (direction * CHANNELS + channel) * D_CONV
        taps = ()
        for tap in tl.static_range(D_CONV):
            w = tl.load(weight + lane * D_CONV + tap).to(tl.float32)[None, :]
            taps += (w,)  # type: ignore[assignment]
        offset = tl.load(bias + direction * CHANNELS + channel + lane).to(tl.float32)[None, :]

        tail = tl.where(reverse, tail_1, tail_0) + batch * (REACH * CHANNELS) + channel
        has_tail = tl.where(reverse, HAS_TAIL_1, HAS_TAIL_0)
        # The columns of the output: x of all directions, then B of all, then C.
        column = channel + direction * D_INNER
        if channel >= D_INNER:
            others: tl.constexpr = DIRECTIONS - 1
            column = channel + others * D_INNER + direction * D_STATE
            if channel >= D_INNER + D_STATE:
                column += others * D_STATE

        for step in range(steps):
            start = first + (step * RUNS + tl.arange(0, RUNS)) * ROWS
            here = inputs + channel + ((start - REACH).to(tl.int64) * row)[:, None] + lane[None, :]
            window = ()
            for i in tl.static_range(ROWS + REACH):
                t = start + (i - REACH)
                there = (t < length)[:, None]
                if i < REACH:
                    there &= (t >= 0)[:, None]
                x = tl.load(here, there, 0.0)
                here += row
                if i < REACH and (HAS_TAIL_0 or HAS_TAIL_1):
                    before = tail + ((t + REACH) * CHANNELS)[:, None] + lane[None, :]
                    # Exclusive with the load above: the other of the two is 0.
                    x += tl.load(before, (t < 0)[:, None] & has_tail, 0.0)
                window += (x,)  # type: ignore[assignment]
            target = out + (batch * length + start)[:, None] * (DIRECTIONS * CHANNELS)
            target += column + lane[None, :]
            for i in tl.static_range(ROWS):
                acc = offset
                for tap in tl.static_range(D_CONV):
                    acc += window[i + tap].to(tl.float32) * taps[tap]
                result = _silu(acc).to(out.dtype.element_ty)
                tl.store(
                    target + i * (DIRECTIONS * CHANNELS), result, (start + i < length)[:, None]
                )


def conv_silu(
    projected: Tensor,
    weight: Tensor,
    bias: Tensor,
    d_state: int,
    heads: int,
    tails: tuple[Tensor | None, ...],
    steps: StepWeights,
) -> tuple[Tensor, Tensor, Tensor, Steps]:
    """x, B, C after convolution and SiLU, and the steps, of a whole sequence in scan order.

    projected (batch, length, directions, width): the columns z | x B C | dt of each direction,
    contiguous but for the stride of the batch, a number of whole tokens. weight (directions,
    channels, d_conv) and bias (directions, channels), contiguous. tails: for each direction the
    d_conv - 1 inputs before the first, oldest first, (batch, d_conv - 1, channels), contiguous,
    or None for zeros. Direction 1 scans the sequence reversed.

    Returns x (batch, length, directions * heads, headdim), B and C (batch, length, directions,
    d_state), views of a single buffer, and the steps of all heads.
    """
    batch, length, directions, width = projected.shape
    channels, d_conv = weight.shape[1:]
    d_inner = channels - 2 * d_state
    dtype, device = projected.dtype, projected.device
    out = torch.empty(batch, length, directions * channels, dtype=dtype, device=device)
    chunks = triton.cdiv(length, steps.chunk)
    size = batch, directions * heads, chunks, steps.chunk
    dt, decay = (torch.empty(size, dtype=torch.float32, device=device) for _ in range(2))
    # The widest block that lies in one of x, B and C. 128 channels of 4 elements are a warp's row:
    # direction 1 starts at a multiple of 8 bytes, no more.
    block = 128
    while d_inner % block or d_state % block:
        block //= 2
    runs = 512 // block  # 4 elements of a row for each of 128 threads
    grid = (
        channels // block + triton.cdiv(heads, DT_HEADS),
        triton.cdiv(length, runs * ROWS * STEPS),
        batch * directions,
    )
    _conv_sequence[grid](
        projected,
        weight,
        bias,
        projected if tails[0] is None else tails[0],
        projected if tails[-1] is None else tails[-1],
        out,
        steps.dt_bias,
        steps.A_log,
        dt,
        decay,
        length,
        chunks,
        projected.stride(0) // (directions * width),
        HAS_TAIL_0=tails[0] is not None,
        HAS_TAIL_1=tails[-1] is not None,
        DIRECTIONS=directions,
        D_INNER=d_inner,
        D_STATE=d_state,
        HEADS=heads,
        D_CONV=d_conv,
        ROWS=ROWS,
        STEPS=STEPS,
        RUNS=runs,
        BLOCK=block,
        CHUNK=steps.chunk,
        CHUNK_BLOCK=triton.next_power_of_2(steps.chunk),
        DT_BLOCK=DT_HEADS,
        num_warps=4,
    )
    x, B, C = out.split([directions * n for n in (d_inner, d_state, d_state)], dim=-1)
    return (
        x.unflatten(-1, (directions * heads, d_inner // heads)),
        B.unflatten(-1, (directions, d_state)),
        C.unflatten(-1, (directions, d_state)),
        Steps(dt, decay),
    )


@triton.jit
def _conv_token(
    projected,
    weight,
    bias,
    tail,
    out,
    D_INNER: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    D_CONV: tl.constexpr,
    BLOCK: tl.constexpr,
):
    REACH: tl.constexpr = D_CONV - 1
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1).to(tl.int64)
    inside = channel < CHANNELS
    tail += batch * (REACH * CHANNELS)
    acc = tl.load(bias + channel, inside).to(tl.float32)
    for tap in tl.static_range(D_CONV):
        if tap < REACH:
            x = tl.load(tail + tap * CHANNELS + channel, inside)
        else:
            x = tl.load(projected + batch * WIDTH + D_INNER + channel, inside)
        acc += x.to(tl.float32) * tl.load(weight + channel * D_CONV + tap, inside).to(tl.float32)
        if tap > 0:  # the row before has been read
            tl.store(tail + (tap - 1) * CHANNELS + channel, x, inside)
    tl.store(out + batch * CHANNELS + channel, _silu(acc).to(out.dtype.element_ty), inside)


def conv_step(
    projected: Tensor, weight: Tensor, bias: Tensor, d_state: int, heads: int, tail: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x, B and C after convolution and SiLU of the next token; `tail` takes the token in, in place.

    projected (batch, 1, 1, width), weight (1, channels, d_conv), bias (1, channels) and tail
    (batch, d_conv - 1, channels), oldest first, all contiguous. Returns x (batch, heads, headdim)
    and B and C (batch, d_state), views of a single buffer.
    """
    batch, width = projected.shape[0], projected.shape[-1]
    channels, d_conv = weight.shape[1:]
    d_inner = channels - 2 * d_state
    out = torch.empty(batch, channels, dtype=projected.dtype, device=projected.device)
    block = 128  # a channel a thread: few bytes, spread over many programs
    _conv_token[(triton.cdiv(channels, block), batch)](
        projected,
        weight,
        bias,
        tail,
        out,
        D_INNER=d_inner,
        WIDTH=width,
        CHANNELS=channels,
        D_CONV=d_conv,
        BLOCK=block,
        num_warps=4,
    )
    x, B, C = out.split((d_inner, d_state, d_state), dim=-1)
    return x.unflatten(-1, (heads, d_inner // heads)), B, C
