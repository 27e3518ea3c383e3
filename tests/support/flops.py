"""Torch's count of the FLOPs of matrix products, those by oneDNN among them."""

import math

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dlm_bench.kernels.linear import HAS_ONEDNN


def linear_flops(x, weight, *_, **__):
    """Of x W^T, by the shapes of x (..., in) and W (out, in)."""
    return 2 * math.prod(x) * weight[0]


ONEDNN = {torch.ops.mkldnn._linear_pointwise: linear_flops} if HAS_ONEDNN else {}


def counted_flops(run):
    """The FLOPs of `run()`. Torch counts the CPU's fused attention as nothing; the mathematical one
    is matmuls."""
    counter = FlopCounterMode(display=False, custom_mapping=ONEDNN)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return counter.get_total_flops()
