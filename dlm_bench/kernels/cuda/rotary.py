"""Norms and rotary embedding of a pass's queries and keys; keys and values into the caches."""

import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.dependent import launch_options, release, wait


@triton.jit
def _pairs(
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TURNED: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """The pairs of all heads on one axis: head, index in the head, both columns, mask.

    Columns that rotary does not turn are pairs too, behind the TURNED ones.
    """
    column = tl.arange(0, WIDTH)
    head = column // PAIRS
    pair = column % PAIRS
    inside = column < HEADS * PAIRS
    if 2 * PAIRS > HEAD_DIM:
        inside = inside & (pair < HEAD_DIM // 2)
    first = pair
    second = pair + TURNED
    if 2 * TURNED < HEAD_DIM:
        first = tl.where(pair < TURNED, pair, pair + TURNED)
        second = first + tl.where(pair < TURNED, TURNED, HEAD_DIM // 2 - TURNED)
    return head, pair, first, second, inside


@triton.jit
def _angles(cos, sin, position, pair, mask, HEAD_DIM: tl.constexpr, TURNED: tl.constexpr):
    """Cosine and sine (TOKENS, WIDTH) at these positions; of pairs that are not turned 1 and 0."""
    if 2 * TURNED < HEAD_DIM:
        mask = mask & (pair < TURNED)[None, :]
    at = position[:, None] * TURNED + pair[None, :]
    return tl.load(cos + at, mask, 1.0), tl.load(sin + at, mask, 0.0)


@triton.jit
def _normed(
    first,
    second,
    first_weight,
    second_weight,
    eps,
    HEAD_DIM: tl.constexpr,
    PAIRS: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """RMSNorm over each head of (TOKENS, WIDTH) float32 pairs."""
    squares = tl.reshape(first * first + second * second, (TOKENS, WIDTH // PAIRS, PAIRS))
    inverse = tl.rsqrt(tl.sum(squares, 2) / HEAD_DIM + eps)
    inverse = tl.broadcast_to(inverse[:, :, None], (TOKENS, WIDTH // PAIRS, PAIRS))
    inverse = tl.reshape(inverse, (TOKENS, WIDTH))
    first *= inverse * first_weight.to(tl.float32)[None, :]
    second *= inverse * second_weight.to(tl.float32)[None, :]
    return first, second


@triton.jit
def _turn(first, second, cos, sin):
    """The pairs (first, second) turned in float32, as `dlm_bench.kernels.rotary.rotate` does."""
    return first * cos - second * sin, first * sin + second * cos


@triton.jit(do_not_specialize=["query_len", "length"])
def _rotate_qkv(
    qkv,
    cos,
    sin,
    start,
    k_cache,
    v_cache,
    q_weight,
    k_weight,
    query_len,
    length,
    eps,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    TURNED: tl.constexpr,
    PAIRS: tl.constexpr,
    TOKENS: tl.constexpr,
    WIDTH: tl.constexpr,
    KV_WIDTH: tl.constexpr,
    PDL: tl.constexpr,
):
    """TOKENS tokens, all heads: a column is a pair, with both halves in a thread."""
    wait(PDL)
    release(PDL)
    dtype = qkv.dtype.element_ty
    batch = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    there = (token < query_len)[:, None]
    # Heads and pairs on one axis: half a head_dim of 80 on its own would be padded from 40 to 64.
    head, pair, first, second, inside = _pairs(HEADS, HEAD_DIM, TURNED, PAIRS, WIDTH)
    kv_head, kv_pair, kv_first, kv_second, kv_inside = head, pair, first, second, inside
    if KV_HEADS != HEADS:
        kv_head, kv_pair, kv_first, kv_second, kv_inside = _pairs(
            KV_HEADS, HEAD_DIM, TURNED, PAIRS, KV_WIDTH
        )
    mask = there & inside[None, :]  # (TOKENS, WIDTH)
    kv_mask = there & kv_inside[None, :]

    row = (batch * query_len + token) * ((HEADS + 2 * KV_HEADS) * HEAD_DIM)
    q = qkv + row[:, None]
    k = q + HEADS * HEAD_DIM
    v = k + KV_HEADS * HEAD_DIM
    q_left, q_right = head * HEAD_DIM + first, head * HEAD_DIM + second
    k_left, k_right = kv_head * HEAD_DIM + kv_first, kv_head * HEAD_DIM + kv_second
    position = token.to(tl.int64)
    if start is not None:
        position += tl.load(start)
    # All loads before the first store, which they may not be moved across: one latency, not three.
    q_first = tl.load(q + q_left[None, :], mask, 0.0).to(tl.float32)
    q_second = tl.load(q + q_right[None, :], mask, 0.0).to(tl.float32)
    k_first = tl.load(k + k_left[None, :], kv_mask, 0.0).to(tl.float32)
    k_second = tl.load(k + k_right[None, :], kv_mask, 0.0).to(tl.float32)
    if v_cache is not None:
        v_first = tl.load(v + k_left[None, :], kv_mask, 0.0)
        v_second = tl.load(v + k_right[None, :], kv_mask, 0.0)
    c, s = _angles(cos, sin, position, pair, mask, HEAD_DIM, TURNED)
    kv_c, kv_s = c, s
    if KV_HEADS != HEADS:
        kv_c, kv_s = _angles(cos, sin, position, kv_pair, kv_mask, HEAD_DIM, TURNED)

    if q_weight is not None:
        w_first = tl.load(q_weight + first, inside, 0.0)
        w_second = tl.load(q_weight + second, inside, 0.0)
        q_first, q_second = _normed(
            q_first, q_second, w_first, w_second, eps, HEAD_DIM, PAIRS, TOKENS, WIDTH
        )
        w_first = tl.load(k_weight + kv_first, kv_inside, 0.0)
        w_second = tl.load(k_weight + kv_second, kv_inside, 0.0)
        k_first, k_second = _normed(
            k_first, k_second, w_first, w_second, eps, HEAD_DIM, PAIRS, TOKENS, KV_WIDTH
        )
    q_first, q_second = _turn(q_first, q_second, c, s)
    k_first, k_second = _turn(k_first, k_second, kv_c, kv_s)
    tl.store(q + q_left[None, :], q_first.to(dtype), mask)
    tl.store(q + q_right[None, :], q_second.to(dtype), mask)
    if k_cache is None:
        tl.store(k + k_left[None, :], k_first.to(dtype), kv_mask)
        tl.store(k + k_right[None, :], k_second.to(dtype), kv_mask)
    else:
        cache_row = (batch * KV_HEADS + kv_head)[None, :] * length + position[:, None]
        left = cache_row * HEAD_DIM + kv_first[None, :]
        right = cache_row * HEAD_DIM + kv_second[None, :]
        tl.store(k_cache + left, k_first.to(dtype), kv_mask)
        tl.store(k_cache + right, k_second.to(dtype), kv_mask)
        tl.store(v_cache + left, v_first, kv_mask)
        tl.store(v_cache + right, v_second, kv_mask)


def rotate_qkv(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    start: Tensor | None = None,
    k_cache: Tensor | None = None,
    v_cache: Tensor | None = None,
    *,
    kv_heads: int,
    norms: tuple[Tensor, Tensor] | None = None,
    epsilon: float = 0.0,
) -> None:
    """Turn q in place, and k in place or, with v, into the caches (RoFormer, arXiv 2104.09864).

    qkv (batch, query_len, heads + 2 kv_heads, head_dim), contiguous: the heads of q, then those of
    k, then those of v. cos and sin (table_length, w / 2) float32, contiguous: a row a position
    (`kernels.rotary.rotary_angles`); the columns of a head behind the first w pass as they are.
    norms: weights (head_dim,) of an RMSNorm over each head of q and of k, taken before the turn.
    start (1,) int64 on the device: the position of the first token, None for 0; start + query_len
    may not pass the end of the tables and caches. Caches (batch, kv_heads, length, head_dim),
    contiguous, in the dtype of qkv, both or none: with them the turned k, and v, are written there
    at their positions, and qkv's k and v stay as they are.
    """
    batch, query_len, groups, head_dim = qkv.shape
    if (k_cache is None) != (v_cache is None):
        raise ValueError("k_cache and v_cache: give both or none")
    heads, half = groups - 2 * kv_heads, head_dim // 2
    # A norm adds up the pairs of a head, which are then padded to a power of two.
    pairs = half if norms is None else triton.next_power_of_2(half)
    width = triton.next_power_of_2(heads * pairs)
    tokens = max(1, 1024 // width)  # narrow models' tokens share a program
    _rotate_qkv[(triton.cdiv(query_len, tokens), batch)](
        qkv,
        cos,
        sin,
        start,
        k_cache,
        v_cache,
        *((None, None) if norms is None else norms),
        query_len,
        0 if k_cache is None else k_cache.shape[2],
        epsilon,
        HEADS=heads,
        KV_HEADS=kv_heads,
        HEAD_DIM=head_dim,
        TURNED=cos.shape[1],
        PAIRS=pairs,
        TOKENS=tokens,
        WIDTH=width,
        KV_WIDTH=triton.next_power_of_2(kv_heads * pairs),
        # 8 pairs a thread: 16-byte loads of 16-bit halves, and all of q, k and v in flight at once.
        num_warps=min(16, max(1, tokens * width // 256)),
        **launch_options(),
    )
