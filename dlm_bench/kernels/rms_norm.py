"""Residual addition and RMSNorm (arXiv 1910.07467) between two branches of a Transformer."""

from typing import Protocol

import torch
from torch import Tensor

from dlm_bench.kernels.wide import constant, wide


class AddRMSNorm(Protocol):
    """The signature of `add_rms_norm`, plain and fused."""

    def __call__(
        self, x: Tensor, branch: Tensor | None, weight: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor]: ...


def add_rms_norm(
    x: Tensor, branch: Tensor | None, weight: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """x' = x + branch, and x' / sqrt(mean(x'^2) + epsilon) * weight.

    x, the residual stream, is float32 (batch, length, d_model) whatever the dtype of the rest, as
    in `kernels.adaln.add_norm`; branch None leaves x as it is; weight (d_model,). May overwrite x.
    Returns both, the second in the dtype of `weight`.
    """
    if branch is not None:
        x = x + wide(branch)
    return x, rms_norm(x, weight, epsilon)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """RMSNorm over the last dimension, in float32; in the dtype of `weight`.

    weight (width,), or a row for each of the vectors, as the heads of q and k have.
    """
    width, dtype = x.shape[-1], weight.dtype
    x, weight = wide(x), wide(weight)
    # Few calls: sqrt(width (mean(x^2) + epsilon)) is the hypotenuse of |x| and a constant.
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    length = torch.hypot(norm, constant((epsilon * width) ** 0.5))
    normed = (x / length).mul_(weight * constant(width**0.5))
    return normed if dtype == torch.float32 else normed.to(dtype)
