"""The records of several files: conditions, and a label for each file."""

import pytest
from support.records import make_record

from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.results.selection import selected
from dlm_bench.results.series import labelled, series_of
from dlm_bench.results.store import append_record, frame_of


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for seconds, path in enumerate(paths, 1):
        for length in (64, 128):
            append_record(path, make_record(length=length, seconds=[float(seconds)]))
    return paths


def test_labels_make_series_of_each_file(files):
    drawn = labelled(series_of(frame_of(selected(files, "before,after"))))
    assert [each.label for each in drawn] == ["DiffuTran, before", "DiffuTran, after"]
    assert [row["mean_seconds"] for each in drawn for row in each.rows] == [1, 1, 2, 2]


def test_without_labels_records_of_all_files_are_pooled(files):
    (series,) = series_of(frame_of(selected(files)))
    assert [row["mean_seconds"] for row in series.rows] == [1.5, 1.5]


def test_conditions_are_on_points_and_on_derived_numbers(files):
    assert [r.point.length for r in selected(files, where="length>64")] == [128, 128]
    fast = selected(files, "a,b", where="tokens_per_second>=64 file=b")
    assert [(r.point.length, r.seconds) for r in fast] == [(128, [2.0])]


@pytest.mark.parametrize("labels", ["a", "a,a", "a,", "a,b,c"])
def test_labels_are_as_many_as_files_and_differ(files, labels):
    with pytest.raises(ConfigError, match="must be 2 names"):
        selected(files, labels)


def test_conditions_of_no_record_are_an_error(files):
    with pytest.raises(ResultsError, match="--where: 'length=1' matches none of 4 records"):
        selected(files, where="length=1")
    with pytest.raises(ConfigError, match="--where: 'lengt' is no field here"):
        selected(files, where="lengt=1")
