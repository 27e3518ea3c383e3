"""Products with a weight on a CPU by oneDNN, which takes the whole vector width of any processor.

PyTorch takes the BLAS for float32, and the usual one, MKL, takes half the width on processors of
another maker. The operator is the one into which PyTorch's compiler fuses an activation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiply-adds from which oneDNN is worth its call, ten times longer than the BLAS's.
WORTH = 1 << 20

# The largest weight of which a decode keeps a copy in oneDNN's layout: of a larger one the product
# takes longer than the copying.
PACKED_NUMBERS = 1 << 18
Packed = dict[Tensor, Tensor]  # a weight's copy, by the weight

HAS_ONEDNN = torch.backends.mkldnn.is_available()
_onednn: Any = torch.ops.mkldnn._linear_pointwise.default if HAS_ONEDNN else None


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Packed | None = None
) -> Tensor:
    """x W^T + b, as F.linear: x (..., in), weight (out, in), bias (out,) to (..., out).

    packed: the weights of a decode in oneDNN's layout; a small one that is not there is put in.
    """
    if not _takes_onednn(x, weight, bias):
        return F.linear(x, weight, bias)
    return _pointwise(x, weight, bias, packed, "none", "")


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, packed: Packed | None = None) -> Tensor:
    """GELU(x W^T + b) by the approximation with tanh; `packed` as in `linear`."""
    if not _takes_onednn(x, weight, bias):
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return _pointwise(x, weight, bias, packed, "gelu", "tanh")


def _pointwise(
    x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed | None, what: str, how: str
) -> Tensor:
    # Of two dimensions the operator makes a quarter of the calls.
    flat = x if x.dim() == 2 else x.flatten(0, -2)
    if packed is not None and weight.numel() <= PACKED_NUMBERS:
        if weight not in packed:
            packed[weight] = torch.ops.mkldnn._reorder_linear_weight(weight, len(flat))
        weight = packed[weight]
    out: Tensor = _onednn(flat, weight, bias, what, [], how)
    return out if x.dim() == 2 else out.view(*x.shape[:-1], -1)


def _takes_onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Tell if oneDNN takes a product: a large one on a CPU, in float32 and without a gradient. For
    a weight with gaps it has a loop a thousand times slower."""
    return (
        x.is_cpu
        and x.dtype == torch.float32
        and x.numel() * weight.shape[0] >= WORTH
        and weight.is_contiguous()
        and not (torch.is_grad_enabled() and _wants_gradient(x, weight, bias))
        and HAS_ONEDNN
    )


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return any(each is not None and each.requires_grad for each in tensors)
