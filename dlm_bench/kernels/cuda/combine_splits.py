"""The splits of an attention combined: by the program of a tile of queries that ends last, or by a
launch of its own, if one program would take longer over the parts than all processors and a start.

A part of a row is the sum of its values by weights 2^(score - level), their level and their sum,
all in float32.
"""

import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import NEVER
from dlm_bench.kernels.cuda.dependent import launch_options, release, wait

PLAIN = tl.constexpr("")  # as a default; Triton 3.6 takes no bare string there


@triton.jit
def load_rows(
    rows, column, inside, BEYOND: tl.constexpr, HEAD_DIM: tl.constexpr, CACHE: tl.constexpr = PLAIN
):
    """The columns of some rows, masked along the row only if some are BEYOND the end."""
    mask = inside[:, None]
    if BEYOND:
        mask = mask & (column < HEAD_DIM)[None, :]
    return tl.load(rows[:, None] + column[None, :], mask, 0.0, cache_modifier=CACHE)


@triton.jit
def store_rows(rows, column, inside, value, WIDTH: tl.constexpr):
    mask = inside[:, None] & (column < WIDTH)[None, :]
    tl.store(rows[:, None] + column[None, :], value.to(rows.dtype.element_ty), mask)


@triton.jit
def combine_parts(
    partial,
    levels,
    totals,
    out,
    every_row,
    row,
    inside,
    filled,
    HEAD_DIM: tl.constexpr,
    LOW: tl.constexpr,
    HIGH: tl.constexpr,
    ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Some rows of the output: the weighted mean over the splits with keys."""
    low = tl.arange(0, LOW)
    high = LOW + tl.arange(0, HIGH if HIGH > 0 else 1)
    level = tl.full((ROWS,), NEVER, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    acc_low = tl.zeros((ROWS, LOW), tl.float32)
    if HIGH > 0:
        acc_high = tl.zeros((ROWS, HIGH), tl.float32)
    # The parts lie in the L2 cache; by stages, as many loads are in flight as in a stream of keys.
    for each in tl.range(0, filled, num_stages=STAGES):
        at = each * every_row + row
        there = tl.load(levels + at, inside, 0.0, cache_modifier=".cg")
        before = level
        level = tl.maximum(before, there)
        # The first segment's rows may see none of this split: their sums are 0.
        base = tl.where(level == NEVER, 0.0, level)
        decay = tl.math.exp2(before - base)
        weight = tl.math.exp2(there - base)
        total *= decay
        total += weight * tl.load(totals + at, inside, 1.0, cache_modifier=".cg")
        part = load_rows(partial + at * HEAD_DIM, low, inside, LOW > HEAD_DIM, HEAD_DIM, ".cg")
        acc_low = acc_low * decay[:, None] + part * weight[:, None]
        if HIGH > 0:
            beyond: tl.constexpr = LOW + HIGH > HEAD_DIM
            tail = load_rows(partial + at * HEAD_DIM, high, inside, beyond, HEAD_DIM, ".cg")
            acc_high = acc_high * decay[:, None] + tail * weight[:, None]
    to = out + row * HEAD_DIM
    store_rows(to, low, inside, acc_low / total[:, None], HEAD_DIM)
    if HIGH > 0:
        store_rows(to, high, inside, acc_high / total[:, None], HEAD_DIM)


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
    PDL: tl.constexpr,
):
    """ROWS rows of the output: the weighted mean over the splits with visible keys."""
    wait(PDL)
    release(PDL)
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
    store_rows(out + row.to(tl.int64) * HEAD_DIM, column, inside, mean, HEAD_DIM)


def combine_splits(partial: Tensor, levels: Tensor, totals: Tensor, out: Tensor) -> None:
    """Write the mean over the splits to out (rows..., head_dim), contiguous.

    partial (splits, rows, head_dim), levels and totals (splits, rows); splits a power of two. A
    level of NEVER is one of a split without keys, of which nothing else is read.
    """
    splits, rows, head_dim = partial.shape
    width = triton.next_power_of_2(head_dim)
    block = max(1, 1024 // (splits * width))
    _combine[(triton.cdiv(rows, block),)](
        partial,
        levels,
        totals,
        out,
        rows,
        HEAD_DIM=head_dim,
        WIDTH=width,
        SPLITS=splits,
        ROWS=block,
        # 16 elements a thread, all loads in flight at once.
        num_warps=min(8, max(1, block * splits * width // 512)),
        **launch_options(),
    )
