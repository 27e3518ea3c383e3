"""The estimator of a record: one tokens/s with its interval, in the file as in Python."""

import json

import pytest
from support.records import make_record

from dlm_bench import load_results, read_records
from dlm_bench.results.series import error_of, time_bounds
from dlm_bench.results.store import append_record, frame_of

NAMES = ("mean_seconds", "stddev_seconds", "tokens_per_second", "interval_95", "ms_per_pass")


def test_an_exact_record_has_the_interval_of_students_t():
    record = make_record(seconds=[3.0, 1.0, 2.0], length=64)
    assert record.mean_seconds == 2
    assert record.stddev_seconds == 1
    assert record.tokens_per_second == 32
    # 4.3027 standard errors of 1/sqrt(3) s with two degrees of freedom; nothing follows anything.
    error = 4.3027 / 3**0.5 / 2
    assert record.relative_error == pytest.approx(error, rel=1e-4)
    assert record.interval_95 == pytest.approx((32 / (1 + error), 32 * (1 + error)), rel=1e-4)


def test_a_stated_error_goes_before_the_scatter():
    record = make_record(seconds=[3.0, 1.0, 2.0], length=64, error_estimate=0.25)
    assert record.interval_95 == (32 / 1.25, 40)


@pytest.mark.parametrize(
    "fields", [{"seconds": [1.0, 2.0]}, {"seconds": [1.0] * 5, "mode": "sampled"}]
)
def test_too_few_repeats_and_an_error_that_was_not_stated_have_no_interval(fields):
    record = make_record(**fields)
    assert record.interval_95 is None
    (row,) = frame_of([record]).to_dict("records")
    assert error_of(row) is None
    assert time_bounds(row) == (record.mean_seconds, record.mean_seconds)


def test_the_numbers_are_in_the_file_and_made_anew_when_read(tmp_path):
    path = tmp_path / "r.jsonl"
    append_record(path, make_record(seconds=[3.0, 1.0, 2.0], length=64))
    line = json.loads(path.read_text())
    assert [line[name] for name in NAMES[:3]] == [2, 1, 32]
    assert line["interval_95"][0] < 32 < line["interval_95"][1]
    path.write_text(json.dumps(line | {"tokens_per_second": 1e9, "mean_seconds": "wrong"}) + "\n")
    (record,) = read_records(path, strict=True)
    assert record.tokens_per_second == 32
    assert not record.model_extra


def test_file_frame_and_record_have_the_same_numbers(tmp_path):
    record = make_record(seconds=[3.0, 1.0, 2.0], length=64)
    append_record(tmp_path / "r.jsonl", record)
    (row,) = load_results(tmp_path / "r.jsonl").to_dict("records")
    for name in NAMES:
        assert row[name] == getattr(record, name), name
