"""The states of a chunked Mamba-2 scan from chunk to chunk, and what a refresh keeps of them.

One launch passes the states on, finds the state at a position that the device alone knows, and
copies the convolution's inputs in front of that position. The walking scan passes its states on
itself, and leaves the last two to the launch.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dlm_bench.kernels.cuda.common import LOG2E


class Kept(NamedTuple):
    """Where the states and tails at the edges of a block go.

    projected: (batch, length, directions, z | x B C | dt), contiguous.
    start, stop: (1,) int64 on the device: the forward direction's edge, and the reverse one's.
    states: (kept directions, batch, heads, headdim, d_state) float32, any stride of directions.
    tails: of each kept direction (batch, d_conv - 1, channels), contiguous.
    """

    projected: Tensor
    start: Tensor
    stop: Tensor
    states: Tensor
    tails: list[Tensor]

    def of(self, part: slice) -> "Kept":
        """The same of some sequences."""
        tails = [tail[part] for tail in self.tails]
        return Kept(self.projected[part], self.start, self.stop, self.states[:, part], tails)

    def __call__(self, added: Tensor, decay: Tensor, dt: Tensor, x: Tensor, B: Tensor) -> Tensor:
        """Pass the states on (see `pass_states`)."""
        return pass_states(added, decay, dt, x, B, self)


@triton.jit
def _exp(x):
    return tl.exp2(x * LOG2E)


@triton.jit
def _pass_on(
    S,
    added,
    passed,
    decay,
    first,
    last,
    chunk_step,
    at,
    mask,
    CHUNK: tl.constexpr,
):
    """Store the state before each of some chunks, and move it on."""
    for index in range(first, last):
        own = chunk_step * index
        tl.store(passed + own + at, S.to(passed.dtype.element_ty), mask)
        change = tl.load(added + own + at, mask, 0.0).to(tl.float32)
        S = S * _exp(tl.load(decay + index * CHUNK + CHUNK - 1)) + change
    return S


@triton.jit(do_not_specialize=["length", "chunks"])
def _pass_states(
    added,
    passed,
    decay,
    dt,
    x,
    B,
    projected,
    start,
    stop,
    states,
    tail_0,
    tail_1,
    length,
    chunks,
    x_batch,
    x_token,
    x_head,
    B_batch,
    B_token,
    B_direction,
    state_direction,
    HEADS: tl.constexpr,
    DIRECTIONS: tl.constexpr,
    KEPT: tl.constexpr,
    HEADDIM: tl.constexpr,
    D_STATE: tl.constexpr,
    REACH: tl.constexpr,
    CHUNK: tl.constexpr,
    T: tl.constexpr,
    P: tl.constexpr,
    N: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """P rows of a head's states; behind these programs, BLOCK channels of a direction's tail.

    Without `added` the state before the chunk of the position is in `states`.
    """
    D_INNER: tl.constexpr = HEADS * HEADDIM
    CHANNELS: tl.constexpr = D_INNER + 2 * D_STATE
    WIDTH: tl.constexpr = D_INNER + CHANNELS + HEADS
    PARTS: tl.constexpr = (HEADDIM + P - 1) // P
    ALL: tl.constexpr = DIRECTIONS * HEADS
    BLOCKS: tl.constexpr = (CHANNELS + BLOCK - 1) // BLOCK
    batch = tl.program_id(1).to(tl.int64)
    of_states = tl.program_id(0) < ALL * PARTS
    if of_states:
        head = tl.program_id(0) // PARTS
        direction = head // HEADS
        p = (tl.program_id(0) % PARTS) * P + tl.arange(0, P)
        n = tl.arange(0, N)
        at = p[:, None] * D_STATE + n[None, :]
        mask = (p < HEADDIM)[:, None] & (n < D_STATE)[None, :]
        chunk_step = tl.full((), ALL * HEADDIM * D_STATE, tl.int64)
        first = (batch * chunks * ALL + head) * (HEADDIM * D_STATE)
        if added is not None:
            added += first
            passed += first
        states += direction * state_direction
        states += (batch * HEADS + head % HEADS) * (HEADDIM * D_STATE)
        decay += (batch * ALL + head) * chunks * CHUNK
        dt += (batch * ALL + head) * chunks * CHUNK

        end = tl.load(start)
        if direction == 1:
            end = length - tl.load(stop)
        # At the very end there may be no next chunk: then it is all of the last one.
        index = tl.minimum(end // CHUNK, chunks - 1).to(tl.int32)
        if added is None:
            S = tl.load(states + at, mask & (direction < KEPT), 0.0)
        else:
            S = tl.zeros((P, N), tl.float32)
            S = _pass_on(S, added, passed, decay, 0, index, chunk_step, at, mask, CHUNK)
        if direction < KEPT:
            low = index.to(tl.int64) * CHUNK
            rest = (end - low).to(tl.int32)
            decay_at = decay + index * CHUNK
            total = tl.load(decay_at + rest - 1, rest > 0, 0.0)
            K = S * _exp(total)
            x += batch * x_batch + low * x_token + head * x_head
            B += batch * B_batch + low * B_token + direction * B_direction
            for begin in range(0, rest, T):
                token = begin + tl.arange(0, T)
                inside = token < rest
                weight = _exp(total - tl.load(decay_at + token, inside, 0.0))
                weight *= tl.load(dt + index * CHUNK + token, inside, 0.0)
                x_at = x + (token.to(tl.int64) * x_token)[None, :] + p[:, None]
                x_tile = tl.load(x_at, inside[None, :] & (p < HEADDIM)[:, None], 0.0)  # (P, T)
                B_at = B + (token.to(tl.int64) * B_token)[:, None] + n[None, :]
                B_tile = tl.load(B_at, inside[:, None] & (n < D_STATE)[None, :], 0.0)  # (T, N)
                # As mamba-ssm's chunk state does: weighted in float32, and back to the dtype.
                weighted = (B_tile.to(tl.float32) * weight[:, None]).to(B_tile.dtype)
                K = tl.dot(x_tile, weighted, K, input_precision="ieee")
            tl.store(states + at, K, mask)
        if added is not None:
            _pass_on(S, added, passed, decay, index, chunks, chunk_step, at, mask, CHUNK)
    else:
        block = tl.program_id(0) - ALL * PARTS
        direction = block // BLOCKS
        channel = (block % BLOCKS) * BLOCK + tl.arange(0, BLOCK)
        inside = channel < CHANNELS
        reverse = direction == 1
        end = tl.load(start)
        if reverse:
            end = length - tl.load(stop)
        tail = tl.where(reverse, tail_1, tail_0) + batch * (REACH * CHANNELS) + channel
        for i in tl.static_range(REACH):
            position = end - REACH + i
            token = tl.where(reverse, length - 1 - position, position)
            source = projected + ((batch * length + token) * DIRECTIONS + direction) * WIDTH
            value = tl.load(source + D_INNER + channel, inside & (position >= 0), 0.0)
            tl.store(tail + i * CHANNELS, value, inside)


def pass_states(
    added: Tensor, decay: Tensor, dt: Tensor, x: Tensor, B: Tensor, kept: Kept
) -> Tensor:
    """The states before each chunk of a scan from zeros, and into `kept` those at its edges.

    added (batch, chunks, heads, headdim, d_state), what each chunk adds; decay and dt (batch,
    heads, chunks, chunk) float32: the logarithm of the decay since the chunk's start, and the
    steps; all contiguous. x (batch, length, heads, headdim) and B (batch, length, directions,
    d_state) in scan order, with any strides but 1 along the last dimension, the heads of direction
    0 first. Returns the shape of `added` in the dtype of B.
    """
    passed = torch.empty(added.shape, dtype=B.dtype, device=B.device)
    _launch(added, passed, decay, dt, x, B, kept)
    return passed


def finish_states(decay: Tensor, dt: Tensor, x: Tensor, B: Tensor, kept: Kept) -> None:
    """Move the states in `kept`, those before the chunks of its edges, on to the edges, and copy
    the tails (see `pass_states`)."""
    _launch(None, None, decay, dt, x, B, kept)


def _launch(
    added: Tensor | None,
    passed: Tensor | None,
    decay: Tensor,
    dt: Tensor,
    x: Tensor,
    B: Tensor,
    kept: Kept,
) -> None:
    batch, _, all_heads, headdim = x.shape
    directions, d_state = B.shape[2:]
    chunks, chunk = dt.shape[2:]
    exact = x.dtype == torch.float32
    rows, block = 16, 256  # so few rows that the programs are some for each SM
    reach, channels = kept.tails[0].shape[1:]
    programs = all_heads * triton.cdiv(headdim, rows)
    programs += len(kept.tails) * triton.cdiv(channels, block)
    _pass_states[(programs, batch)](
        added,
        passed,
        decay,
        dt,
        x,
        B,
        kept.projected,
        kept.start,
        kept.stop,
        kept.states,
        kept.tails[0],
        kept.tails[-1],
        x.shape[1],
        chunks,
        *x.stride()[:-1],
        *B.stride()[:-1],
        kept.states.stride(0),
        HEADS=all_heads // directions,
        DIRECTIONS=directions,
        KEPT=len(kept.tails),
        HEADDIM=headdim,
        D_STATE=d_state,
        REACH=reach,
        CHUNK=chunk,
        T=16 if exact else 64,
        P=rows,
        N=max(16, triton.next_power_of_2(d_state)),
        BLOCK=block,
        num_warps=4,
        num_stages=3,
    )
