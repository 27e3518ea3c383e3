"""A tensor in the dtype of a kernel's arithmetic, and numbers as tensors."""

from functools import lru_cache

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Return x in float32, without a call to PyTorch where it is."""
    return x if x.dtype == torch.float32 else x.float()


@lru_cache(maxsize=64)
@torch.inference_mode(False)
def constant(value: float) -> Tensor:
    """Return a number as a tensor, which PyTorch need not make anew in each call; one of the CPU
    goes with those of every device."""
    return torch.tensor(value)
