"""The rules of acceptance and the orders beside those of Fast-dLLM: examples by hand, slow obvious
forms, and the passes that public code takes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.cases import ADAPTIVE, MORE_RULES, adaptive
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps
from support.reference_rules import TIE, accepted

from dlm_bench import build_model, build_sampler
from dlm_bench.kernels.lm_head import SCORES, predict
from dlm_bench.samplers import unmask
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.options import RULES, acceptance_of
from dlm_bench.samplers.order import ORDERS

DECODED = -1.0


def count(scores, passes_left=1, **options):
    """The tokens that a rule accepts in one row of descending scores; a bounded block has 20
    passes."""
    most = {"max_passes": 20} if options["accept"] == "bounded" else {}
    rule = acceptance_of(build_sampler("full", **options, **most))
    now = {"passes_done": torch.tensor([20 - passes_left])}.get
    return rule.count(torch.tensor([scores]), now).item()


def by_entropy(*entropies):
    return [math.exp(-entropy) for entropy in entropies]


# Examples by hand.


def test_a_strict_threshold_is_exclusive():
    assert count([0.95, 0.9, 0.5], accept="threshold", threshold=0.9) == 2
    assert count([0.95, 0.9, 0.5], accept="strict", threshold=0.9) == 1
    assert count([0.95, 0.9 * (1 + TIE / 2)], accept="strict", threshold=0.9) == 1  # rounding
    assert count([0.95, 0.9 * (1 + 2 * TIE)], accept="strict", threshold=0.9) == 2
    assert count([0.3, 0.2, 0.1], accept="strict", threshold=0.9) == 1


def test_no_rule_inherits_from_another():
    kinds = {*RULES.values()}
    assert not [kind for kind in kinds if kinds & {*kind.__mro__[1:]}]


def test_an_entropy_bound_adds_up_the_entropies_before():
    # Sums before each: 0, 0.02, 0.07, 0.17, 0.57.
    entropies = by_entropy(0.02, 0.05, 0.1, 0.4, 2.0)
    assert count(entropies, accept="entropy") == 3  # gamma 0.1
    assert count(entropies, accept="entropy", gamma=0.07) == 3  # inclusive
    assert count(entropies, accept="entropy", gamma=0.06) == 2
    assert count(entropies, accept="entropy", gamma=0.0) == 1
    assert count(entropies, accept="entropy", gamma=0.6) == 5
    assert count(by_entropy(5.0, 5.0), accept="entropy") == 1  # at least one
    assert count([*by_entropy(0.0, 0.0), DECODED], accept="entropy", gamma=9.0) == 2
    assert count([DECODED], accept="entropy") == 0


def test_a_bounded_block_takes_what_its_passes_left_need():
    scores = [0.99, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3]
    bound = {"accept": "bounded", "threshold": 0.8}
    assert count(scores, 16, **bound) == 2  # two are above
    assert count(scores, 3, **bound) == 3  # ceil(7 / 3)
    assert count(scores, 1, **bound) == 7
    assert count([0.5, 0.4], 16, **bound) == 1


@pytest.mark.parametrize("accept", ["factor", "factor-released"])
def test_a_factor_beyond_float32_takes_all(accept):
    assert count([0.9, 0.5, 0.0, DECODED], accept=accept, factor=1e300) == 3


@given(
    scores=st.lists(st.floats(0.0078125, 1, width=32), min_size=1, max_size=30),
    decoded=st.integers(0, 3),
    rule=st.sampled_from(
        [
            {"accept": "strict", "threshold": 0.6},
            {"accept": "bounded", "threshold": 0.7},
            {"accept": "entropy", "gamma": 0.8},
            {"accept": "factor-released", "factor": 1.2},
        ]
    ),
    passes_left=st.integers(1, 20),
)
def test_the_rules_are_their_loops_over_the_tokens(scores, decoded, rule, passes_left):
    scores = sorted(scores, reverse=True)
    expected = accepted(build_sampler("full", **rule), scores, passes_left)
    assert count(scores + [DECODED] * decoded, passes_left, **rule) == expected


# The LM head's scores.


def head_of(logits):
    """Hidden states and a head whose logits these are; MASK is the last id, of logit 9."""
    logits = torch.tensor(logits)
    return torch.cat((logits, torch.full((len(logits), 1), 9.0)), dim=1), torch.eye(
        logits.shape[1] + 1
    )


def test_scores_of_known_logits():
    halves = [math.log(0.5), math.log(0.25), math.log(0.25)]
    certain = [50.0, 0.0, 0.0]
    hidden, weight = head_of([halves, certain, [0.0, 0.0, 0.0]])
    found = {score: predict(hidden, weight, 3, score=score)[1] for score in SCORES}
    third = 1 / 3
    torch.testing.assert_close(found["confidence"], torch.tensor([0.5, 1.0, third]))
    torch.testing.assert_close(found["margin"], torch.tensor([1.25, 2.0, 1.0]))
    # H = 1.5 ln 2, 0 and ln 3.
    torch.testing.assert_close(found["entropy"], torch.tensor([2**-1.5, 1.0, third]))


@pytest.mark.parametrize("score", SCORES)
def test_a_score_is_that_of_the_softmax_in_double_precision(score):
    hidden, weight = torch.randn(7, 64), torch.randn(301, 64)
    tokens, found = predict(hidden, weight, 5, score=score)
    logits = hidden.double() @ weight.double().t()
    logits[:, 5] = -math.inf
    p = logits.softmax(dim=-1)
    first, second = p.topk(2).values.unbind(-1)
    entropy = -torch.special.xlogy(p, p).sum(-1)
    expected = {"confidence": first, "margin": 1 + first - second, "entropy": torch.exp(-entropy)}
    # Sums of 301 float32 and of 64 products: far below the band of a tie.
    torch.testing.assert_close(found.double(), expected[score], rtol=TIE / 2, atol=0)
    assert torch.equal(tokens, p.argmax(-1))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_whose_logits_are_not_finite_has_no_score(score, bad):
    hidden, weight = torch.randn(3, 8), torch.randn(20, 8)
    hidden[1, 2] = bad
    tokens, found = predict(hidden, weight, 19, score=score)
    assert tokens.tolist()[1] == 19
    assert found.isnan().tolist() == [False, True, False]


# The places that a pass takes, as in docs/acceptance.md.

PLACES = [[0.5, 0.5], [0.6, 0.4], [0.52] + [0.01] * 48, [0.45] + [0.11] * 5]


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({"order": "confidence"}, [1, 2]),  # 0.5, 0.6, 0.52, 0.45
        ({"order": "margin"}, [2, 3]),  # 0, 0.2, 0.51, 0.34
        ({"order": "entropy"}, [0, 1]),  # 0.693, 0.673, 2.551, 1.573
        ({"order": "left-to-right"}, [0, 1]),
        ({"accept": "entropy", "gamma": 0.66}, [1]),
        ({"accept": "entropy", "gamma": 0.68}, [0, 1]),  # 0.673 is before 0.693
        ({"accept": "entropy", "gamma": 1.4}, [0, 1, 3]),  # 1.366 is before 1.573
        ({"accept": "strict", "threshold": 0.5}, [1, 2]),
        ({"accept": "threshold", "threshold": 0.5}, [0, 1, 2]),
        ({"accept": "bounded", "threshold": 0.55, "max_passes": 2}, [1, 2]),
    ],
    ids=str,
)
def test_a_pass_takes_these_places(options, taken):
    model = build_model("diffutran", "tiny", layers=1)
    width, vocab = model.config.d_model, model.config.vocab_size
    model.head.weight.copy_(torch.eye(vocab, width))
    hidden = torch.full((1, 4, width), -30.0)  # of no chance; ids from d_model on have logit 0
    for place, chances in enumerate(PLACES):
        hidden[0, place, : len(chances)] = 30 + torch.tensor(chances).log()
    fixed = {} if "accept" in options else {"tokens_per_step": 2}
    sampler = build_sampler("full", **options, **fixed)
    state = sampler.prepare(model, 4)
    sampler.reveal(model, state, hidden)
    assert (state.tokens[0] != model.config.mask_id).nonzero()[:, 0].tolist() == taken


# Decodes.


@pytest.mark.parametrize("order", [each for each in ORDERS if each != "random"])
@pytest.mark.parametrize("name", ["full", "block-cache"])
def test_every_order_decodes_what_a_recomputation_decodes(name, order):
    model = lively_model("diffumamba-h", layers=2)
    blocks = {} if name == "full" else {"block_size": 8}
    sampler = build_sampler(name, tokens_per_step=3, order=order, **blocks)
    steps, _ = package_steps(sampler, model, 22)
    assert_same_decode(steps, reference_steps(sampler, model, 22, witness=steps))


def test_the_orders_above_are_different_ones():
    model = lively_model("diffumamba-h", layers=2)
    decodes = set()
    for order in ORDERS:
        sampler = build_sampler("full", tokens_per_step=3, order=order)
        steps, _ = package_steps(sampler, model, 22)
        decodes.add(tuple((steps[3].tokens == model.config.mask_id)[0].tolist()))
    assert len(decodes) == len(ORDERS)


@pytest.mark.parametrize("rule", MORE_RULES, ids=lambda rule: rule["accept"])
@pytest.mark.parametrize(("name", "option"), [ADAPTIVE[0], ADAPTIVE[1], ADAPTIVE[4]])
def test_a_decode_is_what_a_recomputation_from_scratch_decodes(name, option, rule):
    model, sampler = lively_model("diffumamba-h", layers=2), adaptive(name, option, rule)
    known = sampler.scheduled(model, 22)
    steps, _ = package_steps(known, model, 22)
    assert_same_decode(steps, reference_steps(sampler, model, 22, witness=steps))
    assert torch.equal(sampler.decode(model, 22), steps[-1].tokens)


def test_the_decodes_above_accept_one_token_some_and_all():
    model = lively_model("diffumamba-h", layers=2)
    for rule in MORE_RULES:
        trace = record_trace(model, adaptive(*ADAPTIVE[4], rule), 22)
        counts = {n for block in trace.accepted for n in block}
        assert len(counts) > 1, (rule, counts)


def test_a_bounded_block_ends_after_its_passes_however_unsure():
    sampler = build_sampler("block-cache", accept="bounded", max_passes=3, threshold=1.0)
    assert [*sampler.block_passes(0, 32)] == [(32, 11), (21, 11), (10, 10)]
    trace = record_trace(build_model("diffutran", "tiny", layers=1), sampler, 64)
    assert trace.decoding_passes == 6


def test_left_to_right_takes_the_leftmost():
    model = build_model("diffutran", "tiny", layers=1)
    sampler = build_sampler("block-cache", block_size=4, tokens_per_step=2, order="left-to-right")
    state = sampler.prepare(model, 8, batch=2)
    sampler.step(model, state, "denoise")
    masked = (state.tokens == model.config.mask_id).tolist()
    assert masked == [[False] * 2 + [True] * 6] * 2


# Passes as public code counts them, of blocks of 4 in which each place has this confidence.

SURE_OF = [0.6, 0.95, 0.88, 0.7]


def passes_of_sdar(strategy, threshold=0.85, steps=4):
    """SDAR's loop over a block: passes that unmask, and one that stores keys and values."""
    left, passes = [*SURE_OF], 0
    while left:
        sure = [each for each in left if each > threshold]
        if strategy == "dynamic" and len(sure) >= len(SURE_OF) // steps:
            taken = sure
        else:  # the surest, or the leftmost: as many
            taken = sorted(left, reverse=True)[: len(SURE_OF) // steps]
        left = [each for each in left if each not in taken]
        passes += 1
    return passes + 1


@pytest.mark.parametrize(
    ("strategy", "options", "steps"),
    [
        ("static", {"tokens_per_step": 1}, 4),
        ("static", {"tokens_per_step": 2}, 2),
        ("dynamic", {"accept": "strict", "threshold": 0.85}, 4),
        ("sequential", {"tokens_per_step": 1, "order": "left-to-right"}, 4),
    ],
)
def test_passes_are_those_of_sdar_but_for_the_last_commit(monkeypatch, strategy, options, steps):
    def predict(hidden, *_, **__):
        blocks = len(hidden) // 4
        return torch.arange(4).repeat(blocks), torch.tensor(SURE_OF).repeat(blocks)

    monkeypatch.setattr(unmask, "choose_predict", lambda _: predict)
    model, calls = build_model("sdar", "tiny"), []
    model.register_forward_hook(lambda *_: calls.append(None))
    sampler = build_sampler("block-cache", block_size=4, **options)
    assert sampler.decode(model, 12).tolist() == [[0, 1, 2, 3] * 3]
    assert len(calls) == 3 * passes_of_sdar(strategy, steps=steps) - 1
    assert passes_of_sdar("dynamic") == 4  # 0.95 and 0.88; 0.7; 0.6; the commit
