"""The depthwise causal convolution with SiLU in front of the Mamba-2 scan, token-major.

Shapes: x (batch, length, channels); weight (channels, d_conv); bias (channels,); the tail is the
d_conv - 1 inputs before the first, (batch, d_conv - 1, channels), oldest first.
"""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dlm_bench.kernels.wide import wide


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor | None = None) -> Tensor:
    """SiLU(conv(x)), summed in float32 or wider, the inputs before the first being `tail` (zeros if
    None). Shape and dtype of x."""
    dtype, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
    x, taps, bias = x.to(wide), weight.t().to(wide), bias.to(wide)  # taps (d_conv, channels)
    tail = None if tail is None else tail.to(wide)
    reach = len(taps) - 1
    out = torch.addcmul(bias, x, taps[reach])
    for back in range(1, reach + 1):
        out[:, back:].addcmul_(x[:, : x.shape[1] - back], taps[reach - back])
        if tail is not None:
            reached = min(back, x.shape[1])
            out[:, :reached].addcmul_(
                tail[:, reach - back : reach - back + reached], taps[reach - back]
            )
    return F.silu(out, inplace=True).to(dtype)


def conv_silu(padded: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """SiLU(conv(x)) in float32 into `out`, (batch, length, channels), for a CPU. `padded` has the
    d_conv - 1 inputs before the first in front."""
    # Token-major is channels-last to a convolution of images of one row, a layout that oneDNN takes
    # without a copy: 2.5 times faster than shifted multiply-adds, and than conv1d.
    image = wide(padded).transpose(1, 2)[:, :, None]
    summed = F.conv2d(image, wide(weight)[:, None, None], wide(bias), groups=len(weight))
    return torch.ops.aten.silu.out(summed[:, :, 0].transpose(1, 2), out=out)


def conv_tail(
    x: Tensor, tail: Tensor | None, at: Tensor, reach: int, backwards: bool = False
) -> Tensor:
    """The `reach` inputs before position `at` ((1,) int64 on x's device) of a sequence x whose
    earlier inputs were `tail` (zeros if None). `backwards`: the positions count from x's end."""
    length = x.shape[1]
    index = at + torch.arange(-reach, 0, device=x.device)  # (reach,), negative: in the tail
    inside = index.clamp(min=0)
    inside = x.index_select(1, length - 1 - inside if backwards else inside)
    if tail is None:
        before = torch.zeros_like(inside)
    else:
        before = tail.index_select(1, (index + reach).clamp(0, reach - 1))
    return torch.where((index >= 0)[:, None], inside, before)


class StepWeights(NamedTuple):
    """What the steps of a scan are made with: dt_bias and A_log (directions, heads) float32,
    contiguous, and the tokens of a chunk."""

    dt_bias: Tensor
    A_log: Tensor
    chunk: int


class Steps(NamedTuple):
    """The steps of a scan in chunks, (batch, directions * heads, chunks, chunk) float32.

    dt: after bias and softplus, 0 beyond the end.
    decay: the logarithm of the decay since the chunk's start, dt A added up.
    """

    dt: Tensor
    decay: Tensor


class ConvSequence(Protocol):
    """The convolution of a whole sequence in front of the scan, by Triton or a package.

    projected (batch, length, directions, z | x B C | dt), weight (directions, channels, d_conv),
    bias (directions, channels), a tail or None for each direction; direction 1 scans the sequence
    reversed. Returns, in scan order, x (batch, length, directions * heads, headdim), B and C
    (batch, length, directions, d_state), and the steps of the scan.
    """

    def __call__(
        self,
        projected: Tensor,
        weight: Tensor,
        bias: Tensor,
        d_state: int,
        heads: int,
        tails: tuple[Tensor | None, ...],
        steps: StepWeights,
    ) -> tuple[Tensor, Tensor, Tensor, Steps]: ...


def conv_causal_conv1d(
    projected: Tensor,
    weight: Tensor,
    bias: Tensor,
    d_state: int,
    heads: int,
    tails: tuple[Tensor | None, ...],
    steps: StepWeights,
) -> tuple[Tensor, Tensor, Tensor, Steps]:
    """Convolve a sequence with package causal-conv1d, a direction at a time (see ConvSequence)."""
    from causal_conv1d import causal_conv1d_fn

    columns = []
    for direction, tail in enumerate(tails):
        channels = weight.shape[1]
        inner = channels - 2 * d_state
        part = projected[:, :, direction, inner:]
        part = part.flip(1) if direction == 1 else part
        out = causal_conv1d_fn(
            part[..., :channels].transpose(1, 2),  # channels last, (batch, channels, length)
            weight[direction],
            bias[direction],
            initial_states=None if tail is None else tail.transpose(1, 2),
            activation="silu",
        ).transpose(1, 2)
        columns.append((*out.split((inner, d_state, d_state), dim=-1), part[..., channels:]))
    x, B, C, dt = zip(*columns, strict=True)
    stacked = torch.cat(x, dim=-1).unflatten(-1, (len(tails) * heads, -1))
    chunked = chunk_steps(torch.cat(dt, dim=-1), steps)
    return stacked, torch.stack(B, dim=2), torch.stack(C, dim=2), chunked


def chunk_steps(dt: Tensor, steps: StepWeights) -> Steps:
    """The steps of dt as projected, (batch, length, directions * heads), in scan order."""
    wide, chunk = F.softplus(dt.float() + steps.dt_bias.flatten()), steps.chunk
    wide = F.pad(wide, (0, 0, 0, -dt.shape[1] % chunk)).unflatten(1, (-1, chunk))
    wide = wide.permute(0, 3, 1, 2).contiguous()  # (batch, heads, chunks, chunk)
    rate = -torch.exp(steps.A_log.flatten())[:, None, None]
    return Steps(wide, (wide * rate).cumsum(-1))
