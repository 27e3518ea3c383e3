"""The rows that tokens stand for, and a part of the sequences."""

import torch.nn.functional as F
from torch import Tensor


def embed(tokens: Tensor, weight: Tensor) -> Tensor:
    """The embedding of tokens (batch, len) int64, (batch, len, d_model) float32: the residual
    stream's dtype. weight (vocabulary, d_model)."""
    return F.embedding(tokens, weight).float()
