"""The Mamba-2 scan of a whole sequence by a program for each head, which walks from tile to tile.

The state stays in registers, so that no state of a chunk and no scores go through memory: x is read
once and y written once. There are as many programs as heads, of both directions and all sequences:
120 at 1.3b and batch 1, one on each of as many processors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.conv import Steps
from dlm_bench.kernels.cuda.common import LOG2E, NEVER
from dlm_bench.kernels.cuda.pass_states import Kept, finish_states

TOKENS = 64  # of a tile; more would not fit in registers beside the state


@triton.jit
def _columns(rows, column, WIDTH: tl.constexpr, END: tl.constexpr):
    """The columns of some rows, up to END: 0 beyond WIDTH."""
    if END > WIDTH:
        return tl.load(rows + column[None, :], (column < WIDTH)[None, :], 0.0)
    return tl.load(rows + column[None, :])


@triton.jit(do_not_specialize=["length", "tiles"])
def _walk(
    x,
    B,
    C,
    dt,
    decay,
    D,
    y,
    start,
    stop,
    states,
    state_direction,
    length,
    tiles,
    sequence,
    token,
    KEPT: tl.constexpr,
    HEADS: tl.constexpr,
    HEADDIM: tl.constexpr,
    D_STATE: tl.constexpr,
    T: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
):
    """A head of a direction. `sequence` and `token` elements on in x, B and C lies the next one."""
    dtype: tl.constexpr = x.dtype.element_ty
    direction = tl.program_id(1)
    heads = tl.num_programs(1) * HEADS
    head = direction * HEADS + tl.program_id(0)
    batch = tl.program_id(2).to(tl.int64)
    p = tl.arange(0, P)
    n = tl.arange(0, N)
    t = tl.arange(0, T)
    skip = tl.load(D + head)
    x += batch * sequence + head * HEADDIM
    B += batch * sequence + direction * D_STATE
    C += batch * sequence + direction * D_STATE
    y += (batch * length * heads + head) * HEADDIM
    steps = (batch * heads + head) * tiles * T

    if KEPT > 0:
        # The tile with the edge of the block in it; behind the last token there is no next one.
        end = tl.where(direction == 1, length - tl.load(stop), tl.load(start))
        kept = tl.where(direction < KEPT, tl.minimum(end // T, tiles - 1), -1)
        states += direction * state_direction
        states += (batch * HEADS + tl.program_id(0)) * (HEADDIM * D_STATE)

    S = tl.zeros((N, P), tl.float32)
    for tile in range(tiles):
        if KEPT > 0:  # noqa: SIM102  (known when compiled, the other is not)
            if tile == kept:
                own = (p < HEADDIM)[None, :] & (n < D_STATE)[:, None]
                tl.store(states + p[None, :] * D_STATE + n[:, None], S, own)
        at = tile * T + t
        # Clamped instead of masked: beyond the end the steps are 0, and nothing happens.
        rows = (tl.minimum(at, length - 1).to(tl.int64) * token)[:, None]
        Bs = _columns(B + rows, n, D_STATE, N)  # (T, N)
        Cs = _columns(C + rows, n, D_STATE, N)
        xs = _columns(x + rows, p, HEADDIM, P)  # (T, P)
        step = tl.load(dt + steps + at)
        logs = tl.load(decay + steps + at) * LOG2E  # of the decay since the tile's start, base 2
        total = tl.load(decay + steps + tile * T + T - 1) * LOG2E
        # Out of the causal triangle the difference is positive, its power maybe infinite.
        since = tl.where(t[:, None] >= t[None, :], logs[:, None] - logs[None, :], NEVER)
        mixing = tl.dot(Cs, tl.trans(Bs), input_precision="ieee") * tl.exp2(since) * step[None, :]
        out = tl.dot(Cs, S.to(dtype), input_precision="ieee") * tl.exp2(logs)[:, None]
        out = tl.dot(mixing.to(dtype), xs, out, input_precision="ieee")
        out += skip * xs.to(tl.float32)
        left = xs.to(tl.float32) * (tl.exp2(total - logs) * step)[:, None]
        S = tl.dot(tl.trans(Bs), left.to(dtype), S * tl.exp2(total), input_precision="ieee")
        to = y + (at.to(tl.int64) * (heads * HEADDIM))[:, None] + p[None, :]
        tl.store(to, out.to(dtype), (at < length)[:, None] & (p < HEADDIM)[None, :])


def walking_scan(
    x: Tensor, steps: Steps, B: Tensor, C: Tensor, D: Tensor, keep: Kept | None = None
) -> Tensor:
    """y (batch, length, heads, headdim) of a scan of all tokens from zeros, D x added.

    x (batch, length, heads, headdim), B and C (batch, length, directions, d_state), in scan order,
    views of one buffer as a rule, else copied into one; the heads are those of all directions.
    steps: in chunks of TOKENS, or another power of two from 16 on; D (heads,) float32. keep: takes
    states and tails at the edges of a block.
    """
    batch, length, heads, headdim = x.shape
    directions, d_state = B.shape[2:]
    if not x.stride()[:2] == B.stride()[:2] == C.stride()[:2]:
        width = heads * headdim
        rows = torch.cat([each.flatten(2) for each in (x, B, C)], dim=-1)
        x = rows[..., :width].unflatten(-1, (heads, headdim))
        B, C = rows[..., width:].unflatten(-1, (2, directions, d_state)).unbind(2)
    y = torch.empty(batch, length, heads, headdim, dtype=x.dtype, device=x.device)
    _walk[(heads // directions, directions, batch)](
        x,
        B,
        C,
        *steps,
        D,
        y,
        None if keep is None else keep.start,
        None if keep is None else keep.stop,
        None if keep is None else keep.states,
        0 if keep is None else keep.states.stride(0),
        length,
        steps.dt.shape[2],
        *x.stride()[:2],
        KEPT=0 if keep is None else len(keep.tails),
        HEADS=heads // directions,
        HEADDIM=headdim,
        D_STATE=d_state,
        T=steps.dt.shape[3],
        P=max(16, triton.next_power_of_2(headdim)),
        N=max(16, triton.next_power_of_2(d_state)),
        num_warps=8,
        num_stages=3 if x.element_size() == 2 else 1,  # float32 is there to check against
    )
    if keep is not None:
        finish_states(steps.decay, steps.dt, x, B, keep)
    return y
