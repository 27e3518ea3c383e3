"""Grammars of durations and of shares, and counts with their nouns, that all commands share."""

import pytest

from dlm_bench.errors import ConfigError, counted, seconds_of, share_of


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90s", 90), ("10m", 600), ("1.5h", 5400), ("90", 90), (90, 90), (0.5, 0.5), (" 2 h ", 7200)],
)
def test_a_duration_is_a_number_of_seconds_or_has_a_unit(value, seconds):
    assert seconds_of("--budget", value) == seconds


@pytest.mark.parametrize(
    "value", ["", "m", "-1m", "0s", 0, -1, "1d", "1e3s", "٣m", "nan", True, None, 1e300, 10**400]
)
def test_anything_else_is_no_duration(value):
    with pytest.raises(ConfigError, match=r"--budget: .* must be a duration above 0 such as 90 \("):
        seconds_of("--budget", value)


@pytest.mark.parametrize(
    ("value", "share"),
    [("5%", 0.05), ("5 %", 0.05), ("0.05", 0.05), (0.05, 0.05), ("1e-3", 1e-3), ("100%", 1.0)],
)
def test_a_share_is_a_percentage_or_a_number_below_1(value, share):
    assert share_of("--threshold", value) == pytest.approx(share, rel=1e-15)


@pytest.mark.parametrize(("value", "advice"), [("5", "write 5% or 0.05"), (1, "write 1% or 0.01")])
def test_a_bare_number_from_1_on_is_refused_with_both_readings(value, advice):
    with pytest.raises(ConfigError, match=f"may mean {value}% or {value}00%; {advice}"):
        share_of("--threshold", value)


@pytest.mark.parametrize("value", ["", "%", "0", "0%", "-5%", "fast", "nan", "101%", 200, True])
def test_anything_else_is_no_share(value):
    with pytest.raises(ConfigError, match=r"--threshold: .* is not allowed"):
        share_of("--threshold", value)


def test_a_share_may_be_0_where_that_means_something():
    assert share_of("--run-spread", "0%", zero=True) == share_of("--run-spread", 0, zero=True) == 0


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 tokens"),
        (1, "1 token"),
        (2, "2 tokens"),
        (4096, "4,096 tokens"),
        (1.0, "1 token"),
        (1.00001, "1 token"),
        (0.5, "0.5 tokens"),
        (6.08649, "6.086 tokens"),
    ],
)
def test_a_noun_is_of_the_number_that_is_shown(count, said):
    assert counted(count, "token") == said
