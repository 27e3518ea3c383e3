"""The gated product of a SwiGLU MLP in a single trip to memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 1024  # of a row; 8 elements a thread are 16-byte loads of 16-bit numbers


@triton.jit
def _swiglu(gate_up, out, FFN: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < FFN
    at = gate_up + row * (2 * FFN) + column
    gate = tl.load(at, inside, 0.0).to(tl.float32)
    up = tl.load(at + FFN, inside, 0.0).to(tl.float32)
    h = gate * tl.sigmoid(gate) * up
    tl.store(out + row * FFN + column, h.to(out.dtype.element_ty), inside)


def swiglu(gate_up: Tensor) -> Tensor:
    """SiLU(gate) * up in float32: gate_up (..., 2 ffn), contiguous, to (..., ffn), dtype kept."""
    ffn = gate_up.shape[-1] // 2
    out = torch.empty((*gate_up.shape[:-1], ffn), dtype=gate_up.dtype, device=gate_up.device)
    rows = out.numel() // ffn
    _swiglu[(rows, triton.cdiv(ffn, COLUMNS))](gate_up, out, FFN=ffn, COLUMNS=COLUMNS, num_warps=4)
    return out
