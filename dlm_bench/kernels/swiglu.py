"""The gated product of a SwiGLU MLP (arXiv 2002.05202)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def choose_swiglu(backend: str) -> Callable[[Tensor], Tensor]:
    """Return the form of `swiglu` that a backend ("torch" or "triton") names."""
    if backend == "torch":
        return swiglu
    from dlm_bench.kernels.cuda.swiglu import swiglu as fused

    return fused


def swiglu(gate_up: Tensor) -> Tensor:
    """SiLU(gate) * up: gate_up (..., 2 ffn), the gate's half first, to (..., ffn)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up
