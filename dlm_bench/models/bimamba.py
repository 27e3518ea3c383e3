"""The DiffuMamba mixer (arXiv 2511.15927, Eq. 4-6): two Mamba-2 layers, their outputs added.

    y_fwd  =  Mamba_fwd(x)                         (4)
    y_bwd  =  reverse(Mamba_bwd(reverse(x)))       (5)
    y      =  y_fwd + y_bwd                        (6)

Each direction is a whole Mamba-2 layer (arXiv 2405.21060) with weights of its own, stacked along a
leading axis; the autoregressive baseline has the forward one alone. Here is the plain form, which
is the one with gradients. `bimamba_small` is the same for a few tokens and `bimamba_long` for many
with both directions in each of PyTorch's calls, and `bimamba_fused` on a GPU with both in each
launch: as (6) is a sum, one matmul over the two directions side by side projects out of both and
adds them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlm_bench.kernels.choice import REFERENCE, Kernels
from dlm_bench.kernels.conv import ConvSequence, causal_conv_silu, conv_tail
from dlm_bench.kernels.norm import gated_rms_norm
from dlm_bench.kernels.ssd import ssd_scan
from dlm_bench.models import bimamba_long as long
from dlm_bench.models import bimamba_small as small
from dlm_bench.models.cache import MambaCache
from dlm_bench.models.config import ModelConfig
from dlm_bench.models.window import RowsWindow, Window

# The fused kernel of a block takes a head's tokens a tile after the other: up to here that is
# quicker than the five launches of the chunked scan.
BLOCK_TOKENS = 256

Cached = Callable[["BiMamba", Tensor, Window, MambaCache], Tensor]


class Forms(NamedTuple):
    """The implementation of each pass of a mixer, plain or fused: functions of the mixer.

    sequence: a whole sequence from zero states, Eq. 4-6.
    refresh: the same, and the states at the edges of a block are kept (Fast-dLLM).
    prefill: the same, and the forward state after the last token is kept.
    block: up to `few` tokens from the cached states.
    span: more of them.
    token: a token of an autoregressive decode.
    conv, scan: those of a fused form of a whole sequence; None without any.
    """

    sequence: Callable[["BiMamba", Tensor], Tensor]
    refresh: Cached
    prefill: Cached
    block: Cached
    span: Cached
    token: Cached
    conv: ConvSequence | None = None
    scan: Callable[["BiMamba", Tensor, Any], Tensor] | None = None
    few: int = small.FEW_TOKENS


def choose_forms(kernels: Kernels) -> Forms:
    """Return the forms by a model's kernels."""
    plain, chunked = BiMamba, kernels.ssd != "torch"
    walks = kernels.walking_scan != "torch"
    whole = chunked or walks
    if not whole and kernels.block_scan == kernels.step == "torch":
        return Forms(
            sequence=small.sequence,
            refresh=long.refresh,
            prefill=small.prefill,
            block=small.block,
            span=long.continued,
            token=small.block,
        )
    from dlm_bench.models import bimamba_fused as fused  # needs Triton

    span = fused.continued if chunked else plain._continue
    return Forms(
        sequence=fused.sequence if whole else plain._sequence,
        refresh=fused.refresh if whole else plain._refresh,
        prefill=fused.prefill if whole else plain._prefill,
        block=fused.block if kernels.block_scan != "torch" else span,
        span=span,
        token={"triton": fused.block, "mamba-ssm": fused.step, "torch": plain._continue}[
            kernels.step
        ],
        conv=fused.CONVOLUTIONS.get(kernels.conv),
        scan=fused.walked if walks else fused.chunked,
        few=BLOCK_TOKENS,
    )


class BiMamba(nn.Module):
    """The mixer: x (batch, len, d_model) to the same shape."""

    def __init__(self, config: ModelConfig, kernels: Kernels = REFERENCE) -> None:
        super().__init__()
        self.forms = choose_forms(kernels)
        self.d_inner, self.d_state = config.d_inner, config.d_state
        self.heads, self.reach = config.ssm_heads, config.d_conv - 1
        self.directions = config.directions
        channels = config.d_inner + 2 * config.d_state  # x, B and C go through the convolution
        width = config.d_inner + channels + config.ssm_heads  # z, xBC, dt

        def stacked(*shape: int, dtype: torch.dtype | None = None) -> nn.Parameter:
            return nn.Parameter(torch.empty(config.directions, *shape, dtype=dtype))

        self.in_proj = stacked(width, config.d_model)
        self.conv_weight = stacked(channels, config.d_conv)
        self.conv_bias = stacked(channels)
        self.dt_bias = stacked(config.ssm_heads, dtype=torch.float32)
        self.A_log = stacked(config.ssm_heads, dtype=torch.float32)
        self.D = stacked(config.ssm_heads, dtype=torch.float32)
        self.norm_weight = stacked(config.d_inner)
        # The directions side by side, so that one matmul can project both and add them.
        self.out_proj = nn.Parameter(torch.empty(config.d_model, config.directions, config.d_inner))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator) -> None:
        """Mamba-2's initial A in [1, 16] and dt in [0.001, 0.1]; normal projections."""
        for weight in (self.in_proj, self.out_proj):
            weight.normal_(std=weight.shape[-1] ** -0.5, generator=generator)
        bound = 1 / math.sqrt(self.reach + 1)
        self.conv_weight.uniform_(-bound, bound, generator=generator)
        self.conv_bias.uniform_(-bound, bound, generator=generator)
        dt = self.dt_bias.uniform_(math.log(1e-3), math.log(1e-1), generator=generator).exp_()
        dt.add_(torch.log(-torch.expm1(-dt)))  # softplus inverted
        self.A_log.uniform_(1, 16, generator=generator).log_()
        self.D.fill_(1)
        self.norm_weight.fill_(1)

    def forward(
        self, x: Tensor, window: Window | None = None, cache: MambaCache | None = None
    ) -> Tensor:
        if window is None or cache is None:
            return self.forms.sequence(self, x)
        form: Cached
        if isinstance(window, RowsWindow):
            short = x.shape[1] <= small.FEW_TOKENS
            form = small.block if short else BiMamba._continue_rows
        elif window.edges is not None:
            form = self.forms.refresh
        elif window.first:
            form = self.forms.prefill
        elif self.directions == 1 and x.shape[1] == 1:
            form = self.forms.token
        else:
            short = x.shape[1] <= self.forms.few
            form = self.forms.block if short else self.forms.span
        return form(self, x, window, cache)

    def _sequence(self, x: Tensor) -> Tensor:
        """A whole sequence from zero states."""
        y_fwd = self._scan(0, x)[0]  # Eq. 4
        if self.directions == 1:
            return y_fwd
        y_bwd = self._reversed(x)[0]  # Eq. 5
        return y_fwd + y_bwd  # Eq. 6

    def _refresh(self, x: Tensor, window: Window, cache: MambaCache) -> Tensor:
        """The whole sequence anew, keeping the states at the block's edges."""
        assert window.edges is not None
        start, stop = window.edges
        y_fwd, state, tail = self._scan(0, x, at=start)
        cache.states[0].copy_(state)
        cache.tails[0].copy_(tail)
        # The suffix state is needed only where the next passes are confined to the block.
        keep_reverse = len(cache.states) == 2
        y_bwd, state, tail = self._reversed(x, at=x.shape[1] - stop if keep_reverse else None)
        if keep_reverse:
            cache.states[1].copy_(state)
            cache.tails[1].copy_(tail)
        return y_fwd + y_bwd

    def _prefill(self, x: Tensor, window: Window, cache: MambaCache) -> Tensor:
        """The first tokens of a sequence, keeping the forward state after the last of them."""
        y_fwd, state, tail = self._scan(0, x)
        cache.states[0].copy_(state)
        cache.tails[0].copy_(tail)
        return y_fwd + self._reversed(x)[0] if self.directions == 2 else y_fwd

    def _continue(self, x: Tensor, window: Window, cache: MambaCache) -> Tensor:
        """Segment by segment from the cached states."""
        state, tail = cache.states[0], cache.tails[0]
        outs = []
        for part, segment in enumerate(x.split(window.segments, dim=1)):
            y, state, tail = self._scan(0, segment, state, tail)
            if self.directions == 2:
                after = (cache.states[1], cache.tails[1]) if len(cache.states) == 2 else ()
                y = y + self._reversed(segment, *after)[0]
            if part == window.commits - 1:
                cache.advance(window, state, tail)
            outs.append(y)
        return torch.cat(outs, dim=1) if len(outs) > 1 else outs[0]

    def _continue_rows(self, x: Tensor, window: Window, cache: MambaCache) -> Tensor:
        """As `_continue`, of sequences that are at blocks of their own, some of them shorter."""
        assert isinstance(window, RowsWindow)
        present = window.present
        y, *after = self._scan(0, x, cache.states[0], cache.tails[0], present=present)
        cache.advance(window, *after)
        if self.directions == 1:
            return y
        turned = None if present is None else present.flip(1)
        return y + self._scan(1, x.flip(1), present=turned)[0].flip(1)

    def _reversed(
        self,
        x: Tensor,
        state: Tensor | None = None,
        tail: Tensor | None = None,
        at: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `_scan`, of the reverse direction over the reversed sequence, Eq. 5."""
        out, state, tail = self._scan(1, x.flip(1), state, tail, at)
        return out.flip(1), state, tail

    def _scan(
        self,
        direction: int,
        x: Tensor,
        state: Tensor | None = None,
        tail: Tensor | None = None,
        at: Tensor | None = None,
        present: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run a Mamba-2 layer over x in the order of x, from a state and conv tail (zeros if None),
        without the tokens that are not `present`, (batch, len).

        Returns the output and the state and tail after the first `at` tokens (all if None).
        """
        length = x.shape[1]
        z, xbc, dt = F.linear(x, self.in_proj[direction]).split(
            (self.d_inner, self.d_inner + 2 * self.d_state, self.heads), dim=-1
        )
        dt = F.softplus(dt.float() + self.dt_bias[direction])
        if present is not None:
            xbc, dt = xbc * present[..., None], dt * present[..., None]
        end = torch.full((1,), length, device=x.device) if at is None else at
        new_tail = conv_tail(xbc, tail, end, self.reach)
        xbc = causal_conv_silu(xbc, self.conv_weight[direction], self.conv_bias[direction], tail)
        u, B, C = xbc.split((self.d_inner, self.d_state, self.d_state), dim=-1)
        y, state = ssd_scan(
            u.unflatten(-1, (self.heads, -1)),  # (batch, len, heads, headdim)
            dt,
            -torch.exp(self.A_log[direction]),
            B,
            C,
            self.D[direction],
            state,
            at,
        )
        normed = gated_rms_norm(y.flatten(2), z, self.norm_weight[direction])
        return F.linear(normed, self.out_proj[:, direction]), state, new_tail
