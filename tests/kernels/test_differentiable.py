"""Gradients through the plain kernels: those of autograd against finite differences."""

import pytest
import torch

from dlm_bench.kernels import ssd
from dlm_bench.kernels.adaln import add_norm
from dlm_bench.kernels.attention import attend
from dlm_bench.kernels.conv import causal_conv_silu
from dlm_bench.kernels.differentiable import gated_rms_norm_differentiable, ssd_differentiable
from dlm_bench.kernels.norm import EPSILON, gated_rms_norm


def drawn(*shapes, dtype=torch.float64, seed=0):
    """Normal tensors of these shapes that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator, dtype=dtype).requires_grad_() for s in shapes]


def scan_inputs(length, dtype=torch.float64):
    x, dt, a, B, C, D = drawn(
        (2, length, 3, 4), (2, length, 3), (3,), (2, length, 5), (2, length, 5), (3,), dtype=dtype
    )
    return x, (dt - 1).exp().detach().requires_grad_(), a, B, C, D


@pytest.mark.parametrize("length", [1, 4, 5, 8, 11])  # a part of a chunk, whole ones, and a rest
def test_the_scans_gradient_in_float64(length):
    x, dt, a, B, C, D = scan_inputs(length)
    (state,) = drawn((2, 3, 4, 5), seed=1)

    def scan(x, dt, a, B, C, D, state):
        return ssd_differentiable(x, dt, -a.exp(), B, C, D, state, chunk=4)

    assert torch.autograd.gradcheck(scan, (x, dt, a, B, C, D, state))


@pytest.mark.parametrize("length", [1, 31, 32, 100])
@pytest.mark.parametrize("continued", [False, True])
def test_it_is_the_scan_of_the_decodes(length, continued):
    x, dt, a, B, C, D = (v.detach() for v in scan_inputs(length, torch.float32))
    state = torch.randn(2, 3, 4, 5) if continued else None
    wanted, last = ssd.ssd_recurrent(x, dt, -a.exp(), B, C, D, state)
    y, final = ssd.ssd_scan(x.clone().requires_grad_(), dt, -a.exp(), B, C, D, state)
    assert y.requires_grad
    # Sums of tens of float32 terms in another order: some 1e-7 each.
    torch.testing.assert_close(y.detach(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(final.detach(), last, rtol=1e-4, atol=1e-4)


def test_steps_that_forget_at_once_leave_the_gradient_finite():
    # Above the diagonal exp(decay_i - decay_j) is exp(16 * 10 * 31), infinite.
    x, dt, _, B, C, D = scan_inputs(32, torch.float32)
    a = torch.full((3,), -16.0, requires_grad=True)
    long = torch.full_like(dt, 10.0).requires_grad_()
    ssd.ssd_scan(x, long, a, B, C, D)[0].sum().backward()
    for tensor in (x, long, a, B, C, D):
        assert torch.isfinite(tensor.grad).all()


def test_the_gated_norms_gradient_in_float64():
    y, z, weight = drawn((2, 3, 6), (2, 3, 6), (6,))
    assert torch.autograd.gradcheck(
        lambda *inputs: gated_rms_norm_differentiable(*inputs, EPSILON), (y, z, weight)
    )


def test_the_gated_norm_with_a_gradient_is_the_one_without_and_spares_its_inputs():
    y, z, weight = drawn((2, 3, 6), (2, 3, 6), (6,), dtype=torch.float32)
    before = y.detach().clone(), z.detach().clone()
    got = gated_rms_norm(y, z, weight)
    assert torch.equal(y, before[0])
    assert torch.equal(z, before[1])
    wanted = gated_rms_norm(*before, weight.detach())
    torch.testing.assert_close(got.detach(), wanted)  # float32's rounding


@pytest.mark.parametrize("with_tail", [False, True])
def test_the_convolutions_gradient_in_float64(with_tail):
    x, weight, bias, tail = drawn((2, 6, 4), (4, 4), (4,), (2, 3, 4))

    def conv(x, weight, bias, tail):
        # Not the leaf itself: in a mixer x is a view of a projection.
        return causal_conv_silu(x * 1.0, weight, bias, tail if with_tail else None)

    inputs = (x, weight, bias, tail) if with_tail else (x, weight, bias, tail.detach())
    assert torch.autograd.gradcheck(conv, inputs)


@pytest.mark.parametrize("causal", [False, True])
def test_attentions_gradient_in_float64(causal):
    q, k, v = drawn((1, 2, 5, 4), (1, 2, 5, 4), (1, 2, 5, 4))
    assert torch.autograd.gradcheck(lambda *qkv: attend(*qkv, causal=causal), (q, k, v))


@pytest.mark.filterwarnings("ignore:Input .* is not a double precision")
@pytest.mark.parametrize("unit_scale", [False, True])
def test_the_gradient_of_residual_norm_and_modulation(unit_scale):
    shape, row = (2, 4, 6), (2, 1, 6) if unit_scale else (6,)
    inputs = drawn(shape, shape, row, row, row, dtype=torch.float32)

    def norm(x, branch, gate, scale, shift):
        return add_norm(x, branch, gate, scale, shift, (4,), unit_scale=unit_scale)

    # It computes in float32 whatever it is given: differences over 1e-2 are rounded at 1e-5, and
    # the third derivative adds about as much.
    assert torch.autograd.gradcheck(norm, inputs, eps=1e-2, atol=5e-3, rtol=5e-3)
