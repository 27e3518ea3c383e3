"""Constants of several kernels: of their arithmetic, and of the machine."""

import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)  # the hardware's exponential is of base 2
NEVER = tl.constexpr(float("-inf"))  # the logarithm of no weight
SMS = 132  # streaming multiprocessors of an H100 or H200
