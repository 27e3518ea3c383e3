"""Attention of a block's queries over a cache with the filled length on the device.

The keys of a head are split over programs, as in Flash-Decoding (Dao et al., 2023), so that a
short block fills the GPU; a second, small launch combines the splits.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import NEVER, SMS

MAX_SPLITS = 64
KEYS = 64  # a tile of keys
# A split's partial result, in float32, is written and read again: with fewer keys a split it would
# be more traffic than the keys and values themselves.
LEAST_KEYS = 128


@triton.jit
def _load_rows(rows, column, inside, BEYOND: tl.constexpr, HEAD_DIM: tl.constexpr):
    """The columns of some rows, masked along the row only if some are BEYOND the end."""
    mask = inside[:, None]
    if BEYOND:
        mask = mask & (column < HEAD_DIM)[None, :]
    return tl.load(rows[:, None] + column[None, :], mask, 0.0)


@triton.jit
def _segment_end(token, first, further, query_len):
    """The end of a token's segment: the first, or one of `further` tokens each."""
    later = first + ((token - first) // further + 1) * further
    return tl.minimum(tl.where(token < first, first, later), query_len)


@triton.jit
def _store_rows(rows, column, inside, value, WIDTH: tl.constexpr):
    mask = inside[:, None] & (column < WIDTH)[None, :]
    tl.store(rows[:, None] + column[None, :], value.to(rows.dtype.element_ty), mask)


@triton.jit(do_not_specialize=["first", "further", "query_len", "length", "start_batch"])
def _attend_split(
    q,
    k,
    v,
    start,
    out,
    levels,
    totals,
    first,
    further,
    query_len,
    length,
    start_batch,
    q_batch,
    q_token,
    q_head,
    scale,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    Q_ALIGN: tl.constexpr,
    ROWS: tl.constexpr,
    KEYS: tl.constexpr,
    LEAST_TILES: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """A tile of queries of a group of heads over a split of the keys: softmax sums in base 2.

    A row is a query of a head: GROUP rows a token, so that all heads of a group share the loads.
    The columns of a head are LOW and then, if HIGH is not 0, up to HIGH more: 80 is 64 + 16 and
    not 128, of which three eighths would be padding.
    """
    split = tl.program_id(1)
    HEADS: tl.constexpr = KV_HEADS * GROUP
    batch = (tl.program_id(2) // KV_HEADS).to(tl.int64)
    kv_head = tl.program_id(2) % KV_HEADS
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * GROUP + row % GROUP
    inside = token < query_len
    out_row = (batch * query_len + token) * HEADS + head
    if SPLITS > 1:
        out_row += split.to(tl.int64) * (tl.num_programs(2) // KV_HEADS) * query_len * HEADS

    # The keys that a row and the whole tile see.
    if start is None:
        visible = length
        limit = tl.zeros((ROWS,), tl.int32) + length
    else:
        begin = tl.load(start + batch * start_batch)
        end = tl.minimum(tl.cdiv((tl.program_id(0) + 1) * ROWS, GROUP), query_len)
        visible = (begin + _segment_end(end - 1, first, further, query_len)).to(tl.int32)
        visible = tl.minimum(visible, length)
        limit = (begin + _segment_end(token, first, further, query_len)).to(tl.int32)
        limit = tl.minimum(limit, visible)
    span = tl.maximum(tl.cdiv(tl.cdiv(visible, KEYS), SPLITS), LEAST_TILES) * KEYS
    begin_key = split * span
    end_key = tl.minimum(begin_key + span, visible)
    if SPLITS > 1:  # noqa: SIM102  (known when compiled, the other is not)
        if begin_key >= end_key:
            tl.store(levels + out_row, tl.full((ROWS,), NEVER, tl.float32), inside)
            return

    low = tl.arange(0, LOW)
    q_row = batch * q_batch + head.to(tl.int64) * q_head + token.to(tl.int64) * q_token
    q_row = q + tl.multiple_of(q_row, Q_ALIGN)
    q_low = _load_rows(q_row, low, inside, LOW > HEAD_DIM, HEAD_DIM)
    acc_low = tl.zeros((ROWS, LOW), tl.float32)
    if HIGH > 0:
        high = LOW + tl.arange(0, HIGH)
        q_high = _load_rows(q_row, high, inside, LOW + HIGH > HEAD_DIM, HEAD_DIM)
        acc_high = tl.zeros((ROWS, HIGH), tl.float32)
    k += (batch * KV_HEADS + kv_head) * length * HEAD_DIM
    v += (batch * KV_HEADS + kv_head) * length * HEAD_DIM
    level = tl.full((ROWS,), NEVER, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    for at in range(begin_key, end_key, KEYS):
        key = at + tl.arange(0, KEYS)
        # Nothing beyond the last visible key is read: what is left there may be anything, and
        # even a weight of 0 would not undo a NaN.
        there = key < end_key
        at_key = key * HEAD_DIM  # within a head, 2**31 elements are far
        k_low = _load_rows(k + at_key, low, there, LOW > HEAD_DIM, HEAD_DIM)
        scores = tl.dot(q_low, tl.trans(k_low), input_precision="ieee")  # (ROWS, KEYS)
        if HIGH > 0:
            k_high = _load_rows(k + at_key, high, there, LOW + HIGH > HEAD_DIM, HEAD_DIM)
            scores = tl.dot(q_high, tl.trans(k_high), scores, input_precision="ieee")
        scores = tl.where(key[None, :] < limit[:, None], scores, NEVER)
        before = level
        level = tl.maximum(before, tl.max(scores, 1) * scale)
        # The first segment's rows may see none of this split.
        base = tl.where(level == NEVER, 0.0, level)
        weights = tl.math.exp2(tl.fma(scores, scale, -base[:, None]))
        decay = tl.math.exp2(before - base)
        total = total * decay + tl.sum(weights, 1)
        weights = weights.to(v.dtype.element_ty)
        # The wide product last: Triton arranges the warps of all four for that one, and for one
        # no wider than ROWS it would have each warp compute all keys.
        if HIGH > 0:
            v_high = _load_rows(v + at_key, high, there, LOW + HIGH > HEAD_DIM, HEAD_DIM)
            acc_high = tl.dot(weights, v_high, acc_high * decay[:, None], input_precision="ieee")
        v_low = _load_rows(v + at_key, low, there, LOW > HEAD_DIM, HEAD_DIM)
        acc_low = tl.dot(weights, v_low, acc_low * decay[:, None], input_precision="ieee")

    if SPLITS > 1:
        tl.store(levels + out_row, level, inside)
        tl.store(totals + out_row, total, inside)
    else:
        acc_low = acc_low / total[:, None]
        if HIGH > 0:
            acc_high = acc_high / total[:, None]
    _store_rows(out + out_row * HEAD_DIM, low, inside, acc_low, HEAD_DIM)
    if HIGH > 0:
        _store_rows(out + out_row * HEAD_DIM, high, inside, acc_high, HEAD_DIM)


@triton.jit(do_not_specialize=["rows"])
def _combine(
    partial,
    levels,
    totals,
    out,
    rows,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS rows of the output: the weighted mean over the splits with visible keys."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.arange(0, SPLITS)
    column = tl.arange(0, WIDTH)
    inside = row < rows
    at = split[None, :].to(tl.int64) * rows + row[:, None]  # (ROWS, SPLITS)
    level = tl.load(levels + at, inside[:, None], NEVER)
    there = level != NEVER  # else the rest was not written
    total = tl.load(totals + at, there, 0.0)
    mask = there[:, :, None] & (column < HEAD_DIM)[None, None, :]
    acc = tl.load(partial + at[:, :, None] * HEAD_DIM + column[None, None, :], mask, 0.0)
    top = tl.max(level, 1)
    weight = tl.math.exp2(level - tl.where(inside, top, 0.0)[:, None])
    norm = tl.where(inside, tl.sum(weight * total, 1), 1.0)
    mean = tl.sum(acc * weight[:, :, None], 1) / norm[:, None]
    _store_rows(out + row.to(tl.int64) * HEAD_DIM, column, inside, mean, HEAD_DIM)


def _tile(rows: int, group: int, exact: bool) -> tuple[int, int]:
    """Return the rows and warps of a tile: 64 by 4, of a group 128 by 8 unless these pad more."""
    if exact:  # FMAs instead of tensor cores: smaller tiles
        return 16, 4
    if group > 1 and triton.cdiv(rows, 128) * 2 == triton.cdiv(rows, 64):
        return 128, 8
    return min(64, max(16, triton.next_power_of_2(rows))), 4


def _splits(programs: int, length: int, resident: int) -> int:
    """Return a power of two for as many programs as run at a time, `resident` an SM."""
    most = min(MAX_SPLITS, resident * SMS // programs, length // LEAST_KEYS)
    return 1 << (max(1, most).bit_length() - 1)


def attend_split_kv(
    q: Tensor, k: Tensor, v: Tensor, start: Tensor | None, segments: tuple[int, ...]
) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v over a cache, segment j to the end of its own tokens.

    q (batch, query_len, heads, head_dim), any strides but 1 along the last dimension; caches k and
    v (batch, kv_heads, length, head_dim), contiguous, in the dtype of q; heads / kv_heads
    consecutive heads of q share one (GQA, arXiv 2305.13245). start (1,) int64 on the device: the
    position of the first query, or (batch,) of each sequence's. segments: lengths, query_len
    together, those after the first all equal but for a shorter last one; the rows of a segment see
    the first start + (length up to its end) keys. start None: every row sees all keys.
    Keys beyond the visible ones are not read, and the cost grows with the visible ones alone.
    Returns (batch, query_len, heads, head_dim), contiguous, in the dtype of q.
    """
    batch, query_len, heads, head_dim = q.shape
    kv_heads, length, device = k.shape[1], k.shape[2], q.device
    group = heads // kv_heads
    exact = q.dtype == torch.float32
    rows, warps = _tile(query_len * group, group, exact)
    tiles = triton.cdiv(query_len * group, rows)
    low = max(16, 1 << (head_dim.bit_length() - 1))
    high = 0 if head_dim <= low else max(16, triton.next_power_of_2(head_dim - low))
    keys = 32 if exact else KEYS
    # Three programs of 4 warps share an SM's 227 kB of shared memory and 64 Ki registers; of heads
    # too wide for that, such as 128, two do; one of 8 warps has them all.
    narrow = warps == 4 and 3 * 2 * keys * (low + high) * q.element_size() <= 64 * 1024
    resident = 3 if narrow else 8 // warps
    splits = _splits(tiles * batch * kv_heads, length, resident)
    out = torch.empty(batch, query_len, heads, head_dim, dtype=q.dtype, device=device)
    total_rows = batch * query_len * heads
    partial = levels = totals = None
    if splits > 1:
        partial = torch.empty(splits, total_rows, head_dim, dtype=torch.float32, device=device)
        levels, totals = torch.empty(2, splits, total_rows, dtype=torch.float32, device=device)
    _attend_split[(tiles, splits, batch * kv_heads)](
        q,
        k,
        v,
        start,
        out if partial is None else partial,
        levels,
        totals,
        segments[0],
        segments[1] if len(segments) > 1 else 1,
        query_len,
        length,
        0 if start is None or start.shape[0] == 1 else 1,
        *q.stride()[:-1],
        math.log2(math.e) / math.sqrt(head_dim),
        KV_HEADS=kv_heads,
        GROUP=group,
        HEAD_DIM=head_dim,
        LOW=low,
        HIGH=high,
        # Triton tells only multiples of 16 from its arguments; a head may be 40 elements wide.
        Q_ALIGN=math.gcd(16, *q.stride()[:-1]),
        ROWS=rows,
        KEYS=keys,
        LEAST_TILES=LEAST_KEYS // keys,
        SPLITS=splits,
        num_warps=warps,
        num_stages=2 if resident == 2 else 3,
        maxnreg=168 if narrow and not exact else None,
    )
    if partial is not None:
        width = triton.next_power_of_2(head_dim)
        block = max(1, 1024 // (splits * width))
        _combine[(triton.cdiv(total_rows, block),)](
            partial,
            levels,
            totals,
            out,
            total_rows,
            HEAD_DIM=head_dim,
            WIDTH=width,
            SPLITS=splits,
            ROWS=block,
            # 16 elements a thread, all loads in flight at once.
            num_warps=min(8, max(1, block * splits * width // 512)),
        )
    return out
