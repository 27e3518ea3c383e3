"""ReMDM: passes that unmask tokens, and mask others again, by chance."""

import copy
import math

import pytest
import torch
from support.reference import lively_model
from support.reference_network import mixed, network, shifted
from support.reference_rules import masked_fraction

from dlm_bench import ConfigError, build_sampler
from dlm_bench.cost.flops import decode_cost
from dlm_bench.errors import PointError
from dlm_bench.kernels.draws import uniform
from dlm_bench.models.own import own_config
from dlm_bench.samplers.acceptance.adaptive import record_trace
from dlm_bench.samplers.remdm import ReMDM, shares
from dlm_bench.samplers.schedule import DecodeShape
from dlm_bench.testing import check_decode
from dlm_bench.timing.decode_check import check_pass, check_plan


def remdm(**options):
    return build_sampler("remdm", **options)


def splitmix(seed):
    """SplitMix64's first number after a state, in Python's integers."""
    bits = (1 << 64) - 1
    x = seed & bits
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & bits
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & bits
    return x ^ (x >> 31)


def test_draws_are_those_of_splitmix():
    seeds = [0, 1, 12345, (1 << 62) + 7]
    drawn = uniform(torch.tensor(seeds), 5)
    for row, seed in zip(drawn.tolist(), seeds, strict=True):
        state = splitmix(seed)
        expected = [splitmix(state + (place + 1) * 0x9E3779B97F4A7C15) >> 40 for place in range(5)]
        assert [each * 2**24 for each in row] == expected  # powers of two: exact


def test_draws_fill_the_unit_interval_evenly():
    drawn = uniform(torch.arange(64), 4096)
    assert 0 <= float(drawn.min()) <= float(drawn.max()) < 1
    # 2^18 draws in 16 bins: a bin has 2^14 of them with a standard deviation of 124.
    counts = torch.histc(drawn, 16, 0, 1)
    assert float((counts - 2**14).abs().max()) < 6 * 124
    # Neighbours, in a row and between rows, do not follow each other: the mean product of two
    # centred draws is 0 with a standard deviation of 1 / 12 / 2^9.
    off = drawn - 0.5
    for one, other in ((off[:, 1:], off[:, :-1]), (off[1:], off[:-1])):
        assert abs(float((one * other).mean())) < 6 / 12 / 2**9


def test_the_chances_of_each_rule_by_hand():
    # T = 4: t = 1, 3/4, 1/2, 1/4 and alpha = 0, 1/4, 1/2, 3/4. The most that sigma may be is 1 (of
    # nothing), 1/2 / 1/4 = 2, 1/4 / 1/2 = 1/2 and 0.
    cap = remdm(steps=4, remask="cap", eta=0.6).chances(8)
    assert [sigma for _, sigma in cap] == pytest.approx([0.6, 0.6, 0.5, 0.0])
    # (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t)
    assert [unmask for unmask, _ in cap] == pytest.approx(
        [1 / 4, (0.5 - 0.4 * 0.25) / 0.75, (0.75 - 0.5 * 0.5) / 0.5, 1.0]
    )
    rescale = remdm(steps=4, remask="rescale", eta=0.6).chances(8)
    assert [sigma for _, sigma in rescale] == pytest.approx([0.6, 0.6, 0.3, 0.0])
    # From t_on to t_off alpha is 0.9, and as many tokens are unmasked as masked again.
    loop = remdm(steps=4, remask="loop", eta=0.05, t_on=0.75, t_off=0.3)
    assert [loop.alpha(t) for t in (1, 0.875, 0.75, 0.5, 0.3, 0.15, 0)] == pytest.approx(
        [0, 0.45, 0.9, 0.9, 0.9, 0.95, 1]
    )
    assert loop.chances(8) == [
        pytest.approx(each)
        for each in [(0.9, 0), (0.05 * 0.9 / 0.1, 0.05), ((0.9 + 0.1 / 6 - 0.855) / 0.1, 0.05)]
    ] + [(1.0, 0.0)]


def test_by_confidence_the_unmasked_tokens_share_the_largest_chance_by_hand():
    conf = remdm(steps=4, remask="conf")
    # The most that sigma may be, as above, and MDLM's chances 1 - s/t, as a masked token has no
    # share.
    assert [sigma for _, sigma in conf.chances(8)] == pytest.approx([1, 1, 0.5, 0])
    assert [unmask for unmask, _ in conf.chances(8)] == pytest.approx([1 / 4, 1 / 3, 1 / 2, 1])
    # 8 · 3/4; 6 · 2/3 and one that is masked again; 5 · 1/2 and a half.
    assert conf.masked(8) == pytest.approx([8, 6, 5, 3, 0])
    assert [(p.masked, p.reveal) for p in conf.passes(8)] == [(8, 2), (6, 1), (5, 2), (3, 3)]
    # exp(-0.9), exp(-0.4) and exp(-0.1) are 0.4066, 0.6703 and 0.9048: 1.9817 together.
    confidences = torch.tensor([[0.9, 0.5, 0.4, 0.1], [0.2, 0.2, 0.2, 0.2]])
    masked = torch.tensor([[False, True, False, False], [True] * 4])
    expected = torch.tensor([[0.2052, 0, 0.3383, 0.4566], [0] * 4])
    torch.testing.assert_close(shares(confidences, masked), expected, rtol=0, atol=1e-4)


def test_nothing_is_masked_again_without_a_chance():
    assert [sigma for _, sigma in remdm(steps=4, eta=0.0).chances(8)] == [0] * 4
    # MDLM's chance 1 - s/t.
    assert [unmask for unmask, _ in remdm(steps=4, eta=0.0).chances(8)] == pytest.approx(
        [1 / 4, 1 / 3, 1 / 2, 1]
    )


@pytest.mark.parametrize("remask", ["cap", "rescale", "conf", "loop"])
@pytest.mark.parametrize("backbone", ["diffumamba-h", "dream"])
def test_a_decode_is_that_of_a_recomputation(backbone, remask):
    model, options = lively_model(backbone, layers=2), {"steps": 6, "eta": 0.3}
    if remask == "conf":  # a token a pass, by confidences that are far apart
        model, options = copy.deepcopy(model), {"steps": 12}
        model.head.weight.mul_(5)
    sampler = remdm(remask=remask, **options)
    length, prompt_len, seed = 12, 3, 4
    state = sampler.prepare(model, length, 2, seed, prompt_len)
    tokens, again = state.tokens.clone(), 0
    total, mask = prompt_len + length, model.config.mask_id
    spread = []  # the shares over those of equal tokens
    psi = [{}, {}]  # of each row, the confidence of each unmasked place
    for index, (unmask, remasked) in enumerate(sampler.chances(length)):
        sampler.step(model, state, "denoise")
        for row in range(2):
            # Every row and every pass has draws of its own.
            drawn = uniform(torch.tensor([(seed + row) * total + prompt_len + index]), length)[0]
            times = [state.passes[index].t] * total
            alone = tokens[row : row + 1]
            mix = lambda _, mixer, x: mixed(mixer, x, [(0, total)])  # noqa: E731
            logits = model.logits(shifted(model, network(model, alone, times, mix)))[0]
            logits[:, mask] = -torch.inf
            chances, known = torch.softmax(logits, dim=-1), psi[row].copy()
            weights = sum(math.exp(-each) for each in known.values())
            for place in range(length):
                at = prompt_len + place
                if alone[0, at] == mask:
                    if drawn[place] < unmask:
                        tokens[row, at] = int(logits[at].argmax())
                        psi[row][at] = float(chances[at].max())
                    continue
                share = math.exp(-known[at]) / weights if remask == "conf" else 1
                if drawn[place] < remasked * share:
                    tokens[row, at], again = mask, again + 1
                    del psi[row][at]
                if remask == "conf":
                    spread.append(share * len(known))
        assert torch.equal(state.tokens, tokens), index
    assert again > 0
    assert remask != "conf" or max(spread) > 1.5 * min(spread)
    assert masked_fraction(model, tokens) == 0


@pytest.mark.parametrize("options", [{"steps": 8, "eta": 0.2}, {"steps": 8, "remask": "conf"}])
def test_as_many_are_masked_as_planned_on_average(options):
    sampler, length = remdm(**options), 64
    model = lively_model("diffutran", layers=1)
    state = sampler.prepare(model, length, batch=16, seed=7)
    for step in sampler.passes(length):
        masked = float((state.tokens == model.config.mask_id).float().sum(dim=1).mean())
        # 1024 places, each masked with a chance of at most 1/2 at odds: a deviation of the mean of
        # 64 of at most 1. The plan rounds up.
        assert abs(masked - step.masked) < 6
        sampler.step(model, state, "denoise")


def test_forward_passes_are_the_steps():
    assert remdm(steps=1024, remask="loop").schedule(512).forward_passes == 1024
    assert remdm(tokens_per_step=3).schedule(10).forward_passes == 4
    plan = list(remdm(steps=5).passes(10, 2))
    assert [(p.masked, p.reveal) for p in plan] == [(10, 2), (8, 2), (6, 2), (4, 2), (2, 2)]
    # More steps than tokens: a pass has at least a masked token.
    assert [p.masked for p in remdm(steps=5).passes(2)] == [2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    "options",
    [{"eta": 0.3}, {"eta": 0.3, "temperature": 0.8}, {"remask": "conf", "temperature": 0.8}],
)
def test_a_decode_passes_the_checks_of_every_sampler(options):
    sampler = remdm(steps=6, **options)
    check_plan(list(sampler.passes(20, 5)), DecodeShape(20, 5))
    check_decode(lively_model("diffutran", layers=1), sampler, 20)


def test_a_decode_of_more_passes_than_tokens_has_noise_of_its_own_in_each():
    model, sampler = lively_model("diffutran", layers=1), remdm(steps=12, eta=0.5, temperature=1.0)
    state, seeds = sampler.prepare(model, 3, batch=2), []
    for _ in range(12):
        seeds += state.noise_seed().tolist()
        sampler.step(model, state, "denoise")
    assert len({*seeds}) == 24


def test_a_check_of_a_pass_finds_tokens_left_at_the_end_and_changed_outside():
    model, sampler = lively_model("diffutran", layers=1), remdm(steps=4)
    state = sampler.prepare(model, 8, prompt_len=2)
    for index in range(4):
        check_pass(model, sampler, state, index)
    state.chances[3] = 0.0
    with pytest.raises(PointError, match="are MASK after their last pass"):
        check_pass(model, sampler, state, 3)
    with pytest.raises(PointError, match="outside of their block"):
        check_pass(model, InThePrompt(steps=4), state, 2)


class InThePrompt(ReMDM):
    """A sampler that writes over the prompt."""

    def step(self, model, state, kind):
        state.tokens[:, 1] += 1
        super().step(model, state, kind)


def test_the_cost_is_that_of_as_many_passes_over_the_whole_sequence():
    config = own_config("diffutran", "small")
    costs = [
        decode_cost(config, build_sampler(name, tokens_per_step=8), 64)
        for name in ("full", "remdm")
    ]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"remask": "capp"}, "remask: 'capp' is not known"),
        ({"eta": 1.5}, "eta: 1.5 is not allowed"),
        ({"steps": -1}, "steps: -1 is not allowed"),
        ({"remask": "conf", "eta": 0.1}, "eta: 0.1 is not allowed with remask 'conf'"),
        ({"t_on": 0.5}, "t_on: 0.5 is not allowed with remask 'cap'"),
        ({"remask": "loop", "t_on": 0.1, "t_off": 0.2}, "t_on: 0.1 is not allowed with t_off 0.2"),
        ({"remask": "loop", "alpha_on": 1.0}, "alpha_on: 1 is not allowed"),
        ({"steps": 4, "tokens_per_step": 2}, "tokens_per_step: 2 is not allowed with steps"),
    ],
)
def test_options_without_sense_are_refused(options, said):
    with pytest.raises(ConfigError) as error:
        remdm(**options)
    assert said in str(error.value)


def test_there_is_no_trace_of_a_fixed_number_of_passes():
    with pytest.raises(ConfigError, match="'remdm' has no trace"):
        record_trace(lively_model("diffutran", layers=1), remdm(), 8)


def test_records_have_the_options_that_mean_something():
    assert remdm().options() == {
        "temperature": 0.0,
        "tokens_per_step": 8,
        "remask": "cap",
        "eta": 0.02,
    }
    assert {*remdm(steps=9, remask="loop").options()} == {
        *("temperature", "steps", "remask", "eta", "t_on", "t_off", "alpha_on")
    }
