"""The depthwise causal convolution with SiLU in front of the Mamba-2 scan, token-major.

Shapes: x (batch, length, channels); weight (channels, d_conv); bias (channels,); the tail is the
d_conv - 1 inputs before the first one, (batch, d_conv - 1, channels), oldest first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, tail: Tensor | None = None) -> Tensor:
    """SiLU(conv(x)), the inputs before the first being `tail` (zeros if None). Shape of x."""
    taps = weight.t()  # (d_conv, channels)
    reach = len(taps) - 1
    # Shifted multiply-adds over the token-major layout: several times faster on a CPU than
    # conv1d, which wants channels first and so two transposed copies.
    out = torch.addcmul(bias, x, taps[reach])
    for back in range(1, reach + 1):
        out[:, back:].addcmul_(x[:, : x.shape[1] - back], taps[reach - back])
        if tail is not None:
            reached = min(back, x.shape[1])
            out[:, :reached].addcmul_(
                tail[:, reach - back : reach - back + reached], taps[reach - back]
            )
    return F.silu(out, inplace=True)


def conv_tail(x: Tensor, tail: Tensor | None, at: Tensor, reach: int) -> Tensor:
    """The `reach` inputs before position `at` ((1,) int64 on x's device) of a sequence x whose
    earlier inputs were `tail` (zeros if None)."""
    index = at + torch.arange(-reach, 0, device=x.device)  # (reach,), negative: in the tail
    inside = x.index_select(1, index.clamp(min=0))
    if tail is None:
        before = torch.zeros_like(inside)
    else:
        before = tail.index_select(1, (index + reach).clamp(0, reach - 1))
    return torch.where((index >= 0)[:, None], inside, before)
