"""Differentiable forms of the plain kernels that write over their inputs.

`ssd_scan` and `gated_rms_norm` hand over to these where something they are given requires a
gradient. The convolution, adaLN, the rotary embedding and attention are differentiable as they are.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# A gradient of DiffuMamba `tiny`, 32 sequences of 128 tokens, on 2 busy cores: 267 ms with 32,
# 328 with 64, 443 with 128.
CHUNK = 32


def ssd_differentiable(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
    *,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Scan as `kernels.ssd` (the same shapes) in chunks, as Mamba-2's listing 1 (arXiv 2405.21060).

    Works in float32, or in a wider dtype of x. Returns (y like x, final state). In
    the shapes of comments b and c stand for batch and chunks.
    """
    length = x.shape[1]
    wide = torch.promote_types(x.dtype, torch.float32)
    chunks = -(-length // chunk)

    def chunked(tensor: Tensor) -> Tensor:
        """(batch, length, ...) to (batch, chunks, chunk, ...); a token with dt = 0 does nothing."""
        after = [0, 0] * (tensor.dim() - 2) + [0, chunks * chunk - length]
        return F.pad(tensor.to(wide), after).unflatten(1, (chunks, chunk))

    X = chunked(dt[..., None] * x.to(dt.dtype)).transpose(2, 3)  # (b, c, heads, chunk, headdim)
    B, C = chunked(B)[:, :, None], chunked(C)[:, :, None]  # (b, c, 1, chunk, d_state)
    decay = (
        chunked(dt * A.to(dt.dtype)).cumsum(2).transpose(2, 3)[..., None]
    )  # log, (b, c, h, q, 1)
    total = decay[:, :, :, -1:]  # (b, c, heads, 1, 1)

    # -inf before exp, not zeros after it: the exp of what is above the diagonal may overflow, and
    # the gradient of an overflow is not a number even where it is thrown away.
    above = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).triu(1)
    mixing = torch.exp((decay - decay.transpose(-1, -2)).masked_fill(above, -torch.inf))
    inside = (C @ B.transpose(-1, -2) * mixing) @ X  # (b, c, heads, chunk, headdim)

    added = (X * torch.exp(total - decay)).transpose(-1, -2) @ B  # (b, c, heads, headdim, d_state)
    state = torch.zeros_like(added[:, 0]) if initial_state is None else initial_state.to(wide)
    before = []
    for i in range(chunks):
        before.append(state)
        state = torch.exp(total[:, i]) * state + added[:, i]
    carried = torch.exp(decay) * (C @ torch.stack(before, dim=1).transpose(-1, -2))
    y = (inside + carried).transpose(2, 3).flatten(1, 2)[:, :length]
    return (y + D.to(wide)[:, None] * x.to(wide)).to(x.dtype), state


def gated_rms_norm_differentiable(y: Tensor, z: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm(y * SiLU(z)) * weight over the last dimension; leaves y and z as they are."""
    wide = torch.promote_types(y.dtype, torch.float32)
    gated = y.to(wide) * F.silu(z.to(wide))
    scale = torch.rsqrt(gated.square().mean(-1, keepdim=True) + epsilon)
    return (gated * scale * weight).to(y.dtype)
