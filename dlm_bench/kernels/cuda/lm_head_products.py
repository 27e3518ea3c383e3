"""The products of the LM head, few or many rows at a time, with softmax and winner per tile.

Both leave, for each split of the vocabulary and each row, the largest logit, the sum of the
exponentials relative to it and the winner's id; of a draw also its key and its logit, and the
detail of a score other than the confidence.
"""

import triton
import triton.language as tl

from dlm_bench.kernels.cuda.common import NEVER
from dlm_bench.kernels.cuda.dependent import prefetch, release, wait
from dlm_bench.kernels.cuda.lm_head_winner import (
    NO_ID,
    choose,
    detail,
    exp,
    finite_base,
    joined,
)

AHEAD = tl.constexpr(2)  # steps of the weight in flight in few_rows, whose pipeline has 3 stages


@triton.jit
def _store(
    stats,
    ids,
    at,
    plane,
    mask,
    top,
    total,
    key,
    best,
    logit,
    extra,
    SAMPLE: tl.constexpr,
    SCORE: tl.constexpr,
):
    tl.store(stats + at, top, mask)
    tl.store(stats + plane + at, total, mask)
    tl.store(ids + at, best, mask)
    if SAMPLE:
        tl.store(stats + 2 * plane + at, key, mask)
        tl.store(stats + 3 * plane + at, logit, mask)
    if SCORE != "confidence":
        tl.store(stats + (4 if SAMPLE else 2) * plane + at, extra, mask)


@triton.jit
def few_rows(
    hidden,
    weight,
    stats,
    ids,
    seed,
    share,
    temperature,
    rows,
    plane,
    vocabulary,
    mask_id,
    hidden_stride,
    weight_stride,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    SAMPLE: tl.constexpr,
    SCORE: tl.constexpr,
    PDL: tl.constexpr,
):
    """All rows against a tile of the vocabulary, the M dimension of the product: a
    wgmma has 64 of those whatever the rows."""
    tile = tl.program_id(0)
    start = tile * WIDTH
    column = start + tl.arange(0, WIDTH)
    row = tl.arange(0, ROWS)
    k = tl.arange(0, STEP)
    # Clamped instead of masked: what is beyond the edge is computed and dropped.
    w = weight + tl.minimum(column, vocabulary - 1).to(tl.int64)[:, None] * weight_stride
    h = hidden + tl.minimum(row, rows - 1).to(tl.int64)[None, :] * hidden_stride
    if PDL:
        for step in tl.static_range(AHEAD):
            prefetch(w + tl.minimum(step * STEP, D - STEP))
    wait(PDL)
    acc = tl.zeros((WIDTH, ROWS), tl.float32)
    for at in range(0, D, STEP):
        a = tl.load(w + (at + k)[None, :])
        b = tl.load(h + (at + k)[:, None])
        acc = tl.dot(a, b, acc, input_precision="ieee")
    release(PDL)  # every load is under way
    allowed = (column < vocabulary) & (column != mask_id)
    logits = tl.where(allowed[None, :], tl.trans(acc), NEVER)  # (ROWS, WIDTH)
    top = tl.max(logits, 1)
    total = tl.sum(exp(logits - finite_base(top)[:, None]), 1)
    there = tl.minimum(row, rows - 1)
    key, best, logit = choose(
        logits, top, start, there, seed, share, temperature, ROWS, WIDTH, SAMPLE
    )
    extra = top
    if SCORE != "confidence":
        extra = detail(logits, top, finite_base(top), WIDTH, SCORE)
    at = tile * rows + row
    inside = row < rows
    _store(stats, ids, at, plane, inside, top, total, key, best, logit, extra, SAMPLE, SCORE)


@triton.jit
def many_rows(
    hidden,
    weight,
    index,
    position,
    stats,
    ids,
    seed,
    share,
    temperature,
    rows,
    plane,
    vocabulary,
    mask_id,
    hidden_stride,
    weight_stride,
    splits,
    tiles,
    D: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    SAMPLE: tl.constexpr,
    SCORE: tl.constexpr,
):
    """A block of needed rows against a split of the vocabulary, `tiles` tiles in turn."""
    # Splits of a block follow each other: the programs under way at a time are of some ten blocks
    # and of all splits, so that both operands stay in L2.
    split = tl.program_id(0) % splits
    slot = (tl.program_id(0) // splits) * ROWS + tl.arange(0, ROWS)
    count = rows
    if position is not None:
        count = tl.load(position + rows - 1)
    if (tl.program_id(0) // splits) * ROWS >= count:
        return
    row = tl.minimum(slot, rows - 1)
    if position is not None:
        row = tl.load(index + slot, slot < count, 0)
    k = tl.arange(0, STEP)
    h = hidden + row.to(tl.int64)[:, None] * hidden_stride
    top = tl.full((ROWS,), NEVER, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    key = top
    logit = top
    best = tl.full((ROWS,), NO_ID, tl.int32)
    extra = top if SCORE == "margin" else total
    last = tl.minimum((split + 1) * tiles, tl.cdiv(vocabulary, WIDTH))
    # Flattened, so that a tile's first loads are under way during the softmax of the one before.
    for tile in tl.range(split * tiles, last, flatten=True):
        start = tile * WIDTH
        column = start + tl.arange(0, WIDTH)
        w = weight + tl.minimum(column, vocabulary - 1).to(tl.int64)[None, :] * weight_stride
        acc = tl.zeros((ROWS, WIDTH), tl.float32)
        for at in range(0, D, STEP):
            a = tl.load(h + (at + k)[None, :])
            b = tl.load(w + (at + k)[:, None])
            acc = tl.dot(a, b, acc, input_precision="ieee")
        if (start + WIDTH > vocabulary) | ((start <= mask_id) & (mask_id < start + WIDTH)):
            allowed = (column < vocabulary) & (column != mask_id)
            acc = tl.where(allowed[None, :], acc, NEVER)
        tile_top = tl.max(acc, 1)
        before = top
        top = tl.maximum(before, tile_top)
        base = finite_base(top)
        if SCORE != "confidence":
            of_tile = detail(acc, tile_top, base, WIDTH, SCORE)
            extra = joined(extra, before, total, of_tile, tile_top, base, SCORE)
        total = total * exp(before - base) + tl.sum(exp(acc - base[:, None]), 1)
        rival, rival_id, its_logit = choose(
            acc, tile_top, start, row, seed, share, temperature, ROWS, WIDTH, SAMPLE
        )
        better = rival > key
        best = tl.where(better, rival_id, best)
        logit = tl.where(better, its_logit, logit)
        key = tl.where(better, rival, key)
    at = split.to(tl.int64) * rows + slot
    inside = slot < count
    _store(stats, ids, at, plane, inside, top, total, key, best, logit, extra, SAMPLE, SCORE)
