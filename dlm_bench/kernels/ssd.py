"""The Mamba-2 state space duality scan (Dao & Gu, arXiv 2405.21060): one group, scalar A per head.

    S_i = exp(dt_i A) S_{i-1} + dt_i x_i B_i^T        y_i = S_i C_i + D x_i

`ssd_recurrent` is the recurrence word for word; `ssd_chunked` computes the same by matrix
products over chunks, `scan_chunks`, which the mixer for many tokens on a CPU calls; `ssd_scan` is
what the plain mixer calls, and takes `ssd_differentiable` where a gradient is wanted.

Shapes: x (batch, length, heads, headdim); dt (batch, length, heads), after softplus; A and D
(heads,), A negative; B and C (batch, length, d_state); states (batch, heads, headdim, d_state) in
float32, whatever the dtype of x.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.differentiable import ssd_differentiable

# Measured by bench/ssd_chunk.py on 2 cores: shorter chunks carry the state more often, longer ones
# have more (chunk, chunk) work. A span is cast to float32 whatever the dtype: without hardware
# for them, bfloat16 matmuls are some ten times slower than the cast and a float32 matmul.
CHUNK = 64
MIXING_ELEMENTS = 1 << 18  # so few heads at a time that their (chunk, chunk) matrices stay in L2
SEGMENT = 1024  # tokens between two carries of the state: memory stays flat in the length


def ssd_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
    at: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan for the mixers. Returns (y like x, the state after all tokens or the first `at`).

    `at` is (1,) int64 on the device; `initial_state` None stands for zeros. Differentiable where
    `at` is None.
    """
    if x.shape[1] == 1 and at is None and initial_state is not None:
        y, state = ssd_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, initial_state)
        return y[:, None], state
    if at is None and any(each.requires_grad for each in (x, dt, A, B, C, D)):
        return ssd_differentiable(x, dt, A, B, C, D, initial_state)
    return ssd_chunked(x, dt, A, B, C, D, initial_state, state_at=None if at is None else int(at))


def ssd_recurrent(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Scan step by step, a token each, as the reference. Returns (y like x, final state)."""
    batch, length, heads, headdim = x.shape
    state = (
        torch.zeros(batch, heads, headdim, B.shape[-1], device=x.device)
        if initial_state is None
        else initial_state
    )
    y = torch.empty_like(x)
    for i in range(length):
        y[:, i], state = ssd_step(x[:, i], dt[:, i], A, B[:, i], C[:, i], D, state)
    return y, state


def ssd_step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Take a token of the recurrence: x (batch, heads, headdim), dt (batch, heads), B and C
    (batch, d_state). Returns (y like x, new state)."""
    dt = dt.float()
    decay = torch.exp(dt * A.float())[..., None, None]  # (batch, heads, 1, 1)
    dtx = (dt[..., None] * x.float())[..., None]  # (batch, heads, headdim, 1)
    state = torch.addcmul(state * decay, dtx, B.float()[:, None, None, :])
    y = state @ C.float()[:, None, :, None]  # (batch, heads, headdim, 1)
    return (y[..., 0] + D.float()[:, None] * x.float()).to(x.dtype), state


def ssd_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial_state: Tensor | None = None,
    *,
    state_at: int | None = None,
    chunk: int = CHUNK,
    segment: int = SEGMENT,
) -> tuple[Tensor, Tensor]:
    """The scan by chunks of matrix products. Returns (y like x, state).

    The returned state is after all tokens, or after the first `state_at` of them.
    """
    batch, length, heads, headdim = x.shape
    d_state = B.shape[-1]
    at = length if state_at is None else state_at
    dt, A, D = dt.float(), A.float(), D.float()
    # The state's inner layout, (batch, d_state, heads * headdim), is that of B^T x for all heads.
    if initial_state is None:
        state = torch.zeros(batch, d_state, heads * headdim, device=x.device)
    else:
        state = initial_state.permute(0, 3, 1, 2).reshape(batch, d_state, heads * headdim)
    kept = state
    parts = []
    for start, stop, q in _spans(length, at, chunk, segment):
        s = slice(start, stop)
        y, _, state = scan_chunks(x[:, s], dt[:, s], A, B[:, s], C[:, s], D, state, q)
        parts.append(y.to(x.dtype))
        if stop == at:
            kept = state
    y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    kept = kept.reshape(batch, d_state, heads, headdim).permute(0, 2, 3, 1)
    return y, kept.contiguous()


def _spans(length: int, at: int, chunk: int, segment: int) -> list[tuple[int, int, int]]:
    """Cut the sequence at `at` and into segments of whole chunks: (start, stop, chunk length)."""
    spans = []
    segment = max(chunk, segment // chunk * chunk)
    for low, high in ((0, at), (at, length)):
        whole = low + (high - low) // chunk * chunk
        spans += [(i, min(i + segment, whole), chunk) for i in range(low, whole, segment)]
        if whole < high:
            spans.append((whole, high, high - whole))
    return spans


def scan_chunks(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    q: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Scan whole chunks of q tokens from `state`, (batch, d_state, heads * headdim).

    A and D may differ between the sequences, (batch, 1, heads). Returns y in float32, the states
    before each chunk (batch, chunks, d_state, heads * headdim), and that after the last.
    """
    batch, length, heads, headdim = x.shape
    chunks, width = length // q, heads * headdim
    n = batch * chunks
    decay = (dt * A).reshape(n, q, heads).cumsum(1)  # log, from the chunk's start through i
    total = decay[:, -1:]  # (n, 1, heads)
    x, dt = x.reshape(n, q, heads, headdim).float(), dt.reshape(n, q, heads)
    B, C = B.reshape(n, q, -1).float(), C.reshape(n, q, -1).float()

    # What each chunk adds to the state: sum_j exp(total - decay_j) dt_j B_j x_j^T.
    weight = _normal(torch.exp(total - decay).mul_(dt))
    weighted = (x * weight[..., None]).view(n, q, width)
    added = torch.bmm(B.transpose(1, 2), weighted).view(batch, chunks, -1, width)

    # The state before each chunk, carried in float32.
    carried = _normal(total.exp()).view(batch, chunks, 1, heads, 1)
    carried = carried.expand(-1, -1, -1, -1, headdim).reshape(batch, chunks, 1, width)
    before, last = torch.empty_like(added), torch.empty_like(state)
    states = (*before.unbind(1), last)
    states[0].copy_(state)
    for now, after, more, kept in zip(
        states[:-1], states[1:], added.unbind(1), carried.unbind(1), strict=True
    ):
        torch.addcmul(more, now, kept, out=after)

    # y_i = exp(decay_i) S C_i + sum_{j<=i} exp(decay_i - decay_j) dt_j (C_i . B_j) x_j + D x_i
    out = torch.bmm(C, before.view(n, -1, width)).view(n, q, heads, headdim)
    reached = _normal(decay.exp())[..., None]
    scores = torch.bmm(C, B.transpose(1, 2))  # (n, q, q)
    decay, dt = decay.transpose(1, 2).contiguous(), dt.transpose(1, 2).contiguous()
    D = D.expand(batch, chunks, heads).reshape(n, heads, 1)
    group = max(1, MIXING_ELEMENTS // (n * q * q))
    for low in range(0, heads, group):
        h = slice(low, low + group)
        # exp overflows above the diagonal, where tril_ then writes zeros.
        mixing = (decay[:, h, :, None] - decay[:, h, None, :]).exp_().tril_()  # (n, group, q, q)
        mixing.mul_(scores[:, None]).mul_(dt[:, h, None, :])
        mixing.diagonal(dim1=-2, dim2=-1).add_(D[:, h])
        inside = torch.matmul(mixing, x[:, :, h].transpose(1, 2)).transpose(1, 2)
        torch.addcmul(inside, out[:, :, h], reached[:, :, h], out=out[:, :, h])
    return out.view(batch, length, heads, headdim), before, last


def _normal(decay: Tensor) -> Tensor:
    """Round a decay of almost nothing to zero: arithmetic on numbers below 1e-38 is a hundred times
    slower, and steps that forget fast bring them into every product."""
    return F.threshold(decay, 1e-30, 0.0)
