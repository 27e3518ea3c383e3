"""What makes two measurements the same one."""

import pytest

from dlm_bench.results import identity as module
from dlm_bench.results.identity import identity, point_key
from dlm_bench.results.record import Point
from dlm_bench.sweep.load import Measuring

POINT = Point(
    backbone="diffutran",
    size="tiny",
    sampler="block-cache",
    options={"tokens_per_step": 8, "temperature": 0.0},
    length=64,
)


def of(point=POINT, hardware="a GPU", **settings):
    return identity(point, Measuring(**settings).model_dump(), hardware)


def test_the_same_question_has_the_same_identity():
    again = Point.model_validate_json(POINT.model_dump_json())
    assert of() == of(again)
    reordered = POINT.model_copy(update={"options": dict(reversed(POINT.options.items()))})
    assert of() == of(reordered)
    whole = POINT.model_copy(update={"options": {"tokens_per_step": 8, "temperature": 0}})
    assert of() == of(whole), "0 and 0.0 are the same temperature"


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "diffumamba"},
        {"size": "small"},
        {"sampler": "full"},
        {"options": {"tokens_per_step": 16, "temperature": 0.0}},
        {"length": 128},
        {"batch": 2},
        {"prompt_len": 1},
        {"prompts": "mine@0"},
        {"stop_at_eos": True},
        {"dtype": "float32"},
        {"device": "cuda:0"},
    ],
)
def test_every_part_of_the_point_matters(change):
    assert of(POINT.model_copy(update=change)) != of()


def test_without_a_prompt_it_is_that_of_before_there_were_prompts():
    assert not {"prompt_len", "prompts", "stop_at_eos"} & POINT.asked().keys()
    prompted = POINT.model_copy(update={"prompt_len": 9})
    assert prompted.asked() == POINT.asked() | {"prompt_len": 9}


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "sampled"},
        {"warmup": 0},
        {"repeats": 1},
        {"seed": 1},
        {"graphs": "off"},
        {"kernels": {"ssd": "torch"}},
        {"hardware": "another GPU"},
    ],
)
def test_every_setting_and_the_hardware_matter(change):
    assert of(**change) != of()


@pytest.mark.parametrize("change", [{"nodes": 3}, {"max_seconds": 5.0}])
def test_settings_of_sampling_matter_where_there_is_any(change):
    for mode in ("sampled", "auto"):
        assert of(mode=mode, **change) != of(mode=mode)
    assert of(mode="exact", **change) == of(mode="exact")


def test_a_tolerance_matters_in_every_mode_and_none_is_one_percent_of_sampling():
    for mode in ("sampled", "auto"):
        assert of(mode=mode, tolerance=0.05) != of(mode=mode)
        assert of(mode=mode, tolerance=None) == of(mode=mode, tolerance=0.01)
    whole = of(mode="exact", tolerance=0.05)
    assert whole != of(mode="exact", tolerance=None)
    assert whole != of(mode="exact", tolerance=0.05, max_seconds=5.0)


def test_least_times_matter_where_there_are_any():
    assert of(mode="exact", min_time=0.0, min_warmup=0.0) == of(mode="exact")
    assert of(mode="exact", min_time=3.0) != of(mode="exact") != of(mode="exact", min_warmup=5.0)


def test_the_versions_of_the_code_and_of_the_schema_matter(monkeypatch):
    before = of()
    monkeypatch.setattr(module, "__version__", "99")
    newer = of()
    monkeypatch.setattr(module, "SCHEMA_VERSION", 99)
    assert len({before, newer, of()}) == 3


def test_points_share_a_key_if_they_differ_in_nothing_but_the_fields_left_out():
    short, long = (
        Point(backbone="diffutran", size="tiny", sampler="full", length=n) for n in (8, 9)
    )
    assert point_key(short) == point_key(short.model_copy())
    assert point_key(short) != point_key(long)
    assert point_key(short, "length") == point_key(long, "length")
    assert point_key(short, "dtype", "device") != point_key(long, "dtype", "device")


@pytest.mark.parametrize("order", ["confidence", "random"])
def test_a_record_with_the_former_option_is_of_the_same_point_with_the_same_identity(order):
    # Computed by the version before the option was renamed.
    before = {"confidence": "5211d12d3b5e1df7", "random": "e446582ea7915b33"}
    points = [
        Point.model_validate(POINT.model_dump() | {"options": {"temperature": 0.0, name: order}})
        for name in ("unmask", "order")
    ]
    assert points[0] == points[1]
    assert point_key(points[0]) == point_key(points[1])
    assert {of(point) for point in points} == {before[order]}


def test_an_option_of_that_name_of_another_sampler_stays():
    point = POINT.model_dump() | {"sampler": "theirs", "options": {"unmask": "confidence"}}
    assert Point.model_validate(point).options == {"unmask": "confidence"}
