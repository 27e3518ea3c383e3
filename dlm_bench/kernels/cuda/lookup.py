"""The begin of a pass: the tokens of its window, and their embeddings in float32."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.dependent import launch_options, release, wait
from dlm_bench.kernels.cuda.small_linear import Stream


@triton.jit
def _embed(
    tokens, weight, out, copy, moments, D: tl.constexpr, WIDTH: tl.constexpr, PDL: tl.constexpr
):
    wait(PDL)
    release(PDL)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    source = weight + tl.load(tokens + row) * D + column
    value = tl.load(source, column < D, 0.0)
    x = value.to(tl.float32)
    tl.store(out + row * D + column, x, column < D)
    if copy is not None:
        mean = tl.sum(x, 0) / D
        off = tl.where(column < D, x - mean, 0.0)
        tl.store(copy + row * D + column, value, column < D)
        tl.store(moments + row * 2, mean)
        tl.store(moments + row * 2 + 1, tl.sum(off * off, 0))


def embed(tokens: Tensor, weight: Tensor) -> Tensor:
    """The contract of `dlm_bench.kernels.lookup.embed`; weight contiguous."""
    out = torch.empty((*tokens.shape, weight.shape[1]), dtype=torch.float32, device=weight.device)
    _launch_embed(tokens, weight, out, None, None)
    return out


def embed_stream(tokens: Tensor, weight: Tensor) -> Stream:
    """The embeddings of tokens (batch, len) as the residual stream of matmuls of few rows."""
    rows, width = tokens.numel(), weight.shape[1]
    x = torch.empty(rows, width, dtype=torch.float32, device=weight.device)
    copy = torch.empty(rows, width, dtype=weight.dtype, device=weight.device)
    moments = torch.empty(1, rows, 2, dtype=torch.float32, device=weight.device)
    _launch_embed(tokens, weight, x, copy, moments)
    return Stream(x, copy, moments, width)


def _launch_embed(
    tokens: Tensor, weight: Tensor, out: Tensor, copy: Tensor | None, moments: Tensor | None
) -> None:
    tokens, width = tokens.contiguous(), weight.shape[1]
    block = triton.next_power_of_2(width)
    grid = (tokens.numel(),)
    _embed[grid](
        tokens,
        weight,
        out,
        copy,
        moments,
        D=width,
        WIDTH=block,
        num_warps=4,
        **launch_options(),
    )


@triton.jit(do_not_specialize=["count", "stride"])
def _take(
    tokens,
    start,
    taken,
    masked,
    count,
    stride,
    mask_id,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    wait(PDL)
    release(PDL)
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token = tl.load(tokens + row * stride + tl.load(start) + i, i < count, 0)
    tl.store(taken + row * count + i, token, i < count)
    tl.store(masked + row * count + i, (token == mask_id).to(tl.uint8), i < count)


def take(tokens: Tensor, start: Tensor, count: int, mask_id: int) -> tuple[Tensor, Tensor]:
    """`count` tokens of each sequence from position `start` on, and where they are MASK.

    tokens (batch, length) int64, a sequence after the other; start (1,) int64 on the device.
    Returns (batch, count) int64 and bool.
    """
    batch, stride = len(tokens), tokens.stride(0)
    taken = torch.empty(batch, count, dtype=torch.int64, device=tokens.device)
    masked = torch.empty(batch, count, dtype=torch.uint8, device=tokens.device)
    block = min(1024, triton.next_power_of_2(count))
    grid = batch, triton.cdiv(count, block)
    _take[grid](
        tokens,
        start,
        taken,
        masked,
        count,
        stride,
        mask_id,
        BLOCK=block,
        num_warps=1,
        **launch_options(),
    )
    return taken, masked.view(torch.bool)
