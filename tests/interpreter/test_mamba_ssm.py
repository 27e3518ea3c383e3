"""The whole chain of a sequence by mamba-ssm's own kernels, under Triton's interpreter."""

import importlib
import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F
from support.close import assert_close
from support.scan_case import ScanCase

from dlm_bench.errors import ConfigError
from dlm_bench.kernels import mamba_ssm
from dlm_bench.kernels.ssd import ssd_step

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(
        importlib.util.find_spec("mamba_ssm") is None,
        reason="mamba-ssm is not installed (see requirements.txt: without its compiled part)",
    ),
]

HEADS, HEADDIM, D_STATE, CHUNK = 2, 16, 16, 16
# float32: products of chunks against a recurrence, and mamba-ssm's softplus is log(1 + exp(x)).
# float16: x, B, C and the mixing matrix are rounded (2^-11).
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3}


class Case(ScanCase):
    """A case that mamba-ssm scans."""

    def scan(self, chunk=CHUNK, keep=None):
        x, B, C, steps = self.conv(chunk)
        states = None if self.states is None else self.states.flatten(1, 2)
        return mamba_ssm.scan(x, steps, B, C, self.D.flatten(), states, keep)


def _check(case, chunk=CHUNK):
    y, state = case.expected()
    result = case.scan(chunk)
    tolerance = TOLERANCES[y.dtype]
    for token in range(case.length):
        assert_close(result.y[:, token], y[:, token], 4 * tolerance, "l2")
    assert_close(result.y, y, tolerance, "l2")
    assert_close(result.final_state, state, tolerance, "l2")


@pytest.mark.parametrize("states", [False, True], ids=["zeros", "states"])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 16, 40])
def test_chain_matches_the_recurrence(length, directions, states):
    _check(Case(length, directions, states=states))


def test_a_batch_and_a_longer_chunk():
    _check(Case(33, batch=2, states=True), chunk=32)


def test_half_precision():
    _check(Case(40, dtype=torch.float16))


@pytest.mark.parametrize("at", [(0, 40), (33, 16), (15, 1), (40, 0)], ids=str)
def test_a_refresh_keeps_states_and_tails_at_its_edges(at):
    case = Case(40, batch=2)
    kept = case.kept(at)
    y, states = case.expected(at)
    # From the same states the same outputs, though rounded in another kernel.
    assert_close(case.scan(keep=kept).y, y, TOLERANCES[y.dtype], "l2")
    found = torch.cat(list(kept.states), dim=1)
    for head in range(found.shape[1]):  # each direction has its own position
        assert_close(found[:, head], states[:, head], TOLERANCES[torch.float32], "l2")
    for direction, tail in enumerate(kept.tails):
        assert torch.equal(tail, case.tail(direction, at[direction]))


def test_a_refresh_without_a_reverse_state():
    case = Case(40)
    kept = case.kept((33, 7))
    kept = kept._replace(states=kept.states[:1], tails=kept.tails[:1])
    y, states = case.expected((33, 7))
    assert_close(case.scan(keep=kept).y, y, TOLERANCES[y.dtype], "l2")
    assert_close(kept.states[0], states[:, :HEADS], TOLERANCES[torch.float32], "l2")
    assert torch.equal(kept.tails[0], case.tail(0, 33))


def test_a_batch_beyond_what_the_kernels_address(monkeypatch):
    case = Case(20, 1, batch=3)
    whole, parts = case.kept((13,)), case.kept((13,))
    expected = case.scan(keep=whole).y
    monkeypatch.setattr(mamba_ssm, "ADDRESSABLE", 2 * 20 * case.channels)  # two sequences
    assert torch.equal(case.scan(keep=parts).y, expected)
    assert torch.equal(parts.states, whole.states)
    assert torch.equal(parts.tails[0], whole.tails[0])


def _rows(batch, length):
    """How many sequences of the 1.3b model's size a call takes."""
    buffer = torch.empty(batch, length, 8192, device="meta", dtype=torch.bfloat16)
    x, B, C = buffer.split((7680, 256, 256), dim=-1)
    B, C = B.unflatten(-1, (2, 128)), C.unflatten(-1, (2, 128))
    return mamba_ssm._addressable_rows(x.unflatten(-1, (120, 64)), B, C, mamba_ssm.CHUNK)


def test_what_the_kernels_address(monkeypatch):
    monkeypatch.undo()  # nothing to fill on the meta device
    assert _rows(1, 131072) >= 1
    assert _rows(4, 131072) == 2  # 2**30 elements of x, B and C a sequence
    assert _rows(2, 262144) == 1
    with pytest.raises(ConfigError, match="length: 262145 is not allowed"):
        _rows(1, 262145)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
def test_step_matches_the_plain_step(dtype):
    batch = 2
    state = torch.randn(batch, HEADS, HEADDIM, D_STATE)
    expected_state = state.clone()
    A, D = -torch.rand(HEADS) - 0.5, torch.randn(HEADS)
    dt_bias = torch.empty(HEADS).uniform_(-5, -1)
    for _ in range(3):
        x = torch.randn(batch, HEADS, HEADDIM).to(dtype)
        B, C = torch.randn(2, batch, D_STATE).to(dtype)
        # A column of the projection, as the mixer has it.
        dt = torch.randn(batch, 1, 1, HEADS + 7).to(dtype)[:, 0, 0, -HEADS:]
        y = mamba_ssm.step(state, x, dt, A, B, C, D, dt_bias)
        softened = F.softplus(dt.float() + dt_bias)
        expected, expected_state = ssd_step(x, softened, A, B, C, D, expected_state)
        # The arithmetic is float32 in both: float16 rounds y alone.
        assert_close(y, expected, 1e-5 if dtype == torch.float32 else 1e-3, "l2")
        assert_close(state, expected_state, 1e-5, "l2")


@pytest.fixture
def _modules():
    """mamba-ssm's modules as they were, whatever a test does to them."""
    mamba_ssm.find()
    mine = {n: m for n, m in sys.modules.items() if n.split(".")[0] == "mamba_ssm"}
    mamba_ssm._forget()
    mamba_ssm.find.cache_clear()
    yield
    mamba_ssm._forget()
    sys.modules.update(mine)


@pytest.mark.usefixtures("_modules")
def test_found_without_its_compiled_part(monkeypatch):
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)  # its import fails
    mamba_ssm.find()
    assert hasattr(sys.modules["mamba_ssm.ops.triton.ssd_combined"], "mamba_chunk_scan_combined")
    # Nothing is left of the import that failed: its modules would not hang on the package.
    assert sys.modules["mamba_ssm"].ops is sys.modules["mamba_ssm.ops"]
    # What chooses the kernels asks again.
    assert importlib.util.find_spec("mamba_ssm") is not None


@pytest.mark.usefixtures("_modules")
def test_a_plain_import_that_works_is_kept(monkeypatch):
    plain = importlib.util.module_from_spec(importlib.util.find_spec("mamba_ssm"))
    monkeypatch.setitem(sys.modules, "mamba_ssm", plain)
    mamba_ssm.find()
    assert sys.modules["mamba_ssm"] is plain


@pytest.mark.usefixtures("_modules")
def test_nothing_half_imported_is_left(monkeypatch):
    monkeypatch.setitem(sys.modules, "selective_scan_cuda", None)
    monkeypatch.setitem(sys.modules, "einops", None)
    with pytest.raises(ImportError, match="einops"):
        mamba_ssm.find()
    assert not [name for name in sys.modules if name.split(".")[0] == "mamba_ssm"]


def test_a_package_that_is_not_there_is_named(monkeypatch):
    mamba_ssm.find.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="mamba-ssm is not installed"):
        mamba_ssm.find()
