"""The pooling of a point's records: each run counts once."""

import pytest
from support.records import make_record

from dlm_bench.results.series import labelled, mixed, ok_points, series_of, time_bounds
from dlm_bench.results.store import frame_of


def record(seconds, *, run=1, length=64, environment=None, **fields):
    told = {"environment": {"hardware": "cpu", **(environment or {})}, "run": run}
    return make_record(length=length, seconds=list(seconds), **told | fields)


def the_row(*records):
    (row,) = ok_points(frame_of(records)).to_dict("records")
    return row


def test_a_run_of_many_repeats_counts_no_more_than_one_of_few():
    row = the_row(record([1.0] * 9), record([3.0], run=2))
    assert row["mean_seconds"] == 2.0
    assert row["tokens_per_second"] == 32.0
    assert row["ms_per_pass"] == 250.0
    assert row["runs"] == 2
    assert len(row["seconds"]) == 10


def test_the_interval_of_several_runs_is_students_t_over_them():
    row = the_row(*(record([each], run=i) for i, each in enumerate([0.99, 1.0, 1.01], 1)))
    half = 4.302653 * 0.01 / 3**0.5  # t of 2 degrees of freedom
    assert row["runs_error"] == pytest.approx(half, rel=1e-6)
    assert time_bounds(row) == pytest.approx((1 / (1 + half), 1 + half))


def test_the_second_record_of_a_budget_is_of_the_same_run_with_the_weight_of_its_rounds():
    sampled = {"mode": "sampled", "identity": "a"}
    row = the_row(
        record([1.0] * 2, error_estimate=0.10, **sampled),
        record([1.3] * 4, error_estimate=0.02, **sampled),
    )
    assert row["runs"] == 1
    assert row["mean_seconds"] == pytest.approx(1.2)
    assert row["error_estimate"] == 0.02
    assert time_bounds(row) == pytest.approx((1.2 / 1.02, 1.2 * 1.02))


def test_whole_decodes_measured_again_are_another_run():
    assert the_row(record([1.0]), record([2.0]))["runs"] == 2


def test_another_commit_replaces_and_another_torch_is_another_series():
    new = record([2.0], environment={"commit": "b", "torch": "2.12"})
    row = the_row(record([1.0], environment={"commit": "a", "torch": "2.12"}), new)
    assert (row["mean_seconds"], row["runs"]) == (2.0, 1)
    other = record([1.0], environment={"commit": "b", "torch": "2.13"})
    series = labelled(series_of(frame_of([new, other])))
    assert [each.label for each in series] == ["DiffuTran, torch 2.12", "DiffuTran, torch 2.13"]


def test_commits_that_differ_along_a_series_are_noted():
    records = [record([1.0], length=64 * n, environment={"commit": f"c{n}"}) for n in (1, 2)]
    assert mixed(series_of(frame_of(records))) == (
        "Not the same for all points of a series: commit."
    )
    assert mixed(series_of(frame_of(records[:1]))) == ""


def test_flags_of_any_run_stay_and_energy_is_that_of_all():
    row = the_row(
        record([1.0], flags=["throttled"], telemetry={"energy_joules": 1.0}),
        record([1.0], run=2, flags=["outliers"], telemetry={"energy_joules": 2.0}),
    )
    assert row["flags"] == ["throttled", "outliers"]
    assert row["telemetry"]["energy_joules"] == 3.0
