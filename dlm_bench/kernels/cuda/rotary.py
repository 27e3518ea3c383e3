"""Rotary embedding of a pass's queries and keys, and its keys and values put into the caches."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _turn(first, second, cos, sin):
    """The pairs (first, second) turned in float32, as `dlm_bench.kernels.rotary.rotate` does."""
    x = first.to(tl.float32)
    y = second.to(tl.float32)
    return (x * cos - y * sin).to(first.dtype), (x * sin + y * cos).to(first.dtype)


@triton.jit(do_not_specialize=["query_len", "length"])
def _rotate_qkv(
    qkv,
    cos,
    sin,
    start,
    k_cache,
    v_cache,
    query_len,
    length,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """TOKENS tokens, all heads: a column is a pair, with both halves in a thread."""
    HALF: tl.constexpr = HEAD_DIM // 2
    D_MODEL: tl.constexpr = HEADS * HEAD_DIM
    batch = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    # Heads and pairs on one axis: half a head_dim of 80 on its own would be padded from 40 to 64.
    column = tl.arange(0, WIDTH)
    head = column // HALF
    pair = column % HALF
    inside = (token < query_len)[:, None] & (column < HEADS * HALF)[None, :]  # (TOKENS, WIDTH)

    row = (batch * query_len + token) * (3 * D_MODEL)
    q_at = qkv + row[:, None] + (head * HEAD_DIM + pair)[None, :]
    k_at = q_at + D_MODEL
    v_at = k_at + D_MODEL
    position = token.to(tl.int64)
    if start is not None:
        position += tl.load(start)
    # All loads before the first store, which they may not be moved across: one latency, not three.
    q_first = tl.load(q_at, inside)
    q_second = tl.load(q_at + HALF, inside)
    k_first = tl.load(k_at, inside)
    k_second = tl.load(k_at + HALF, inside)
    if v_cache is not None:
        v_first = tl.load(v_at, inside)
        v_second = tl.load(v_at + HALF, inside)
    angle = position[:, None] * HALF + pair[None, :]
    c = tl.load(cos + angle, inside)
    s = tl.load(sin + angle, inside)

    q_first, q_second = _turn(q_first, q_second, c, s)
    k_first, k_second = _turn(k_first, k_second, c, s)
    tl.store(q_at, q_first, inside)
    tl.store(q_at + HALF, q_second, inside)
    if k_cache is None:
        tl.store(k_at, k_first, inside)
        tl.store(k_at + HALF, k_second, inside)
    else:
        cache_row = (batch * HEADS + head)[None, :] * length + position[:, None]
        cache_at = cache_row * HEAD_DIM + pair[None, :]
        tl.store(k_cache + cache_at, k_first, inside)
        tl.store(k_cache + cache_at + HALF, k_second, inside)
        tl.store(v_cache + cache_at, v_first, inside)
        tl.store(v_cache + cache_at + HALF, v_second, inside)


def rotate_qkv(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    start: Tensor | None = None,
    k_cache: Tensor | None = None,
    v_cache: Tensor | None = None,
) -> None:
    """Turn q in place, and k in place or, with v, into the caches (RoFormer, arXiv 2104.09864).

    qkv (batch, query_len, 3, heads, head_dim), contiguous. cos and sin (table_length,
    head_dim / 2) float32, contiguous: a row a position (`kernels.rotary.rotary_angles`). start
    (1,) int64 on the device: the position of the first token, None for 0; start + query_len may
    not pass the end of the tables and caches. Caches (batch, heads, length, head_dim), contiguous,
    in the dtype of qkv, both or none: with them the turned k, and v, are written there at their
    positions, and qkv's k and v stay as they are.
    """
    batch, query_len, _, heads, head_dim = qkv.shape
    if (k_cache is None) != (v_cache is None):
        raise ValueError("k_cache and v_cache: give both or none")
    width = triton.next_power_of_2(heads * head_dim // 2)
    tokens = max(1, 1024 // width)  # narrow models' tokens share a program
    _rotate_qkv[(triton.cdiv(query_len, tokens), batch)](
        qkv,
        cos,
        sin,
        start,
        k_cache,
        v_cache,
        query_len,
        0 if k_cache is None else k_cache.shape[2],
        HEADS=heads,
        HEAD_DIM=head_dim,
        TOKENS=tokens,
        WIDTH=width,
        # 8 pairs a thread: 16-byte loads of 16-bit halves, and all of q, k and v in flight at once.
        num_warps=min(16, max(1, tokens * width // 256)),
    )
