"""Attention of the query tokens of a pass, over themselves or over a cache.

Shapes: q (batch, heads, query_len, head_dim); k and v (batch, kv_heads, length, head_dim). Where
kv_heads are fewer, heads / kv_heads consecutive heads of q share a head (GQA, arXiv 2305.13245).
"""

from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

SDPA = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


class Attend(Protocol):
    """softmax(q k^T / sqrt(head_dim)) v, over all keys or causally: the shape of q.

    Raises RuntimeError for tensors the implementation does not take.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor: ...


class AttendCached(Protocol):
    """Attention of every query to the first `visible` ((1,) int64 on the device) keys of a cache.

    The cost grows with `visible`, not with the cache.
    """

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, visible: Any) -> Tensor: ...


def choose_attend(backend: str) -> Attend:
    """Return the form of `attend` with this name."""
    if backend == "torch":
        return attend
    if backend == "triton":
        from dlm_bench.kernels.cuda.whole_attention import attend_whole  # needs Triton

        return attend_whole
    packages = {"flash-attn": attend_flash, "flash-attn-4": attend_flash_4}
    return packages[backend] if backend in packages else partial(attend_sdpa, SDPA[backend])


def choose_attend_cached(backend: str) -> AttendCached:
    """Return the form of `attend_cached` with this name; "triton" is in `cuda.split_kv`."""
    forms = {"flash-attn": attend_cached_flash, "varlen": attend_cached_varlen}
    return forms.get(backend, attend_cached)


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Attend with the implementation of torch's own choice (see Attend)."""
    return _sdpa(q, k, v, causal=causal)


def attend_sdpa(
    backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False
) -> Tensor:
    """Attend with a named implementation of torch's."""
    with sdpa_kernel(backend):
        return _sdpa(q, k, v, causal=causal)


def attend_flash(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Attend with package flash-attn."""
    from flash_attn import flash_attn_func

    # It wants (batch, length, heads, head_dim), which the projection's view is already.
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return flash_attn_func(q, k, v, causal=causal).transpose(1, 2)


def attend_flash_4(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    """Attend with package flash-attn-4 (FlashAttention for Hopper and Blackwell in CuTe)."""
    from flash_attn.cute import flash_attn_func

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    out, _ = flash_attn_func(q, k, v, causal=causal)  # and the logarithms of the sums
    return out.transpose(1, 2)


def attend_cached(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | int) -> Tensor:
    """Slice the visible keys (see AttendCached). The host must know `visible`, so no graph can
    capture this form; the others read `visible` on the device."""
    n = int(visible)
    return _sdpa(q, k.narrow(2, 0, n), v.narrow(2, 0, n))


def attend_masked(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attend to the keys where `seen`, bool (batch, 1, 1, keys) or (query_len, keys), is True."""
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=grouped)


def attend_causal(q: Tensor, k: Tensor, v: Tensor, positions: Tensor) -> Tensor:
    """Attend from each query to the keys up to its own position, (query_len,) int64 on the device.

    The cost grows with the keys that are given, seen or not."""
    return attend_masked(q, k, v, torch.arange(k.shape[2], device=k.device) <= positions[:, None])


def attend_cached_flash(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Attend to a cache with package flash-attn."""
    from flash_attn import flash_attn_with_kvcache

    lengths = visible.to(torch.int32).expand(q.shape[0])
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    return flash_attn_with_kvcache(q, k, v, cache_seqlens=lengths).transpose(1, 2)


def attend_cached_varlen(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """Attend to a cache with torch's varlen_attn, a sequence of the batch after the other.

    The packed layout would copy the caches of a batch; those of a single sequence stay in place.
    """
    from torch.nn.attention.varlen import varlen_attn

    used = visible.to(torch.int32)
    query_len, length = q.shape[2], k.shape[2]
    window = torch.arange(2, device=q.device, dtype=torch.int32)
    grouped = q.shape[1] != k.shape[1]
    outs: list[Tensor] = []
    for sequence in zip(q, k, v, strict=True):
        rows, keys, values = (tensor.transpose(0, 1) for tensor in sequence)  # length first
        q_window, k_window = window * query_len, window * length
        out: Any = varlen_attn(
            rows,
            keys,
            values,
            q_window,
            k_window,
            query_len,
            length,
            seqused_k=used,
            enable_gqa=grouped,
        )
        outs.append(out.transpose(0, 1))
    return torch.stack(outs)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = False) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=grouped)
