"""The gated RMSNorm in front of Mamba-2's output projection: gate first, then the norm."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.norm import gated_rms_norm
from dlm_bench.kernels.rms_norm import rms_norm


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    y, z = torch.randn(2, 2, 5, 48, generator=generator).to(dtype)
    return y, z, torch.randn(48, generator=generator).to(dtype)


def expected(y, z, weight):
    return F.rms_norm(y * F.silu(z), (48,), weight, eps=1e-5)


@pytest.mark.parametrize(
    # float32: a mean of 48 squares, some 1e-7. bfloat16: the gated value and the result are
    # rounded to 8 bits, 0.4 % at most each.
    ("dtype", "tolerance"),
    [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)],
)
@pytest.mark.parametrize("scale", [1.0, 1e-3])  # at 1e-3 the epsilon is half of the mean square
def test_it_is_the_norm_of_the_gated_values(dtype, tolerance, scale):
    y, z, weight = inputs(dtype)
    y = y * scale
    wanted = expected(y.float(), z.float(), weight.float())
    got = gated_rms_norm(y, z, weight)  # overwrites y and z
    assert got.dtype == dtype
    assert_close(got.float(), wanted, tolerance)


def test_rows_of_zeros_stay_zeros():
    y, z, weight = inputs()
    y[:, 2] = 0
    got = gated_rms_norm(y, z, weight)
    assert (got[:, 2] == 0).all()
    assert torch.isfinite(got).all()


@pytest.mark.parametrize("gradient", [False, True])
def test_bfloat16_is_rounded_once_at_the_end(gradient):
    y, z, weight = inputs(torch.bfloat16)
    want = gated_rms_norm(y.float(), z.float(), weight.float()).bfloat16()
    assert torch.equal(gated_rms_norm(y.requires_grad_(gradient), z, weight), want)


@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])  # below epsilon, at it, far above it
def test_the_norm_is_pytorchs_and_a_row_of_weights_is_of_its_vector(scale):
    generator = torch.Generator().manual_seed(0)
    x = scale * torch.randn(2, 3, 4, 48, generator=generator)
    weight = torch.randn(4, 48, generator=generator)
    expected = torch.stack(
        [F.rms_norm(x[:, :, i], (48,), weight[i], eps=1e-6) for i in range(4)], dim=2
    )
    assert_close(rms_norm(x, weight, 1e-6), expected, 1e-6)  # tens of float32 terms: some 1e-7
    low = rms_norm(x.bfloat16(), weight.bfloat16(), 1e-6)
    assert low.dtype == torch.bfloat16
    assert_close(low.float(), expected, 2e-2)  # bfloat16's 8 bits, at three roundings
