"""Residual, LayerNorm and modulation between two branches of a network (adaLN)."""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-5


def add_norm(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    segments: tuple[int, ...],
    *,
    unit_scale: bool,
    backend: str = "torch",
) -> tuple[Tensor, Tensor]:
    """x' = x + gate * branch, and LayerNorm(x') * scale + shift (DiT, arXiv 2212.09748).

    x and branch (batch, length, d_model); branch None leaves x as it is, gate None stands for 1.
    gate, scale and shift are (batch, segments, d_model), one row for each of the consecutive
    segments, or (d_model,). `unit_scale`: the scale is added to 1 (a denoiser's modulation; an
    autoregressive block's LayerNorm has weights instead). May overwrite x. Returns both.
    """
    if backend == "triton":
        from dlm_bench.kernels.cuda.adaln import add_norm as fused

        scale, shift = _per_sequence(scale, len(x)), _per_sequence(shift, len(x))
        if gate is not None:
            gate = _per_sequence(gate, len(x))
        return fused(x, branch, gate, scale, shift, segments, unit_scale=unit_scale)
    scale, shift = _per_token(scale, segments), _per_token(shift, segments)
    if branch is not None:
        x = x + branch if gate is None else torch.addcmul(x, _per_token(gate, segments), branch)
    if not unit_scale:
        return x, F.layer_norm(x, x.shape[-1:], scale, shift, EPSILON)
    return x, torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=EPSILON), 1 + scale)


def _per_sequence(rows: Tensor, batch: int) -> Tensor:
    """One timestep may stand for the whole batch."""
    return rows if rows.dim() == 1 else rows.expand(batch, -1, -1)


def _per_token(rows: Tensor, segments: tuple[int, ...]) -> Tensor:
    """(batch, segments, width) to what broadcasts over the tokens of these segments."""
    if len(segments) == 1:
        return rows
    parts = [rows[:, i : i + 1].expand(-1, n, -1) for i, n in enumerate(segments)]
    return torch.cat(parts, dim=1)
