"""The options of acceptance: those that mean something, and what cannot be combined."""

import pytest

from dlm_bench import ConfigError, build_model, build_sampler
from dlm_bench.samplers.acceptance.adaptive import record_trace


def test_the_options_of_fixed_samplers_stay_as_they_were():
    assert build_sampler("full").options() == {
        "temperature": 0.0,
        "tokens_per_step": 8,
        "order": "confidence",
    }


@pytest.mark.parametrize(("rule", "value"), [("threshold", 0.9), ("factor", 1.0)])
def test_only_options_that_mean_something_are_options(rule, value):
    sampler = build_sampler("block-cache", accept=rule)
    assert sampler.options() == {
        "temperature": 0.0,
        "order": "confidence",
        "accept": rule,
        rule: value,
        "block_size": 32,
        "commit": "separate",
    }
    assert build_sampler("block-cache", **sampler.options()) == sampler
    assert build_sampler("block-cache", block_size=4, accept=rule).block_size == 4  # below p = 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept": "tresh"}, ["accept", "'tresh'", "threshold", "factor", "fixed"]),
        ({"threshold": 0.9}, ["threshold", "0.9", "accept 'threshold'"]),
        ({"factor": 1.0}, ["factor", "1.0", "accept 'factor' or 'factor-released'"]),
        ({"accept": "threshold", "factor": 1.0}, ["factor", "1.0", "'threshold'"]),
        ({"accept": "factor", "threshold": 0.9}, ["threshold", "0.9", "'factor'"]),
        ({"accept": "threshold", "tokens_per_step": 8}, ["tokens_per_step", "8", "'threshold'"]),
        ({"accept": "threshold", "trace": "t.json"}, ["trace", "'t.json'"]),
        ({"accept": "threshold", "order": "random"}, ["order", "'random'", "confidence"]),
        ({"accept": "threshold", "threshold": 1.1}, ["threshold", "1.1", "<= 1"]),
        ({"accept": "threshold", "threshold": -0.1}, ["threshold", "-0.1", ">= 0"]),
        ({"accept": "threshold", "threshold": "high"}, ["threshold", "'high'", "number"]),
        ({"accept": "factor", "factor": 0}, ["factor", "0", "> 0"]),
        ({"accept": "factor", "commit": "none"}, ["commit", "'none'", "separate, fused"]),
        ({"trace": 3}, ["trace", "3", "path"]),
        ({"trace": "none.json"}, ["'none.json': No such", "; record one with dlm-bench trace"]),
        (
            {"accept": "threshold", "trace": "t.json"},
            ["with accept 'threshold', which says how many", "; leave one of the two out"],
        ),
        ({"accept": "agreement"}, ["rule of sampler 'self-speculation' alone; allowed: fixed"]),
        ({"accept_len": 4}, ["no such option (it is one of self-speculation); allowed"]),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(options, said):
    with pytest.raises(ConfigError) as caught:
        build_sampler("block-cache", **options)
    assert "\n" not in str(caught.value)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "full",
            {"spread": "dream", "accept": "threshold"},
            "with accept 'threshold', which says how many tokens a pass unmasks; leave it out",
        ),
        (
            "self-speculation",
            {"accept": "agreement", "accept_len": 4},
            "which says how many tokens a pair keeps; allowed with accept 'fixed'",
        ),
        (
            "self-speculation",
            {"accept": "agreement", "trace": "t.json"},
            "which says how many tokens a pair keeps; leave one of the two out",
        ),
    ],
)
def test_what_means_nothing_beside_another_says_what_to_do(name, options, said):
    with pytest.raises(ConfigError) as caught:
        build_sampler(name, **options)
    assert str(caught.value).endswith(said)


def test_a_schedule_that_depends_on_the_model_is_refused():
    sampler = build_sampler("block-cache", accept="threshold")
    with pytest.raises(ConfigError, match=r"accept: .*'threshold'.*dlm-bench trace.*trace=FILE"):
        sampler.schedule(64)


def test_an_autoregressive_decode_has_no_trace():
    with pytest.raises(ConfigError, match="'ar' has no trace"):
        record_trace(build_model("ar-mamba", "tiny"), build_sampler("ar"), 8)
