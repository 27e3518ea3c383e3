"""The state of a Mamba-2 scan after a number of tokens known to the device alone."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import LOG2E


@triton.jit
def _state_at(
    x,
    dt,
    A,
    B,
    chunk_states,
    at,
    out,
    chunk,
    chunks,
    heads_of_direction,
    x_batch,
    x_token,
    x_head,
    B_batch,
    B_token,
    B_direction,
    HEADDIM: tl.constexpr,
    D_STATE: tl.constexpr,
    T: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
):
    """P rows of a head's state: before the chunk of `at`, and on through the tokens."""
    PARTS: tl.constexpr = (HEADDIM + P - 1) // P
    head = tl.program_id(0) // PARTS
    heads = tl.num_programs(0) // PARTS
    batch = tl.program_id(1).to(tl.int64)
    direction = head // heads_of_direction
    end = tl.load(at + direction)
    # At the very end there may be no next chunk: then it is all of the last one.
    index = tl.minimum(end // chunk, chunks - 1)
    low = index * chunk
    rest = (end - low).to(tl.int32)

    t = tl.arange(0, T)
    p = (tl.program_id(0) % PARTS) * P + tl.arange(0, P)
    n = tl.arange(0, N)
    in_p = p < HEADDIM
    in_n = n < D_STATE
    state_at = p[:, None] * D_STATE + n[None, :]
    in_state = in_p[:, None] & in_n[None, :]
    before = ((batch * chunks + index) * heads + head) * (HEADDIM * D_STATE)
    S = tl.load(chunk_states + before + state_at, in_state, 0.0).to(tl.float32)

    decay_rate = tl.load(A + head) * LOG2E  # of powers of 2
    dt += ((batch * heads + head) * chunks + index) * chunk
    x += batch * x_batch + low * x_token + head * x_head
    B += batch * B_batch + low * B_token + direction * B_direction
    for start in range(0, rest, T):
        token = start + t
        inside = token < rest
        step = tl.load(dt + token, inside, 0.0)
        decay = step * decay_rate
        # log2 of the decay after each token: from the end, where it is small and exact.
        after = tl.cumsum(decay, 0, reverse=True) - decay
        x_at = x + (token.to(tl.int64) * x_token)[None, :] + p[:, None]
        x_tile = tl.load(x_at, inside[None, :] & in_p[:, None], 0.0)  # (P, T)
        B_at = B + (token.to(tl.int64) * B_token)[:, None] + n[None, :]
        B_tile = tl.load(B_at, inside[:, None] & in_n[None, :], 0.0)  # (T, N)
        # As mamba-ssm's chunk state does: the weights go to B in float32, and B back to its dtype.
        weight = tl.exp2(after) * step
        weighted = (B_tile.to(tl.float32) * weight[:, None]).to(B_tile.dtype)
        S = tl.dot(x_tile, weighted, S * tl.exp2(tl.sum(decay, 0)), input_precision="ieee")
    own = (batch * heads + head) * (HEADDIM * D_STATE)
    tl.store(out + own + state_at, S, in_state)


def state_at(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, chunk_states: Tensor, at: Tensor, chunk: int
) -> Tensor:
    """The state after the first `at` tokens in scan order.

    x (batch, length, heads, headdim) and B (batch, length, directions, d_state) with any strides
    but 1 along the last dimension, the heads of direction 0 first; A (heads,) float32, negative.
    dt (batch, heads, chunks, chunk) float32, after softplus, and chunk_states (batch, chunks,
    heads, headdim, d_state), the states before each chunk, both contiguous, as `mamba_ssm.scan`
    returns them. at (directions,) int64 on the device, from 0 to length. Returns (batch, heads,
    headdim, d_state) float32.
    """
    batch, _, heads, headdim = x.shape
    directions, d_state = B.shape[2:]
    out = torch.empty(batch, heads, headdim, d_state, dtype=torch.float32, device=x.device)
    # In 16 bits a head's whole state is one warpgroup's, 64 registers a thread. In float32 there
    # are no tensor cores: whole operands lie in registers, and tiles have to be small.
    exact = x.dtype == torch.float32
    rows = 16 if exact else max(16, triton.next_power_of_2(headdim))
    _state_at[(heads * triton.cdiv(headdim, rows), batch)](
        x,
        dt,
        A,
        B,
        chunk_states,
        at,
        out,
        chunk,
        chunk_states.shape[1],
        heads // directions,
        *x.stride()[:-1],
        *B.stride()[:-1],
        HEADDIM=headdim,
        D_STATE=d_state,
        T=16 if exact else 64,
        P=rows,
        N=max(16, triton.next_power_of_2(d_state)),
        num_warps=4,
        num_stages=2,
    )
    return out
