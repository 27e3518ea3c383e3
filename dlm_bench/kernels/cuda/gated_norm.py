"""Mamba-2's gated RMSNorm of both directions, read from the scan and the projection as they are."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.norm import EPSILON


@triton.jit
def _gated_norm(
    y,
    projected,
    weight,
    out,
    length,
    y_batch,
    y_token,
    y_direction,
    z_batch,
    z_token,
    z_direction,
    epsilon,
    D_INNER: tl.constexpr,
    REVERSED_SECOND: tl.constexpr,
    Y_ALIGN: tl.constexpr,
    Z_ALIGN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """ROWS tokens of a direction: every input is read once, the sum stays in registers."""
    direction = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    token = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    inside = (token < length)[:, None] & (column < D_INNER)[None, :]  # (ROWS, BLOCK)
    source = token
    if REVERSED_SECOND:
        source = tl.where(direction == 1, length - 1 - token, token)

    # Triton tells only multiples of 16 from its arguments, and the strides of `projected` may be
    # of 4 or 8 elements: still loads of more than one.
    y_row = batch * y_batch + direction * y_direction + source.to(tl.int64) * y_token
    z_row = batch * z_batch + direction * z_direction + token.to(tl.int64) * z_token
    y_row = tl.multiple_of(y_row, Y_ALIGN)
    z_row = tl.multiple_of(z_row, Z_ALIGN)
    value = tl.load(y + y_row[:, None] + column[None, :], inside, 0.0).to(tl.float32)
    gate = tl.load(projected + z_row[:, None] + column[None, :], inside, 0.0).to(tl.float32)
    scale = tl.load(weight + direction * D_INNER + column, column < D_INNER, 0.0).to(tl.float32)

    gated = value * gate / (1 + tl.exp(-gate))
    mean_square = tl.sum(gated * gated, 1) / D_INNER  # (ROWS,)
    normed = gated * tl.rsqrt(mean_square + epsilon)[:, None] * scale[None, :]
    out_row = ((batch * length + token) * tl.num_programs(1) + direction) * D_INNER
    tl.store(out + out_row[:, None] + column[None, :], normed.to(out.dtype.element_ty), inside)


def _alignment(tensor: Tensor) -> int:
    """Return the largest power of two up to 16 in the offsets of all rows, in elements."""
    rows = tensor.stride()[:-1]
    return math.gcd(16, *(s for s, n in zip(rows, tensor.shape[:-1], strict=True) if n > 1))


def gated_norm(y: Tensor, projected: Tensor, weight: Tensor, *, reversed_second: bool) -> Tensor:
    """RMSNorm(y * SiLU(z)) * weight of each direction, in float32 (Mamba-2, arXiv 2405.21060).

    y (batch, length, directions, d_inner); projected (batch, length, directions, width), whose
    first d_inner columns are z; weight (directions, d_inner), contiguous. y and projected may have
    any strides but 1 along the last dimension. `reversed_second`: y[:, length - 1 - i, 1] belongs
    to token i. Returns (batch, length, directions * d_inner), contiguous, in the dtype of y.
    """
    batch, length, directions, d_inner = y.shape
    out = torch.empty(batch, length, directions * d_inner, dtype=y.dtype, device=y.device)
    block = triton.next_power_of_2(d_inner)
    rows = max(1, 1024 // block)  # narrow rows share a program
    grid = (triton.cdiv(length, rows), directions, batch)
    _gated_norm[grid](
        y,
        projected,
        weight,
        out,
        length,
        *y.stride()[:-1],
        *projected.stride()[:-1],
        EPSILON,
        D_INNER=d_inner,
        REVERSED_SECOND=reversed_second,
        Y_ALIGN=_alignment(y),
        Z_ALIGN=_alignment(projected),
        ROWS=rows,
        BLOCK=block,
        # 8 elements a thread: one 16-byte load of y, and a short way to the sum.
        num_warps=min(16, rows * block // 256),
    )
    return out
