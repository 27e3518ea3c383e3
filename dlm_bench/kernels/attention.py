"""Attention of the query tokens of a pass, over themselves or over a cache.

Shapes: q (batch, heads, query_len, head_dim); k and v (batch, heads, length, head_dim).
"""

import torch.nn.functional as F
from torch import Tensor


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v, over all keys or causally. Shape of q."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def attend_cached(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Every query attends to the first `visible` ((1,) int64 on the device) keys of a cache.

    The cost grows with `visible`, not with the cache: on a CPU the keys are sliced.
    """
    n = int(visible)
    return F.scaled_dot_product_attention(q, k[:, :, :n], v[:, :, :n])
