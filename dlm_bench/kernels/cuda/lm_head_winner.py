"""The winner of a tile of logits, by argmax or by a draw, and the terms of the softmax sums."""

import triton
import triton.language as tl

from dlm_bench.kernels.cuda.common import LOG2E, NEVER

NO_ID = tl.constexpr(2**31 - 1)


@triton.jit
def _exponential(bits):
    """32 random bits to Exp(1), in full precision near 0, the place of the winners."""
    u = tl.minimum((bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10, 0.99999994)
    series = u * (1 + u * (0.5 + u * 0.33333333))  # of -log(1 - u), whose 1 - u cancels
    return tl.where(u < 0.00390625, series, -tl.log(1 - u))


@triton.jit
def finite_base(top):
    """The base of exponentials: the largest logit, or 0 if there was none at all."""
    return tl.where(top == NEVER, 0.0, top)


@triton.jit
def exp(x):
    """The hardware's exp2 alone; tl.exp would rescale for the denormals."""
    return tl.math.exp2(x * LOG2E)


@triton.jit
def _lowest(wins, WIDTH: tl.constexpr):
    """wins (rows, WIDTH) bool: the lowest winning column of each row."""
    return tl.min(tl.where(wins, tl.arange(0, WIDTH)[None, :], NO_ID), 1)


@triton.jit
def gap(top, base):
    """A difference of logits, bounded: the -inf of no logit times a sum of 0 would be NaN."""
    return tl.maximum(top - base, -100.0)


@triton.jit
def detail(logits, top, base, WIDTH: tl.constexpr, SCORE: tl.constexpr):
    """What a score needs of a tile (rows, WIDTH) besides its largest logits and softmax sums.

    margin: the second largest logit of each row. entropy: the sum of exp(s) s, s = logit - base.
    """
    if SCORE == "margin":
        first = _lowest(logits == top[:, None], WIDTH)
        others = tl.where(tl.arange(0, WIDTH)[None, :] == first[:, None], NEVER, logits)
        return tl.max(others, 1)
    shifted = gap(logits, base[:, None])
    return tl.sum(exp(shifted) * shifted, 1)


@triton.jit
def joined(one, its_top, its_total, other, top, base, SCORE: tl.constexpr):
    """The detail of two parts: of one with its own top and total, and of the other, with `top`,
    whose sum has the base already."""
    if SCORE == "margin":
        return tl.maximum(tl.minimum(its_top, top), tl.maximum(one, other))
    lower = gap(its_top, base)
    return exp(lower) * (one + lower * its_total) + other


@triton.jit
def _quarters(x, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH) to four (ROWS, WIDTH / 4) without moving a number between threads.

    A thread of either product's wgmma holds what differs in bit 3 and in the top bit of the column:
    quarter i has the columns with bit 3 = i % 2 and top bit = i // 2.
    """
    x = tl.permute(tl.reshape(x, (ROWS, 2, WIDTH // 32, 2, 8)), (0, 2, 4, 1, 3))
    even, odd = tl.split(tl.reshape(x, (ROWS, WIDTH // 4, 2, 2)))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def choose(
    logits,
    top,
    start,
    row,
    seed,
    share,
    temperature,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    SAMPLE: tl.constexpr,
):
    """The winner of each row among ids start .. start + WIDTH: its key, its id and its logit.

    logits (ROWS, WIDTH), top (ROWS,) their maximum. The winners of several tiles are compared by
    key: the logit, or at a temperature the logit with Gumbel noise, drawn by the seed of the row's
    sequence (`share` rows long) and the row's index there.
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
        sequence = row // share
        seeds, place = tl.load(seed + sequence)[:, None], (row - sequence * share)[:, None]
        words = tl.philox(seeds, counter, zero + place, zero, zero, 7)
        wait = tl.full((ROWS,), float("inf"), tl.float32)
        id = tl.full((ROWS,), NO_ID, tl.int32)
        logit = top
        for i in tl.static_range(4):
            mean = tl.math.exp2((finite_base(top)[:, None] - parts[i]) * (LOG2E / temperature))
            waits = _exponential(words[i]) * mean
            first = tl.min(waits, 1)
            column = _lowest(waits == first[:, None], PART)
            hit = tl.arange(0, PART)[None, :] == column[:, None]
            sooner = first < wait
            inside = column // 8 * 16 + column % 8 + i // 2 * (WIDTH // 2) + i % 2 * 8
            id = tl.where(sooner, start + inside, id)
            logit = tl.where(sooner, tl.max(tl.where(hit, parts[i], NEVER), 1), logit)
            wait = tl.where(sooner, first, wait)
        key = top - temperature * tl.log(wait)
    else:
        id = start + _lowest(logits == top[:, None], WIDTH)
        key = top
        logit = top
    return key, id, logit
