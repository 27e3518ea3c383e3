"""Rotary position embedding (RoFormer, arXiv 2104.09864)."""

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles at these positions, each (len, head_dim / 2) float32."""
    index = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32)
    angles = positions.float()[:, None] * 10000.0 ** (-index / head_dim)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (x_i, x_{i + head_dim/2}) of x (batch, heads, len, head_dim)."""
    cos, sin = angles
    first, second = x.float().chunk(2, dim=-1)
    turned = (first * cos - second * sin, first * sin + second * cos)
    return torch.cat(turned, dim=-1).to(x.dtype)
