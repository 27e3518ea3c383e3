"""Tokens depend on neither batch nor threads where confidences tie: bench/ties.py on few models."""

import pytest
import torch
from ties import DENOISERS, decodes, samplers

from dlm_bench.kernels.unmask import TIE, most_confident


@pytest.fixture(autouse=True)
def _threads():
    """The threads of the other tests, again."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_no_token_of_a_sequence_depends_on_its_batch_or_on_the_threads():
    found = list(decodes(len(DENOISERS), quick=True))
    assert len(found) == len(DENOISERS) * len(samplers()) * (2 + 5)
    assert [name for name, together, alone in found if not torch.equal(together, alone)] == []


def chosen(score, count):
    score = torch.tensor([score])
    order = score.sort(dim=1, descending=True).values
    return most_confident(score, order, torch.tensor([count]))[0].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("count", range(6))
def test_the_lowest_places_of_a_tie_come_first_in_whatever_order_rounding_puts_them(count):
    for rounding in torch.randn(50, 5, generator=torch.Generator().manual_seed(0)).clamp(-4, 4):
        score = 0.3 * (1 + 1e-6 * rounding)
        assert chosen(score.tolist(), count) == list(range(count))


def test_a_tie_at_the_last_place_leaves_what_is_surer():
    assert chosen([0.3, 0.3, 0.9, 0.3, 0.5], 3) == [0, 2, 4]


def test_what_is_further_apart_than_a_tie_goes_by_confidence():
    assert chosen([0.3, 0.3 * (1 + 3 * TIE)], 1) == [1]
    assert chosen([0.3, 0.3 * (1 + TIE / 3)], 1) == [0]


def test_nothing_is_chosen_where_nothing_is_masked():
    assert chosen([-1.0, -1.0, -1.0], 2) == []
    assert chosen([-1.0, 0.2, -1.0], 2) == [1]
    assert chosen([-1.0, 0.0, -1.0], 1) == [1]
