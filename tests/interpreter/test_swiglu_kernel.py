"""The fused swiglu is the gated product of an MLP."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels import swiglu as plain
from dlm_bench.kernels.cuda.swiglu import swiglu

pytestmark = pytest.mark.usefixtures("poisoned")

TOLERANCE = {torch.float32: 1e-6, torch.float16: 5e-4}  # the sigmoid; the output's rounding


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float16"])
@pytest.mark.parametrize("shape", [(1, 1, 96), (2, 3, 1024), (1, 2, 4864), (5, 1030)], ids=str)
def test_matches_the_plain_form(shape, dtype):
    gate_up = (3 * torch.randn(*shape[:-1], 2 * shape[-1])).to(dtype)
    h = swiglu(gate_up)
    assert h.shape == shape
    assert h.dtype == dtype
    assert_close(h.float(), plain.swiglu(gate_up.float()), TOLERANCE[dtype], "l2")


@pytest.mark.filterwarnings("ignore:overflow encountered")  # numpy, in the sigmoid of -100
def test_gates_far_from_zero_are_open_or_shut():
    gate_up = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4, 7.0, 7.0, 7.0, 7.0, 7.0]])
    assert_close(swiglu(gate_up), torch.tensor([[0, 0, 0, 700.0, 7e4]]), 1e-6, "l2")
