"""The convolution's tail of a cached Mamba-2 mixer moved on past a committed block."""

import triton
import triton.language as tl


@triton.jit
def advance_tail(
    tail,
    inputs,
    arrived,
    column,
    inside,
    first,
    step,
    D_STATE: tl.constexpr,
    N: tl.constexpr,
    CHANNELS: tl.constexpr,
    REACH: tl.constexpr,
):
    """Overwrite the forward direction's tail by its REACH inputs before position `first`.

    A program of a scan moves the columns of x that it alone has read, and the one that ends last
    those of B and C, which all have. tail points at where the row of position 0 would be, behind
    the inputs before it, oldest first, CHANNELS apart; inputs at that of position 0, the next one
    `step` elements on. arrived: the programs that have ended, 0 between launches. A short segment
    leaves some of the old rows, moved to the front.
    """
    _advance(tail, inputs, column, inside, first, step, CHANNELS, REACH)
    if tl.atomic_add(arrived, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        tl.store(arrived, 0)  # for the next launch
        both = tl.arange(0, 2 * N)
        there = both < 2 * D_STATE
        both += CHANNELS - 2 * D_STATE
        _advance(tail, inputs, both, there, first, step, CHANNELS, REACH)


@triton.jit
def _advance(
    tail, inputs, column, inside, first, step, CHANNELS: tl.constexpr, REACH: tl.constexpr
):
    rows = ()
    for i in tl.static_range(REACH):
        at = first - REACH + i
        source = tl.where(at < 0, tail + at * CHANNELS, inputs + at * step)
        rows += (tl.load(source + column, inside),)  # type: ignore[assignment]
    tl.debug_barrier()  # all threads have read the rows before one is written
    for i in tl.static_range(REACH):
        tl.store(tail + (i - REACH) * CHANNELS + column, rows[i], inside)
