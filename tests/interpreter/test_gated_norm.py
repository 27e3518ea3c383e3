"""The gated norm kernel against plain PyTorch, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.cuda.gated_norm import gated_norm
from dlm_bench.kernels.norm import gated_rms_norm

pytestmark = pytest.mark.usefixtures("poisoned")

# float32: sums of d_inner squares in another order. float16: the output's rounding (2^-11), and
# the reference rounds the gated values once more.
TOLERANCES = {torch.float32: 2e-6, torch.float16: 2e-3}


def _inputs(batch, length, directions, d_inner, extra, dtype):
    y = torch.randn(batch, length, directions, d_inner).to(dtype)
    projected = torch.randn(batch, length, directions, d_inner + extra).to(dtype)
    return y, projected, torch.rand(directions, d_inner).add(0.5).to(dtype)


def _expected(y, projected, weight, reversed_second):
    z = projected[..., : y.shape[-1]]
    outs = []
    for direction in range(y.shape[2]):
        rows = y[:, :, direction]
        if reversed_second and direction == 1:
            rows = rows.flip(1)
        outs.append(gated_rms_norm(rows.clone(), z[:, :, direction].clone(), weight[direction]))
    return torch.cat(outs, dim=-1)


def _check(out, expected):
    assert out.is_contiguous()
    assert_close(out, expected, TOLERANCES[out.dtype], "l2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("reversed_second", [False, True])
@pytest.mark.parametrize(
    ("batch", "length", "directions", "d_inner"),
    [
        (1, 1, 1, 128),
        (2, 5, 2, 128),  # several rows a program, the last one partly beyond the end
        (2, 9, 2, 200),  # not a power of two
        (1, 3, 2, 1920),  # a row a program
        (1, 2, 2, 3840),
    ],
)
def test_matches_plain_pytorch(batch, length, directions, d_inner, reversed_second, dtype):
    inputs = _inputs(batch, length, directions, d_inner, 44, dtype)
    out = gated_norm(*inputs, reversed_second=reversed_second)
    _check(out, _expected(*inputs, reversed_second))


def test_takes_any_strides():
    y, projected, weight = _inputs(2, 6, 2, 128, 37, torch.float32)
    expected = _expected(y[:, 1:5], projected[:, 1:5], weight, True)
    directions_first = y.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3)
    out = gated_norm(directions_first[:, 1:5], projected[:, 1:5], weight, reversed_second=True)
    _check(out, expected)


def test_small_and_large_gates_stay_finite():
    y, projected, weight = _inputs(1, 2, 2, 128, 8, torch.float32)
    projected[:, 0] = -200.0  # exp(200) is infinite: SiLU is 0
    projected[:, 1] = 200.0
    out = gated_norm(y, projected, weight, reversed_second=False)
    assert (out[:, 0] == 0).all()
    _check(out, _expected(y, projected, weight, False))


def test_leaves_its_inputs_alone():
    inputs = _inputs(1, 3, 2, 128, 8, torch.float32)
    before = [tensor.clone() for tensor in inputs]
    gated_norm(*inputs, reversed_second=True)
    for tensor, kept in zip(inputs, before, strict=True):
        torch.testing.assert_close(tensor, kept, rtol=0, atol=0)
