"""The LM head gives each row's token and probability, and never gives MASK."""

import pytest
import torch

from dlm_bench.kernels import lm_head
from dlm_bench.kernels.lm_head import predict

ROWS, WIDTH, VOCAB = 23, 16, 50
MASK = VOCAB - 1
# Two float32 softmaxes over 50 logits, one by logsumexp: some 1e-7 of a probability.
ROUNDING = 1e-5


def problem(seed=0, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, WIDTH, generator=generator)
    weight = torch.randn(VOCAB, WIDTH, generator=generator) / WIDTH**0.5
    return hidden, weight


def softmax_without_mask(hidden, weight, mask_id=MASK):
    logits = hidden.float() @ weight.float().t()
    allowed = torch.arange(len(weight)) != mask_id
    exp = torch.where(allowed, torch.exp(logits - logits.max()), 0.0)
    return exp / exp.sum(dim=-1, keepdim=True)  # (rows, vocabulary)


def test_the_token_is_the_argmax_and_the_probability_its_softmax():
    hidden, weight = problem()
    tokens, probability = predict(hidden, weight, MASK)
    expected = softmax_without_mask(hidden, weight)
    assert tokens.dtype == torch.int64
    assert probability.dtype == torch.float32
    assert len(tokens.unique()) > 10  # the rows differ
    assert torch.equal(tokens, expected.argmax(dim=-1))
    torch.testing.assert_close(probability, expected.max(dim=-1).values, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("mask_id", [0, 7, MASK])
def test_mask_is_not_decoded_even_if_its_logit_is_the_largest(mask_id, temperature):
    hidden, weight = problem()
    hidden = hidden.abs()
    weight[mask_id] = 10.0
    assert ((hidden @ weight.t()).argmax(dim=-1) == mask_id).all()
    generator = torch.Generator().manual_seed(0)
    tokens, probability = predict(
        hidden, weight, mask_id, temperature=temperature, generators=[generator]
    )
    assert (tokens != mask_id).all()
    # Its logit is not in the sum either: the others' probabilities sum to 1 without it.
    others = torch.where(torch.arange(VOCAB) == mask_id, -torch.inf, hidden @ weight.t())
    expected = torch.softmax(others, dim=-1)
    torch.testing.assert_close(
        probability, expected.gather(-1, tokens[:, None])[:, 0], rtol=ROUNDING, atol=0
    )


def test_ties_go_to_the_lowest_id():
    # Small integers, exact in any order of summing: ids 3, 13, 23 ... have one logit.
    hidden, weight = (each.mul(4).round() for each in problem())
    weight = weight[torch.arange(VOCAB) % 10]
    assert (predict(hidden, weight, MASK)[0] < 10).all()


def test_rows_that_are_not_needed_are_skipped():
    hidden, weight = problem()
    needed = torch.arange(ROWS) % 3 == 1
    hidden[~needed] = torch.nan
    tokens, probability = predict(hidden, weight, MASK, needed)
    assert (tokens[~needed] == 0).all()
    assert (probability[~needed] == 0).all()
    expected = softmax_without_mask(hidden[needed], weight)
    assert torch.equal(tokens[needed], expected.argmax(dim=-1))
    torch.testing.assert_close(
        probability[needed], expected.max(dim=-1).values, rtol=ROUNDING, atol=0
    )


def test_no_row_may_be_needed():
    hidden, weight = problem()
    tokens, probability = predict(hidden, weight, MASK, torch.zeros(ROWS, dtype=torch.bool))
    assert (tokens == 0).all()
    assert (probability == 0).all()


@pytest.mark.parametrize("elements", [1, VOCAB, 5 * VOCAB, ROWS * VOCAB])
def test_rows_taken_a_few_at_a_time_give_the_same(monkeypatch, elements):
    hidden, weight = problem()
    needed = torch.arange(ROWS) % 4 != 0
    tokens, probability = predict(hidden, weight, MASK, needed)
    monkeypatch.setattr(lm_head, "LOGIT_ELEMENTS", elements)
    few_tokens, few_probability = predict(hidden, weight, MASK, needed)
    assert torch.equal(few_tokens, tokens)
    # Matmuls of fewer rows may sum in another order.
    torch.testing.assert_close(few_probability, probability, rtol=ROUNDING, atol=0)


def test_bfloat16_logits_have_a_float32_softmax():
    hidden, weight = (v.bfloat16() for v in problem())
    tokens, probability = predict(hidden, weight, MASK)
    logits = (hidden @ weight.t()).float()  # rounded to bfloat16 by the matmul, in both
    logits[:, MASK] = -torch.inf
    expected = torch.softmax(logits, dim=-1).max(dim=-1)
    assert probability.dtype == torch.float32
    assert torch.equal(tokens, expected.indices)
    torch.testing.assert_close(probability, expected.values, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_their_temperature(temperature):
    rows, vocab = 20_000, 8
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5, 1.5, -0.5, 0.2, 3.0])  # the last is MASK
    weight = logits[:, None]
    generator = torch.Generator().manual_seed(0)
    tokens, probability = predict(
        torch.ones(rows, 1), weight, vocab - 1, temperature=temperature, generators=[generator]
    )
    observed = torch.bincount(tokens, minlength=vocab) / rows
    distances = {}
    for candidate in (0.5, 1.0, 2.0):
        expected = torch.softmax(logits[:-1] / candidate, dim=-1)
        distances[candidate] = (observed[:-1] - expected).abs().sum().item() / 2
    # The mean total variation of 20 000 draws over 7 ids is below 0.008, and its spread a third
    # of that; the distributions of the two other temperatures are 0.1 away and more.
    assert observed[-1] == 0
    assert distances.pop(temperature) < 0.02
    assert min(distances.values()) > 0.1
    # The confidence is the untempered softmax's, whatever the temperature of the draw.
    untempered = torch.softmax(logits[:-1], dim=-1)
    torch.testing.assert_close(probability, untempered[tokens], rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("temperature", [1e-6, 1e-40])
def test_a_low_temperature_is_the_argmax(temperature):
    hidden, weight = problem()
    generator = torch.Generator().manual_seed(0)
    tokens, _ = predict(hidden, weight, MASK, temperature=temperature, generators=[generator])
    assert torch.equal(tokens, predict(hidden, weight, MASK)[0])


def test_samples_depend_on_the_generator_alone():
    hidden, weight = problem()
    first, again, other = (
        predict(
            hidden, weight, MASK, temperature=1.0, generators=[torch.Generator().manual_seed(s)]
        )
        for s in (0, 0, 1)
    )
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("needed", [None, torch.arange(ROWS * 2) % 3 != 1])
def test_a_sequence_draws_what_it_would_alone(needed):
    hidden, weight = problem(rows=2 * ROWS)
    together = [torch.Generator().manual_seed(seed) for seed in (4, 5)]
    tokens, probability = predict(
        hidden, weight, MASK, needed, temperature=1.0, generators=together
    )
    for row, seed in enumerate((4, 5)):
        rows = slice(row * ROWS, (row + 1) * ROWS)
        alone, its_own = predict(
            hidden[rows],
            weight,
            MASK,
            None if needed is None else needed[rows],
            temperature=1.0,
            generators=[torch.Generator().manual_seed(seed)],
        )
        assert torch.equal(tokens[rows], alone)
        torch.testing.assert_close(probability[rows], its_own, rtol=ROUNDING, atol=0)
