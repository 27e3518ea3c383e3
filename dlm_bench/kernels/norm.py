"""Mamba-2's gated RMSNorm in front of the output projection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.differentiable import gated_rms_norm_differentiable
from dlm_bench.kernels.wide import constant, wide

EPSILON = 1e-5


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm(y * SiLU(z)) * weight over the last dimension, in float32; dtype of y.

    Overwrites y and z in float32, of no more use to the mixer: at (length, d_inner) fresh
    buffers cost a CPU more time than the arithmetic. A gradient needs them: then they stay.
    """
    if y.requires_grad or z.requires_grad or weight.requires_grad:
        return gated_rms_norm_differentiable(y, z, weight, EPSILON)
    gated = wide(y).mul_(F.silu(wide(z), inplace=True))
    width = gated.shape[-1]
    # Few calls: sqrt(width (mean + epsilon)) is the hypotenuse of the norm and a constant.
    length = torch.linalg.vector_norm(gated, dim=-1, keepdim=True)
    length.hypot_(constant((EPSILON * width) ** 0.5))
    scale = length.reciprocal_().mul_(constant(width**0.5))
    normed = gated.mul_(scale).mul_(weight)
    return normed if y.dtype == torch.float32 else normed.to(y.dtype)
