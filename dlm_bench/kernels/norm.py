"""Mamba-2's gated RMSNorm in front of the output projection."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.differentiable import gated_rms_norm_differentiable

EPSILON = 1e-5


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm(y * SiLU(z)) * weight over the last dimension, in float32; dtype of y.

    Overwrites y and z in float32, of no more use to the mixer: at (length, d_inner) fresh
    buffers cost a CPU more time than the arithmetic. A gradient needs them: then they stay.
    """
    if y.requires_grad or z.requires_grad or weight.requires_grad:
        return gated_rms_norm_differentiable(y, z, weight, EPSILON)
    gated = y.float().mul_(F.silu(z.float(), inplace=True))
    norm = torch.linalg.vector_norm(gated, dim=-1, keepdim=True)
    scale = torch.rsqrt(norm.square_().div_(gated.shape[-1]).add_(EPSILON))
    return gated.mul_(scale).mul_(weight).to(y.dtype)
