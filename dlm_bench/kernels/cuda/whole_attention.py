"""Attention over a whole sequence, for heads that are not as wide as the tiles of libraries.

The tiles of cuDNN have 64 or 128 columns: of a head of 80 three eighths would be padding. Here a
head is cut into a power of two and the rest, 80 into 64 + 16, with a product for each part. The
softmax is online (FlashAttention-2, arXiv 2307.08691), its sums in float32 and in base 2.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import NEVER

WIDEST = 128  # head: a wider one does not fit in the registers


class Tile(NamedTuple):
    """Queries and keys of a step of the loop, and the options of its program."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int
    maxnreg: int | None = None


# Two programs an SM: one has its products computed while the other is at its softmax.
NARROW = Tile(rows=128, keys=64, num_warps=8, num_stages=3, maxnreg=128)
WIDE = Tile(rows=128, keys=128, num_warps=8, num_stages=2)
EXACT = Tile(rows=32, keys=32, num_warps=4, num_stages=1)  # float32: FMAs, no tensor cores


@triton.jit
def _load(rows, column, there, MASKED: tl.constexpr, HEAD_DIM: tl.constexpr, END: tl.constexpr):
    """The columns of some rows, up to END: 0 beyond HEAD_DIM and, if MASKED, where not `there`."""
    at = rows[:, None] + column[None, :]
    if MASKED:
        return tl.load(at, there[:, None] & (column < HEAD_DIM)[None, :], 0.0)
    if END > HEAD_DIM:
        return tl.load(at, (column < HEAD_DIM)[None, :], 0.0)
    return tl.load(at)


@triton.jit
def _store(rows, column, inside, value, HEAD_DIM: tl.constexpr):
    mask = inside[:, None] & (column < HEAD_DIM)[None, :]
    tl.store(rows[:, None] + column[None, :], value.to(rows.dtype.element_ty), mask)


@triton.jit
def _add_keys(
    k_rows,
    v_rows,
    there,
    seen,
    scale,
    q_low,
    q_high,
    acc_low,
    acc_high,
    level,
    total,
    MASKED: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
):
    """Add a tile of keys; if MASKED, those `there` are read, and those `seen` by a query count."""
    low = tl.arange(0, LOW)
    k_low = _load(k_rows, low, there, MASKED, HEAD_DIM, LOW)
    scores = tl.dot(q_low, tl.trans(k_low), input_precision="ieee")  # (ROWS, KEYS)
    if HIGH > 0:
        high = LOW + tl.arange(0, HIGH)
        k_high = _load(k_rows, high, there, MASKED, HEAD_DIM, LOW + HIGH)
        scores = tl.dot(q_high, tl.trans(k_high), scores, input_precision="ieee")
    if MASKED:
        scores = tl.where(seen, scores, NEVER)
    before = level
    level = tl.maximum(before, tl.max(scores, 1) * scale)
    weights = tl.math.exp2(tl.fma(scores, scale, -level[:, None]))
    decay = tl.math.exp2(before - level)
    total = total * decay + tl.sum(weights, 1)
    weights = weights.to(v_rows.dtype.element_ty)
    # The wide product last: Triton arranges the warps of all four for that one.
    if HIGH > 0:
        v_high = _load(v_rows, high, there, MASKED, HEAD_DIM, LOW + HIGH)
        acc_high = tl.dot(weights, v_high, acc_high * decay[:, None], input_precision="ieee")
    v_low = _load(v_rows, low, there, MASKED, HEAD_DIM, LOW)
    acc_low = tl.dot(weights, v_low, acc_low * decay[:, None], input_precision="ieee")
    return acc_low, acc_high, level, total


@triton.jit(do_not_specialize=["length", "key_length"])
def _attend_whole(
    q,
    k,
    v,
    out,
    length,
    key_length,
    q_batch,
    q_head,
    q_token,
    kv_batch,
    kv_head,
    kv_token,
    scale,
    GROUP: tl.constexpr,
    CAUSAL: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    ALIGN: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
):
    """ROWS queries of a head, over all keys or, if CAUSAL, over those up to each query's place."""
    tile = tl.program_id(0)
    if CAUSAL:  # the tiles with most keys begin first
        tile = tl.num_programs(0) - 1 - tile
    head = tl.program_id(1).to(tl.int64)
    batch = tl.program_id(2).to(tl.int64)
    row = tile * ROWS + tl.arange(0, ROWS)
    inside = row < length
    low = tl.arange(0, LOW)
    q_rows = q + tl.multiple_of(batch * q_batch + head * q_head + row.to(tl.int64) * q_token, ALIGN)
    q_low = _load(q_rows, low, inside, True, HEAD_DIM, LOW)
    acc_low = tl.zeros((ROWS, LOW), tl.float32)
    level = tl.full((ROWS,), NEVER, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    q_high, acc_high = q_low, total  # stand-ins, of a head without a second part
    if HIGH > 0:
        high = LOW + tl.arange(0, HIGH)
        q_high = _load(q_rows, high, inside, True, HEAD_DIM, LOW + HIGH)
        acc_high = tl.zeros((ROWS, HIGH), tl.float32)

    # First the keys that end the sequence, or that not all of these queries see: all see the first
    # of them, so that `level` is finite from there on. The rest is a single loop without masks;
    # were there two loops, ptxas would have every product wait for the one before it.
    at_head = tl.multiple_of(batch * kv_batch + head // GROUP * kv_head, ALIGN)
    k, v = k + at_head, v + at_head
    key = tl.arange(0, KEYS)
    rows = tl.multiple_of(key * kv_token, ALIGN)
    far = kv_token.to(tl.int64)  # at * kv_token may pass 2**31
    last = (tile * ROWS if CAUSAL else key_length - 1) // KEYS * KEYS
    for i in tl.static_range(ROWS // KEYS if CAUSAL else 1):
        at = last + i * KEYS
        there = at + key < key_length
        seen = there[None, :]
        if CAUSAL:
            seen = seen & (at + key[None, :] <= row[:, None])
        acc_low, acc_high, level, total = _add_keys(
            k + tl.multiple_of(at * far, ALIGN) + rows,
            v + tl.multiple_of(at * far, ALIGN) + rows,
            there,
            seen,
            scale,
            q_low,
            q_high,
            acc_low,
            acc_high,
            level,
            total,
            True,
            HEAD_DIM,
            LOW,
            HIGH,
        )
    for at in range(0, last, KEYS):
        acc_low, acc_high, level, total = _add_keys(
            k + tl.multiple_of(at * far, ALIGN) + rows,
            v + tl.multiple_of(at * far, ALIGN) + rows,
            None,
            None,
            scale,
            q_low,
            q_high,
            acc_low,
            acc_high,
            level,
            total,
            False,
            HEAD_DIM,
            LOW,
            HIGH,
        )

    out_rows = out + ((batch * length + row) * tl.num_programs(1) + head) * HEAD_DIM
    _store(out_rows, low, inside, acc_low / total[:, None], HEAD_DIM)
    if HIGH > 0:
        _store(out_rows, high, inside, acc_high / total[:, None], HEAD_DIM)


def attend_whole(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v, over all keys or those up to each query's own place.

    q (batch, heads, length, head_dim), k and v (batch, kv_heads, key_length, head_dim), key_length
    = length if causal; any strides but 1 along the last dimension. heads / kv_heads consecutive
    heads of q share one (GQA, arXiv 2305.13245). Returns the shape and dtype of q, in memory with
    the heads of a token side by side. Raises RuntimeError for heads wider than WIDEST.
    """
    batch, heads, length, head_dim = q.shape
    kv_heads, key_length = k.shape[1:3]
    if head_dim > WIDEST:
        raise RuntimeError(f"heads of {head_dim} columns; at most {WIDEST}")
    low = max(16, 1 << (head_dim.bit_length() - 1))
    high = 0 if head_dim <= low else max(16, triton.next_power_of_2(head_dim - low))
    tile = NARROW if low + high <= 80 else WIDE
    if q.dtype == torch.float32:
        tile = EXACT
    if k.stride() != v.stride():
        k, v = k.contiguous(), v.contiguous()
    strides = (*q.stride()[:-1], *k.stride()[:-1])
    out = torch.empty(batch, length, heads, head_dim, dtype=q.dtype, device=q.device)
    _attend_whole[(triton.cdiv(length, tile.rows), heads, batch)](
        q,
        k,
        v,
        out,
        length,
        key_length,
        *strides,
        math.log2(math.e) / math.sqrt(head_dim),
        GROUP=heads // kv_heads,
        CAUSAL=causal,
        HEAD_DIM=head_dim,
        LOW=low,
        HIGH=high,
        # Triton tells only multiples of 16 from its arguments; a head may be 40 elements wide.
        ALIGN=math.gcd(16, *strides),
        ROWS=tile.rows,
        KEYS=tile.keys,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        maxnreg=tile.maxnreg,
    )
    return out.transpose(1, 2)
