"""The scan of a whole sequence by a program for each head, under Triton's interpreter."""

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close

from dlm_bench.kernels.conv import StepWeights, chunk_steps
from dlm_bench.kernels.cuda.walking_scan import walking_scan
from dlm_bench.kernels.ssd import ssd_recurrent

pytestmark = pytest.mark.usefixtures("poisoned")

# float32: products of tiles against a recurrence. float16: x, B, C and the mixing matrix are
# rounded (2^-11), and the state where it is read.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3}


class Case:
    """Random inputs of a scan in scan order, x, B and C views of one buffer."""

    def __init__(
        self,
        length,
        directions=2,
        batch=1,
        heads=2,
        headdim=16,
        d_state=16,
        chunk=16,
        dtype=torch.float32,
    ):
        widths = [directions * n for n in (heads * headdim, d_state, d_state)]
        rows = torch.randn(batch, length + 16, sum(widths)).to(dtype)
        rows[:, length:] = torch.nan  # what is beyond the end is not read
        x, B, C = rows[:, :length].split(widths, dim=-1)
        self.x = x.unflatten(-1, (directions * heads, headdim))
        self.B, self.C = (each.unflatten(-1, (directions, d_state)) for each in (B, C))
        dt_bias = torch.empty(directions, heads).uniform_(-5, -1)
        A_log = torch.empty(directions, heads).uniform_(0.5, 4).log()
        dt = torch.randn(batch, length, directions * heads)
        self.steps = chunk_steps(dt, StepWeights(dt_bias, A_log, chunk))
        self.dt, self.A = F.softplus(dt + dt_bias.flatten()), -A_log.exp()
        self.D = torch.randn(directions * heads)

    def expected(self):
        ys = []
        for direction, A in enumerate(self.A):
            own = slice(direction * len(A), (direction + 1) * len(A))
            B, C = (each[:, :, direction] for each in (self.B, self.C))
            y, _ = ssd_recurrent(self.x[:, :, own], self.dt[..., own], A, B, C, self.D[own], None)
            ys.append(y)
        return torch.cat(ys, dim=2)

    def check(self):
        y, expected = walking_scan(self.x, self.steps, self.B, self.C, self.D), self.expected()
        assert y.dtype == self.x.dtype
        assert y.is_contiguous()
        tolerance = TOLERANCES[y.dtype]
        for token in range(y.shape[1]):  # an error at one edge is not lost among the others
            assert_close(y[:, token], expected[:, token], 4 * tolerance, "l2")
        assert_close(y, expected, tolerance, "l2")


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 70])
def test_matches_the_recurrence(length, directions):
    Case(length, directions).check()


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_batch_with_heads_and_states_narrower_than_a_tile(dtype):
    Case(37, batch=2, heads=3, headdim=24, d_state=40, chunk=32, dtype=dtype).check()


def test_the_tile_of_a_gpu():
    Case(130, heads=1, headdim=64, d_state=128, chunk=64, dtype=torch.float16).check()


def test_inputs_of_other_strides():
    case = Case(20, batch=2)
    expected = walking_scan(case.x, case.steps, case.B, case.C, case.D)
    x, B, C = (each.contiguous() for each in (case.x, case.B, case.C))
    assert torch.equal(walking_scan(x, case.steps, B, C, case.D), expected)
