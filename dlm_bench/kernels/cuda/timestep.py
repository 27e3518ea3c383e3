"""The embedding of timesteps in a single launch: sines, two layers and their SiLUs."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _silu(x):
    return x / (1.0 + tl.exp(-x))


@triton.jit
def _embed_timestep(
    t,
    up,
    up_bias,
    down,
    down_bias,
    out,
    rate,
    HALF: tl.constexpr,
    DIM: tl.constexpr,
):
    """A timestep; roundings are where the layers of torch have them."""
    dtype: tl.constexpr = up.dtype.element_ty
    row = tl.program_id(0)
    i = tl.arange(0, HALF)
    d = tl.arange(0, DIM)
    angle = 1000 * tl.load(t + row) * tl.exp(rate * i)
    cosine = tl.cos(angle).to(dtype).to(tl.float32)
    sine = tl.sin(angle).to(dtype).to(tl.float32)
    weights = up + d[:, None] * (2 * HALF) + i[None, :]
    h = tl.sum(tl.load(weights).to(tl.float32) * cosine[None, :], 1)
    h += tl.sum(tl.load(weights + HALF).to(tl.float32) * sine[None, :], 1)
    h = (h + tl.load(up_bias + d).to(tl.float32)).to(dtype).to(tl.float32)
    h = _silu(h).to(dtype).to(tl.float32)
    # From one axis to the other: the next sum is over what this one leaves.
    own = tl.sum(tl.where(d[:, None] == d[None, :], h[:, None], 0.0), 0)
    weights = down + d[:, None] * DIM + d[None, :]
    h = tl.sum(tl.load(weights).to(tl.float32) * own[None, :], 1)
    h = (h + tl.load(down_bias + d).to(tl.float32)).to(dtype).to(tl.float32)
    tl.store(out + row * DIM + d, _silu(h).to(dtype))


def embed_timestep(
    t: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor
) -> Tensor:
    """SiLU of the embedding of timesteps t (batch, segments), (batch, segments, time_dim).

    up (time_dim, 2 n) over n cosines and n sines of DiT's frequencies, down (time_dim, time_dim),
    contiguous; n and time_dim powers of two.
    """
    dim, half = up.shape[0], up.shape[1] // 2
    out = torch.empty((*t.shape, dim), dtype=up.dtype, device=up.device)
    _embed_timestep[(t.numel(),)](
        t.float().contiguous(),
        up,
        up_bias,
        down,
        down_bias,
        out,
        -math.log(10000) / half,
        HALF=half,
        DIM=dim,
        num_warps=8,
    )
    return out
