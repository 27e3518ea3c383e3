"""reveal_block unmasks what the sampler's rule says, and nothing else."""

import pytest
import torch

from dlm_bench import build_model, build_sampler
from dlm_bench.kernels.cuda.unmask import LONGEST, reveal_block
from dlm_bench.kernels.unmask import TIE

MASK = 50


def problem(batch, block_len, masked, start=3, behind=5):
    tokens = torch.randint(MASK, (batch, start + block_len + behind))
    block = tokens[:, start : start + block_len]
    block[torch.rand(batch, block_len) < masked] = MASK
    tokens[:, :start] = MASK  # what is not of the block stays, MASK or not
    return tokens, torch.randint(MASK, (batch, block_len)), torch.rand(batch, block_len)


def most_confident(score, ranked, count):
    """`count` of the places `ranked` by score; those within 1e-5 of the last one by place."""
    least = score[ranked[min(count, len(ranked)) - 1]].item()
    off = {i: score[i].item() - least for i in ranked}
    above = [i for i in ranked if off[i] > abs(least) * TIE]
    tied = sorted(i for i in ranked if abs(off[i]) <= abs(least) * TIE)
    return (above + tied)[:count]


def obvious(tokens, start, predicted, score, count):
    tokens = tokens.clone()
    for row, block in enumerate(tokens[:, start : start + predicted.shape[1]]):
        masked = [i for i, token in enumerate(block.tolist()) if token == MASK]
        masked.sort(key=lambda i: (-score[row, i].item(), i))
        for i in masked and most_confident(score[row], masked, count):
            block[i] = predicted[row, i]
    return tokens


def revealed(tokens, start, predicted, score, count):
    tokens = tokens.clone()
    reveal_block(tokens, torch.tensor([start]), MASK, predicted, score, torch.tensor([count]))
    return tokens


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("block_len", [1, 7, 32, 33, 200])
@pytest.mark.parametrize("masked", [0.3, 1.0])
def test_the_masked_tokens_of_the_largest_scores_are_revealed(batch, block_len, masked):
    tokens, predicted, score = problem(batch, block_len, masked)
    for count in (0, 1, 3, block_len // 2, block_len):
        expected = obvious(tokens, 3, predicted, score, count)
        assert torch.equal(revealed(tokens, 3, predicted, score, count), expected)


def test_the_longest_block_is_compared_in_tiles():
    tokens, predicted, score = problem(1, LONGEST, 0.7)
    score = score.mul(100).floor()  # many ties
    expected = obvious(tokens, 3, predicted, score, 300)
    assert torch.equal(revealed(tokens, 3, predicted, score, 300), expected)


def test_a_block_that_one_program_cannot_rank_is_refused():
    with pytest.raises(ValueError, match="block_len"):
        revealed(*problem(1, LONGEST + 1, 1.0)[:1], 3, *problem(1, LONGEST + 1, 1.0)[1:], 1)


def test_a_score_that_is_no_number_is_the_least():
    tokens, predicted, score = problem(2, 24, 1.0)
    score[:, ::3] = float("nan")
    expected = obvious(tokens, 3, predicted, score.nan_to_num(0.0), 10)
    assert torch.equal(revealed(tokens, 3, predicted, score, 10), expected)


def test_ties_go_to_the_lowest_index():
    tokens, predicted, _ = problem(2, 24, 1.0)
    score = torch.zeros(2, 24)
    score[:, 20] = 1.0
    new = revealed(tokens, 3, predicted, score, 4)[:, 3:27]
    assert (new != MASK).nonzero()[:, 1].tolist() == [0, 1, 2, 20] * 2


@pytest.mark.parametrize("count", [1, 4, 9, 20])
def test_what_rounding_tells_apart_is_a_tie(count):
    tokens, predicted, _ = problem(4, 24, 1.0)
    chance = torch.linspace(0.1, 0.9, 3)[torch.randint(3, (4, 24))]
    score = chance * (1 + 4e-6 * (2 * torch.rand(4, 24) - 1))
    expected = obvious(tokens, 3, predicted, chance, count)
    assert torch.equal(revealed(tokens, 3, predicted, score, count), expected)


def test_every_row_has_a_count_of_its_own():
    tokens, predicted, score = problem(3, 24, 0.8)
    expected = tokens.clone()
    for row, count in enumerate([0, 3, 24]):
        part = slice(row, row + 1)
        expected[part] = obvious(tokens[part], 3, predicted[part], score[part], count)
    new = tokens.clone()
    reveal_block(new, torch.tensor([3]), MASK, predicted, score, torch.tensor([0, 3, 24]))
    assert torch.equal(new, expected)


@pytest.mark.parametrize(
    "options",
    [{"accept": "threshold", "threshold": 0.06}, {"accept": "factor", "factor": 2.9}],
    ids=["threshold", "factor"],
)
def test_rows_accept_by_the_rule_what_they_accept_without_the_kernel(options):
    plain = build_model("diffutran", "tiny", layers=1)
    fused = build_model("diffutran", "tiny", layers=1, kernels={"elementwise": "triton"})
    sampler = build_sampler("block-cache", **options, block_size=16)
    # Rows whose logits are sharp, less so, and flat: they accept all, some and one.
    hidden = torch.randn(3, 16, plain.config.d_model) * torch.tensor([4, 1.3, 0])[:, None, None]
    found = []
    for model in (plain, fused):
        state = sampler.prepare(model, 32, batch=3)
        sampler.reveal(model, state, hidden)
        found.append(state.tokens)
    assert torch.equal(*found)
    counts = (found[0] != plain.config.mask_id).sum(dim=1).tolist()
    assert counts[0] > counts[1] > counts[2] == 1


def test_a_decoded_token_stays_whatever_its_score():
    tokens, predicted, score = problem(1, 16, 0.5)
    decoded = tokens[:, 3:19] != MASK
    score[decoded] = 9.0
    new = revealed(tokens, 3, predicted, score, 16)
    assert torch.equal(new[:, 3:19], torch.where(decoded, tokens[:, 3:19], predicted))


def test_negative_scores_and_strided_inputs_are_taken_as_they_are():
    tokens, predicted, score = problem(2, 16, 0.8)
    score = -torch.cat((score, score), dim=1)[:, :16]  # rows 32 apart
    predicted = torch.cat((predicted, predicted), dim=1)[:, :16]
    expected = obvious(tokens, 3, predicted, score, 5)
    assert torch.equal(revealed(tokens, 3, predicted, score, 5), expected)
