"""Steps whose tokens are drawn by the seed: MDLM's skipped passes, and Dream's `origin`."""

from collections import Counter
from random import Random

import pytest
import torch
from support.reference import (
    Evaluated,
    assert_same_decode,
    lively_model,
    package_steps,
    reference_steps,
)
from support.reference_network import mixed, network, shifted
from support.reference_rules import masked_fraction

from dlm_bench import ConfigError, build_sampler
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.samplers.steps import drawn, passes_with_change
from dlm_bench.testing import check_decode
from dlm_bench.timing.decode_check import check_plan


def full(spread, **options):
    return build_sampler("full", spread=spread, order="random", **options)


class Dice:
    """A source of these numbers, in turn."""

    def __init__(self, *numbers):
        self.random = iter(numbers).__next__


def test_each_token_is_drawn_by_itself_by_hand():
    # Four passes of a quarter each; the fifth token falls on the bound of the third.
    dice = Dice(0.1, 0.9, 0.2, 0.3, 0.5)
    assert list(drawn(5, 4, 0.0, dice)) == [(5, 2), (3, 1), (2, 1), (1, 1)]
    # Time ends at 1/10: passes of 0.225 each, and the rest is the last one's.
    dice = Dice(0.22, 0.23, 0.68, 0.999)
    assert list(drawn(4, 4, 0.1, dice)) == [(4, 1), (3, 1), (2, 0), (2, 2)]


def test_a_pass_of_mdlm_without_a_change_is_left_out():
    sampler, origin = full("mdlm", steps=50), full("origin", steps=50)
    plan = list(sampler.passes(10, 3))
    assert all(step.reveal for step in plan)
    assert sum(step.reveal for step in plan) == 10
    assert len(plan) <= 10
    assert len(list(origin.passes(10, 3))) == 50
    assert [step.t for step in plan] == [step.masked / 13 for step in plan]


def test_the_number_of_passes_is_as_expected_on_average():
    sampler, shape = full("mdlm", steps=20), DecodeShape(30)
    # T (1 - (1 - 1/T)^L) by hand: 20 (1 - 0.95^30) = 20 · 0.78536.
    assert sampler.expected_passes(shape) == pytest.approx(15.7072, abs=1e-4)
    found = [len(list(sampler.planned(shape, seed))) for seed in range(400)]
    # A pass changes or not, less than independently: a deviation of at most 20^0.5 / 2 a decode.
    assert abs(sum(found) / 400 - 15.7072) < 5 * (20**0.5 / 2) / 20
    assert len({*found}) > 3
    # A batch leaves out a pass only where no sequence changes.
    assert sampler.expected_passes(DecodeShape(30, 0, 2)) == passes_with_change(60, 20)
    parts = full("mdlm", steps=20, block_size=20).expected_passes(shape)
    assert parts == passes_with_change(20, 10) + passes_with_change(10, 10)
    assert full("origin", steps=20).expected_passes(shape) is None


@pytest.mark.parametrize("spread", ["mdlm", "origin"])
def test_every_sequence_of_a_batch_has_draws_of_its_own(spread):
    sampler, shape = full(spread, steps=6), DecodeShape(8, 2, 3)
    plan = list(sampler.planned(shape, seed=5))
    check_plan(plan, shape)
    rows = zip(*(step.rows.reveal for step in plan), strict=True)
    for row, counts in enumerate(rows):
        alone = [step.reveal for step in sampler.planned(DecodeShape(8, 2), 5 + row)]
        assert [each for each in counts if each] == [each for each in alone if each]
    for step in plan:
        assert step.masked == max(step.rows.masked)
        assert spread == "origin" or any(step.rows.reveal)


def one_by_one(sampler, model, tokens, first, seed):
    """The passes for `reference_steps`: the pass of each token is drawn, one after the other."""
    length, T = tokens.shape[1], sampler.steps
    rest = 0.001 if sampler.spread == "origin" else 0.0
    draw = Random(seed)
    own = Counter(min(T - 1, int(draw.random() * T / (1 - rest))) for _ in range(first, length))
    for step in range(T):
        if own[step] == 0 and sampler.spread == "mdlm":
            continue
        times = [masked_fraction(model, tokens)] * length
        mix = lambda _, mixer, x: mixed(mixer, x, [(0, length)])  # noqa: E731
        hidden = shifted(model, network(model, tokens, times, mix))
        yield Evaluated(hidden, first, first, length - first, own[step])


@pytest.mark.parametrize("spread", ["mdlm", "origin"])
@pytest.mark.parametrize("backbone", ["diffumamba-h", "dream"])
def test_a_decode_is_that_of_a_recomputation(backbone, spread):
    model, sampler = lively_model(backbone, layers=2), full(spread, steps=9)
    steps, state = package_steps(sampler, model, 10, prompt_len=3)
    expected = reference_steps(
        sampler,
        model,
        10,
        1,
        state.priority,
        steps,
        state.tokens[:, :3],
        lambda *those: one_by_one(*those, seed=0),
    )
    assert_same_decode(steps, expected)


@pytest.mark.parametrize("spread", ["mdlm", "origin"])
def test_drawn_steps_pass_the_checks_of_every_sampler(spread):
    model, sampler = lively_model("diffutran", layers=1), full(spread, steps=12)
    check_decode(model, sampler, 20)
    together = sampler.decode(model, 20, batch=3, seed=7, prompt_len=4)
    alone = [sampler.decode(model, 20, seed=7 + row, prompt_len=4)[0] for row in range(3)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": "confidence"}, "order: 'confidence' is not allowed with spread 'mdlm'"),
        ({"order": "random", "temperature": 1.0}, "temperature: 1 is not allowed with spread"),
    ],
)
def test_what_drawn_steps_cannot_be_combined_with_is_refused(options, said):
    with pytest.raises(ConfigError) as error:
        build_sampler("full", spread="mdlm", steps=4, **options)
    assert said in str(error.value)
