"""Rotary position embedding (RoFormer, arXiv 2104.09864)."""

import torch
from torch import Tensor


def rotary_rates(width: int, theta: float = 10000.0, device: torch.device | None = None) -> Tensor:
    """Turn of pair i from one position to the next, theta^(-2i / width): (width / 2,) float32."""
    index = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    return theta ** (-index / width)


def rotary_angles(
    positions: Tensor, width: int, rates: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the angles at these positions, each (len, width / 2) float32, of
    `rates` or else of the usual ones."""
    rates = rotary_rates(width, device=positions.device) if rates is None else rates
    angles = positions.float()[:, None] * rates
    return angles.cos(), angles.sin()


def widened(angles: tuple[Tensor, Tensor], head_dim: int) -> tuple[Tensor, Tensor]:
    """Return the cosine and the sine, with its sign, of each column of a head that is turned whole,
    (len, head_dim), for few calls of `rotate`; the angles as they are of one that is not."""
    cos, sin = angles
    if 2 * cos.shape[-1] != head_dim:
        return angles
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn the pairs (x_i, x_{i + w/2}) of the first w columns of x (..., len, head_dim).

    The angles are (len, w / 2), or (len, 1, w / 2) for x (..., len, heads, head_dim); or `widened`.
    """
    cos, sin = angles
    half = cos.shape[-1]
    wide = x if x.dtype == torch.float32 else x.float()
    if half == x.shape[-1]:
        out = (wide * cos).addcmul_(wide.roll(half // 2, -1), sin)
        return out if x.dtype == torch.float32 else out.to(x.dtype)
    others = x.shape[-1] - 2 * half
    columns = (half, half, others) if others else (half, half)
    first, second, *rest = wide.split(columns, dim=-1)
    turned = (
        torch.addcmul(first * cos, second, sin, value=-1),
        torch.addcmul(first * sin, second, cos),
        *rest,
    )
    out = torch.cat(turned, dim=-1)
    return out if x.dtype == torch.float32 else out.to(x.dtype)
