"""The LM head, its argmax or a sample, and a score in a single GEMM: no logits in memory."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import NEVER, SMS
from dlm_bench.kernels.cuda.dependent import launch_options, release, wait
from dlm_bench.kernels.cuda.lm_head_products import few_rows, many_rows
from dlm_bench.kernels.cuda.lm_head_winner import NO_ID, exp, finite_base, gap
from dlm_bench.kernels.lm_head import Score

FEW_ROWS = 128  # up to here the weight's bytes cost more than the products
DRAWN = 4  # of a draw so many times fewer, or its registers spill


@triton.jit
def _compact(needed, position, index, rows, BLOCK: tl.constexpr):
    """Write the needed rows, in order: position counts them up to and with each row."""
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    wanted = tl.load(needed + row, row < rows, 0) != 0
    slot = tl.load(position + row, wanted, 1) - 1
    tl.store(index + slot, row, wanted)


@triton.jit
def _combine(
    needed,
    position,
    stats,
    ids,
    tokens,
    scores,
    rows,
    plane,
    splits,
    mask_id,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    SAMPLE: tl.constexpr,
    SCORE: tl.constexpr,
    PDL: tl.constexpr,
):
    """Find each row's winner over the splits, and the score."""
    wait(PDL)
    release(PDL)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    wanted = inside
    slot = row
    if needed is not None:
        wanted = tl.load(needed + row, inside, 0) != 0
    if position is not None:
        slot = tl.load(position + row, wanted, 1) - 1
    split = tl.arange(0, SPLITS)
    at = split[:, None].to(tl.int64) * rows + slot[None, :]
    mask = (split < splits)[:, None] & wanted[None, :]
    tops = tl.load(stats + at, mask, NEVER)
    totals = tl.load(stats + plane + at, mask, 0.0)
    keys = tl.load(stats + 2 * plane + at, mask, NEVER) if SAMPLE else tops
    base = finite_base(tl.max(tops, 0))
    total = tl.sum(totals * exp(tops - base[None, :]), 0)
    winning = keys == tl.max(keys, 0)[None, :]
    best = tl.min(tl.where(winning, tl.load(ids + at, mask, NO_ID), NO_ID), 0)
    if SAMPLE:
        logits = tl.load(stats + 3 * plane + at, mask, NEVER)
        power = exp(tl.max(tl.where(winning, logits, NEVER), 0) - base)
    else:
        power = 1.0
    chance = power / tl.where(wanted, total, 1.0)
    # A logit that is not finite makes the sum NaN: its place stays MASK.
    token = tl.where(chance == chance, best.to(tl.int64), mask_id)
    tl.store(tokens + row, tl.where(wanted, token, 0), inside)
    score = chance
    if SCORE == "margin":
        details = tl.load(stats + (4 if SAMPLE else 2) * plane + at, mask, NEVER)
        first = tl.min(tl.where(tops == tl.max(tops, 0)[None, :], split[:, None], SPLITS), 0)
        second = tl.max(tl.where(split[:, None] == first[None, :], details, tops), 0)
        score = 1.0 + (1.0 - exp(second - base)) / tl.where(wanted, total, 1.0)
    elif SCORE == "entropy":
        details = tl.load(stats + (4 if SAMPLE else 2) * plane + at, mask, 0.0)
        lower = gap(tops, base[None, :])
        mean = tl.sum(exp(lower) * (details + lower * totals), 0) / tl.where(wanted, total, 1.0)
        score = exp(mean) / tl.where(wanted, total, 1.0)
    tl.store(scores + row, tl.where(wanted, score, 0.0), inside)


def _tiles_of_a_program(blocks: int, tiles: int) -> int:
    """Return the vocabulary tiles a program for the soonest end on SMS SMs, a block each."""
    fill = 0.1  # the pipeline's filling, in units of a tile
    taken = range(1, min(tiles, 32) + 1)
    return min(taken, key=lambda n: triton.cdiv(blocks * triton.cdiv(tiles, n), SMS) * (n + fill))


def predict_fused(
    hidden: Tensor,
    weight: Tensor,
    mask_id: int,
    needed: Tensor | None = None,
    *,
    temperature: float = 0.0,
    generators: Sequence[torch.Generator] = (),
    seed: Tensor | None = None,
    score: Score = "confidence",
) -> tuple[Tensor, Tensor]:
    """Predict the token of each row, MASK excluded, with its score, in a pass over `weight`.

    The contract of `dlm_bench.kernels.lm_head.predict`: hidden (rows, d_model) and weight
    (vocabulary, d_model) of the same dtype and contiguous along d_model, a multiple of 16; needed
    (rows,) bool, contiguous. Returns tokens (rows,) int64 and scores (rows,) float32. The
    logits are the GEMM's float32 accumulators, not rounded to the dtype. At a temperature above 0
    the tokens are drawn by the Gumbel-max trick with Philox noise (Salmon et al., SC 2011) from
    `seed`, (sequences,) int64 on the device, and the place of the logit in its sequence, of which
    the rows are equally many. The same seed gives a sequence the same tokens, whatever the others.
    """
    (rows, width), vocabulary = hidden.shape, weight.shape[0]
    device, sample = hidden.device, temperature > 0
    if sample and seed is None:
        raise ValueError("seed: a temperature above 0 needs one")
    if seed is not None and rows % len(seed):
        raise ValueError(f"seed: {len(seed)} of them do not share {rows} rows equally")
    if width % 16:
        raise ValueError(f"d_model: {width} is not allowed; must be a multiple of 16")
    flags = None if needed is None else needed.view(torch.uint8)
    tokens = torch.empty(rows, dtype=torch.int64, device=device)
    scores = torch.empty(rows, dtype=torch.float32, device=device)
    exact = hidden.dtype == torch.float32  # FMAs instead of tensor cores: smaller tiles
    few = rows <= (FEW_ROWS // DRAWN if sample else FEW_ROWS)
    if few:
        # 50258 ids in tiles of 128 are 393 programs: 3 on each of 132 SMs, all at once, each
        # with two 16 kB tiles of the weight in flight.
        columns = 64 if exact else 128
        splits = triton.cdiv(vocabulary, columns)
    else:
        # The largest tile whose accumulators fit: at 128 x 256 the operands' way from L2 keeps up
        # with the tensor cores. Drawing takes as many registers again. Its tile is as wide as that
        # of few rows, because the noise of a logit depends on its place in a tile.
        block, columns = (64, 64) if exact else (128, 128 if sample else 256)
        blocks, tiles = triton.cdiv(rows, block), triton.cdiv(vocabulary, columns)
        taken = _tiles_of_a_program(blocks, tiles)
        splits = triton.cdiv(tiles, taken)
    plane = splits * rows
    planes = (4 if sample else 2) + (score != "confidence")
    stats = torch.empty(planes * plane, dtype=torch.float32, device=device)
    ids = torch.empty(plane, dtype=torch.int32, device=device)
    common = (
        stats,
        ids,
        seed,
        rows if seed is None else rows // len(seed),
        max(temperature, 1e-20),  # below it is the argmax anyway, and its inverse overflows
        rows,
        plane,
        vocabulary,
        mask_id,
        hidden.stride(0),
        weight.stride(0),
    )
    step = min(32 if exact else 64, width & -width)  # a power of two that divides the width
    position = None
    if few:
        few_rows[(splits,)](
            hidden,
            weight,
            *common,
            D=width,
            ROWS=max(16, triton.next_power_of_2(rows)),
            WIDTH=columns,
            STEP=step,
            SAMPLE=sample,
            SCORE=score,
            num_warps=4,
            num_stages=3,
            **launch_options(),
        )
    else:
        index = None
        if flags is not None:
            position = flags.cumsum(0, dtype=torch.int32)
            index = torch.empty(rows, dtype=torch.int32, device=device)
            _compact[(triton.cdiv(rows, 1024),)](flags, position, index, rows, BLOCK=1024)
        many_rows[(blocks * splits,)](
            hidden,
            weight,
            index,
            position,
            *common,
            splits,
            taken,
            D=width,
            ROWS=block,
            WIDTH=columns,
            STEP=step,
            SAMPLE=sample,
            SCORE=score,
            num_warps=4 if exact else 8,
            num_stages=3 if exact else 4,  # 48 kB a stage
        )
    reach = triton.next_power_of_2(splits)
    block = max(1, 1024 // reach)
    _combine[(triton.cdiv(rows, block),)](
        flags,
        position,
        stats,
        ids,
        tokens,
        scores,
        rows,
        plane,
        splits,
        mask_id,
        SPLITS=reach,
        BLOCK=block,
        SAMPLE=sample,
        SCORE=score,
        **launch_options(),
    )
    return tokens, scores
