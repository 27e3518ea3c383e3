"""Products with a weight on a CPU, by oneDNN where it is faster than PyTorch's BLAS.

PyTorch takes the BLAS for float32. The usual one, MKL, has no AVX-512 for processors of other
makers than Intel; oneDNN has. Where the BLAS takes the whole vector width, it still lays a weight
out anew in every product, which oneDNN can have done once. The operator is the one into which
PyTorch's compiler fuses an activation.
"""

import math
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Multiply-adds from which oneDNN is worth its call, ten times longer than the BLAS's: where the
# BLAS takes half of the vector width, and where it takes the whole, of a weight that is kept.
WORTH, WORTH_PACKED = 1 << 20, 1 << 22

# The largest weight of which a decode keeps a copy in oneDNN's layout: 8 MB in float32.
PACKED_NUMBERS = 1 << 21


@dataclass
class Packed:
    """The weights of a decode as products on a CPU take them, each from its first product on: small
    ones in oneDNN's layout, and turned for the BLAS."""

    reordered: dict[Tensor, Tensor] = field(default_factory=dict)
    turned: dict[Tensor, Tensor] = field(default_factory=dict)

    def reorders(self, weight: Tensor) -> bool:
        """Tell if the weight is small enough to be kept in oneDNN's layout."""
        return weight.numel() <= PACKED_NUMBERS


HAS_ONEDNN = torch.backends.mkldnn.is_available()
_onednn: Any = torch.ops.mkldnn._linear_pointwise.default if HAS_ONEDNN else None


def blas_takes_half() -> bool:
    """Tell if PyTorch's BLAS takes half of this processor's vector width."""
    try:
        maker = Path("/proc/cpuinfo").read_text()
    except OSError:
        maker = platform.processor()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return wide and torch.backends.mkl.is_available() and "GenuineIntel" not in maker


BLAS_TAKES_HALF = blas_takes_half()


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Packed | None = None
) -> Tensor:
    """x W^T + b, as F.linear: x (..., in), weight (out, in), bias (out,) to (..., out).

    packed: the weights of a decode; this one is put in.
    """
    if _takes_onednn(x, weight, bias, packed):
        return _by_onednn(x, weight, bias, packed, "none", "")
    return _by_pytorch(x, weight, bias, packed)


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor, packed: Packed | None = None) -> Tensor:
    """GELU(x W^T + b) by the approximation with tanh; `packed` as in `linear`."""
    if _takes_onednn(x, weight, bias, packed):
        return _by_onednn(x, weight, bias, packed, "gelu", "tanh")
    return F.gelu(_by_pytorch(x, weight, bias, packed), approximate="tanh")


def _by_onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed | None, what: str, how: str
) -> Tensor:
    # Of two dimensions the operator makes a quarter of the calls.
    flat = _rows(x)
    key, weight = weight, weight.contiguous()  # with gaps it takes a thousand times as long
    if packed is not None and packed.reorders(weight):
        kept = packed.reordered
        if key not in kept:
            kept[key] = torch.ops.mkldnn._reorder_linear_weight(weight, len(flat))
        weight = kept[key]
    out: Tensor = _onednn(flat, weight, bias, what, [], how)
    return out if x.dim() == 2 else out.view(*x.shape[:-1], out.shape[1])


def _by_pytorch(x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed | None) -> Tensor:
    """F.linear; without a gradient its own product by half of its calls."""
    if not x.is_cpu or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    flat = _rows(x)
    kept = {} if packed is None else packed.turned
    if weight not in kept:
        kept[weight] = weight.t()
    out = torch.mm(flat, kept[weight]) if bias is None else torch.addmm(bias, flat, kept[weight])
    return out if x.dim() == 2 else out.view(*x.shape[:-1], out.shape[1])


def _rows(x: Tensor) -> Tensor:
    """(..., width) to (rows, width), by a single call where no copy is needed."""
    if x.dim() == 2:
        return x
    return x.view(-1, x.shape[-1]) if x.is_contiguous() else x.flatten(0, -2)


def _takes_onednn(x: Tensor, weight: Tensor, bias: Tensor | None, packed: Packed | None) -> bool:
    """Tell if oneDNN takes a product: a large one on a CPU, in float32 and without a gradient."""
    if BLAS_TAKES_HALF:
        least: float = WORTH
    else:
        least = WORTH_PACKED if packed is not None and packed.reorders(weight) else math.inf
    return (
        HAS_ONEDNN
        and x.is_cpu
        and x.dtype == torch.float32
        and x.numel() * weight.shape[0] >= least
        and not (torch.is_grad_enabled() and _wants_gradient(x, weight, bias))
    )


def _wants_gradient(*tensors: Tensor | None) -> bool:
    return any(each is not None and each.requires_grad for each in tensors)
