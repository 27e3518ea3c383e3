"""Residual, LayerNorm and modulation between two branches of a network (adaLN)."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.wide import wide

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


def ready_rows(rows: Tensor, segments: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Make shift, scale, gate, shift, scale and so on, (segments, vectors, width), ready for
    `add_norm_ready`: each in float32, with the 1 added to a scale, (width,) for all tokens or
    (length, width) where there are several segments."""
    rows = rows.clone() if rows.dtype == torch.float32 else rows.float()
    rows[:, 1::3].add_(1)
    if len(segments) == 1:
        return rows[0].unbind()
    parts = [rows[i, :, None].expand(-1, n, -1) for i, n in enumerate(segments)]
    return torch.cat(parts, dim=1).unbind()


def add_norm_ready(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    segments: tuple[int, ...],
    *,
    unit_scale: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """As `add_norm`, of `ready_rows`: with a gate, whatever `unit_scale`, and with x in place. The
    second result has `dtype`."""
    if branch is not None:
        assert gate is not None
        x = x.addcmul_(gate, wide(branch))
    if scale.dim() == 1:
        normed = F.layer_norm(x, scale.shape, scale, shift, EPSILON)
    else:
        normed = torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPSILON), scale)
    return x, normed if dtype == torch.float32 else normed.to(dtype)
