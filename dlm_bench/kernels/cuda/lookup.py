"""The begin of a pass: the tokens of its window, and their embeddings in float32."""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _embed(tokens, weight, out, D: tl.constexpr, WIDTH: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    source = weight + tl.load(tokens + row) * D + column
    value = tl.load(source, column < D, 0.0)
    tl.store(out + row * D + column, value.to(tl.float32), column < D)


def embed(tokens: Tensor, weight: Tensor) -> Tensor:
    """The contract of `dlm_bench.kernels.lookup.embed`; weight contiguous."""
    tokens, width = tokens.contiguous(), weight.shape[1]
    out = torch.empty((*tokens.shape, width), dtype=torch.float32, device=weight.device)
    block = triton.next_power_of_2(width)
    _embed[(tokens.numel(),)](tokens, weight, out, D=width, WIDTH=block, num_warps=4)
    return out


@triton.jit(do_not_specialize=["count", "length"])
def _take(tokens, start, taken, masked, count, length, mask_id, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    token = tl.load(tokens + row * length + tl.load(start) + i, i < count, 0)
    tl.store(taken + row * count + i, token, i < count)
    tl.store(masked + row * count + i, (token == mask_id).to(tl.uint8), i < count)


def take(tokens: Tensor, start: Tensor, count: int, mask_id: int) -> tuple[Tensor, Tensor]:
    """`count` tokens of each sequence from position `start` on, and where they are MASK.

    tokens (batch, length) int64, contiguous; start (1,) int64 on the device. Returns (batch, count)
    int64 and bool.
    """
    batch, length = tokens.shape
    taken = torch.empty(batch, count, dtype=torch.int64, device=tokens.device)
    masked = torch.empty(batch, count, dtype=torch.uint8, device=tokens.device)
    block = min(1024, triton.next_power_of_2(count))
    grid = batch, triton.cdiv(count, block)
    _take[grid](tokens, start, taken, masked, count, length, mask_id, BLOCK=block, num_warps=1)
    return taken, masked.view(torch.bool)
