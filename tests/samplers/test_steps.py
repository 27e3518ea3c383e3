"""Passes over the whole sequence by the number of steps: LLaDA's blocks, and Dream's time."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference import (
    Evaluated,
    assert_same_decode,
    block_spans,
    lively_model,
    package_steps,
    reference_steps,
)
from support.reference_network import mixed, network, shifted
from support.reference_rules import deal, masked_fraction
from support.scripted_model import ScriptedModel

from dlm_bench import ConfigError, build_sampler
from dlm_bench.models.backbones import backbone_info
from dlm_bench.samplers import with_models_defaults
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.samplers.steps import dream, even
from dlm_bench.testing import check_decode
from dlm_bench.timing.decode_check import check_plan


def full(**options):
    return build_sampler("full", **options)


def counts(sampler, length, prompt_len=0):
    """The tokens that each pass unmasks, by the start of its block."""
    found = {}
    for step in sampler.passes(length, prompt_len):
        found.setdefault(step.block_start, []).append(step.reveal)
    return found


def dreamed(tokens, T):
    """Dream's rule as it is written, in fractions: t goes from 1 to 1/1000 in T equal steps."""
    times = [1 - Fraction(i, T) * Fraction(999, 1000) for i in range(T + 1)]
    found = []
    for t, s in itertools.pairwise(times):
        last = s == times[-1]
        found.append(tokens if last else math.floor(tokens * (1 - s / t)))
        tokens -= found[-1]
    return found


def whole_passes(sampler, model, tokens, first):
    """The passes for `reference_steps`: all of the sequence, and a block's tokens are unmasked."""
    length = tokens.shape[1]
    parts = block_spans(length, sampler.block_size or length, first)
    for number, (start, stop) in enumerate(parts):
        T = math.ceil((stop - start) / sampler.tokens_per_step)
        if sampler.steps:
            T = len(range(number, sampler.steps, len(parts)))  # dealt out one by one
        if sampler.steps or sampler.spread == "dream":
            own = dreamed(stop - start, T) if sampler.spread == "dream" else None
            own = own or [len(range(i, stop - start, T)) for i in range(T)]
        else:
            own = deal(stop - start, sampler.tokens_per_step)
        for count in own:
            times = [masked_fraction(model, tokens)] * length
            mix = lambda _, mixer, x: mixed(mixer, x, [(0, length)])  # noqa: E731
            hidden = shifted(model, network(model, tokens, times, mix))
            yield Evaluated(hidden, start, start, stop - start, count)


@pytest.mark.parametrize(
    "options",
    [
        {"block_size": 4, "tokens_per_step": 3},
        {"block_size": 4, "steps": 7},
        {"block_size": 4, "steps": 7, "spread": "dream"},
        {"steps": 5},
        {"steps": 9, "spread": "dream", "order": "random"},
        {"tokens_per_step": 1, "spread": "dream", "order": "entropy"},
    ],
)
@pytest.mark.parametrize("backbone", ["diffumamba-h", "dream"])
def test_a_decode_is_that_of_a_recomputation(backbone, options):
    model, sampler = lively_model(backbone, layers=2), full(**options)
    steps, state = package_steps(sampler, model, 10, prompt_len=3)
    priority = state.priority if sampler.order == "random" else None
    prompt = state.tokens[:, :3]
    expected = reference_steps(sampler, model, 10, 1, priority, steps, prompt, whole_passes)
    assert_same_decode(steps, expected)
    assert len(state.tokens.unique()) >= 4


def test_llada_divides_the_steps_among_its_blocks_by_hand():
    llada = full(block_size=4, steps=6)
    assert counts(llada, 12, 3) == {3: [2, 2], 7: [2, 2], 11: [2, 2]}
    # A remainder of steps goes to the first blocks, one of tokens to the first passes.
    assert counts(full(block_size=4, steps=7), 10) == {0: [2, 1, 1], 4: [2, 2], 8: [1, 1]}
    # A block takes at most a pass a token.
    assert counts(full(block_size=4, steps=8), 9) == {0: [2, 1, 1], 4: [2, 1, 1], 8: [1]}
    step = list(llada.passes(12, 3))[2]
    assert (step.query_len, step.context_len, step.masked, step.t) == (15, 0, 4, 8 / 15)


def test_dream_leaves_the_remainder_to_the_last_step_by_hand():
    # 10 · 0.24975 = 2.5; 8 · 0.3329 = 2.7; 6 · 0.499 = 2.99; then the other four.
    assert counts(full(steps=4, spread="dream"), 10) == {0: [2, 2, 2, 4]}
    # More steps than tokens: the first ones unmask nothing, and run all the same.
    assert counts(full(steps=5, spread="dream"), 3) == {0: [0, 0, 0, 1, 2]}
    assert full(steps=5, spread="dream").schedule(3).forward_passes == 5


def test_a_spread_divides_the_tokens_among_the_steps_of_p_tokens():
    # 10 tokens at 3 a pass are four steps, as above; in blocks of 6 and 4 they are two and two.
    assert counts(full(tokens_per_step=3, spread="dream"), 10) == {0: [2, 2, 2, 4]}
    # 6 · 0.4995 = 2.997 and 4 · 0.4995 = 1.998.
    blocks = full(tokens_per_step=3, spread="dream", block_size=6)
    assert counts(blocks, 10) == {0: [2, 4], 6: [1, 3]}


def test_dream_ships_with_a_step_a_token_the_first_of_which_unmasks_none():
    def shipped(**asked):
        found = with_models_defaults("full", {"accept": "shipped", **asked}, backbone_info("dream"))
        return full(**found)

    assert {"spread": "dream", "order": "entropy"}.items() <= shipped().options().items()
    assert counts(shipped(), 8) == {0: [0, 1, 1, 1, 1, 1, 1, 2]}
    assert shipped().schedule(512).forward_passes == 512
    # Another number of steps is what is asked for.
    assert shipped(steps=4) == full(steps=4, spread="dream", order="entropy")
    assert counts(shipped(steps=4), 10) == {0: [2, 2, 2, 4]}


@given(st.integers(1, 300), st.integers(1, 60))
@settings(max_examples=50)
def test_the_steps_are_those_of_the_written_rules(tokens, T):
    found = list(dream(tokens, T))
    assert [reveal for _, reveal in found] == dreamed(tokens, T)
    assert [masked for masked, _ in found] == [
        tokens - sum(dreamed(tokens, T)[:i]) for i in range(T)
    ]
    shares = [reveal for _, reveal in even(tokens, T)]
    assert (sum(shares), len(shares)) == (tokens, min(tokens, T))
    assert shares == sorted(shares, reverse=True)
    assert shares[0] - shares[-1] <= 1


@pytest.mark.parametrize(
    ("options", "length", "passes"),
    [
        # LLaDA's generate(steps=128, gen_length=128, block_length=32) and Dream's steps=512.
        ({"block_size": 32, "steps": 128}, 128, 128),
        ({"block_size": 32, "steps": 64}, 256, 64),
        ({"steps": 512, "spread": "dream"}, 512, 512),
    ],
)
def test_forward_passes_are_as_public_code_counts_them(options, length, passes):
    assert full(**options).schedule(length).forward_passes == passes


@pytest.mark.parametrize(
    "sampler",
    [
        full(block_size=8, tokens_per_step=3),
        full(block_size=8, steps=9, spread="dream"),
        full(block_size=8, accept="threshold", threshold=0.05),
    ],
    ids=["blocks", "steps", "threshold"],
)
def test_blocks_and_steps_pass_the_checks_of_every_sampler(sampler):
    check_plan(list(sampler.passes(20, 5)), DecodeShape(20, 5))
    check_decode(lively_model("diffutran", layers=2), sampler, 20)


def test_blocks_of_written_confidences_by_hand():
    x = 0.3  # of a place that is decoded
    model = ScriptedModel(
        [0.5, 0.4, 0.9, 0.9],  # 0 is the surer of its block, and 2 and 3 wait for theirs
        [x, 0.4, 0.9, 0.9],
        [x, x, 0.6, 0.7],
        [x, x, 0.6, x],
    )
    taken = []
    sampler = full(block_size=2, steps=4)
    state = sampler.prepare(model, 4)
    for step in state.passes:
        before = state.tokens == model.config.mask_id
        sampler.step(model, state, step.kind)
        taken += (before & (state.tokens != model.config.mask_id))[0].nonzero().flatten().tolist()
    assert taken == [0, 1, 3, 2]


def test_a_rule_by_confidence_counts_within_the_block():
    model = lively_model("diffutran", layers=2)
    sure = full(block_size=8, accept="threshold", threshold=0.0)
    trace = record_trace(model, sure, 20)
    assert (trace.accepted, trace.block_size) == (((8,), (8,), (4,)), 8)
    assert full(block_size=8, trace=trace).schedule(20).forward_passes == 3


@pytest.mark.parametrize(("spread", "options"), [("dream", {}), ("origin", {"order": "random"})])
def test_a_pass_that_unmasks_none_at_first_is_recorded_and_replayed(spread, options):
    model = lively_model("diffutran", layers=1)
    sampler = full(block_size=8, steps=16, spread=spread, **options)
    planned = [*counts(sampler, 16).values()]
    assert any(block[0] == 0 for block in planned)
    trace = record_trace(model, sampler, 16)
    # A block is done with its last token.
    assert [(*block, *[0] * (8 - len(block))) for block in trace.accepted] == [*map(tuple, planned)]
    replay = full(block_size=8, trace=trace)
    assert [*counts(replay, 16).values()] == [list(block) for block in trace.accepted]


def test_rows_whose_first_pass_unmasks_none_are_recorded_apart():
    sampler = full(steps=20, spread="mdlm", order="random")
    trace = record_trace(lively_model("diffutran", layers=1), sampler, 8, batch=3)
    assert any(blocks[0][0] == 0 for blocks in trace.sequences)
    rows = zip(
        *(step.rows.reveal for step in sampler.planned(DecodeShape(8, batch=3))), strict=True
    )
    for planned, (block,) in zip(rows, trace.sequences, strict=True):
        assert planned[: len(block)] == block


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": -1}, "steps: -1 is not allowed"),
        ({"steps": 2.5}, "steps: 2.5 is not allowed"),
        ({"block_size": -1}, "block_size: -1 is not allowed"),
        ({"steps": 4, "spread": "evn"}, "spread: 'evn' is not known"),
        (
            {"accept": "threshold", "spread": "dream"},
            "spread: 'dream' is not allowed with accept 'threshold'",
        ),
        ({"steps": 4, "tokens_per_step": 2}, "tokens_per_step: 2 is not allowed with steps"),
        ({"steps": 4, "accept": "threshold"}, "steps: 4 is not allowed with accept 'threshold'"),
        ({"block_size": 4}, "tokens_per_step: 8 is not allowed; must be at most block_size (4)"),
    ],
)
def test_steps_without_sense_are_refused(options, said):
    with pytest.raises(ConfigError) as error:
        full(**options)
    assert said in str(error.value)


def test_a_block_without_a_step_is_refused():
    with pytest.raises(ConfigError, match=r"steps: 2 .* at least the number of blocks \(3\)"):
        full(block_size=4, steps=2).schedule(10)


def test_records_name_blocks_and_steps_only_where_there_are_some():
    assert full().options() == {"temperature": 0.0, "tokens_per_step": 8, "order": "confidence"}
    assert full(steps=4, spread="dream").options() == {
        "temperature": 0.0,
        "order": "confidence",
        "steps": 4,
        "spread": "dream",
    }
    # The block of a model's training is for samplers that cache blocks.
    assert with_models_defaults("full", {}, backbone_info("fast-dllm-v2")) == {}


@pytest.mark.parametrize("spread", ["dream", "origin"])
def test_blocks_of_more_passes_than_tokens_have_noise_of_their_own_in_each(spread):
    order = "random" if spread == "origin" else "confidence"
    sampler = full(block_size=4, steps=40, spread=spread, order=order, temperature=1.0)
    state, seeds = sampler.prepare(lively_model("diffutran", layers=1), 16, batch=2), []
    for index in range(40):
        state.index.fill_(index)
        seeds += state.noise_seed().tolist()
    assert len({*seeds}) == 2 * 40


def test_blocks_unmask_from_left_to_right():
    model, sampler = lively_model("dream", layers=2), full(block_size=4, steps=3)
    for (step, state), passed in zip(
        zip(sampler.passes(10), package_steps(sampler, model, 10)[0], strict=True),
        (4, 8, 10),
        strict=True,
    ):
        assert step.reveal > 0
        masked = state.tokens[0] == model.config.mask_id
        assert torch.equal(masked, torch.arange(10) >= passed)
