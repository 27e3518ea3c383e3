"""Attention of the query tokens of a pass, over themselves or over a cache.

Shapes: q (batch, heads, query_len, head_dim); k and v (batch, kv_heads, length, head_dim). Where
kv_heads are fewer, heads / kv_heads consecutive heads of q share one (GQA, arXiv 2305.13245).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SDPA = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False, backend: str = "torch"
) -> Tensor:
    """softmax(q k^T / sqrt(head_dim)) v, over all keys or causally. Shape of q.

    Raises RuntimeError if the backend does not take these tensors.
    """
    if backend == "flash-attn":
        from flash_attn import flash_attn_func

        # It wants (batch, length, heads, head_dim), which the projection's view is already.
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        return flash_attn_func(q, k, v, causal=causal).transpose(1, 2)
    if backend == "torch":
        return _sdpa(q, k, v, causal=causal)
    with sdpa_kernel(SDPA[backend]):
        return _sdpa(q, k, v, causal=causal)


def attend_cached(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor, *, backend: str = "torch"
) -> Tensor:
    """Every query attends to the first `visible` ((1,) int64 on the device) keys of a cache.

    The cost grows with `visible`, not with the cache. The plain one slices the keys, for which
    the host must know `visible`; the others read it on the device, and can be captured in a graph.
    """
    if backend == "flash-attn":
        from flash_attn import flash_attn_with_kvcache

        lengths = visible.to(torch.int32).expand(q.shape[0])
        q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
        return flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths).transpose(1, 2)
    if backend == "varlen":
        return _attend_varlen(q, k, v, visible)
    n = int(visible)
    return _sdpa(q, k[:, :, :n], v[:, :, :n])


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """torch's varlen_attn on one sequence of the batch after the other.

    Its packed layout would copy the caches of a batch; those of one sequence it takes as they are.
    """
    from torch.nn.attention.varlen import varlen_attn

    used = visible.to(torch.int32)
    query_len, length = q.shape[2], k.shape[2]
    window = torch.arange(2, device=q.device, dtype=torch.int32)
    outs: list[Tensor] = []
    for sequence in zip(q, k, v, strict=True):
        rows, keys, values = (tensor.transpose(0, 1) for tensor in sequence)  # length first
        q_window, k_window = window * query_len, window * length
        out: Any = varlen_attn(
            rows, keys, values, q_window, k_window, query_len, length, seqused_k=used
        )
        outs.append(out.transpose(0, 1))
    return torch.stack(outs)
