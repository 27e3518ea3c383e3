"""Speed-ups: of each point over the reference's with the same sampler, options and machine."""

import math

import pandas as pd
import pytest
from support.records import make_record

from dlm_bench.analysis.speedup import speedups
from dlm_bench.errors import ResultsError
from dlm_bench.results.store import frame_of


def record(backbone, sampler="full", length=64, seconds=(1.0,), hardware="cpu", **point):
    options = {} if sampler == "ar" else {"tokens_per_step": point.pop("p", 8)}
    options |= {"commit": point.pop("commit")} if "commit" in point else {}
    return make_record(
        backbone,
        sampler,
        length,
        point={"options": options} | point,
        status="ok" if seconds else "oom",
        repeats=max(len(seconds), 1),
        seconds=list(seconds),
        environment={"hardware": hardware},
    )


def rows(*records, **options):
    return speedups(frame_of(records), **options).to_dict("records")


def test_a_speedup_is_the_ratio_of_means_and_its_interval_has_both_errors():
    slow, fast = record("diffutran", seconds=[4, 5]), record("diffumamba", seconds=[1, 2])
    slow.error_estimate, fast.error_estimate = math.e**0.3 - 1, math.e**0.4 - 1
    (row,) = rows(slow, fast)
    assert row["backbone"] == "diffumamba"
    assert row["tokens_per_second"] == pytest.approx(64 / 1.5)
    assert row["reference_tokens_per_second"] == pytest.approx(64 / 4.5)
    # Errors of 0.3 and 0.4 on the scale of logarithms are 0.5 together.
    ends = [3 / math.e**0.5, 3, 3 * math.e**0.5]
    assert [row[name] for name in ("low", "speedup", "high")] == pytest.approx(ends)


def test_a_speedup_has_no_width_where_an_error_is_not_known():
    (row,) = rows(record("diffutran", seconds=[4, 5, 6]), record("diffumamba", seconds=[1, 2]))
    assert row["low"] == row["speedup"] == row["high"]


def test_the_columns_tell_the_line_then_the_numbers():
    found = speedups(frame_of([record("diffutran"), record("diffumamba")]))
    assert found.columns.tolist() == [
        *("backbone", "sampler", "tokens_per_step", "size", "batch", "prompt_len", "prompts"),
        *("stop_at_eos", "seed", "dtype", "device", "hardware", "torch", "driver", "length"),
        "tokens_per_second",
        *("reference_tokens_per_second", "speedup", "low", "high"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        {"p": 16},
        {"commit": "none"},
        {"sampler": "fast-dllm"},
        {"size": "small"},
        {"batch": 2},
        {"dtype": "bfloat16"},
        {"device": "cuda:0"},
        {"hardware": "H100"},
        {"length": 128},
    ],
)
def test_nothing_is_compared_with_a_point_that_differs_in_more_than_the_backbone(other):
    (row,) = rows(record("diffutran"), record("diffumamba", **other))
    assert all(pd.isna(row[name]) for name in ("speedup", "low", "high"))
    assert pd.isna(row["reference_tokens_per_second"])
    pair = rows(record("diffutran", **other), record("diffumamba", **other))
    assert [each["speedup"] for each in pair] == [1.0]


def test_an_autoregressive_line_has_no_reference():
    found = rows(record("diffutran"), record("ar-mamba", "ar"), record("diffumamba"))
    assert [pd.isna(row["speedup"]) for row in found] == [True, False]


def test_lines_stay_in_order_and_lengths_ascend():
    names = ("diffumamba-h", "diffutran", "diffumamba")
    records = [record(name, length=n) for n in (128, 64) for name in names]
    found = [(row["backbone"], row["length"]) for row in rows(*records)]
    assert found == [(name, n) for name in ("diffumamba-h", "diffumamba") for n in (64, 128)]


def test_all_ok_records_of_a_point_count_and_failures_do_not():
    (row,) = rows(
        record("diffutran", seconds=[6]),
        record("diffutran", seconds=[2]),
        record("diffutran", seconds=[]),
        record("diffumamba", seconds=[2]),
        record("diffumamba-h", seconds=[]),
    )
    assert row["speedup"] == 2


def test_another_reference_can_be_asked_for():
    found = rows(record("ar-transformer", "ar"), record("ar-mamba", "ar"), reference="ar-mamba")
    assert [row["backbone"] for row in found] == ["ar-transformer"]


def test_what_is_missing_is_said():
    with pytest.raises(ResultsError, match="no ok record of 'diffutran'; there are: diffumamba"):
        rows(record("diffumamba"))
    with pytest.raises(ResultsError, match=r"no record with status ok \(1 oom\)"):
        rows(record("diffutran", seconds=[]))
    with pytest.raises(ResultsError, match=r"no record with status ok \(no records\)"):
        speedups(frame_of([]))
