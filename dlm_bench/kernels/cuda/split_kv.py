"""Attention of a block's queries over a cache with the filled length on the device.

The keys of a head are split over programs, as in Flash-Decoding (Dao et al., 2023), so that a
short block fills the GPU. The program of a tile of queries that ends last combines the splits, in
their order, whichever it is; of a tile with too many parts for one program, `combine_splits` does.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.combine_splits import (
    combine_parts,
    combine_splits,
    load_rows,
    store_rows,
)
from dlm_bench.kernels.cuda.common import NEVER, SMS, counters
from dlm_bench.kernels.cuda.dependent import launch_options, release, wait

MAX_SPLITS = 64
KEYS = 64  # a tile of keys
# A split's partial result, in float32, is written and read again: with fewer keys a split it would
# be more traffic than the keys and values themselves.
LEAST_KEYS = 128
PARTS = 384 * 1024  # bytes of a tile's partial results that one program combines


@triton.jit
def _segment_end(token, first, further, query_len):
    """The end of a token's segment: the first, or one of `further` tokens each."""
    later = first + ((token - first) // further + 1) * further
    return tl.minimum(tl.where(token < first, first, later), query_len)


@triton.jit(do_not_specialize=["first", "further", "query_len", "length", "start_batch"])
def _attend_split(
    q,
    k,
    v,
    start,
    out,
    partial,
    levels,
    totals,
    arrived,
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
    STAGES: tl.constexpr,
    PDL: tl.constexpr,
):
    """A tile of queries of a group of heads over a split of the keys: softmax sums in base 2.

    A row is a query of a head: GROUP rows a token, so that all heads of a group share the loads.
    The columns of a head are LOW and then, if HIGH is not 0, up to HIGH more: 80 is 64 + 16 and
    not 128, of which three eighths would be padding.
    """
    wait(PDL)
    split = tl.program_id(1)
    HEADS: tl.constexpr = KV_HEADS * GROUP
    batch = (tl.program_id(2) // KV_HEADS).to(tl.int64)
    kv_head = tl.program_id(2) % KV_HEADS
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * GROUP + row % GROUP
    inside = token < query_len
    out_row = (batch * query_len + token) * HEADS + head

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
    if SPLITS > 1:
        filled = tl.maximum(tl.cdiv(visible, span), 1)  # splits with keys
        every_row = (tl.num_programs(2) // KV_HEADS).to(tl.int64) * query_len * HEADS
        if split >= filled:
            if arrived is None:
                empty = tl.full((ROWS,), NEVER, tl.float32)
                tl.store(levels + split * every_row + out_row, empty, inside)
            return

    low = tl.arange(0, LOW)
    q_row = batch * q_batch + head.to(tl.int64) * q_head + token.to(tl.int64) * q_token
    q_row = q + tl.multiple_of(q_row, Q_ALIGN)
    q_low = load_rows(q_row, low, inside, LOW > HEAD_DIM, HEAD_DIM)
    acc_low = tl.zeros((ROWS, LOW), tl.float32)
    if HIGH > 0:
        high = LOW + tl.arange(0, HIGH)
        q_high = load_rows(q_row, high, inside, LOW + HIGH > HEAD_DIM, HEAD_DIM)
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
        k_low = load_rows(k + at_key, low, there, LOW > HEAD_DIM, HEAD_DIM)
        scores = tl.dot(q_low, tl.trans(k_low), input_precision="ieee")  # (ROWS, KEYS)
        if HIGH > 0:
            k_high = load_rows(k + at_key, high, there, LOW + HIGH > HEAD_DIM, HEAD_DIM)
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
            v_high = load_rows(v + at_key, high, there, LOW + HIGH > HEAD_DIM, HEAD_DIM)
            acc_high = tl.dot(weights, v_high, acc_high * decay[:, None], input_precision="ieee")
        v_low = load_rows(v + at_key, low, there, LOW > HEAD_DIM, HEAD_DIM)
        acc_low = tl.dot(weights, v_low, acc_low * decay[:, None], input_precision="ieee")

    release(PDL)  # every load of keys and values is under way
    if SPLITS > 1:
        part = split * every_row + out_row
        tl.store(levels + part, level, inside)
        tl.store(totals + part, total, inside)
        to = partial + part * HEAD_DIM
    else:
        to = out + out_row * HEAD_DIM
        acc_low = acc_low / total[:, None]
        if HIGH > 0:
            acc_high = acc_high / total[:, None]
    store_rows(to, low, inside, acc_low, HEAD_DIM)
    if HIGH > 0:
        store_rows(to, high, inside, acc_high, HEAD_DIM)
    if arrived is not None:
        tl.debug_barrier()  # all of this program's part is written before it counts
        arrived += tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)
        if tl.atomic_add(arrived, 1, sem="acq_rel") == filled - 1:
            tl.store(arrived, 0)  # for the next launch
            combine_parts(
                partial,
                levels,
                totals,
                out,
                every_row,
                out_row,
                inside,
                filled,
                HEAD_DIM,
                LOW,
                HIGH,
                ROWS,
                STAGES,
            )


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
    # Of a tile: what a processor reads of the L2 cache while a launch is started and run.
    many = splits * min(rows, query_len * group) * head_dim * 4 > PARTS
    partial = sums = None
    if splits > 1:
        partial = torch.empty(splits, total_rows, head_dim, dtype=torch.float32, device=device)
        sums = torch.empty(2, splits, total_rows, dtype=torch.float32, device=device)
    levels, totals = (None, None) if sums is None else sums
    _attend_split[(tiles, splits, batch * kv_heads)](
        q,
        k,
        v,
        start,
        out,
        partial,
        levels,
        totals,
        counters(device) if splits > 1 and not many else None,
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
        STAGES=max(3, 128 // rows),
        num_warps=warps,
        num_stages=2 if resident == 2 else 3,
        maxnreg=168 if narrow and not exact else None,
        **launch_options(),
    )
    if many and partial is not None and sums is not None:
        combine_splits(partial, sums[0], sums[1], out)
    return out
