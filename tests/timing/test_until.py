"""The rule that ends the repeats of exact timing."""

import numpy as np
import pytest
from support.pass_clock import PassClock
from support.plans import SAMPLERS

from dlm_bench import build_model, measure
from dlm_bench.timing.exact import Until


def repeats_of(until, seconds, most=10_000):
    """The number of decodes of these seconds until there are enough."""
    taken = []
    for each in seconds:
        taken.append(float(each))
        if until.enough(taken, sum(taken)):
            return len(taken)
        assert len(taken) < most
    raise AssertionError("not enough yet")


def noise(scatter):
    return 1 + scatter * np.random.default_rng(0).standard_normal(10_000)


def test_nothing_asked_for_is_the_number_of_repeats_with_an_error():
    until = Until(5)
    assert repeats_of(until, noise(0.1)) == 5
    assert 0 < until.error < 0.5


@pytest.mark.parametrize("repeats", [1, 2])
def test_one_or_two_repeats_state_no_error(repeats):
    until = Until(repeats)
    assert repeats_of(until, noise(0.1)) == repeats
    assert until.error is None


def test_repeats_go_on_for_the_least_time():
    assert repeats_of(Until(5, min_time=20.0), [1.0] * 30) == 20


def test_repeats_go_on_until_the_error_is_within_the_tolerance():
    rough = Until(5, 0.0, 0.05, 1e9)
    fine = Until(5, 0.0, 0.01, 1e9)
    few, many = repeats_of(rough, noise(0.05)), repeats_of(fine, noise(0.05))
    assert 5 < few < many
    assert rough.error <= 0.05
    assert fine.error <= 0.01


def test_a_tolerance_is_given_up_before_the_time_is_over():
    until = Until(5, 0.0, 1e-4, 20.0)
    assert repeats_of(until, noise(0.05)) in (19, 20)
    assert until.error > 1e-4


def test_the_least_time_goes_before_the_longest():
    assert repeats_of(Until(5, 30.0, 1e-4, 10.0), noise(0.05)) in range(29, 33)


def test_an_exact_record_has_its_error_and_as_many_repeats_as_it_took(monkeypatch):
    PassClock(monkeypatch)
    model, sampler = build_model("diffutran", "tiny"), SAMPLERS["dual"]
    plain = measure(model, sampler, 64, warmup=1, repeats=3)
    assert len(plain.seconds) == 3
    assert plain.error_estimate is not None
    again = measure(model, sampler, 64, warmup=1, repeats=3, tolerance=0.01, min_time=1e-3)
    assert again.error_estimate <= 0.01
    assert again.interval_95[0] <= again.tokens_per_second <= again.interval_95[1]


def test_a_least_warmup_and_a_least_time_are_waited_for():
    model, sampler = build_model("diffutran", "tiny"), SAMPLERS["dual"]
    record = measure(model, sampler, 64, warmup=1, repeats=1, min_warmup=0.3, min_time=0.3)
    assert sum(record.warmup_seconds) >= 0.3
    assert record.mode == "exact"
    assert len(record.seconds) > 1
