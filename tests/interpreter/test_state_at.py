"""The state at a position on the device against the recurrence, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close

from dlm_bench.kernels.cuda.state_at import state_at
from dlm_bench.kernels.ssd import ssd_recurrent

pytestmark = pytest.mark.usefixtures("poisoned")

# float32: products of tiles against a recurrence, and the powers in another base. float16: the
# kernel rounds the weighted B (2^-11).
TOLERANCES = {torch.float32: 2e-6, torch.float16: 1e-3}


class Case:
    """Random inputs in scan order, with the states before each chunk by the recurrence."""

    def __init__(
        self,
        length,
        chunk,
        directions=2,
        batch=1,
        heads=2,
        headdim=16,
        d_state=16,
        dtype=torch.float32,
        longest_dt=0.3,
    ):
        self.length, self.chunk, self.heads = length, chunk, heads
        # x, B and C lie in one buffer, as the convolution leaves them.
        widths = [directions * n for n in (heads * headdim, d_state, d_state)]
        x, B, _ = torch.randn(batch, length, sum(widths)).to(dtype).split(widths, dim=-1)
        self.x = x.unflatten(-1, (directions * heads, headdim))
        self.B = B.unflatten(-1, (directions, d_state))
        self.dt = torch.rand(batch, length, directions * heads) * longest_dt
        self.A = -torch.rand(directions * heads) * 4 - 0.1
        self.first = torch.randn(batch, directions * heads, headdim, d_state)
        starts = range(0, length, chunk)
        self.chunk_states = torch.stack([self.expected([i] * directions) for i in starts], dim=1)
        # As mamba-ssm pads it, but with what must not be read.
        padded = torch.full((batch, len(starts) * chunk, directions * heads), torch.nan)
        padded[:, :length] = self.dt
        self.chunked_dt = padded.unflatten(1, (-1, chunk)).permute(0, 3, 1, 2).contiguous()

    def expected(self, at):
        states = []
        for direction, end in enumerate(at):
            h = slice(direction * self.heads, (direction + 1) * self.heads)
            x, dt, B = self.x[:, :end, h], self.dt[:, :end, h], self.B[:, :end, direction]
            states.append(
                ssd_recurrent(x, dt, self.A[h], B, B, torch.zeros(self.heads), self.first[:, h])[1]
            )
        return torch.cat(states, dim=1)

    def run(self, at):
        edges = torch.tensor(at)
        return state_at(
            self.x, self.chunked_dt, self.A, self.B, self.chunk_states, edges, self.chunk
        )


def _check(case, at):
    out, expected = case.run(at), case.expected(at)
    assert out.shape == expected.shape
    assert out.dtype == torch.float32
    # Every head by itself: each direction has its own position.
    for head in range(out.shape[1]):
        assert_close(out[:, head], expected[:, head], TOLERANCES[case.x.dtype], "l2")


@pytest.mark.parametrize(
    "at", [(0, 40), (1, 39), (15, 17), (16, 16), (32, 33), (40, 0)], ids=lambda at: f"{at}"
)
def test_matches_the_recurrence(at):
    _check(Case(40, 16), at)


@pytest.mark.parametrize("length", [16, 48])
def test_at_the_end_of_the_last_chunk(length):
    case = Case(length, 16)
    _check(case, (length, length))
    _check(case, (length - 16, length - 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("at", [(64, 100), (228, 128), (227, 199)], ids=lambda at: f"{at}")
def test_a_chunk_of_several_products(at, dtype):
    _check(Case(228, 100, dtype=dtype), at)


def test_a_position_a_direction():
    case = Case(20, 16, directions=1, batch=2)
    for at in (0, 7, 20):
        _check(case, (at,))


@pytest.mark.parametrize(
    ("heads", "headdim", "d_state"), [(1, 64, 128), (3, 24, 40), (2, 40, 16), (2, 8, 8)], ids=str
)
def test_sizes(heads, headdim, d_state):
    _check(Case(20, 16, batch=2, heads=heads, headdim=headdim, d_state=d_state), (19, 5))


def test_half_precision():
    _check(Case(40, 32, dtype=torch.float16), (31, 40))


def test_strong_decay_stays_finite():
    # The decay from the first token on underflows: only the last tokens are left.
    _check(Case(40, 32, longest_dt=60.0), (31, 9))


def test_half_precision_states():
    case = Case(40, 16)
    case.chunk_states = case.chunk_states.half()
    # Their rounding is 2^-11.
    assert_close(case.run((20, 3)), case.expected((20, 3)), 1e-3, "l2")
