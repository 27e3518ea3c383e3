"""The convolution kernels against the plain one, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.conv import StepWeights, causal_conv_silu, chunk_steps, conv_tail
from dlm_bench.kernels.cuda.conv import conv_silu, conv_step

pytestmark = pytest.mark.usefixtures("poisoned")

D_CONV, CHUNK = 4, 24
# float32: the same multiply-adds, and exp by another route. float16: the reference rounds after
# every tap (2^-11), the kernel once.
TOLERANCES = {torch.float32: 1e-6, torch.float16: 2e-3}


class Case:
    """Random inputs of a mixer, and what the plain convolution makes of them."""

    def __init__(
        self, length, directions, tails=(), batch=1, heads=3, headdim=16, d_state=16, dtype=None
    ):
        self.heads, self.headdim, self.d_state = heads, headdim, d_state
        self.d_inner = heads * headdim
        self.channels = self.d_inner + 2 * d_state
        width = self.d_inner + self.channels + heads
        dtype = dtype or torch.float32
        self.projected = torch.randn(batch, length, directions, width).to(dtype)
        self.weight = torch.randn(directions, self.channels, D_CONV).mul(0.5).to(dtype)
        self.bias = torch.randn(directions, self.channels).to(dtype)
        self.steps = StepWeights(
            torch.empty(directions, heads).uniform_(-5, 1), torch.rand(directions, heads), CHUNK
        )
        self.tails = tuple(
            torch.randn(batch, D_CONV - 1, self.channels).to(dtype) if i in tails else None
            for i in range(directions)
        )

    def run(self, projected=None):
        return conv_silu(
            self.projected if projected is None else projected,
            self.weight,
            self.bias,
            self.d_state,
            self.heads,
            self.tails,
            self.steps,
        )

    def expected(self):
        columns = []
        for direction, tail in enumerate(self.tails):
            part = self.projected[:, :, direction]
            part = part.flip(1) if direction == 1 else part
            _, xbc, dt = part.split((self.d_inner, self.channels, self.heads), dim=-1)
            xbc = causal_conv_silu(xbc, self.weight[direction], self.bias[direction], tail)
            x, B, C = xbc.split((self.d_inner, self.d_state, self.d_state), dim=-1)
            columns.append((x.unflatten(-1, (self.heads, -1)), B, C, dt))
        x, B, C, dt = zip(*columns, strict=True)
        return torch.cat(x, dim=2), torch.stack(B, dim=2), torch.stack(C, dim=2), torch.cat(dt, -1)


def _check(case, projected=None):
    *conv, steps = case.run(projected)
    *expected, dt = case.expected()
    for tensor, wanted in zip(conv, expected, strict=True):
        # Every token by itself: an error at one edge is not lost among the others.
        for token in range(tensor.shape[1]):
            assert_close(tensor[:, token], wanted[:, token], TOLERANCES[tensor.dtype], "l2")
    for tensor, wanted in zip(steps, chunk_steps(dt, case.steps), strict=True):
        assert_close(tensor, wanted, 1e-6, "l2")  # float32, whatever the dtype


@pytest.mark.parametrize("length", [1, 2, 3, 17, 40])
@pytest.mark.parametrize(
    ("directions", "tails"),
    [(1, ()), (1, (0,)), (2, ()), (2, (0,)), (2, (1,)), (2, (0, 1))],
    ids=["forward", "forward-tail", "both", "first-tail", "second-tail", "both-tails"],
)
def test_sequence_matches_the_plain_convolution(length, directions, tails):
    _check(Case(length, directions, tails))


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 40])
def test_sequence_of_a_batch(length, directions):
    _check(Case(length, directions, tails=range(directions), batch=2))


def test_more_tokens_than_a_program_takes():
    # With blocks of 128 channels a program takes 256 tokens in 4 steps.
    _check(Case(300, 2, tails=(0, 1), heads=2, headdim=64, d_state=128))


@pytest.mark.parametrize(
    ("heads", "headdim", "d_state"), [(8, 16, 16), (4, 64, 64), (5, 8, 24)], ids=str
)
def test_sizes(heads, headdim, d_state):
    _check(Case(20, 2, tails=(1,), heads=heads, headdim=headdim, d_state=d_state))


@pytest.mark.parametrize("tails", [(), (0, 1)])
def test_half_precision(tails):
    _check(Case(40, 2, tails, batch=2, dtype=torch.float16))


def test_a_slice_of_a_longer_batch():
    case = Case(12, 2, tails=(0, 1), batch=3)
    longer = torch.randn(3, 20, *case.projected.shape[2:])
    longer[:, 5:17] = case.projected
    _check(case, longer[:, 5:17])


def test_the_head_axis_is_one_stride():
    case = Case(5, 2)
    x, B, C, steps = case.run()
    assert x.stride() == (5 * 2 * case.channels, 2 * case.channels, case.headdim, 1)
    assert B.stride() == C.stride() == (x.stride(0), x.stride(1), case.d_state, 1)
    assert steps.dt.is_contiguous()
    assert steps.decay.is_contiguous()


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_no_overflow_of_silu():
    case = Case(4, 1)
    case.projected[:, 0] = -1e4  # exp of it is infinite
    case.projected[:, 2] = 1e4
    _check(case)


def test_inputs_are_left_alone():
    case = Case(20, 2, tails=(0, 1))
    inputs = (case.projected, case.weight, case.bias, *case.tails)
    before = [tensor.clone() for tensor in inputs]
    case.run()
    for tensor, kept in zip(inputs, before, strict=True):
        assert torch.equal(tensor, kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("heads", [3, 9])  # within a program, and more than one
def test_step_matches_a_sequence(batch, heads, dtype):
    case = Case(5, 1, tails=(0,), batch=batch, heads=heads, dtype=dtype)
    expected = case.expected()
    tail = case.tails[0].clone()
    for token in range(5):
        projected = case.projected[:, token : token + 1].contiguous()
        out = conv_step(projected, case.weight, case.bias, case.d_state, case.heads, tail)
        for tensor, wanted in zip(out, expected[:3], strict=True):
            wanted = wanted[:, token].reshape(tensor.shape)
            assert_close(tensor, wanted, TOLERANCES[tensor.dtype], "l2")
        inputs = case.projected[:, :, 0, case.d_inner : -case.heads]
        at = torch.tensor([token + 1])
        assert torch.equal(tail, conv_tail(inputs, case.tails[0], at, D_CONV - 1))
