"""The LM head, its argmax or a sample, and the confidence in one GEMM: no logits in memory."""

import torch
import triton
import triton.language as tl
from torch import Tensor

FEW_ROWS = 128  # up to here the weight's bytes cost more than the products
SMS = 132  # of an H100 or H200

LOG2E = tl.constexpr(1.4426950408889634)
NO_ID = tl.constexpr(2**31 - 1)
NEVER = tl.constexpr(float("-inf"))


@triton.jit
def _exponential(bits):
    """32 random bits to Exp(1), in full precision where it is small: there the winners are."""
    u = tl.minimum((bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994)
    series = u * (1 + u * (0.5 + u * 0.33333333))  # of -log(1 - u), whose 1 - u cancels
    return tl.where(u < 0.00390625, series, -tl.log(1 - u))


@triton.jit
def _base(top):
    """What exponentials are relative to: the largest logit, unless there was none at all."""
    return tl.where(top == NEVER, 0.0, top)


@triton.jit
def _exp(x):
    """The hardware's exp2 alone; tl.exp would rescale for the denormals."""
    return tl.math.exp2(x * LOG2E)


@triton.jit
def _lowest(wins, WIDTH: tl.constexpr):
    """wins (rows, WIDTH) bool: the lowest column that wins in each row."""
    return tl.min(tl.where(wins, tl.arange(0, WIDTH)[None, :], NO_ID), 1)


@triton.jit
def _quarters(x, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) to four (ROWS, WIDTH / 4) without moving a number between threads.

    A thread of either wgmma below holds what differs in bit 3 and in the top bit of the column:
    quarter i has the columns with bit 3 = i % 2 and top bit = i // 2.
    """
    x = tl.permute(tl.reshape(x, (ROWS, 2, WIDTH // 32, 2, 8)), (0, 2, 4, 1, 3))
    even, odd = tl.split(tl.reshape(x, (ROWS, WIDTH // 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def _choose(
    logits,
    top,
    start,
    row,
    seed,
    temperature,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SAMPLE: tl.constexpr,
):
    """The winner of each row among ids start .. start + WIDTH: its key, its id and its logit.

    logits (ROWS, WIDTH), top (ROWS,) their maximum. The key is what winners of several tiles are
    compared by: the logit, or at a temperature the logit with Gumbel noise.
    """
    if SAMPLE:
        # The first to ring of clocks with exponential waits and rates exp(logit / temperature) is
        # the Gumbel-max, for one logarithm of each logit instead of two.
        PART: tl.constexpr = WIDTH // 4
        parts = _quarters(logits, ROWS, WIDTH)
        # A call of Philox gives a word for a column of each quarter; 7 rounds pass BigCrush. Where
        # there is no logit the counter is idle; made from one, it has the accumulators' layout.
        counter = tl.where(parts[0] == NEVER, 0, (start + tl.arange(0, PART))[None, :])
        zero = tl.zeros((ROWS, PART), tl.int32)
        words = tl.philox(tl.load(seed), counter, zero + row[:, None], zero, zero, 7)
        wait = tl.full((ROWS,), float("inf"), tl.float32)
        id = tl.full((ROWS,), NO_ID, tl.int32)
        logit = top
        for i in tl.static_range(4):
            mean = tl.math.exp2((_base(top)[:, None] - parts[i]) * (LOG2E / temperature))
            waits = _exponential(words[i]) * mean
            first = tl.min(waits, 1)
            column = _lowest(waits == first[:, None], PART)
            hit = tl.arange(0, PART)[None, :] == column[:, None]
            sooner = first < wait
            place = column // 8 * 16 + column % 8 + i // 2 * (WIDTH // 2) + i % 2 * 8
            id = tl.where(sooner, start + place, id)
            logit = tl.where(sooner, tl.max(tl.where(hit, parts[i], NEVER), 1), logit)
            wait = tl.where(sooner, first, wait)
        key = top - temperature * tl.log(wait)
    else:
        id = start + _lowest(logits == top[:, None], WIDTH)
        key = top
        logit = top
    return key, id, logit


@triton.jit
def _store(stats, ids, at, plane, mask, top, total, key, best, logit, SAMPLE: tl.constexpr):
    tl.store(stats + at, top, mask)
    tl.store(stats + plane + at, total, mask)
    tl.store(ids + at, best, mask)
    if SAMPLE:
        tl.store(stats + 2 * plane + at, key, mask)
        tl.store(stats + 3 * plane + at, logit, mask)


@triton.jit
def _few_rows(
    hidden,
    weight,
    stats,
    ids,
    seed,
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
):
    """All rows against one tile of the vocabulary, which is the M dimension of the product: a
    wgmma has 64 of those whatever the rows."""
    tile = tl.program_id(0)
    start = tile * WIDTH
    column = start + tl.arange(0, WIDTH)
    row = tl.arange(0, ROWS)
    k = tl.arange(0, STEP)
    # Clamped instead of masked: what is beyond the edge is computed and dropped.
    w = weight + tl.minimum(column, vocabulary - 1).to(tl.int64)[:, None] * weight_stride
    h = hidden + tl.minimum(row, rows - 1).to(tl.int64)[None, :] * hidden_stride
    acc = tl.zeros((WIDTH, ROWS), tl.float32)
    for at in range(0, D, STEP):
        a = tl.load(w + (at + k)[None, :])
        b = tl.load(h + (at + k)[:, None])
        acc = tl.dot(a, b, acc, input_precision="ieee")
    allowed = (column < vocabulary) & (column != mask_id)
    logits = tl.where(allowed[None, :], tl.trans(acc), NEVER)  # (ROWS, WIDTH)
    top = tl.max(logits, 1)
    total = tl.sum(_exp(logits - _base(top)[:, None]), 1)
    key, best, logit = _choose(logits, top, start, row, seed, temperature, ROWS, WIDTH, SAMPLE)
    _store(stats, ids, tile * rows + row, plane, row < rows, top, total, key, best, logit, SAMPLE)


@triton.jit
def _many_rows(
    hidden,
    weight,
    index,
    position,
    stats,
    ids,
    seed,
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
):
    """A block of needed rows against one split of the vocabulary, `tiles` tiles one by one."""
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
        base = _base(top)
        total = total * _exp(before - base) + tl.sum(_exp(acc - base[:, None]), 1)
        rival, rival_id, its_logit = _choose(
            acc, tile_top, start, row, seed, temperature, ROWS, WIDTH, SAMPLE
        )
        better = rival > key
        best = tl.where(better, rival_id, best)
        logit = tl.where(better, its_logit, logit)
        key = tl.where(better, rival, key)
    at = split.to(tl.int64) * rows + slot
    _store(stats, ids, at, plane, slot < count, top, total, key, best, logit, SAMPLE)


@triton.jit
def _compact(needed, position, index, rows, BLOCK: tl.constexpr):
    """Write the rows that are needed, in order: position counts them up to and with each row."""
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
    probability,
    rows,
    plane,
    splits,
    vocabulary,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
    SAMPLE: tl.constexpr,
):
    """Each row's winner over the splits, and its softmax probability."""
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
    base = _base(tl.max(tops, 0))
    total = tl.sum(totals * _exp(tops - base[None, :]), 0)
    winning = keys == tl.max(keys, 0)[None, :]
    best = tl.min(tl.where(winning, tl.load(ids + at, mask, NO_ID), NO_ID), 0)
    if SAMPLE:
        logits = tl.load(stats + 3 * plane + at, mask, NEVER)
        power = _exp(tl.max(tl.where(winning, logits, NEVER), 0) - base)
    else:
        power = 1.0
    chance = power / tl.where(wanted, total, 1.0)
    # No id only where the hidden states are NaN: keep what is indexed by tokens in bounds.
    found = wanted & (best < vocabulary)
    tl.store(tokens + row, tl.where(found, best, 0).to(tl.int64), inside)
    tl.store(probability + row, tl.where(wanted, chance, 0.0), inside)


def _tiles_of_a_program(blocks: int, tiles: int) -> int:
    """How many vocabulary tiles a program takes: what ends soonest on SMS SMs, a block each."""
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
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The token of each row and its softmax probability, MASK excluded, in one pass over `weight`.

    The contract of `dlm_bench.kernels.lm_head.predict`: hidden (rows, d_model) and weight
    (vocabulary, d_model) of one dtype and contiguous along d_model, a multiple of 16; needed
    (rows,) bool, contiguous. Returns tokens (rows,) int64 and probabilities (rows,) float32. The
    logits are the GEMM's float32 accumulators, not rounded to the dtype. At a temperature above 0
    the tokens are drawn by the Gumbel-max trick with Philox noise (Salmon et al., SC 2011) from
    `seed`, (1,) int64 on the device, and the place of the logit; the same seed gives the same
    tokens.
    """
    (rows, width), vocabulary = hidden.shape, weight.shape[0]
    device, sample = hidden.device, temperature > 0
    if sample and seed is None:
        raise ValueError("seed: a temperature above 0 needs one")
    if width % 16:
        raise ValueError(f"d_model: {width} is not allowed; must be a multiple of 16")
    flags = None if needed is None else needed.view(torch.uint8)
    tokens = torch.empty(rows, dtype=torch.int64, device=device)
    probability = torch.empty(rows, dtype=torch.float32, device=device)
    exact = hidden.dtype == torch.float32  # FMAs instead of tensor cores: smaller tiles
    few = rows <= FEW_ROWS
    if few:
        # 50258 ids in tiles of 128 are 393 programs: 3 on each of 132 SMs, all at once, each
        # with two 16 kB tiles of the weight in flight.
        columns = 64 if exact else 128
        splits = triton.cdiv(vocabulary, columns)
    else:
        # The largest tile whose accumulators fit: at 128 x 256 the operands' way from L2 keeps up
        # with the tensor cores.
        block, columns = (64, 64) if exact else (128, 256)
        blocks, tiles = triton.cdiv(rows, block), triton.cdiv(vocabulary, columns)
        taken = _tiles_of_a_program(blocks, tiles)
        splits = triton.cdiv(tiles, taken)
    plane = splits * rows
    stats = torch.empty((4 if sample else 2) * plane, dtype=torch.float32, device=device)
    ids = torch.empty(plane, dtype=torch.int32, device=device)
    common = (
        stats,
        ids,
        seed,
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
        _few_rows[(splits,)](
            hidden,
            weight,
            *common,
            D=width,
            ROWS=max(16, triton.next_power_of_2(rows)),
            WIDTH=columns,
            STEP=step,
            SAMPLE=sample,
            num_warps=4,
            num_stages=3,
        )
    else:
        index = None
        if flags is not None:
            position = flags.cumsum(0, dtype=torch.int32)
            index = torch.empty(rows, dtype=torch.int32, device=device)
            _compact[(triton.cdiv(rows, 1024),)](flags, position, index, rows, BLOCK=1024)
        _many_rows[(blocks * splits,)](
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
        probability,
        rows,
        plane,
        splits,
        vocabulary,
        SPLITS=reach,
        BLOCK=block,
        SAMPLE=sample,
    )
    return tokens, probability
