"""The residual addition and RMSNorm in a single trip to memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit(do_not_specialize=["rows"])
def _add_rms_norm(
    x,
    branch,
    weight,
    out,
    rows,
    eps,
    D: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Norm ROWS tokens, for a single read of the weights."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    inside = column < D
    mask = (row < rows)[:, None] & inside[None, :]
    at = row[:, None] * D + column[None, :]
    value = tl.load(x + at, mask, 0.0).to(tl.float32)  # (ROWS, WIDTH)
    # Loaded before the reduction, whose barrier no load moves across.
    w = tl.load(weight + column, inside, 0.0)
    if branch is not None:
        value += tl.load(branch + at, mask, 0.0).to(tl.float32)
        tl.store(x + at, value, mask)
    inverse = tl.rsqrt(tl.sum(value * value, 1) / D + eps)
    h = value * inverse[:, None] * w.to(tl.float32)[None, :]
    tl.store(out + at, h.to(out.dtype.element_ty), mask)


def add_rms_norm(
    x: Tensor, branch: Tensor | None, weight: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """x' = x + branch, written over x, and RMSNorm(x') * weight (`kernels.rms_norm.add_rms_norm`).

    x float32 and branch (batch, length, d_model), contiguous; weight (d_model,). Returns x', in
    the place of x, and the second, contiguous and in the dtype of `weight`.
    """
    width = x.shape[-1]
    rows = x.numel() // width
    out = torch.empty(x.shape, dtype=weight.dtype, device=x.device)
    block = triton.next_power_of_2(width)
    # As in cuda/adaln: a block of 32 tokens is spread over 32 SMs, and where there are rows for all
    # SMs a program has more, for as many loads in flight. A thread has 16 elements, or 32 of these.
    many = rows >= 4096
    per_program = max(1, (8192 if many else 2048) // block)
    warps = min(16, per_program * block // (1024 if many else 512))
    _add_rms_norm[(triton.cdiv(rows, per_program),)](
        x,
        branch,
        weight,
        out,
        rows,
        epsilon,
        D=width,
        WIDTH=block,
        ROWS=per_program,
        num_warps=warps,
    )
    return x, out
