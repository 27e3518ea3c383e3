"""The training script: its text, and that training learns what no unigram knows."""

import math

import pytest
import torch
from quality_vs_throughput import NGram, entropy
from support.cases import CAUSAL, DENOISERS
from train_tiny import (
    Recipe,
    Row,
    Text,
    as_tensor,
    as_text,
    paragraphs,
    table,
    topics,
    train,
    unigram_nats,
    words,
)

import dlm_bench
from dlm_bench.training.objective import Bound, bound
from dlm_bench.training.trainable import build_trainable

PATTERN = b"the mask is lifted. "
RECIPE = Recipe(tokens=256, lengths=(32,), peak=4e-3, warmup=0.1)
STEPS = 200


@pytest.mark.slow
@pytest.mark.parametrize("backbone", [*DENOISERS, *CAUSAL])
def test_a_few_steps_on_a_pattern_beat_the_unigram_entropy(backbone, tmp_path):
    text = as_tensor(PATTERN * 40)
    model = build_trainable(backbone)
    losses = train(model, Text(text, text), RECIPE, lambda steps: steps / STEPS)
    assert len(losses) == STEPS
    # The zero head says nothing at first. A step's loss weighs few tokens by 1/t: a factor of 2.
    assert losses[0] == pytest.approx(math.log(257), rel=0.5)
    starts = torch.arange(0, 32)[:, None]
    found = bound(model, text[starts + torch.arange(32)])
    # DiffuTran, the slowest to learn it, came to 0.48 to 0.64 of it from five seeds.
    assert found.nats < 0.85 * entropy(text)
    dlm_bench.save_checkpoint(model, tmp_path / "x")
    assert bound(dlm_bench.load_checkpoint(tmp_path / "x"), text[:32][None]) == bound(
        model, text[:32][None]
    )


def test_what_is_held_out_is_not_trained_on():
    training, held_out = topics()
    assert 0.1 <= len(held_out) / (len(training) + len(held_out)) < 0.2
    told, seen = (paragraphs(as_text(text)) for text in (held_out, training))
    assert any('"with" statement' in paragraph for paragraph in (*told, *seen))
    assert not {words(paragraph) for paragraph in told} & {words(paragraph) for paragraph in seen}


def test_the_unigram_entropy_of_a_fair_coin_is_log_2():
    coin = as_tensor(b"ab" * 50000)
    assert unigram_nats(coin, coin) == pytest.approx(math.log(2), abs=0.02)  # of the smoothing


def test_the_rate_warms_up_and_falls_to_nothing():
    recipe = Recipe(peak=1.0, warmup=0.1)
    assert recipe.rate(0.05) == pytest.approx(0.5)
    assert recipe.rate(0.1) == pytest.approx(1.0)
    assert recipe.rate(1.0) == pytest.approx(0.0)


def test_the_table_says_both_yardsticks():
    text = table([Row("diffutran", 12, 60.0, 2.5, Bound(2.0, 0.01))], unigram=3.2)
    assert "| diffutran | 60 | 12 | 2.50 | 2.000 ± 0.010 | 2.89 |" in text
    assert "| unigram |  |  |  | 3.200 | 4.62 |" in text
    assert "5.549" in text


def test_the_ngrams_probabilities_sum_to_one_after_any_history():
    ngram = NGram(b"abracadabra alakazam", order=3)
    for history in (b"", b"a", b"abr", b"zzz", b"xab"):
        total = sum(ngram.probability(byte, history) for byte in range(256))
        assert total == pytest.approx(1)


def test_the_ngram_prefers_what_it_has_read():
    text = as_tensor(PATTERN * 20)
    ngram = NGram(text.tolist())
    shuffled = text[torch.randperm(len(text), generator=torch.Generator().manual_seed(0))]
    assert ngram.nats(text[None]) < 0.2
    assert ngram.nats(shuffled[None]) > 2
    assert entropy(text[None]) == pytest.approx(entropy(shuffled[None]))
