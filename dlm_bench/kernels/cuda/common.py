"""Constants of several kernels, of their arithmetic and of the machine, and a function."""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)  # the hardware's exponential is of base 2
NEVER = tl.constexpr(float("-inf"))  # the logarithm of no weight
SMS = 132  # streaming multiprocessors of an H100 or H200


@triton.jit
def softplus(x):
    """log(1 + exp(x)), in full precision for Mamba-2's small first steps."""
    small = tl.exp(-tl.abs(x))
    rounded = 1.0 + small
    # Kahan's log1p: the error of log(rounded) is that of rounded - 1, and cancels.
    log1p = tl.where(rounded == 1.0, small, tl.log(rounded) * (small / (rounded - 1.0)))
    return tl.maximum(x, 0.0) + log1p
