"""The passes that take the kernels for few tokens, if a model has them."""

import pytest
import torch

from dlm_bench.models.factory import build_denoiser
from dlm_bench.models.language_model import SMALL
from dlm_bench.models.window import RowsWindow, Window

START = torch.zeros(1, dtype=torch.int64)


@pytest.mark.parametrize(
    ("window", "tokens", "small"),
    [
        (Window(START, (SMALL,)), SMALL, True),
        (Window(START, (SMALL + 1,)), SMALL + 1, False),
        (Window(START, (8,), first=True), 8, False),
        (Window(START, (8,), edges=(START, START + 4)), 8, False),
        # A start of its own for each sequence, which these kernels do not read.
        (RowsWindow(START, (8,), advances=START > 0), 8, False),
    ],
    ids=["few", "too many", "prefill", "refresh", "rows apart"],
)
def test_few_tokens_that_continue_from_the_caches(window, tokens, small):
    model = build_denoiser("diffumamba", "tiny", "meta")
    model.small_pass = print  # any form
    assert model._is_small(torch.zeros(1, tokens), window) is small
    model.small_pass = None
    assert not model._is_small(torch.zeros(1, tokens), window)
