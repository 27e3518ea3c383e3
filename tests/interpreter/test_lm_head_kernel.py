"""predict_fused gives the tokens and probabilities of predict, in both of its regimes."""

import pytest
import torch

from dlm_bench.kernels import lm_head as plain
from dlm_bench.kernels.cuda import lm_head
from dlm_bench.kernels.cuda.lm_head import predict_fused

VOCAB = 258
# Float32 GEMMs and sums of exponentials in two orders, around logits of some units.
ROUNDING = 1e-5


@pytest.fixture(params=["few", "many", "many-on-one-sm"])
def regime(request, monkeypatch):
    """Few rows, many rows with a tile a program, or many with all tiles in one program."""
    monkeypatch.setattr(lm_head, "FEW_ROWS", 10_000 if request.param == "few" else 0)
    monkeypatch.setattr(lm_head, "SMS", 1 if request.param == "many-on-one-sm" else 132)
    return request.param


def problem(rows=33, width=64, vocab=VOCAB, dtype=torch.float32):
    hidden = torch.randn(rows, width).to(dtype)
    weight = (torch.randn(vocab, width) / width**0.5 * 3).to(dtype)
    return hidden, weight


def check(hidden, weight, mask_id, needed=None, rounding=ROUNDING):
    tokens, probability = predict_fused(hidden, weight, mask_id, needed)
    expected = plain.predict(hidden.float(), weight.float(), mask_id, needed)
    assert tokens.dtype == torch.int64
    assert probability.dtype == torch.float32
    assert torch.equal(tokens, expected[0])
    torch.testing.assert_close(probability, expected[1], rtol=rounding, atol=0)
    return tokens


@pytest.mark.parametrize("score", ["margin", "entropy"])
@pytest.mark.parametrize(("rows", "vocab"), [(1, 70), (33, VOCAB), (33, 600)])
def test_the_other_scores_are_those_of_the_plain_form(regime, score, rows, vocab):
    hidden, weight = problem(rows, vocab=vocab)
    hidden[0] *= 30  # a row that is sure
    weight[1] = weight[0]  # and a tie of the two largest in the last row
    hidden[-1] = 3 * weight[0]
    needed = torch.arange(rows) % 5 != 1
    for mask_id in (vocab - 1, 7):
        tokens, found = predict_fused(hidden, weight, mask_id, needed, score=score)
        expected = plain.predict(hidden, weight, mask_id, needed, score=score)
        assert torch.equal(tokens, expected[0])
        torch.testing.assert_close(found, expected[1], rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("score", ["margin", "entropy"])
def test_a_draw_leaves_the_other_scores_as_they_are(regime, score):
    hidden, weight = problem(20)
    tokens, found = predict_fused(
        hidden, weight, 7, temperature=2.0, seed=torch.tensor([3, 4]), score=score
    )
    drawn, _ = predict_fused(hidden, weight, 7, temperature=2.0, seed=torch.tensor([3, 4]))
    assert torch.equal(tokens, drawn)
    expected = plain.predict(hidden, weight, 7, score=score)
    assert not torch.equal(tokens, expected[0])
    torch.testing.assert_close(found, expected[1], rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("score", ["margin", "entropy"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_whose_logits_are_not_finite_has_no_other_score(regime, score, bad):
    hidden, weight = problem(4)
    hidden[2, 5] = bad
    tokens, found = predict_fused(hidden, weight, VOCAB - 1, score=score)
    assert found.isnan().tolist() == [False, False, True, False]
    assert tokens[2] == VOCAB - 1


@pytest.mark.parametrize("rows", [1, 33, 200])
@pytest.mark.parametrize("vocab", [VOCAB, 600])
def test_the_token_is_the_argmax_and_the_probability_its_softmax(regime, rows, vocab):
    tokens = check(*problem(rows, vocab=vocab), vocab - 1)
    assert len(tokens.unique()) > rows // 3  # the rows differ


@pytest.mark.parametrize(("rows", "width", "vocab"), [(1, 128, 700), (140, 64, 700), (40, 80, 90)])
def test_float16_has_larger_tiles(regime, rows, width, vocab):
    check(*problem(rows, width, vocab, torch.float16), vocab - 1)


@pytest.mark.parametrize("width", [16, 48, 96])
def test_any_multiple_of_16_is_a_width(regime, width):
    check(*problem(17, width, 70), 69)
    with pytest.raises(ValueError, match="d_model"):
        predict_fused(*problem(17, width + 8, 70), 69)


def test_the_switch_between_the_regimes_is_at_few_rows():
    for rows in (lm_head.FEW_ROWS, lm_head.FEW_ROWS + 1):
        check(*problem(rows, vocab=70), 69)


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # numpy, of the rows that are not needed
@pytest.mark.parametrize("pattern", ["none", "all", "third", "last", "random"])
def test_rows_that_are_not_needed_are_neither_read_nor_written(regime, pattern):
    rows = 150
    row = torch.arange(rows)
    needed = {
        "none": row < 0,
        "all": row >= 0,
        "third": row % 3 == 1,
        "last": row == rows - 1,
        "random": torch.rand(rows) < 0.5,
    }[pattern]
    hidden, weight = problem(rows)
    hidden[~needed] = torch.nan
    tokens = check(hidden, weight, VOCAB - 1, needed)
    assert (tokens[~needed] == 0).all()


@pytest.mark.parametrize("mask_id", [0, 70, VOCAB - 1])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_mask_is_not_decoded_even_if_its_logit_is_the_largest(regime, mask_id, temperature):
    hidden, weight = problem()
    hidden = hidden.abs()
    weight[mask_id] = 10.0
    assert ((hidden @ weight.t()).argmax(dim=-1) == mask_id).all()
    tokens, probability = predict_fused(
        hidden, weight, mask_id, temperature=temperature, seed=torch.tensor([0])
    )
    assert (tokens != mask_id).all()
    logits = hidden @ weight.t()
    logits[:, mask_id] = -torch.inf
    if temperature == 0:
        assert torch.equal(tokens, logits.argmax(dim=-1))
    expected = logits.softmax(dim=-1).gather(-1, tokens[:, None])[:, 0]
    torch.testing.assert_close(probability, expected, rtol=ROUNDING, atol=0)


def test_a_tile_of_mask_alone_adds_nothing(regime):
    # 257 ids: the last tile of any width holds one id.
    hidden, weight = problem(vocab=257)
    check(hidden, weight, 256)
    tokens, probability = sample(hidden, weight, 1)
    assert (tokens < 256).all()
    assert torch.isfinite(probability).all()


def test_a_vocabulary_of_the_field_with_mask_inside():
    # Qwen's, padded, and Dream's MASK: 1187 tiles of 128, the last of them whole.
    vocab, mask_id = 151936, 151666
    hidden, weight = problem(2, 16, vocab, torch.float16)
    weight[mask_id] = 100 * hidden[0]  # the largest logit of the first row by far
    weight[-1] = 50 * hidden[1]  # and of the second row
    tokens = check(hidden, weight, mask_id)
    assert tokens[1] == vocab - 1


def test_ties_go_to_the_lowest_id(regime):
    # Integers, so that equal weights give equal sums wherever they stand in a tile.
    hidden = torch.randint(-3, 4, (33, 64)).float()
    weight = torch.randint(-3, 4, (VOCAB, 64)).float()
    for period in (10, 100):  # ties within a tile and between tiles
        equal = weight[torch.arange(VOCAB) % period]
        tokens = check(hidden, equal, VOCAB - 1)
        assert (tokens < period).all()


@pytest.mark.parametrize("scale", [1e2, 1e4, 1e30])
def test_large_logits_neither_overflow_nor_lose_their_differences(regime, scale):
    hidden, weight = problem(8)
    # Logits of 7 scale and small integers: exact in float32 up to 1e4, all equal at 1e30.
    hidden[:, 0], weight[:, 0] = scale, 7.0
    hidden[:, 1:], weight[:, 1:] = 1.0, 0.0
    weight[:, 1] = torch.randint(8, (VOCAB,))
    tokens, probability = predict_fused(hidden, weight, VOCAB - 1)
    # In float64: float32's log-sum-exp, as predict takes it, is off by 0.4 % at 7e4.
    expected = (hidden @ weight.t())[:, :-1].double().softmax(dim=-1).max(dim=-1)
    assert torch.equal(tokens, expected.indices)
    torch.testing.assert_close(probability, expected.values.float(), rtol=ROUNDING, atol=0)


def test_negative_logits_are_as_good_as_positive_ones(regime):
    hidden, weight = problem(8)
    hidden[:, 0], weight[:, 0] = 100.0, -3.0
    check(hidden, weight, VOCAB - 1, rounding=1e-4)  # logits of -300, rounded to 3e-5


def test_hidden_rows_may_be_far_apart(regime):
    wide, weight = torch.randn(9, 5, 64), problem()[1]
    check(wide[:, 2], weight, VOCAB - 1, torch.arange(9) % 2 == 0)


def sample(hidden, weight, seed, temperature=1.0, needed=None):
    mask_id = len(weight) - 1
    seed = torch.tensor(seed if isinstance(seed, list) else [seed])
    return predict_fused(hidden, weight, mask_id, needed, temperature=temperature, seed=seed)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_their_temperature(regime, temperature):
    rows, vocab = 256, 80  # two tiles
    logits = torch.full((vocab,), -30.0)
    chosen = torch.tensor([0, 9, 16, 17, 41, 63, 64, 70])  # of all quarters, and of both tiles
    logits[chosen] = torch.tensor([0.0, 1.0, -1.0, 0.5, 1.5, -0.5, 0.2, 0.8])
    logits[vocab - 1] = 3.0  # MASK
    weight = torch.zeros(vocab, 16)
    weight[:, 0] = logits
    hidden = torch.zeros(rows, 16)
    hidden[:, 0] = 1.0
    draws = [sample(hidden, weight, seed, temperature) for seed in range(4)]
    tokens = torch.cat([tokens for tokens, _ in draws])
    observed = torch.bincount(tokens, minlength=vocab)[chosen]
    assert observed.sum() == len(tokens)  # the others have a chance below 1e-5
    distances = {}
    for candidate in (0.5, 1.0, 2.0):
        expected = torch.softmax(logits[chosen] / candidate, dim=-1) * len(tokens)
        distances[candidate] = ((observed - expected) ** 2 / expected).sum().item()
    # Chi-square of 7 degrees of freedom: above 24.3 with a chance of 0.1 %.
    assert distances.pop(temperature) < 24.3
    assert min(distances.values()) > 50
    # The confidence is the untempered softmax's, whatever the temperature of the draw.
    untempered = torch.softmax(logits[: vocab - 1], dim=-1)
    torch.testing.assert_close(
        torch.cat([p for _, p in draws]), untempered[tokens], rtol=ROUNDING, atol=0
    )


def test_neighbouring_rows_and_ids_and_seeds_are_independent(regime):
    hidden, weight = torch.zeros(256, 16), torch.zeros(65, 16)  # 64 equal logits and MASK
    first, second = sample(hidden, weight, 1)[0], sample(hidden, weight, 2)[0]
    # Of 256 pairs of independent draws from 64, 4 agree; more than 14 with a chance of 1e-4.
    assert (first == second).sum() < 15
    assert (first[1:] == first[:-1]).sum() < 15
    assert len(first.unique()) > 50  # 62.9 on average, of a spread of 1


def test_a_seed_gives_the_same_tokens_again_whatever_rows_are_needed(regime):
    hidden, weight = problem(140)
    tokens, probability = sample(hidden, weight, 5)
    needed = torch.arange(140) % 3 != 0
    again, same = sample(hidden, weight, 5, needed=needed)
    assert torch.equal(again[needed], tokens[needed])
    torch.testing.assert_close(same[needed], probability[needed], rtol=ROUNDING, atol=0)
    assert (again[~needed] == 0).all()
    assert not torch.equal(sample(hidden, weight, 5 + 2**32)[0], tokens)  # all of its bits count


@pytest.mark.filterwarnings("ignore:overflow encountered")  # of what loses by far
@pytest.mark.parametrize("temperature", [1e-6, 1e-40])
def test_a_low_temperature_is_the_argmax(regime, temperature):
    hidden, weight = problem()
    tokens, _ = sample(hidden, weight, 0, temperature)
    assert torch.equal(tokens, predict_fused(hidden, weight, VOCAB - 1)[0])


def test_a_sequence_draws_what_it_would_alone(regime):
    hidden, weight = problem(3 * 47)
    needed = torch.arange(len(hidden)) % 4 != 0
    tokens, probability = sample(hidden, weight, [5, 11, 5 + 2**32], needed=needed)
    for row, seed in enumerate([5, 11, 5 + 2**32]):
        rows = slice(47 * row, 47 * (row + 1))
        alone, its_own = sample(hidden[rows], weight, seed, needed=needed[rows])
        assert torch.equal(tokens[rows], alone)
        torch.testing.assert_close(probability[rows], its_own, rtol=ROUNDING, atol=0)


def test_few_rows_and_many_draw_the_same(monkeypatch):
    hidden, weight = problem(60)
    drawn = []
    for few in (0, 10_000):
        monkeypatch.setattr(lm_head, "FEW_ROWS", few)
        drawn.append(sample(hidden, weight, [3, 4])[0])
    assert torch.equal(*drawn)


def test_the_sequences_of_a_batch_are_independent(regime):
    hidden, weight = torch.zeros(256, 16), torch.zeros(65, 16)  # 64 equal logits and MASK
    first, second = sample(hidden, weight, [1, 2])[0].view(2, 128)
    # Of 128 pairs of independent draws from 64, 2 agree; more than 10 with a chance of 1e-5.
    assert (first == second).sum() < 11
    same = sample(hidden, weight, [1, 1])[0].view(2, 128)
    assert torch.equal(*same)


def test_sequences_have_equally_many_rows():
    with pytest.raises(ValueError, match="seed: 2 of them do not share 33 rows equally"):
        sample(*problem(), [1, 2])


def test_a_temperature_needs_a_seed():
    with pytest.raises(ValueError, match="seed"):
        predict_fused(*problem(), VOCAB - 1, temperature=1.0)


def test_tiles_are_spread_over_all_sms():
    for blocks, tiles in ((1, 197), (2, 197), (8, 197), (1024, 197), (3, 2), (8192, 197)):
        taken = lm_head._tiles_of_a_program(blocks, tiles)
        rounds = -(-blocks * -(-tiles // taken) // lm_head.SMS) * taken
        assert rounds <= 1.05 * max(blocks * tiles / lm_head.SMS, 1) + 1
