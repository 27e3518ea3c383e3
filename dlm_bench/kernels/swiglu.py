"""The gated product of a SwiGLU MLP (arXiv 2002.05202)."""

import torch.nn.functional as F
from torch import Tensor


def swiglu(gate_up: Tensor) -> Tensor:
    """SiLU(gate) * up: gate_up (..., 2 ffn), the gate's half first, to (..., ffn)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate).mul_(up)
