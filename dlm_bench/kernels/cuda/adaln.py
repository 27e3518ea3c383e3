"""The residual addition, LayerNorm and adaLN's modulation in a single trip to memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.dependent import launch_options, release, wait


@triton.jit
def _add_norm(
    x,
    branch,
    gate,
    scale,
    shift,
    out,
    length,
    first_len,
    first_tiles,
    further_len,
    further_tiles,
    tiles,
    x_batch,
    x_row,
    branch_batch,
    branch_row,
    gate_batch,
    gate_segment,
    scale_batch,
    scale_segment,
    shift_batch,
    shift_segment,
    eps,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    UNIT_SCALE: tl.constexpr,
    PDL: tl.constexpr,
):
    """Norm ROWS tokens of a segment, for a single read of the modulation."""
    wait(PDL)
    release(PDL)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    tile = tl.program_id(0) % tiles
    beyond = tile - first_tiles  # the first segment's
    segment = tl.where(beyond < 0, 0, 1 + beyond // further_tiles)
    start = tl.where(beyond < 0, 0, first_len + (segment - 1) * further_len)
    last = tl.minimum(start + tl.where(beyond < 0, first_len, further_len), length)
    token = start + tl.where(beyond < 0, tile, beyond % further_tiles) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = column < D
    mask = (token < last)[:, None] & inside[None, :]
    token = token.to(tl.int64)[:, None]
    at = x + batch * x_batch + token * x_row + column[None, :]
    value = tl.load(at, mask, 0.0).to(tl.float32)  # (ROWS, WIDTH)
    # Loaded before the reductions, whose barriers no load moves across.
    scales = scale + batch * scale_batch + segment * scale_segment + column
    shifts = shift + batch * shift_batch + segment * shift_segment + column
    s = tl.load(scales, inside, 0.0)
    b = tl.load(shifts, inside, 0.0)
    if branch is not None:
        there = branch + batch * branch_batch + token * branch_row + column[None, :]
        update = tl.load(there, mask, 0.0).to(tl.float32)
        if gate is not None:
            gates = gate + batch * gate_batch + segment * gate_segment + column
            update *= tl.load(gates, inside, 0.0).to(tl.float32)[None, :]
        rounded = (value + update).to(x.dtype.element_ty)
        tl.store(at, rounded, mask)
        value = rounded.to(tl.float32)  # what is normalised is the stream as it is stored
    mean = tl.sum(value, 1) / D
    centred = tl.where(inside[None, :], value - mean[:, None], 0.0)
    inverse = tl.rsqrt(tl.sum(centred * centred, 1) / D + eps)
    s = s.to(tl.float32)
    if UNIT_SCALE:
        s += 1
    h = centred * inverse[:, None] * s[None, :] + b.to(tl.float32)[None, :]
    to = out + (batch * length + token) * D + column[None, :]
    tl.store(to, h.to(out.dtype.element_ty), mask)


def _strides(modulation: Tensor) -> tuple[int, int]:
    """Return the strides of batch and segment; 0 for a row shared by all."""
    if modulation.dim() == 1:
        return 0, 0
    batch, segments, _ = modulation.shape
    return (
        modulation.stride(0) if batch > 1 else 0,
        modulation.stride(1) if segments > 1 else 0,
    )


def add_norm(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    segments: tuple[int, ...],
    *,
    unit_scale: bool,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * branch, written over x, and h = LayerNorm(x') * s + shift.

    x and branch (batch, length, d_model); without a branch x' is x, without a gate the gate is 1.
    gate, scale and shift (batch or 1, segments or 1, d_model), or (d_model,), contiguous along
    d_model: row j belongs to the tokens of segment j, of `segments`, whose sum is length; those
    after the first are all equal but for a shorter last one. s is 1 + scale with `unit_scale`
    (adaLN, arXiv 2212.09748), else scale (a LayerNorm with a weight and a bias). The LayerNorm
    itself has no weight, eps 1e-5, and float32 statistics. Returns x', in the place of x, and h,
    contiguous and of scale's dtype.
    """
    batch, length, width = x.shape
    out = torch.empty((batch, length, width), dtype=scale.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    # 2048 elements a program, so that a block of 32 tokens is spread over 32 SMs; four times as
    # many where there are rows for all SMs, for as many loads in flight and less modulation.
    elements, warps = (8192, 8) if batch * length >= 4096 else (2048, 4)
    rows = max(1, elements // block)
    first = segments[0]
    first_tiles = triton.cdiv(first, rows)
    further = segments[1] if len(segments) > 1 else 1
    further_tiles = triton.cdiv(further, rows)
    tiles = first_tiles + (len(segments) - 1) * further_tiles
    _add_norm[(batch * tiles,)](
        x,
        branch,
        gate,
        scale,
        shift,
        out,
        length,
        first,
        first_tiles,
        further,
        further_tiles,
        tiles,
        x.stride(0),
        x.stride(1),
        *(branch.stride()[:2] if branch is not None else (0, 0)),
        *(_strides(gate) if gate is not None else (0, 0)),
        *_strides(scale),
        *_strides(shift),
        epsilon,
        D=width,
        WIDTH=block,
        ROWS=rows,
        UNIT_SCALE=unit_scale,
        num_warps=warps,
        **launch_options(),
    )
    return x, out
