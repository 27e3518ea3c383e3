"""The fused add_rms_norm is the residual addition and RMSNorm of a Transformer's block."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels import rms_norm as plain
from dlm_bench.kernels.cuda.rms_norm import add_rms_norm

pytestmark = pytest.mark.usefixtures("poisoned")

EPSILON = 1e-2  # so large that a forgotten one shows
# Float32 sums of d_model terms in two orders; in float16 the rounding of the output, 2^-11.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 5e-4}


def check(shape, dtype=torch.float32, with_branch=True):
    x = torch.randn(shape)
    branch = torch.randn(shape).to(dtype) if with_branch else None
    weight = torch.rand(shape[-1]).to(dtype)
    # By the plain form, in float32 for the sake of the rounding.
    new, expected = plain.add_rms_norm(x.clone(), branch, weight.float(), EPSILON)
    moved, h = add_rms_norm(x, branch, weight, EPSILON)
    assert moved is x
    assert h.dtype == dtype
    assert h.is_contiguous()
    assert torch.equal(x, new)
    assert_close(h.float(), expected, TOLERANCE[dtype], "l2")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float16"])
@pytest.mark.parametrize("with_branch", [True, False])
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 48), (2, 45, 48), (1, 3, 896), (1, 2, 3584), (1, 1, 5120), (1, 4100, 8)],
    ids=str,  # tiles of rows with a part of one, widths between powers of two, many rows
)
def test_matches_the_plain_form(shape, with_branch, dtype):
    check(shape, dtype, with_branch)


def test_a_row_of_zeros_stays_zero():
    _, h = add_rms_norm(torch.zeros(1, 2, 16), None, torch.ones(16), EPSILON)
    assert torch.equal(h, torch.zeros(1, 2, 16))
