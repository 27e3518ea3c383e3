"""The product of a tile of weights with up to 64 rows, with its norm in front and what follows.

`small_linear` chooses the tiles and launches.
"""

import triton
import triton.language as tl

from dlm_bench.kernels.cuda.dependent import prefetch, release, wait

AHEAD = tl.constexpr(3)  # steps of the weight in flight: the pipeline has 4 stages


@triton.jit
def _statistics(moments, row, rows, eps, D: tl.constexpr, WIDTH: tl.constexpr, TILES: tl.constexpr):
    """Mean and inverse deviation of some rows, from the moments of their tiles (Chan et al.)."""
    tile = tl.arange(0, TILES)
    there = tile * WIDTH < D
    count = tl.where(there, tl.minimum(D - tile * WIDTH, WIDTH), 0).to(tl.float32)[:, None]
    at = moments + (tile[:, None] * rows + row[None, :]) * 2
    means = tl.load(at, there[:, None], 0.0)
    squares = tl.load(at + 1, there[:, None], 0.0)
    mean = tl.sum(means * count, 0) / D
    off = means - mean[None, :]
    variance = tl.sum(squares + count * off * off, 0) / D
    return mean, tl.rsqrt(variance + eps)


@triton.jit
def _columns(rows, token, k, inside, SHARED: tl.constexpr):
    """Some columns of adaLN rows, float32: (columns, 1) of one row that all tokens share, else
    (columns, tokens) of each token's row, `token` elements from the first."""
    if SHARED:
        value = tl.load(rows + k, inside, 0.0)[:, None]
    else:
        value = tl.load(rows + token[None, :] + k[:, None], inside[:, None], 0.0)
    return value.to(tl.float32)


@triton.jit
def _paired(own, HEAD_DIM: tl.constexpr):
    """The columns of a tile of pairs that rotary turns: both of a pair eight rows apart, where one
    thread of a tensor core's product has them."""
    pair = own // 16 * 8 + own % 8
    half: tl.constexpr = HEAD_DIM // 2
    return pair // half * HEAD_DIM + pair % half + own // 8 % 2 * half


@triton.jit
def _halves(acc, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """The first and the second columns of a tile of pairs, (WIDTH / 2, ROWS) each."""
    both = tl.permute(tl.reshape(acc, (WIDTH // 16, 2, 8, ROWS)), (0, 2, 3, 1))
    first, second = tl.split(both)
    return tl.reshape(first, (WIDTH // 2, ROWS)), tl.reshape(second, (WIDTH // 2, ROWS))


@triton.jit
def _angles(cos, sin, pair, position, TURNED_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr):
    """Cosine and sine of pairs at positions, (pairs, positions); 1 and 0 of values."""
    half: tl.constexpr = HEAD_DIM // 2
    at = position[None, :] * half + (pair % half)[:, None]
    turned = (pair < TURNED_HEADS * half)[:, None]
    return tl.load(cos + at, turned, 1.0), tl.load(sin + at, turned, 0.0)


@triton.jit
def _places(
    q,
    k_cache,
    v_cache,
    pair,
    row,
    batch,
    position,
    cached,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
):
    """Where the first column of a pair of a row goes: queries, or keys or values at a position of
    a cache of `cached` tokens."""
    half: tl.constexpr = HEAD_DIM // 2
    head = (pair // half)[:, None]
    of_q = (row * HEADS)[None, :] + head
    kv_head = batch.to(tl.int64)[None, :] * KV_HEADS + (head - HEADS) % KV_HEADS
    of_kv = kv_head * cached + position[None, :]
    to = tl.where(head < HEADS, q, tl.where(head < HEADS + KV_HEADS, k_cache, v_cache))
    return to + tl.where(head < HEADS, of_q, of_kv) * HEAD_DIM + (pair % half)[:, None]


@triton.jit(do_not_specialize=["rows", "length", "first", "cached"])
def linear_of_few_rows(
    x,
    weight,
    bias,
    out,
    copy,
    partial,
    arrived,
    moments,
    scale,
    shift,
    gate,
    new_moments,
    squares,
    norm_weight,
    cos,
    sin,
    start,
    k_cache,
    v_cache,
    cached,
    rows,
    length,
    first,
    scale_batch,
    scale_segment,
    gate_batch,
    gate_segment,
    eps,
    N: tl.constexpr,
    K: tl.constexpr,
    NORM: tl.constexpr,
    UNIT_SCALE: tl.constexpr,
    SHARED: tl.constexpr,
    MOMENT_WIDTH: tl.constexpr,
    MOMENT_TILES: tl.constexpr,
    PARTS: tl.constexpr,
    GELU: tl.constexpr,
    RESIDUAL: tl.constexpr,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    SPLITS: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    STEP: tl.constexpr,
    PDL: tl.constexpr,
):
    """A tile of WIDTH outputs of all rows over a split of the inputs."""
    tile = tl.program_id(0)
    split = tl.program_id(1)
    dtype: tl.constexpr = weight.dtype.element_ty
    own = tile * WIDTH + tl.arange(0, WIDTH)
    n = own
    if HEADS > 0:
        n = _paired(own, HEAD_DIM)
    r = tl.arange(0, ROWS)
    k = tl.arange(0, STEP)
    # Clamped instead of masked: what is beyond the edge is computed and dropped.
    row = tl.minimum(r, rows - 1)
    w = weight + tl.minimum(n, N - 1).to(tl.int64)[:, None] * K
    h = x + row[None, :] * K
    STEPS: tl.constexpr = (K + STEP - 1) // STEP
    EACH: tl.constexpr = (STEPS + SPLITS - 1) // SPLITS
    if PDL:
        for ahead in tl.static_range(AHEAD):
            prefetch(w + tl.minimum(split * EACH + ahead, STEPS - 1) * STEP)
    wait(PDL)
    batch = row // length
    segment = (row % length >= first).to(tl.int32)

    if NORM == "layer":
        mean, inverse = _statistics(moments, row, rows, eps, K, MOMENT_WIDTH, MOMENT_TILES)
        modulated = batch * scale_batch + segment * scale_segment
    if NORM == "gated":
        part = tl.arange(0, MOMENT_TILES)
        of_rows = squares + part[:, None] * rows + row[None, :]
        real = (part < PARTS)[:, None]
        forward = tl.sum(tl.load(of_rows, real, 0.0), 0)
        forward = tl.rsqrt(forward / MOMENT_WIDTH + eps)
        backward = forward
        if K > MOMENT_WIDTH:
            backward = tl.sum(tl.load(of_rows + PARTS * rows, real, 0.0), 0)
            backward = tl.rsqrt(backward / MOMENT_WIDTH + eps)

    if HEADS > 0:
        pair = tile * (WIDTH // 2) + tl.arange(0, WIDTH // 2)
        position = tl.load(start) + row % length
        cosine, sine = _angles(cos, sin, pair, position, HEADS + KV_HEADS, HEAD_DIM)

    acc = tl.zeros((WIDTH, ROWS), tl.float32)
    for step in range(split * EACH, tl.minimum((split + 1) * EACH, STEPS)):
        at = step * STEP + k
        a = tl.load(w + at[None, :])
        b = tl.load(h + at[:, None])  # (STEP, ROWS)
        if NORM == "layer":
            s = _columns(scale, modulated, at, at < K, SHARED)
            if UNIT_SCALE:
                s += 1
            value = (b.to(tl.float32) - mean[None, :]) * inverse[None, :]
            b = (value * s + _columns(shift, modulated, at, at < K, SHARED)).to(dtype)
        if NORM == "gated":
            deviation = tl.where(step * STEP < MOMENT_WIDTH, forward, backward)
            value = b.to(tl.float32) * tl.load(norm_weight + at).to(tl.float32)[:, None]
            b = (value * deviation[None, :]).to(dtype)
        acc = tl.dot(a, b, acc, input_precision="ieee")

    release(PDL)  # every load of the weight is under way
    if SPLITS > 1:
        tiles = tl.num_programs(0)
        at = own[:, None] * ROWS + r[None, :]
        plane = tiles * WIDTH * ROWS
        tl.store(partial + split * plane + at, acc)
        tl.debug_barrier()  # all of this program's part is written before it counts
        before = tl.atomic_add(arrived + tile, 1, sem="acq_rel")
        if before < SPLITS - 1:
            return
        tl.store(arrived + tile, 0)  # for the next launch
        acc = tl.zeros((WIDTH, ROWS), tl.float32)
        for each in range(SPLITS):
            acc += tl.load(partial + each * plane + at, cache_modifier=".cg")

    inside = (n < N)[:, None] & (r < rows)[None, :]
    if bias is not None:
        acc += tl.load(bias + n, n < N, 0.0).to(tl.float32)[:, None]
    if GELU:  # tanh's: x (1 + tanh(u)) / 2 = x / (1 + exp(-2 u))
        acc = acc / (1.0 + tl.exp(-1.5957691216057308 * (acc + 0.044715 * acc * acc * acc)))
    if HEADS > 0:
        left, right = _halves(acc, WIDTH, ROWS)
        there = (pair < N // 2)[:, None] & (r < rows)[None, :]
        to = _places(
            out, k_cache, v_cache, pair, row, batch, position, cached, HEADS, KV_HEADS, HEAD_DIM
        )
        tl.store(to, (left * cosine - right * sine).to(dtype), there)
        tl.store(to + HEAD_DIM // 2, (left * sine + right * cosine).to(dtype), there)
    else:
        to = r[None, :] * N + n[:, None]
        if RESIDUAL:
            if gate is not None:
                gated = batch * gate_batch + segment * gate_segment
                acc *= _columns(gate, gated, n, n < N, SHARED)
            acc += tl.load(out + to, inside, 0.0)
            tl.store(copy + to, acc.to(dtype), inside)
            count = tl.minimum(N - tile * WIDTH, WIDTH)
            mean = tl.sum(tl.where(inside, acc, 0.0), 0) / count
            off = tl.where(inside, acc - mean[None, :], 0.0)
            there = new_moments + (tile * rows + r) * 2
            tl.store(there, mean, r < rows)
            tl.store(there + 1, tl.sum(off * off, 0), r < rows)
        tl.store(out + to, acc.to(out.dtype.element_ty), inside)
