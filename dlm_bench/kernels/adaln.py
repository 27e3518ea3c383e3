"""Residual, LayerNorm and modulation between two branches of a network (adaLN)."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5  # nn.LayerNorm's


class AddNorm(Protocol):
    """The signature of `add_norm`, plain and fused."""

    def __call__(
        self,
        x: Tensor,
        branch: Tensor | None,
        gate: Tensor | None,
        scale: Tensor,
        shift: Tensor,
        segments: tuple[int, ...],
        *,
        unit_scale: bool,
    ) -> tuple[Tensor, Tensor]: ...


def add_norm(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    segments: tuple[int, ...],
    *,
    unit_scale: bool,
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * branch, and LayerNorm(x') * scale + shift (DiT, arXiv 2212.09748).

    x, the residual stream, is float32 (batch, length, d_model) whatever the dtype of the rest: in
    bfloat16 the rounding, layer after layer, would be the largest error of a pass. branch has the
    same shape, None leaves x as it is; gate None stands for 1. gate, scale and shift are (batch or
    1, segments, d_model), a row for each of the consecutive segments, or (d_model,). `unit_scale`:
    the scale is added to 1 (a denoiser's modulation; an autoregressive block's LayerNorm has
    weights instead). May overwrite x. Returns both, the second in the dtype of `scale`.
    """
    dtype = scale.dtype
    if branch is not None:
        branch = branch.float()
        x = x + branch if gate is None else torch.addcmul(x, _per_token(gate, segments), branch)
    scale, shift = _per_token(scale, segments), _per_token(shift, segments)
    if not unit_scale:
        return x, F.layer_norm(x, x.shape[-1:], scale, shift, EPSILON).to(dtype)
    return x, torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale).to(dtype)


def _per_token(rows: Tensor, segments: tuple[int, ...]) -> Tensor:
    """Broadcast (batch, segments, width) over the tokens of these segments."""
    if len(segments) == 1:
        return rows.float()
    parts = [rows[:, i : i + 1].expand(-1, n, -1) for i, n in enumerate(segments)]
    return torch.cat(parts, dim=1).float()
