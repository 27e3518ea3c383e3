"""The block scan kernel against the plain mixer's convolution and scan, under the interpreter."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.conv import causal_conv_silu, conv_tail
from dlm_bench.kernels.cuda.block_scan import block_scan
from dlm_bench.kernels.cuda.common import counters
from dlm_bench.kernels.ssd import ssd_recurrent

pytestmark = pytest.mark.usefixtures("poisoned")

HEADS, HEADDIM, D_STATE, D_CONV = 2, 16, 32, 4
# float32: products of tiles against a recurrence, and the powers in another base. float16: the
# reference rounds x, B and C (2^-11) as the kernel does, the kernel also the state and the mixing.
TOLERANCES = {torch.float32: 5e-6, torch.float16: 2e-3}


class Case:
    """Random inputs of a block, and what the plain path makes of them."""

    def __init__(
        self,
        segments,
        directions=2,
        reverse_state=False,
        dtype=torch.float32,
        batch=1,
        headdim=HEADDIM,
        d_state=D_STATE,
        dt_bias=(-6.9, -2.3),
    ):
        self.segments, self.headdim, self.d_state = segments, headdim, d_state
        self.d_inner = HEADS * headdim
        self.channels = self.d_inner + 2 * d_state
        width = self.d_inner + self.channels + HEADS
        self.projected = torch.randn(batch, sum(segments), directions, width).to(dtype)
        self.conv_weight = torch.randn(directions, self.channels, D_CONV).mul(0.5).to(dtype)
        self.conv_bias = torch.randn(directions, self.channels).to(dtype)
        self.dt_bias = torch.empty(directions, HEADS).uniform_(*dt_bias)
        self.A_log = torch.empty(directions, HEADS).uniform_(1, 16).log()
        self.D = torch.randn(directions, HEADS)
        kept = range(2 if reverse_state else 1)
        self.states = [torch.randn(batch, HEADS, headdim, d_state) for _ in kept]
        self.tails = [torch.randn(batch, D_CONV - 1, self.channels).to(dtype) for _ in kept]

    def run(self, advance=False):
        return self.scan(advance=advance)[0]

    def scan(self, **options):
        return block_scan(
            self.projected,
            self.conv_weight,
            self.conv_bias,
            self.dt_bias,
            self.A_log,
            self.D,
            self.segments,
            self.states,
            self.tails,
            **options,
        )

    def expected(self):
        """y, and the forward state and tail after the first segment, as BiMamba does it."""
        parts = []
        state, tail = self.states[0], self.tails[0]
        for segment in self.projected.split(self.segments, dim=1):
            y, state, tail = self._scan(0, segment[:, :, 0], state, tail)
            ys = [y]
            if segment.shape[2] == 2:
                after = (self.states[1], self.tails[1]) if len(self.states) == 2 else (None, None)
                ys.append(self._scan(1, segment[:, :, 1].flip(1), *after)[0].flip(1))
            if not parts:
                advanced = state, tail
            parts.append(torch.stack(ys, dim=2))
        return torch.cat(parts, dim=1), *advanced

    def _scan(self, direction, projected, state, tail):
        _, xbc, dt = projected.split((self.d_inner, self.channels, HEADS), dim=-1)
        end = torch.tensor([projected.shape[1]])
        new_tail = conv_tail(xbc, tail, end, D_CONV - 1)
        xbc = causal_conv_silu(xbc, self.conv_weight[direction], self.conv_bias[direction], tail)
        u, B, C = xbc.split((self.d_inner, self.d_state, self.d_state), dim=-1)
        dt = F.softplus(dt.float() + self.dt_bias[direction])
        rate = -torch.exp(self.A_log[direction])
        x = u.unflatten(-1, (HEADS, self.headdim))
        y, state = ssd_recurrent(x, dt, rate, B, C, self.D[direction], state)
        return y.flatten(2), state, new_tail


def _check(case, advance):
    y, state, tail = case.expected()
    before = [tensor.clone() for tensor in (*case.states, *case.tails)]
    out = case.run(advance)
    tolerance = TOLERANCES[out.dtype]
    assert_close(out, y, tolerance, "l2")
    # No token may hide its error behind the others: of a mean token's size, each one's is small.
    errors = (out.float() - y.float()).norm(dim=(0, 3))  # (length, directions)
    assert errors.max() < 4 * tolerance * y.float().norm() / errors.numel() ** 0.5
    untouched = list(zip((*case.states, *case.tails), before, strict=True))
    if advance:
        assert_close(case.states[0], state, tolerance, "l2")
        assert torch.equal(case.tails[0], tail)
        assert not counters(tail.device).any()  # a captured launch begins as this one did
        del untouched[len(case.states)], untouched[0]
    for tensor, kept in untouched:
        assert torch.equal(tensor, kept)


@pytest.mark.parametrize("advance", [False, True], ids=["read", "advance"])
@pytest.mark.parametrize(
    ("directions", "reverse_state"),
    [(1, False), (2, False), (2, True)],
    ids=["forward", "both", "dual"],
)
@pytest.mark.parametrize("length", [1, 2, 3, 17, 32, 70])
def test_matches_the_plain_mixer(length, directions, reverse_state, advance):
    _check(Case((length,), directions, reverse_state), advance)


@pytest.mark.parametrize("advance", [False, True], ids=["read", "advance"])
@pytest.mark.parametrize("segments", [(8, 5), (1, 1), (2, 20), (1, 3), (33, 16)])
def test_two_segments(segments, advance):
    _check(Case(segments), advance)


def test_two_segments_forward():
    _check(Case((8, 5), directions=1), advance=True)


@pytest.mark.parametrize("segments", [(1,), (19,), (8, 5)])
def test_batch(segments):
    _check(Case(segments, batch=2), advance=True)
    if len(segments) == 1:
        _check(Case(segments, batch=2, reverse_state=True), advance=True)


@pytest.mark.parametrize(("headdim", "d_state"), [(32, 16), (24, 40), (8, 8)])
@pytest.mark.parametrize("length", [1, 5])
def test_sizes_of_the_state(length, headdim, d_state):
    _check(Case((length,), headdim=headdim, d_state=d_state), advance=True)


@pytest.mark.parametrize("segments", [(1,), (2,), (32,), (70,), (8, 5), (40, 33)])
def test_half_precision(segments):
    _check(Case(segments, dtype=torch.float16), advance=True)


def test_strong_decay_does_not_overflow():
    # dt near 300 and A near -16: exp of a difference above the diagonal is infinite, and the last
    # token's own decay, a difference of two sums near 1e5, must still be exactly none.
    case = Case((40,), dt_bias=(300.0, 310.0))
    case.A_log.fill_(2.77)
    _check(case, advance=True)


def test_tiny_steps_keep_their_precision():
    # softplus of -15 is 3e-7: 1 + exp(-15) has one or two digits of it left. D is 0 and the state
    # too, or what they add would hide the error.
    case = Case((20,), dt_bias=(-15.0, -14.0))
    case.projected[..., -HEADS:] = 0
    case.D.zero_()
    case.states[0].zero_()
    _check(case, advance=True)


def test_reverse_state_of_two_segments_is_refused():
    with pytest.raises(ValueError, match="segments"):
        Case((2, 2), reverse_state=True).run()


@pytest.mark.parametrize(("segments", "batch"), [((5,), 2), ((1,), 2), ((9, 20), 1)], ids=str)
def test_gated_outputs_and_the_sums_of_their_squares(segments, batch):
    case = Case(segments, batch=batch)
    plain = case.run()
    y, squares = case.scan(advance=False, gated=True)
    expected = plain * F.silu(case.projected[..., : case.d_inner])
    assert_close(y, expected, TOLERANCES[y.dtype], "l2")
    sums = y.square().sum(-1).flatten(0, 1).t()  # (directions, rows)
    assert_close(squares.sum(1), sums, 1e-5, "l2")  # float32, in another order
