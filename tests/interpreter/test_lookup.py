"""The begin of a pass by Triton: the tokens of a window and their embeddings."""

import pytest
import torch

from dlm_bench.kernels.cuda.lookup import embed, take

MASK = 50


@pytest.mark.usefixtures("poisoned")
def test_embeddings_are_the_rows_in_float32():
    weight = torch.randn(MASK + 1, 48, dtype=torch.float16)
    tokens = torch.randint(MASK + 1, (2, 9))
    assert torch.equal(embed(tokens[:, 2:], weight), weight[tokens[:, 2:]].float())


@pytest.mark.parametrize(("start", "count"), [(0, 1), (3, 7), (5, 1095)])
def test_tokens_of_a_window_and_where_they_are_masked(start, count):
    tokens = torch.randint(MASK - 1, MASK + 1, (2, 1109))[:, :1100]  # rows with places behind
    taken, masked = take(tokens, torch.tensor([start]), count, MASK)
    expected = tokens[:, start : start + count]
    assert torch.equal(taken, expected)
    assert torch.equal(masked, expected == MASK)
