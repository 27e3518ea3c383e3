"""The scan of a whole sequence by a program for each head, under Triton's interpreter."""

import pytest
import torch
from support.close import assert_close
from support.scan_case import ScanCase

from dlm_bench.kernels.cuda.walking_scan import walking_scan

pytestmark = pytest.mark.usefixtures("poisoned")

TILE = 16  # tokens
# float32: products of tiles against a recurrence. float16: x, B, C and the mixing matrix are
# rounded (2^-11), and the state where it is read.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 4e-3}


def _walk(case, tile=TILE, keep=None):
    x, B, C, steps = case.conv(tile)
    return walking_scan(x, steps, B, C, case.D.flatten(), keep)


def _check(case, tile=TILE):
    y, expected = _walk(case, tile), case.expected()[0]
    assert y.dtype == case.projected.dtype
    assert y.is_contiguous()
    tolerance = TOLERANCES[y.dtype]
    for token in range(case.length):  # an error at one edge is not lost among the others
        assert_close(y[:, token], expected[:, token], 4 * tolerance, "l2")
    assert_close(y, expected, tolerance, "l2")


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 48, 70])
def test_matches_the_recurrence(length, directions):
    _check(ScanCase(length, directions))


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float16"])
def test_a_batch_with_heads_and_states_narrower_than_a_tile(dtype):
    _check(ScanCase(37, batch=2, heads=3, headdim=24, d_state=40, dtype=dtype), 32)


def test_the_tile_of_a_gpu():
    _check(ScanCase(130, heads=1, headdim=64, d_state=128, dtype=torch.float16), 64)


def test_inputs_that_are_no_views_of_one_buffer():
    case = ScanCase(20, batch=2)
    x, B, C, steps = case.conv(TILE)
    apart = walking_scan(x.contiguous(), steps, B.contiguous(), C.contiguous(), case.D.flatten())
    assert torch.equal(apart, _walk(case))


def test_nothing_beyond_the_end_is_read():
    case = ScanCase(20)
    x, B, C, steps = case.conv(TILE)
    longer = torch.full((1, 40, x.stride(1)), torch.nan)
    longer[:, :20] = torch.cat([each.flatten(2) for each in (x, B, C)], dim=-1)
    x, B, C = (
        part.unflatten(-1, each.shape[2:])
        for part, each in zip(
            longer[:, :20].split([each[0, 0].numel() for each in (x, B, C)], dim=-1),
            (x, B, C),
            strict=True,
        )
    )
    assert torch.equal(walking_scan(x, steps, B, C, case.D.flatten()), _walk(case))


# Edges at the ends, inside a tile, and where one tile follows another.
@pytest.mark.parametrize("at", [(0, 40), (33, 16), (15, 1), (32, 48), (48, 0)], ids=str)
def test_a_refresh_keeps_states_and_tails_at_its_edges(at):
    case = ScanCase(48, batch=2)
    kept = case.kept(at)
    assert torch.equal(_walk(case, keep=kept), _walk(case))
    states = case.expected(at)[1]
    found = torch.cat(list(kept.states), dim=1)
    for head in range(found.shape[1]):  # each direction has its own position
        assert_close(found[:, head], states[:, head], TOLERANCES[torch.float32], "l2")
    for direction, tail in enumerate(kept.tails):
        assert torch.equal(tail, case.tail(direction, at[direction]))


def test_a_refresh_without_a_reverse_state():
    case = ScanCase(40)
    kept = case.kept((33, 7))
    kept = kept._replace(states=kept.states[:1], tails=kept.tails[:1])
    _walk(case, keep=kept)
    states = case.expected((33, 7))[1]
    assert_close(kept.states[0], states[:, : case.heads], TOLERANCES[torch.float32], "l2")
    assert torch.equal(kept.tails[0], case.tail(0, 33))
