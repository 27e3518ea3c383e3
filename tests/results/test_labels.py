"""A number is the same in every label, and of the same point, whether written 1 or 1.0."""

import json

import pytest
from support.records import make_record

from dlm_bench import build_sampler
from dlm_bench.results.identity import identity, point_key
from dlm_bench.results.labels import former_labels, label_of_now, value_text
from dlm_bench.results.record import Point, Record
from dlm_bench.samplers.acceptance.trace import Trace
from dlm_bench.sweep.load import Measuring, Sweep
from dlm_bench.sweep.plan import Plan

FORMER = {
    "m-tiny-factor-1.0@0dcfb82408e8": "m-tiny-factor-1@0dcfb82408e8",
    "m-tiny-entropy-20.0-random@0d": "m-tiny-entropy-20-random@0d",
    "m-tiny-joint-1.0-edit-0.0-max-16@0d": "m-tiny-joint-1-edit-0-max-16@0d",
}
SAME = [
    "m-tiny-threshold-0.9@0d",
    "m-tiny-threshold-1e-05@0d",
    "my-2.0-tiny-fixed@0d",
    "my-2.0-tiny-fixed-random@0d",
    "m-1.3b-agreement@0d",
    "a name of a user's own 1.0",
]


@pytest.mark.parametrize(("former", "now"), FORMER.items())
def test_whole_numbers_of_a_trace_are_integers_in_the_label_of_now(former, now):
    assert label_of_now(former) == label_of_now(now) == now
    assert former in former_labels(now)
    assert now not in former_labels(now)


@pytest.mark.parametrize("label", SAME)
def test_other_labels_stay(label):
    assert label_of_now(label) == label
    assert [*former_labels(label)] == []


def test_a_value_has_all_of_its_digits():
    values = (1, 1.0, 0.9, 0.99999999, 1e-05, "1.0")
    assert [*map(value_text, values)] == ["1", "1", "0.9", "0.99999999", "1e-05", "1.0"]


@pytest.mark.parametrize("value", [20, 20.0])
def test_a_sampler_and_its_points_are_the_same(value):
    sampler = build_sampler("block-cache", accept="entropy", gamma=value)
    assert json.dumps(sampler.options()["gamma"]) == "20.0"
    options = {"accept": "entropy", "gamma": value}
    point = Point(
        backbone="m", size="tiny", sampler="full", options=options, length=8, dtype="float32"
    )
    assert point.describe() == "m tiny full accept=entropy gamma=20 L=8"
    written = point.model_copy(update={"options": options | {"gamma": 20}})
    assert point_key(point) == point_key(written)
    assert Trace.by_hand([[[8]]], 8, options=options).label.startswith("diffutran-tiny-entropy-20@")


def test_a_record_under_a_former_label_is_of_the_same_point_and_found_by_a_resume():
    (former, now), *_ = FORMER.items()
    point = Point(backbone="m", size="tiny", sampler="full", options={"trace": now}, length=8)
    plan = Plan(sweep=Sweep(name="s", points=[point]), work=[1], environment={"hardware": "x"})
    older = point.model_copy(update={"options": {"trace": former}})
    told = identity(older, Measuring().model_dump(), "x")
    told_by = make_record(environment={"hardware": "x"}, identity=told)
    text = told_by.model_copy(update={"point": older}).model_dump_json()
    assert former in text
    record = Record.model_validate_json(text)
    assert record.point == point
    for found in (plan.best_of([record]), plan.anywhere().best_of([record])):
        assert [each.point for each in found.values()] == [point]
    (name,) = plan.identities()
    assert plan.best_of([record])[name].identity == name != told
    other = record.model_copy(update={"identity": "another"})
    assert plan.best_of([other]) == plan.anywhere().best_of([other]) == {}
