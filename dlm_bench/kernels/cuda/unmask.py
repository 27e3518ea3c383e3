"""Unmasking of a block's tokens in a single launch."""

import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.dependent import launch_options, release, wait
from dlm_bench.kernels.unmask import TIE

LONGEST = 1024  # positions: one program ranks a block, by block_len^2 comparisons


@triton.jit
def _reveal(
    tokens,
    start,
    predicted,
    score,
    count,
    mask_id,
    block_len,
    tokens_stride,
    predicted_stride,
    score_stride,
    count_stride,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    BAND: tl.constexpr,
    PDL: tl.constexpr,
):
    wait(PDL)
    release(PDL)
    row = tl.program_id(0).to(tl.int64)
    tokens += row * tokens_stride + tl.load(start)
    score += row * score_stride
    i = tl.arange(0, BLOCK)
    masked = tl.load(tokens + i, i < block_len, mask_id + 1) == mask_id
    mine = tl.load(score + i, i < block_len, 0.0)
    mine = tl.where(mine == mine, mine, 0.0)  # a NaN has no rank
    rank = tl.zeros((BLOCK,), tl.int32)
    for first in range(0, BLOCK, TILE):
        j = first + tl.arange(0, TILE)
        rival = tl.load(tokens + j, j < block_len, mask_id + 1) == mask_id
        theirs = tl.load(score + j, j < block_len, 0.0)[None, :]
        theirs = tl.where(theirs == theirs, theirs, 0.0)
        ahead = (theirs > mine[:, None]) | ((theirs == mine[:, None]) & (j[None, :] < i[:, None]))
        rank += tl.sum((ahead & rival[None, :]).to(tl.int32), 1)
    # As in kernels.unmask: what is within a tie of the last one wanted goes by its place.
    masks = tl.sum(masked.to(tl.int32), 0)
    wanted = tl.minimum(tl.load(count + row * count_stride).to(tl.int32), masks)
    least = tl.sum(tl.where(masked & (rank == wanted - 1), mine, 0.0), 0)
    slack = tl.abs(least) * BAND
    above = masked & (mine > least + slack)
    tied = masked & (mine >= least - slack) & (mine <= least + slack)
    left = wanted - tl.sum(above.to(tl.int32), 0)
    place = tl.cumsum(tied.to(tl.int32), 0)
    chosen = ((wanted > 0) & (above | (tied & (place <= left)))) != 0
    token = tl.load(predicted + row * predicted_stride + i, chosen, 0)
    # No warp may write tokens that another one still compares.
    tl.debug_barrier()
    tl.store(tokens + i, token, chosen)


def reveal_block(
    tokens: Tensor, start: Tensor, mask_id: int, predicted: Tensor, score: Tensor, count: Tensor
) -> None:
    """Unmask `count` tokens of each row of a block in place, as `dlm_bench.samplers.unmask` says.

    tokens (batch, length) int64; start (1,) int64 on the device, the block's first position;
    predicted (batch, block_len) int64 and score (batch, block_len) float32, up to 1024 positions;
    count (1,) or (batch,) int64 on the device. Of a row's masked positions `count` take
    their predicted token, by the rule of dlm_bench.kernels.unmask; a NaN counts as a score of 0.
    """
    batch, block_len = predicted.shape
    if block_len > LONGEST:
        raise ValueError(f"block_len: {block_len} is not allowed; at most {LONGEST}")
    block = max(16, triton.next_power_of_2(block_len))
    _reveal[(batch,)](
        tokens,
        start,
        predicted,
        score,
        count,
        mask_id,
        block_len,
        tokens.stride(0),
        predicted.stride(0),
        score.stride(0),
        count.expand(batch).stride(0),  # 0 of a count that all rows share
        BLOCK=block,
        BAND=TIE,
        TILE=min(block, 32, 16384 // block),  # at most 32 comparisons of a thread at a time
        # A block of 32 is one warp, whose comparisons need no shared memory.
        num_warps=max(1, min(16, block // 32)),
        **launch_options(),
    )
