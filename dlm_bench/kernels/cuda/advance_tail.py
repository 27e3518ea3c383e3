"""The convolution's tail of a cached Mamba-2 mixer moved on past a committed block."""

import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.dependent import launch_options, release, wait


@triton.jit(do_not_specialize=["first", "length"])
def _advance_tail(
    projected,
    tail,
    first,
    length,
    D_INNER: tl.constexpr,
    WIDTH: tl.constexpr,
    CHANNELS: tl.constexpr,
    REACH: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    BLOCK: tl.constexpr,
    PDL: tl.constexpr,
):
    """The forward direction's last REACH inputs up to the end of the first segment."""
    wait(PDL)
    release(PDL)
    channel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1).to(tl.int64)
    inside = channel < CHANNELS
    tail += batch * REACH * CHANNELS
    # All rows are read before one is written: a short segment leaves some of the old ones.
    rows = ()
    for i in tl.static_range(REACH):
        at = first - REACH + i
        if at < 0:
            source = tail + (at + REACH) * CHANNELS
        else:
            source = projected + (batch * length + at) * (DIRECTIONS * WIDTH) + D_INNER
        rows = rows + (tl.load(source + channel, inside),)  # type: ignore[assignment]  # noqa: RUF005
    for i in tl.static_range(REACH):
        tl.store(tail + i * CHANNELS + channel, rows[i], inside)


def advance_tail(projected: Tensor, tail: Tensor, first: int, d_inner: int) -> None:
    """Overwrite `tail` by the forward direction's inputs before position `first`, oldest first.

    projected (batch, length, directions, width), contiguous: the columns z | x B C | dt of each
    direction. tail (batch, d_conv - 1, channels), contiguous: the inputs before position 0. d_inner
    is the width of z, where the channels begin. first may be less than d_conv - 1: then some of the
    old rows stay, moved to the front.
    """
    batch, length, directions, width = projected.shape
    reach, channels = tail.shape[1:]
    block = 256
    _advance_tail[(triton.cdiv(channels, block), batch)](
        projected,
        tail,
        first,
        length,
        D_INNER=d_inner,
        WIDTH=width,
        CHANNELS=channels,
        REACH=reach,
        DIRECTIONS=directions,
        BLOCK=block,
        num_warps=2,
        **launch_options(),
    )
