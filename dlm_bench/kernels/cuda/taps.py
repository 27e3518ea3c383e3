"""The weights of the convolution in front of a scan, as a block reads them."""

import triton
import triton.language as tl


@triton.jit
def taps_at(weight, column, inside, D_CONV: tl.constexpr, PACKED: tl.constexpr):
    """The convolution's weights at some channels: four of 16 bits in a word, else where they are.

    Load once instead of four times with gaps between the channels.
    """
    if PACKED:
        taps = tl.load(weight.to(tl.pointer_type(tl.int64)) + column, inside, 0)
    else:
        taps = weight + column * D_CONV
    return taps


@triton.jit
def one_tap(taps, tap, inside, DTYPE: tl.constexpr, PACKED: tl.constexpr):
    """One of what `taps_at` found, float32."""
    if PACKED:
        value = (taps >> (16 * tap)).to(tl.int16).to(DTYPE, bitcast=True)
    else:
        value = tl.load(taps + tap, inside, 0.0)
    return value.to(tl.float32)
