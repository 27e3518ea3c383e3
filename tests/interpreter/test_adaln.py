"""add_norm is the residual addition, LayerNorm and modulation of a block."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.adaln import EPSILON
from dlm_bench.kernels.cuda.adaln import add_norm

# Float32 sums of d_model terms in two orders; in float16 two roundings, of x' and of h.
TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3}


def reference(x, branch, gate, scale, shift, segments, unit_scale):
    """The formula in float64, on x' as it is rounded to the dtype."""

    def rows(modulation):
        if modulation.dim() == 1:
            return modulation.double()
        parts = [modulation[:, i : i + 1].expand(-1, n, -1) for i, n in enumerate(segments)]
        return torch.cat(parts, dim=1).double()

    new = x.double()
    if branch is not None:
        new = new + (1 if gate is None else rows(gate)) * branch.double()
    norm = F.layer_norm(new.to(x.dtype).double(), new.shape[-1:], eps=1e-5)
    return new, norm * (rows(scale) + unit_scale) + rows(shift)


def check(x, branch, gate, scale, shift, segments, unit_scale):
    expected = reference(x, branch, gate, scale, shift, segments, unit_scale)
    new, h = add_norm(
        x, branch, gate, scale, shift, segments, unit_scale=unit_scale, epsilon=EPSILON
    )
    assert new is x
    assert h.is_contiguous()
    assert h.dtype == x.dtype
    for out, value in zip((new, h), expected, strict=True):
        assert_close(out.double(), value, TOLERANCE[x.dtype], "l2")


def modulation(batch, segments, width, dtype):
    """Shift, scale and gate: chunks of a wider tensor."""
    wide = torch.randn(batch, segments, 8 * width).to(dtype)
    return wide[..., width : 7 * width].chunk(6, -1)[:3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("batch", "segments", "width"),
    [
        (1, (32,), 64),
        (2, (5, 9), 64),
        (2, (33, 40), 128),
        (2, (3, 2), 1920),
        (2, (1,), 960),
        (2, (5, 9, 9, 4), 960),
        (1, (16, 16, 16), 64),
    ],
)
def test_a_denoisers_residual_norm_and_modulation(batch, segments, width, dtype):
    x = (3 + torch.randn(batch, sum(segments), width)).to(dtype)
    branch = torch.randn(batch, sum(segments), width).to(dtype)
    shift, scale, gate = modulation(batch, len(segments), width, dtype)
    check(x, branch, gate, scale, shift, segments, True)


def test_one_modulation_serves_a_whole_batch():
    x, branch = torch.randn(2, 2, 7, 64)
    shift, scale, gate = modulation(1, 2, 64, torch.float32)
    check(x, branch, gate, scale, shift, (3, 4), True)


def test_without_a_branch_x_is_left_alone():
    x = torch.randn(2, 7, 64)
    before = x.clone()
    shift, scale, _ = modulation(2, 1, 64, torch.float32)
    check(x, None, None, scale, shift, (7,), True)
    assert torch.equal(x, before)


def test_an_autoregressive_blocks_norm_has_a_weight_and_a_bias():
    x, branch = torch.randn(2, 3, 1, 128)
    check(x, branch, None, torch.randn(128), torch.randn(128), (1,), False)


def test_strided_tokens_are_changed_where_they_lie():
    wide = torch.randn(2, 20, 64)
    before = wide.clone()
    branch = torch.randn(2, 9, 128)[..., :64]
    shift, scale, gate = modulation(2, 1, 64, torch.float32)
    check(wide[:, 4:13], branch, gate, scale, shift, (9,), True)
    assert torch.equal(wide[:, :4], before[:, :4])
    assert torch.equal(wide[:, 13:], before[:, 13:])


def test_many_rows_take_larger_tiles():
    length = 4096 + 70
    x, branch = torch.randn(2, 1, length, 16)
    shift, scale, gate = modulation(1, 2, 16, torch.float32)
    check(x, branch, gate, scale, shift, (4001, length - 4001), True)


def test_a_large_mean_does_not_drown_the_variance():
    x = 1000 + torch.randn(1, 4, 64)
    shift, scale, _ = modulation(1, 1, 64, torch.float32)
    expected = reference(x, None, None, scale, shift, (4,), True)[1]
    h = add_norm(x, None, None, scale, shift, (4,), unit_scale=True, epsilon=EPSILON)[1]
    # The mean itself is rounded to 6e-5 of a standard deviation; E[x^2] - E[x]^2 would be 6 % off.
    assert_close(h.double(), expected, 2e-4, "l2")


def test_constant_rows_are_the_shift():
    x = torch.full((1, 2, 64), 5.0)
    shift, scale, _ = modulation(1, 1, 64, torch.float32)
    h = add_norm(x, None, None, scale, shift, (2,), unit_scale=True, epsilon=EPSILON)[1]
    assert torch.equal(h, shift.expand(1, 2, 64))


def test_the_epsilon_is_layer_norms():
    assert torch.nn.LayerNorm(4).eps == EPSILON
