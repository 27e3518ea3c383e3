"""Conditions on points and records, as of --only and --where."""

import pytest

from dlm_bench.errors import ConfigError
from dlm_bench.results.where import check_keys, conditions, holds

FACTS = {"sampler": "block-cache", "length": 16384, "block_size": 32, "batch": float("nan")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sampler=block-cache", True),
        ("sampler=block*", True),
        ("sampler=full", False),
        ("sampler=full,block-cache", True),
        ("sampler!=full,ar", True),
        ("sampler!=full,block*", False),
        ("length>=16384", True),
        ("length > 16384", False),
        ("length<16384", False),
        ("L <= 16384", True),
        ("length==16384.0", True),
        ("B=32 sampler=block-cache", True),
        ("B=32 sampler=full", False),
        ("commit=fused", False),
        ("commit!=fused", True),
        ("commit>1", False),
        ("batch=nan", False),
        ("sampler='block-cache'", True),
    ],
)
def test_conditions_hold_together_with_globs_for_names_and_numbers_by_value(text, expected):
    assert holds(conditions(text, "--only"), FACTS) is expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--only: is empty"),
        ("sampler", "--only: 'sampler' is not allowed; must be KEY OP VALUE"),
        ("length>=long", "--only: 'length>=long' is not allowed; >= needs a number"),
        ("sampler='full", "--only: .* no closing quotation"),
    ],
)
def test_a_condition_that_cannot_be_read_is_a_line(text, message):
    with pytest.raises(ConfigError, match=message):
        conditions(text, "--only")


def test_a_field_that_is_not_there_is_a_mistake_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"--where: 'lenght' .*did you mean 'length'"):
        check_keys(conditions("lenght=1", "--where"), [*FACTS], "--where")
