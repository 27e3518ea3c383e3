"""The unmasking rules, on confidences that are known."""

import pytest
import torch

from dlm_bench import build_model, build_sampler
from dlm_bench.samplers.unmask import unmask

LENGTH = 8


def state_of(batch=1, tokens_per_step=3):
    """A decode of 8 tokens whose first pass unmasks 3, and its model: token i's logit is the i-th
    hidden value, in exact arithmetic."""
    model = build_model("diffutran", "tiny")
    width, vocab = model.config.d_model, model.config.vocab_size
    model.head.weight.copy_(torch.eye(vocab, width))
    sampler = build_sampler("full", tokens_per_step=tokens_per_step)
    return model, sampler.prepare(model, LENGTH, batch)


def hidden_of(logits, model):
    """logits: for each place the (token, logit) that is largest; all others are 0."""
    hidden = torch.zeros(1, len(logits), model.config.d_model)
    for place, (token, logit) in enumerate(logits):
        hidden[0, place, token] = logit
    return hidden


def run(model, state, hidden, order="confidence"):
    unmask(model, state, hidden, order=order, temperature=0.0)
    return state.tokens


def test_the_most_confident_are_unmasked():
    model, state = state_of()
    mask = model.config.mask_id
    sure = [1.0, 5.0, 2.0, 7.0, 3.0, 6.0, 0.5, 4.0]
    tokens = run(model, state, hidden_of([(10 + i, x) for i, x in enumerate(sure)], model))
    assert tokens.tolist() == [[mask, 11, mask, 13, mask, 15, mask, mask]]


def test_ties_go_to_the_lowest_place():
    model, state = state_of()
    mask = model.config.mask_id
    tokens = run(model, state, hidden_of([(10 + i, 3.0) for i in range(LENGTH)], model))
    assert tokens.tolist() == [[10, 11, 12] + [mask] * 5]


def test_ties_behind_a_surer_token_go_to_the_lowest_places():
    model, state = state_of()
    mask = model.config.mask_id
    logits = [(10 + i, 9.0 if i == 6 else 3.0) for i in range(LENGTH)]
    tokens = run(model, state, hidden_of(logits, model))
    assert tokens.tolist() == [[10, 11, mask, mask, mask, mask, 16, mask]]


def test_confidences_that_differ_by_rounding_are_ties():
    model, state = state_of()
    mask = model.config.mask_id
    # A logit that is higher by 4e-6 is a confidence that is higher by no more.
    logits = [(10 + i, 9.0 if i == 6 else 3.0 + 4e-6 * (i % 3)) for i in range(LENGTH)]
    tokens = run(model, state, hidden_of(logits, model))
    assert tokens.tolist() == [[10, 11, mask, mask, mask, mask, 16, mask]]


def test_confidences_that_differ_by_more_are_no_ties():
    model, state = state_of()
    mask = model.config.mask_id
    logits = [(10 + i, 3.0 + 1e-4 * i) for i in range(LENGTH)]
    tokens = run(model, state, hidden_of(logits, model))
    assert tokens.tolist() == [[mask] * 5 + [15, 16, 17]]


def test_what_is_decoded_stays_however_sure_the_network_is_of_another_token():
    model, state = state_of()
    state.tokens[:, [0, 4]] = torch.tensor([40, 44])
    tokens = run(model, state, hidden_of([(10 + i, 9.0 - i) for i in range(LENGTH)], model))
    mask = model.config.mask_id
    assert tokens.tolist() == [[40, 11, 12, 13, 44, mask, mask, mask]]


@pytest.mark.parametrize("rule", ["confidence", "random"])
def test_the_last_masked_token_is_unmasked_however_low_it_ranks(rule):
    model, state = state_of()
    state.tokens[:, :5] = 40
    state.priority[:, 5:] = 0.0  # the lowest that can be drawn
    # Every logit 0 at the masked places: a confidence of 1/257 each, below that of the others.
    logits = [(10, 20.0)] * 5 + [(10, 0.0)] * 3
    tokens = run(model, state, hidden_of(logits, model), rule)
    assert tokens[0, :5].tolist() == [40] * 5
    assert (tokens != model.config.mask_id).all()


def test_random_unmasking_goes_by_the_priorities_and_not_by_confidence():
    model, state = state_of()
    state.priority.copy_(torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.7, 0.0]]))
    hidden = hidden_of([(10 + i, 9.0 - i) for i in range(LENGTH)], model)
    tokens = run(model, state, hidden, order="random")
    mask = model.config.mask_id
    assert tokens.tolist() == [[mask, 11, mask, mask, 14, mask, 16, mask]]


@pytest.mark.parametrize("rule", ["confidence", "random"])
def test_every_sequence_unmasks_its_own_places(rule):
    model, state = state_of(batch=2)
    surer_left = hidden_of([(10 + i, 9.0 - i) for i in range(LENGTH)], model)
    surer_right = hidden_of([(10 + i, 2.0 + i) for i in range(LENGTH)], model)
    state.priority.copy_(torch.stack((torch.arange(8, 0, -1), torch.arange(8))) / 10)
    tokens = run(model, state, torch.cat((surer_left, surer_right)), rule)
    mask = model.config.mask_id
    assert tokens.tolist() == [[10, 11, 12] + [mask] * 5, [mask] * 5 + [15, 16, 17]]
