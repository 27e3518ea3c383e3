"""A pass with each sequence of a batch at a block of its own, against a pass of each alone."""

import pytest
import torch
from support.reference import lively_model

from dlm_bench.models.window import RowsWindow, Window

PROMPT, LENGTHS, LATER = 5, (4, 3, 4), (0, 4, 0)  # the second sequence is a block ahead


def filled(model, tokens, ahead):
    """Caches after a prefill and, if `ahead`, a commit of the block behind it."""
    caches = model.new_caches(len(tokens), tokens.shape[1])
    start, t = torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1)
    model(tokens[:, :PROMPT], t, Window(start, (PROMPT,), advance=True, first=True), caches)
    if ahead:
        window = Window(start + PROMPT, (ahead,), advance=True)
        model(tokens[:, PROMPT : PROMPT + ahead], t, window, caches)
    return caches


@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba", "diffumamba-h", "dream", "sdar"])
@torch.inference_mode()
def test_each_sequence_has_the_pass_that_it_has_alone(backbone):
    model = lively_model(backbone, layers=2)
    tokens = torch.randint(0, 50, (3, 16), generator=torch.Generator().manual_seed(1))
    t = torch.tensor([[0.0], [0.5], [1.0]])
    caches = filled(model, tokens, 0)
    starts = torch.tensor([PROMPT + later for later in LATER])
    moves = torch.tensor([False, True, False])
    ahead = RowsWindow(torch.full((3,), PROMPT), (4,), advance=True, advances=moves)
    model(tokens.gather(1, ahead.positions()), torch.zeros(3, 1), ahead, caches)
    moves = torch.tensor([True, False, False])
    window = RowsWindow(starts, (4,), advance=True, advances=moves, lengths=torch.tensor(LENGTHS))
    hidden = model(tokens.gather(1, window.positions()), t, window, caches)
    # A later pass of the first sequence reads what the pass before left.
    after = RowsWindow(starts + torch.tensor([4, 0, 0]), (4,), advance=True, advances=~moves)
    then = model(tokens.gather(1, after.positions()), t, after, caches)
    for row, (later, length) in enumerate(zip(LATER, LENGTHS, strict=True)):
        own = filled(model, tokens[row : row + 1], later)
        start = starts[row : row + 1]
        query = tokens[row : row + 1, start : start + length]
        alone = model(query, t[row : row + 1], Window(start, (length,), advance=row == 0), own)
        # Two ways of float32 sums over up to 16 tokens: a few roundings of numbers around 1.
        torch.testing.assert_close(hidden[row, :length], alone[0], atol=2e-5, rtol=2e-5)
        if row == 0:
            query = tokens[:1, start + 4 : start + 8]
            alone = model(query, t[:1], Window(start + 4, (4,)), own)
            torch.testing.assert_close(then[0], alone[0], atol=2e-5, rtol=2e-5)
