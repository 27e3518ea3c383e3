"""The scripts about text: passes after prompts, and accuracy against tokens per forward."""

import pytest
import torch
from accuracy_under_parallelism import point_of
from support.reference import lively_model
from text_passes import counts_after_random, counts_after_text, difference, percentiles

from dlm_bench import build_sampler, record_trace
from dlm_bench.samplers.prompt import Prompts

PROMPTS = Prompts("two@0", ((1, 2, 3), (4, 5)), ("a", "b"))
SAMPLER = build_sampler("block-cache", block_size=8, accept="threshold", threshold=0.05)


def test_passes_are_counted_for_each_prompt_and_for_draws_of_its_length():
    model = lively_model("diffutran", layers=1)
    text = counts_after_text(model, SAMPLER, 16, PROMPTS)
    assert [len(blocks) for blocks in text] == [2, 2]
    random = counts_after_random(model, SAMPLER, 16, PROMPTS, draws=2)
    assert [len(blocks) for blocks in random] == [4, 4]
    second = record_trace(model, SAMPLER, 16, seed=3, prompt_len=2)
    assert random[1][2:] == [len(block) for block in second.accepted]


def test_the_difference_is_that_of_the_prompts_means_with_students_interval():
    mean, half = difference([[4, 6], [8], [6]], [[6], [8, 10], [6]])
    # Differences -1, -1 and 0: mean -2/3, standard error 1/3, t(2) = 4.303.
    assert mean == pytest.approx(-2 / 3)
    assert half == pytest.approx(4.303 / 3, rel=1e-3)
    assert percentiles([[1, 2], [3, 4, 5, 6, 7, 8, 9, 10, 11]]) == "2 6 10"


def test_accuracy_is_the_share_of_bytes_in_their_places():
    model = lively_model("diffutran", layers=1)
    texts = torch.arange(24).view(2, 12)
    sampler = build_sampler("full", accept="threshold", threshold=0.05)
    decoded = sampler.decode(model, 4, batch=2, prompt=texts[:, :8])
    truth = decoded.clone()
    truth[0, :2] = 255 - truth[0, :2]
    found = point_of(model, sampler, torch.cat((texts[:, :8], truth), dim=1), 4, 0.05)
    assert found.accuracy == pytest.approx(100 * 6 / 8)
    assert found.error == pytest.approx(25.0)  # of rows with 50 and 100 %
    assert 1 <= found.tokens_per_forward <= 4
