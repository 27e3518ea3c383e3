"""What several kernels have in common: constants, a function, and counters of their programs."""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2E = tl.constexpr(1.4426950408889634)  # the hardware's exponential is of base 2
NEVER = tl.constexpr(float("-inf"))  # the logarithm of no weight
SMS = 132  # streaming multiprocessors of an H100 or H200
TILES = 4096  # of the counters: more than any launch has


@cache
def counters(device: torch.device) -> Tensor:
    """The programs of each tile of a launch that have ended, 0 between launches."""
    return torch.zeros(TILES, dtype=torch.int32, device=device)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), in full precision for Mamba-2's small first steps."""
    small = tl.exp(-tl.abs(x))
    rounded = 1.0 + small
    # Kahan's log1p: the error of log(rounded) is that of rounded - 1, and cancels.
    log1p = tl.where(rounded == 1.0, small, tl.log(rounded) * (small / (rounded - 1.0)))
    return tl.maximum(x, 0.0) + log1p
