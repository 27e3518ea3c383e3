"""The DiffuMamba mixer on a GPU (Eq. 4-6, plain in `bimamba`): both directions in every launch.

A matmul projects into both directions. Another projects out of both, their d_inner columns side
by side, and so adds y_fwd and y_bwd (Eq. 6). No copy of x is flipped (Eq. 5). In between a whole
sequence goes through the convolution, mamba-ssm's chunked scan with a group per direction or the
walking one, and the gated norm; a block continues from a state through a fused kernel and the norm.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels import mamba_ssm
from dlm_bench.kernels.conv import Steps, StepWeights, conv_causal_conv1d, conv_tail
from dlm_bench.kernels.cuda.block_scan import block_scan
from dlm_bench.kernels.cuda.conv import conv_silu, conv_step
from dlm_bench.kernels.cuda.gated_norm import gated_norm
from dlm_bench.kernels.cuda.pass_states import Kept
from dlm_bench.kernels.cuda.walking_scan import TOKENS, walking_scan
from dlm_bench.kernels.mamba_ssm import PassStates, ScanResult
from dlm_bench.models.cache import MambaCache
from dlm_bench.models.window import Window

if TYPE_CHECKING:
    from dlm_bench.models.bimamba import BiMamba

CONVOLUTIONS = {"triton": conv_silu, "causal-conv1d": conv_causal_conv1d}


def sequence(mixer: "BiMamba", x: Tensor) -> Tensor:
    """A whole sequence from zero states, (batch, len, d_model): Eq. 4-6."""
    return _whole(mixer, _project(mixer, x), None)


def refresh(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """A whole sequence anew, keeping the states at the block's edges (see BiMamba._refresh)."""
    assert window.edges is not None
    projected = _project(mixer, x)
    return _whole(mixer, projected, Kept(projected, *window.edges, cache.stacked, cache.tails))


def prefill(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """The first tokens of a sequence, keeping the forward state (see BiMamba._prefill)."""
    projected = _project(mixer, x)
    end = torch.full((1,), x.shape[1], device=x.device)
    return _whole(mixer, projected, Kept(projected, end, end, cache.stacked[:1], cache.tails[:1]))


def chunked(mixer: "BiMamba", projected: Tensor, keep: Kept | None) -> Tensor:
    """y of a whole sequence by mamba-ssm's scan, (batch, len, heads of all, headdim)."""
    return _scan(mixer, projected, [None] * mixer.directions, keep=keep).y


def walked(mixer: "BiMamba", projected: Tensor, keep: Kept | None) -> Tensor:
    """The same by a program for each head."""
    u, B, C, steps = _convolved(mixer, projected, [None] * mixer.directions, TOKENS)
    return walking_scan(u, steps, B, C, mixer.D.flatten(), keep)


def block(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """A few tokens from the cached states (see BiMamba._continue)."""
    if len(window.segments) > 2:  # which the kernel does not take
        return mixer.forms.span(mixer, x, window, cache)
    projected = _project(mixer, x)
    y, _ = block_scan(
        projected,
        mixer.conv_weight,
        mixer.conv_bias,
        mixer.dt_bias,
        mixer.A_log,
        mixer.D,
        window.segments,
        cache.states,
        cache.tails,
        advance=window.advance,
    )
    normed = gated_norm(y, projected, mixer.norm_weight, reversed_second=False)
    return F.linear(normed, mixer.out_proj.flatten(1))


def continued(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """Many tokens from the cached states, segment by segment (see BiMamba._continue)."""
    projected = _project(mixer, x)
    inputs = _conv_inputs(mixer, projected)
    forward, tail = cache.states[0], cache.tails[0]
    outs, low = [], 0
    for part, length in enumerate(window.segments):
        span = slice(low, low + length)
        low += length
        states: list[Tensor] = [forward]
        tails: list[Tensor | None] = [tail]
        if len(cache.states) == 2:
            states.append(cache.states[1])
            tails.append(cache.tails[1])
        elif mixer.directions == 2:
            states.append(torch.zeros_like(forward))
            tails.append(None)
        scanned = _scan(mixer, projected[:, span], tails, torch.cat(states, dim=1))
        assert scanned.final_state is not None
        outs.append(_finish(mixer, scanned.y, projected[:, span]))
        forward = scanned.final_state[:, : mixer.heads]
        end = torch.full((1,), length, device=x.device)
        tail = conv_tail(inputs[:, span, 0], tail, end, mixer.reach)
        if part == window.commits - 1 and window.advance:
            cache.states[0].copy_(forward)
            cache.tails[0].copy_(tail)
    return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]


def step(mixer: "BiMamba", x: Tensor, window: Window, cache: MambaCache) -> Tensor:
    """Take a token of an autoregressive decode by mamba-ssm's selective_state_update."""
    projected = _project(mixer, x)
    u, B, C = conv_step(
        projected,
        mixer.conv_weight,
        mixer.conv_bias,
        mixer.d_state,
        mixer.heads,
        cache.tails[0],
    )
    dt = projected[:, 0, 0, -mixer.heads :]
    y = mamba_ssm.step(
        cache.states[0], u, dt, _decay_rates(mixer), B, C, mixer.D[0], mixer.dt_bias[0]
    )
    y = y.flatten(1)[:, None, None]  # (batch, 1, 1, d_inner)
    normed = gated_norm(y, projected, mixer.norm_weight, reversed_second=False)
    return F.linear(normed, mixer.out_proj.flatten(1))


def _project(mixer: "BiMamba", x: Tensor) -> Tensor:
    """z, x B C and dt of each direction side by side: (batch, len, directions, width)."""
    return F.linear(x, mixer.in_proj.flatten(0, 1)).unflatten(-1, (mixer.directions, -1))


def _conv_inputs(mixer: "BiMamba", projected: Tensor) -> Tensor:
    """The columns x, B and C, (batch, len, directions, channels)."""
    return projected[..., mixer.d_inner : -mixer.heads]


def _decay_rates(mixer: "BiMamba") -> Tensor:
    """A of all heads, those of direction 0 first, (directions * heads,)."""
    return -torch.exp(mixer.A_log.flatten())


def _scan(
    mixer: "BiMamba",
    projected: Tensor,
    tails: Sequence[Tensor | None],
    states: Tensor | None = None,
    *,
    keep: PassStates | None = None,
) -> ScanResult:
    """Convolution and scan of a sequence, everything in scan order."""
    u, B, C, steps = _convolved(mixer, projected, tails, mamba_ssm.CHUNK)
    return mamba_ssm.scan(u, steps, B, C, mixer.D.flatten(), states, keep)


def _convolved(
    mixer: "BiMamba", projected: Tensor, tails: Sequence[Tensor | None], chunk: int
) -> tuple[Tensor, Tensor, Tensor, Steps]:
    """x, B and C of a sequence after the convolution, and the steps in chunks (ConvSequence)."""
    assert mixer.forms.conv is not None
    return mixer.forms.conv(
        projected,
        mixer.conv_weight,
        mixer.conv_bias,
        mixer.d_state,
        mixer.heads,
        tuple(tails),
        StepWeights(mixer.dt_bias, mixer.A_log, chunk),
    )


def _whole(mixer: "BiMamba", projected: Tensor, keep: Kept | None) -> Tensor:
    """The mixer's output of a whole sequence from zero states."""
    assert mixer.forms.scan is not None
    return _finish(mixer, mixer.forms.scan(mixer, projected, keep), projected)


def _finish(mixer: "BiMamba", y: Tensor, projected: Tensor) -> Tensor:
    """Gate, norm and output projection of a scan's y (batch, len, heads of all, headdim), whose
    matmul over both directions is Eq. 6."""
    y = y.unflatten(2, (mixer.directions, -1)).flatten(3)  # (batch, len, directions, d_inner)
    normed = gated_norm(y, projected, mixer.norm_weight, reversed_second=True)
    return F.linear(normed, mixer.out_proj.flatten(1))
