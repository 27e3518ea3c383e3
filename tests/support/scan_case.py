"""A scan of a whole Mamba-2 sequence for tests of the interpreted kernels."""

import torch
import torch.nn.functional as F

from dlm_bench.kernels.conv import StepWeights, causal_conv_silu, conv_tail
from dlm_bench.kernels.cuda.conv import conv_silu
from dlm_bench.kernels.cuda.pass_states import Kept
from dlm_bench.kernels.ssd import ssd_recurrent

D_CONV = 4


class ScanCase:
    """Random inputs of a mixer, and what the plain path makes of them."""

    def __init__(
        self,
        length,
        directions=2,
        batch=1,
        states=False,
        dtype=torch.float32,
        heads=2,
        headdim=16,
        d_state=16,
    ):
        self.length, self.directions, self.batch = length, directions, batch
        self.heads, self.headdim, self.d_state = heads, headdim, d_state
        self.d_inner = heads * headdim
        self.channels = self.d_inner + 2 * d_state
        width = self.d_inner + self.channels + heads
        self.projected = torch.randn(batch, length, directions, width).to(dtype)
        self.weight = torch.randn(directions, self.channels, D_CONV).mul(0.5).to(dtype)
        self.bias = torch.randn(directions, self.channels).to(dtype)
        self.dt_bias = torch.empty(directions, heads).uniform_(-5, -1)
        self.A_log = torch.empty(directions, heads).uniform_(0.5, 4).log()
        self.A = -self.A_log.exp()
        self.D = torch.randn(directions, heads)
        shape = (batch, directions, heads, headdim, d_state)
        self.states = torch.randn(shape) if states else None

    def conv(self, chunk):
        """x, B, C and the steps, in scan order."""
        steps = StepWeights(self.dt_bias, self.A_log, chunk)
        sizes = self.d_state, self.heads
        tails = (None,) * self.directions
        return conv_silu(self.projected, self.weight, self.bias, *sizes, tails, steps)

    def kept(self, at):
        """Buffers of a cache at the edges `at`, in tokens of each direction's scan."""
        start, stop = (torch.tensor([each]) for each in (at[0], self.length - at[-1]))
        shape = self.directions, self.batch, self.heads, self.headdim, self.d_state
        states = torch.full(shape, torch.nan)
        shape = self.batch, D_CONV - 1, self.channels
        tails = [torch.full(shape, torch.nan).to(self.projected.dtype) for _ in at]
        return Kept(self.projected, start, stop, states, tails)

    def tail(self, direction, at):
        """The convolution's inputs in front of a position of a direction's scan."""
        part = self.projected[:, :, direction, self.d_inner : -self.heads]
        part = part.flip(1) if direction == 1 else part
        return conv_tail(part, None, torch.tensor([at]), D_CONV - 1)

    def expected(self, at=None):
        """y in scan order, and the states after the first at[direction] tokens."""
        ys, states = [], []
        for direction in range(self.directions):
            part = self.projected[:, :, direction]
            part = part.flip(1) if direction == 1 else part
            _, xbc, dt = part.split((self.d_inner, self.channels, self.heads), dim=-1)
            xbc = causal_conv_silu(xbc, self.weight[direction], self.bias[direction])
            x, B, C = xbc.split((self.d_inner, self.d_state, self.d_state), dim=-1)
            x = x.unflatten(-1, (self.heads, self.headdim))
            dt = F.softplus(dt.float() + self.dt_bias[direction])
            A, D = self.A[direction], self.D[direction]
            first = None if self.states is None else self.states[:, direction]
            end = self.length if at is None else at[direction]
            ys.append(ssd_recurrent(x, dt, A, B, C, D, first)[0])
            states.append(
                ssd_recurrent(x[:, :end], dt[:, :end], A, B[:, :end], C[:, :end], D, first)[1]
            )
        return torch.cat(ys, dim=2), torch.cat(states, dim=1)
