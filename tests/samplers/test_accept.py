"""How many tokens a pass accepts: the rules on known confidences, and decodes by them."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.cases import ADAPTIVE, RULES, adaptive
from support.reference import assert_same_decode, lively_model, package_steps, reference_steps

from dlm_bench import build_model, build_sampler
from dlm_bench.errors import PointError
from dlm_bench.kernels.unmask import TIE
from dlm_bench.samplers import unmask
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.acceptance.options import RULES as ACCEPTANCES
from dlm_bench.samplers.schedule import DecodeShape

KNOWN = [0.99, 0.9, 0.8, 0.6]
DECODED = -1.0


# The rules.


def number(scores, rule, value):
    return ACCEPTANCES[rule](value).count(torch.tensor([scores]), None).item()


def test_factor_1_accepts_three_of_the_known_confidences():
    # 3 * 0.1 and 4 * 0.2 are below 1, 5 * 0.4 is not.
    assert number(KNOWN, "factor", 1.0) == 3


def test_a_threshold_is_inclusive():
    # 0.9 is no float32: both sides are the float32 next to it.
    assert number(KNOWN, "threshold", 0.9) == 2
    assert number(KNOWN, "threshold", 0.901) == 1
    assert number([1.0, 1.0, 0.5], "threshold", 1.0) == 2


def test_a_factor_is_exclusive():
    # 2 (1 - 0.5) is 1 and 3 (1 - 0.5) is 1.5, exactly in float32.
    assert number([0.5, 0.5, 0.5], "factor", 1.5) == 1
    assert number([0.5, 0.5, 0.5], "factor", 1.75) == 2


@pytest.mark.parametrize(("rule", "value"), [("threshold", 0.9), ("factor", 1e-6)])
def test_the_surest_of_64_is_accepted_however_unsure(rule, value):
    assert number([0.3] * 64, rule, value) == 1


@pytest.mark.parametrize(("rule", "value"), [("threshold", 0.0), ("factor", 1e6)])
def test_only_masked_tokens_are_accepted(rule, value):
    rows = [[0.9, 0.8, 0.1], [0.9, DECODED, DECODED], [DECODED] * 3]
    assert ACCEPTANCES[rule](value).count(torch.tensor(rows), None).tolist() == [3, 1, 0]


@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40),
    decoded=st.integers(0, 5),
    rule=st.sampled_from(["threshold", "factor"]),
    value=st.floats(0.0625, 1, width=32),
)
def test_the_rules_are_those_of_the_paper(scores, decoded, rule, value):
    scores = sorted(scores, reverse=True)
    value *= 1 if rule == "threshold" else 10
    found = 0
    for n, score in enumerate(map(Fraction, scores), 1):
        bound = Fraction(value) if rule == "threshold" else 1 - Fraction(value) / (n + 1)
        assume(not 0 < abs(bound) < 1e-6)  # the rounding of 1 - factor / (n + 1) is as large
        off = abs(score - bound) / abs(bound) if bound else (math.inf if score else 0)
        assume(not TIE / 2 < off < 2 * TIE)
        if off <= TIE / 2:  # at the bound: a threshold is inclusive, a factor exclusive
            sure = rule == "threshold"
        else:
            sure = score >= bound if rule == "threshold" else (n + 1) * (1 - score) < value
        found = n if sure else found
    assert number(scores + [DECODED] * decoded, rule, value) == max(1, found)


@pytest.mark.parametrize(
    ("scores", "factor", "paper", "released"),
    [
        ([0.9, 0.8, 0.1], 1.0, 2, 3),  # the last one alone fails: taken
        ([0.9, 0.1], 1.0, 1, 2),
        ([0.9, 0.8, 0.1, 0.1], 1.0, 2, 2),  # two fail
        ([0.9, 0.5, 0.4, 0.1], 1.5, 1, 2),  # 3 (1 - 0.5) is 1.5: at the bound
        ([0.1], 1.0, 1, 1),
        ([0.1, 0.1, 0.1], 1.0, 1, 1),
    ],
)
def test_the_rule_of_the_released_code_is_that_of_the_paper_but_for_two_things(
    scores, factor, paper, released
):
    for decoded in ([], [DECODED] * 2):
        assert number(scores + decoded, "factor", factor) == paper
        assert number(scores + decoded, "factor-released", factor) == released


@pytest.mark.parametrize("rounding", [-4e-6, 0, 4e-6])
def test_a_confidence_that_rounding_moves_off_a_bound_is_at_it(rounding):
    assert number([0.7 * (1 + rounding)] * 3, "threshold", 0.7) == 3
    assert number([0.5 * (1 + rounding)] * 3, "factor", 1.5) == 1  # 3 (1 - 0.5) is not below 1.5


# Decodes with planted confidences.


@pytest.fixture
def plant(monkeypatch):
    """plant(confidences (batch, block_len)): every pass sees these; token i is predicted at i."""

    def plant(confidences):
        known = torch.tensor(confidences)

        def predict(hidden, weight, mask_id, needed, **_):
            block = known[:, : hidden.shape[0] // len(known)]
            return torch.arange(block.shape[1]).repeat(len(known)), block.flatten()

        monkeypatch.setattr(unmask, "choose_predict", lambda _: predict)

    return plant


def counted_decode(sampler, model, length, batch=1, seed=0):
    """The tokens of a decode and how many forward passes it took."""
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(None))
    try:
        return sampler.decode(model, length, batch, seed), len(calls)
    finally:
        hook.remove()


def tiny(backbone="diffutran"):
    return build_model(backbone, "tiny", layers=1)


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"accept": "factor"}, (3, 1)),
        ({"accept": "factor", "factor": 0.5}, (2, 1, 1)),
        ({"accept": "factor-released"}, (4,)),
        ({"accept": "factor-released", "factor": 0.5}, (2, 2)),
        ({"accept": "threshold"}, (2, 1, 1)),
        ({"accept": "threshold", "threshold": 0.8}, (3, 1)),
        ({"accept": "threshold", "threshold": 0.0}, (4,)),
        ({"accept": "threshold", "threshold": 1.0}, (1, 1, 1, 1)),
    ],
)
@pytest.mark.parametrize("name", ["full", "fast-dllm", "block-cache"])
def test_passes_accept_by_the_planted_confidences(plant, name, options, passes):
    plant([[0.6, 0.9, 0.99, 0.8]])
    blocks = 1 if name == "full" else 3
    sampler = build_sampler(name, **options, **({} if name == "full" else {"block_size": 4}))
    trace = record_trace(tiny(), sampler, 4 * blocks)
    assert trace.accepted == (passes,) * blocks
    tokens, calls = counted_decode(sampler, tiny(), 4 * blocks)
    assert tokens.tolist() == [[0, 1, 2, 3] * blocks]
    assert calls == blocks * len(passes) + (blocks - 1) * (name == "block-cache")


@pytest.mark.parametrize(("rule", "value"), [("threshold", 0.9), ("factor", 0.5)])
@pytest.mark.parametrize("name", ["fast-dllm", "block-cache"])
def test_a_block_of_64_below_the_threshold_takes_64_passes(plant, name, rule, value):
    plant([[0.7] * 64])
    sampler = build_sampler(name, block_size=64, accept=rule, **{rule: value})
    model = tiny()
    assert record_trace(model, sampler, 128).accepted == ((1,) * 64,) * 2
    tokens, calls = counted_decode(sampler, model, 128)
    assert calls == 128 + (name == "block-cache")
    assert tokens.tolist() == [[*range(64)] * 2]


def test_a_block_ends_when_every_row_is_done_and_done_rows_accept_nothing(plant):
    sure, unsure, mixed = [0.95] * 4, [0.5] * 4, [0.95, 0.95, 0.5, 0.5]
    plant([sure, unsure, mixed])
    sampler = build_sampler("block-cache", block_size=4, accept="threshold")
    model = tiny()
    state = sampler.prepare(model, 8, batch=3)
    left = []
    for _ in range(4):
        sampler.step(model, state, "denoise")
        left.append((state.tokens[:, :4] == model.config.mask_id).sum(dim=1).tolist())
    assert left == [[0, 3, 2], [0, 2, 1], [0, 1, 0], [0, 0, 0]]
    tokens, calls = counted_decode(sampler, model, 8, batch=3)
    assert calls == 4 + 1 + 4
    assert tokens.tolist() == [[0, 1, 2, 3] * 2] * 3
    trace = record_trace(model, sampler, 8, batch=3)
    assert trace.sequences == (((4,),) * 2, ((1, 1, 1, 1),) * 2, ((2, 1, 1),) * 2)
    # A replay waits for the slowest row, whose trace has one token a pass.
    plan = build_sampler("block-cache", block_size=4, trace=trace).planned(DecodeShape(4, batch=3))
    assert [step.rows.reveal for step in plan] == [(4, 1, 2), (0, 1, 1), (0, 1, 1), (0, 1, 0)]


# Decodes of networks.


@pytest.mark.parametrize("rule", RULES, ids=["threshold", "factor"])
@pytest.mark.parametrize(("name", "option"), ADAPTIVE)
@pytest.mark.parametrize("backbone", ["diffutran", "diffumamba-h"])
def test_a_decode_is_what_a_recomputation_from_scratch_decodes(backbone, name, option, rule):
    model, sampler = lively_model(backbone), adaptive(name, option, rule)
    known = sampler.scheduled(model, 22)
    steps, _ = package_steps(known, model, 22)
    assert_same_decode(steps, reference_steps(sampler, model, 22, witness=steps))
    tokens, calls = counted_decode(sampler, model, 22)
    assert torch.equal(tokens, steps[-1].tokens)
    assert calls == len(steps) == known.schedule(22).forward_passes


def test_the_decodes_above_accept_one_token_some_and_all():
    counts = set()
    for rule in RULES:
        for name, option in ADAPTIVE:
            trace = record_trace(lively_model("diffumamba-h"), adaptive(name, option, rule), 22)
            counts |= {count for block in trace.accepted for count in block}
    assert {1, 2, 3} <= counts


@settings(max_examples=30)
@given(
    which=st.sampled_from(ADAPTIVE),
    length=st.integers(1, 70),
    block_size=st.integers(1, 40),
    rule=st.one_of(
        st.builds(lambda x: {"accept": "threshold", "threshold": x}, st.floats(0, 1)),
        st.builds(lambda x: {"accept": "factor", "factor": x}, st.floats(0.01, 100)),
    ),
    batch=st.integers(1, 2),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_every_decode_ends_without_a_mask_and_its_passes_are_known_afterwards(
    which, length, block_size, rule, batch, temperature
):
    model = lively_model("diffumamba", layers=1)
    sampler = adaptive(*which, rule | {"temperature": temperature}, block_size)
    tokens, calls = counted_decode(sampler, model, length, batch)
    assert ((tokens >= 0) & (tokens < model.config.mask_id)).all()
    known = sampler.scheduled(model, length, batch)
    steps, state = package_steps(known, model, length, batch)
    assert calls == len(steps)
    assert torch.equal(state.tokens, tokens)
    assert sum(p.reveal for p in known.passes(length)) == length


@pytest.mark.parametrize(("name", "option"), ADAPTIVE)
def test_after_a_seek_every_pass_unmasks_what_was_planned(name, option):
    model = lively_model("diffumamba-h", layers=2)
    sampler = adaptive(name, option, RULES[0])
    known = sampler.scheduled(model, 22)
    for chosen in (sampler, known):
        plan = list(chosen.passes(22))
        state = chosen.prepare(model, 22)
        for index in {1, len(plan) // 2, len(plan) - 1}:
            chosen.seek(state, index)
            for place in plan[index:]:
                before = (state.tokens == model.config.mask_id).sum()
                chosen.step(model, state, place.kind)
                assert before - (state.tokens == model.config.mask_id).sum() == place.reveal
    known.seek(state, 0)
    known.run(model, state)
    assert torch.equal(state.tokens, sampler.decode(model, 22))


def test_the_noise_of_a_pass_does_not_depend_on_how_many_passes_came_before():
    model, sampler = lively_model("diffumamba", layers=1), adaptive(*ADAPTIVE[3], RULES[1])
    noise = []
    for chosen in (sampler, sampler.scheduled(model, 22)):
        state = chosen.prepare(model, 22, seed=5)
        found = {}
        for index, place in enumerate(state.passes):
            state.index.fill_(index)
            if place.masked:
                found.setdefault(place.block_start, []).append(int(state.noise_seed()))
        noise.append(found)
    bound, known = noise
    assert {start: seeds[: len(known[start])] for start, seeds in bound.items()} == known
    assert any(len(known[start]) < len(bound[start]) for start in known)


def test_a_plan_that_ends_too_soon_is_an_error(monkeypatch):
    sampler = build_sampler("full", accept="threshold")
    passes = type(sampler).block_passes
    monkeypatch.setattr(
        type(sampler), "block_passes", lambda self, *block: list(passes(self, *block))[:2]
    )
    with pytest.raises(PointError, match=r"tokens are MASK .* passes unmask too few"):
        sampler.decode(build_model("diffutran", "tiny"), 40)
