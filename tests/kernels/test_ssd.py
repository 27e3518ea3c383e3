"""Every form of the Mamba-2 scan computes one recurrence, whole or in pieces."""

import pytest
import torch
from support.close import assert_close, relative_error

from dlm_bench.kernels import ssd

BATCH, HEADS, HEADDIM, D_STATE = 2, 3, 4, 5
# Orders of summation differ between the forms; the sums have tens of float32 terms of order 1, so
# errors are some 1e-7 of the largest value. A wrong token, head or decay is 1e-2 or more.
ROUNDING = 1e-5


def inputs(length, *, seed=0, dt_range=(1e-3, 0.5)):
    """x, dt, A, B, C, D: steps that forget within two tokens beside steps that forget nothing."""
    generator = torch.Generator().manual_seed(seed)
    low, high = torch.tensor(dt_range).log()
    x = torch.randn(BATCH, length, HEADS, HEADDIM, generator=generator)
    dt = (low + (high - low) * torch.rand(BATCH, length, HEADS, generator=generator)).exp()
    A = -torch.linspace(0.1, 8, HEADS)
    B, C = torch.randn(2, BATCH, length, D_STATE, generator=generator)
    D = torch.randn(HEADS, generator=generator)
    return x, dt, A, B, C, D


def initial_state(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, HEADS, HEADDIM, D_STATE, generator=generator)


def part(arguments, start, stop):
    x, dt, A, B, C, D = arguments
    span = slice(start, stop)
    return x[:, span], dt[:, span], A, B[:, span], C[:, span], D


def explicit_sum(x, dt, A, B, C, D, state):
    """The recurrence unrolled, in float64: every token's output as a sum over the tokens before."""
    x, dt, A, B, C, D, state = (v.double() for v in (x, dt, A, B, C, D, state))
    y, length = torch.empty_like(x), x.shape[1]
    for i in range(length):
        y[:, i] = D[:, None] * x[:, i]
        through = torch.exp(A * dt[:, : i + 1].sum(1))  # (batch, heads): decay of what was before
        y[:, i] += torch.einsum("bh,bhpn,bn->bhp", through, state, C[:, i])
        for j in range(i + 1):
            decay = torch.exp(A * dt[:, j + 1 : i + 1].sum(1))
            y[:, i] += torch.einsum(
                "bh,bh,bn,bn,bhp->bhp", decay, dt[:, j], C[:, i], B[:, j], x[:, j]
            )
    final = torch.exp(A * dt.sum(1))[..., None, None] * state
    for j in range(length):
        decay = torch.exp(A * dt[:, j + 1 :].sum(1))
        final += torch.einsum("bh,bh,bhp,bn->bhpn", decay, dt[:, j], x[:, j], B[:, j])
    return y, final


def test_the_recurrence_is_the_unrolled_sum():
    arguments, state = inputs(17), initial_state()
    y, final = ssd.ssd_recurrent(*arguments, state)
    expected_y, expected_final = explicit_sum(*arguments, state)
    assert_close(y.double(), expected_y, ROUNDING)
    assert_close(final.double(), expected_final, ROUNDING)


def test_no_initial_state_is_a_state_of_zeros():
    arguments = inputs(40)
    zeros = torch.zeros_like(initial_state())
    for scan in (ssd.ssd_recurrent, ssd.ssd_chunked, ssd.ssd_scan):
        for got, expected in zip(scan(*arguments), scan(*arguments, zeros), strict=True):
            assert torch.equal(got, expected)  # the same operations on the same numbers


@pytest.mark.parametrize("chunk", [1, 7, 32, ssd.CHUNK])
@pytest.mark.parametrize("length", [1, 2, 31, 32, 33, 150])
@pytest.mark.parametrize("start", [None, initial_state()], ids=["zeros", "state"])
def test_chunks_compute_the_recurrence(length, chunk, start):
    arguments = inputs(length)
    y, state = ssd.ssd_chunked(*arguments, start, chunk=chunk)
    expected_y, expected_state = ssd.ssd_recurrent(*arguments, start)
    assert_close(y, expected_y, ROUNDING)
    assert_close(state, expected_state, ROUNDING)


@pytest.mark.parametrize("segment", [1, 8, 20, 64])
def test_segments_carry_the_state_across_their_boundaries(segment):
    arguments, start = inputs(70), initial_state()
    y, state = ssd.ssd_chunked(*arguments, start, chunk=8, segment=segment)
    expected_y, expected_state = ssd.ssd_recurrent(*arguments, start)
    assert_close(y, expected_y, ROUNDING)
    assert_close(state, expected_state, ROUNDING)


def test_the_default_segment_ends_inside_a_long_sequence():
    length = ssd.SEGMENT + 37
    arguments = inputs(length, dt_range=(1e-3, 1e-2))
    y, state = ssd.ssd_scan(*arguments, initial_state())
    expected_y, expected_state = ssd.ssd_recurrent(*arguments, initial_state())
    assert_close(y, expected_y, ROUNDING)
    assert_close(state, expected_state, ROUNDING)


def test_few_heads_at_a_time_compute_the_same(monkeypatch):
    arguments = inputs(50)
    expected = ssd.ssd_recurrent(*arguments)[0]
    monkeypatch.setattr(ssd, "MIXING_ELEMENTS", 1)  # one head at a time
    assert_close(ssd.ssd_chunked(*arguments)[0], expected, ROUNDING)


@pytest.mark.parametrize("at", [0, 1, 31, 32, 50, 69, 70])
@pytest.mark.parametrize("start", [None, initial_state()], ids=["zeros", "state"])
def test_the_state_at_a_position_is_that_of_the_tokens_before_it(at, start):
    arguments = inputs(70)
    y, state = ssd.ssd_scan(*arguments, start, torch.tensor([at]))
    expected_y, _ = ssd.ssd_recurrent(*arguments, start)
    _, expected_state = ssd.ssd_recurrent(*part(arguments, 0, at), start)
    assert_close(y, expected_y, ROUNDING)
    assert_close(state, expected_state, ROUNDING)


@pytest.mark.parametrize("cut", [1, 31, 32, 69])
def test_two_halves_with_a_carried_state_are_one_run(cut):
    arguments, start = inputs(70), initial_state()
    y, state = ssd.ssd_scan(*arguments, start)
    first, carried = ssd.ssd_scan(*part(arguments, 0, cut), start)
    second, final = ssd.ssd_scan(*part(arguments, cut, 70), carried)
    assert_close(torch.cat((first, second), dim=1), y, ROUNDING)
    assert_close(final, state, ROUNDING)
    forgotten = ssd.ssd_scan(*part(arguments, cut, 70), None)[0]
    assert relative_error(forgotten, second) > 1e-2  # the carried state matters


def test_one_token_at_a_time_is_one_run():
    arguments, state = inputs(20), initial_state()
    y, final = ssd.ssd_chunked(*arguments, state)
    for i in range(20):
        x, dt, A, B, C, D = part(arguments, i, i + 1)
        stepped, after = ssd.ssd_step(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], D, state)
        scanned, state = ssd.ssd_scan(x, dt, A, B, C, D, state)
        assert_close(stepped, y[:, i], ROUNDING)
        assert_close(scanned[:, 0], y[:, i], ROUNDING)
        assert_close(after, state, ROUNDING)
    assert_close(state, final, ROUNDING)


def test_tokens_of_dt_zero_leave_the_state_as_it_is():
    x, dt, A, B, C, D = inputs(40)
    stopped = dt.clone()
    stopped[:, 23:] = 0
    _, state = ssd.ssd_scan(x, stopped, A, B, C, D, initial_state())
    _, expected = ssd.ssd_scan(*part((x, dt, A, B, C, D), 0, 23), initial_state())
    assert_close(state, expected, ROUNDING)


def test_steps_that_forget_everything_do_not_overflow():
    arguments = inputs(70, dt_range=(50, 100))  # exp(+8 * 100 * 32) above the diagonal
    y, state = ssd.ssd_chunked(*arguments, initial_state())
    expected_y, expected_state = ssd.ssd_recurrent(*arguments, initial_state())
    assert_close(y, expected_y, ROUNDING)
    assert_close(state, expected_state, ROUNDING)


def test_a_scan_leaves_its_inputs_as_they_were():
    arguments, start = inputs(40), initial_state()
    before = [v.clone() for v in (*arguments, start)]
    ssd.ssd_scan(*arguments, start)
    ssd.ssd_scan(*arguments, start, torch.tensor([0]))
    ssd.ssd_scan(*part(arguments, 0, 1), start)
    for now, then in zip((*arguments, start), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("at", [None, 40])
def test_bfloat16_keeps_its_precision_and_a_float32_state(at):
    x, dt, A, B, C, D = inputs(200)
    low = tuple(v.bfloat16() for v in (x, B, C))
    where = None if at is None else torch.tensor([at])
    y, state = ssd.ssd_scan(low[0], dt, A, low[1], low[2], D, initial_state(), where)
    rounded = (low[0].float(), dt, A, low[1].float(), low[2].float(), D)
    expected_y, _ = ssd.ssd_recurrent(*rounded, initial_state())
    _, expected_state = ssd.ssd_recurrent(*part(rounded, 0, at), initial_state())
    assert y.dtype == torch.bfloat16
    assert state.dtype == torch.float32
    # The inputs are the same, but products are rounded to bfloat16's 8 bits (0.4 %) two or three
    # times on the way: 2 % of the largest value.
    assert_close(y.float(), expected_y, 2e-2)
    assert_close(state, expected_state, 2e-2)


def test_strided_inputs_compute_the_same():
    x, dt, A, B, C, D = inputs(50)
    packed = torch.cat((x.flatten(2), B, C), dim=-1)  # as the convolution leaves them
    u, B_view, C_view = packed.split((HEADS * HEADDIM, D_STATE, D_STATE), dim=-1)
    expected = ssd.ssd_chunked(x, dt, A, B, C, D)[0]
    got = ssd.ssd_chunked(u.unflatten(-1, (HEADS, -1)), dt, A, B_view, C_view, D)[0]
    assert_close(got, expected, ROUNDING)
