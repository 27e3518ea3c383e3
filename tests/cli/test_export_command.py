"""`export` and `stats`: records for other programs, and the distribution of times."""

import csv
import io
import json
import sqlite3

import numpy as np
import pandas
import pytest
from support.records import make_record

from dlm_bench.cli import main
from dlm_bench.results.store import append_record


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "r.jsonl"
    seconds = (np.arange(1, 101) / 1e3).tolist()
    more = {"first_block_seconds": [0.001], "environment": {"hardware": "cpu", "torch": "2.13"}}
    append_record(path, make_record(length=64, seconds=seconds, **more))
    append_record(path, make_record("diffumamba", "block-cache", 128, seconds=[0.5], **more))
    append_record(path, make_record(length=256, status="oom", seconds=[]))
    return path


def run(capsys, *arguments):
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_csv_has_a_row_a_record_failures_too_with_the_columns_in_the_order_asked_for(
    results, capsys
):
    columns = "tokens_per_second,back*,status,environment.torch,seconds"
    out = run(capsys, "export", results, "--columns", columns)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == [
        *("tokens_per_second", "backbone", "status", "environment.torch", "seconds"),
    ]
    assert [row["status"] for row in rows] == ["ok", "ok", "oom"]
    assert float(rows[1]["tokens_per_second"]) == 256
    assert rows[0]["environment.torch"] == "2.13"
    assert json.loads(rows[0]["seconds"])[:2] == [0.001, 0.002]
    assert rows[2]["tokens_per_second"] == ""


def test_by_default_columns_are_those_without_lists_and_nested_fields(results, capsys):
    header = run(capsys, "export", results).splitlines()[0].split(",")
    assert {"backbone", "length", "run", "tokens_per_second", "mean_seconds"} <= {*header}
    assert not {"seconds", "environment.torch", "options"} & {*header}


def test_sqlite_is_a_table_that_sql_reads(results, tmp_path, capsys):
    out = run(capsys, "export", results, "--format", "sqlite", "--output", tmp_path / "r.db")
    assert out == f"3 records in {tmp_path / 'r.db'}\n"
    rows = sqlite3.connect(tmp_path / "r.db").execute(
        "select length, tokens_per_second from records where status = 'ok' order by length"
    )
    assert rows.fetchall()[1] == (128, 256.0)


def test_parquet_gives_the_rows_and_the_kinds_of_the_columns_back(results, tmp_path, capsys):
    pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    path = tmp_path / "r.parquet"
    columns = "backbone,length,status,tokens_per_second,environment.torch,seconds"
    options = ["--format", "parquet", "--columns", columns, "--output", path]
    assert run(capsys, "export", results, *options) == f"3 records in {path}\n"
    found = pandas.read_parquet(path)
    assert list(found.columns) == columns.split(",")
    assert list(found["status"]) == ["ok", "ok", "oom"], "failures have rows, too"
    assert list(found["length"]) == [64, 128, 256]
    assert found["length"].dtype.kind == "i"
    assert found["tokens_per_second"][1] == 256
    assert found["tokens_per_second"].isna().tolist() == [False, False, True]
    assert found["environment.torch"][0] == "2.13"
    assert json.loads(found["seconds"][0])[:2] == [0.001, 0.002]
    run(capsys, "export", results, "--format", "parquet", "--columns", "*", "--output", path)
    header = run(capsys, "export", results, "--columns", "*").splitlines()[0]
    assert ",".join(pandas.read_parquet(path).columns) == header, "columns of mixed kinds, too"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "excel"], "--format: 'excel'"),
        (["--format", "sqlite"], "--output: is needed with --format sqlite"),
        (["--columns", "lenght"], "--columns: 'lenght' is no column of these results (did you"),
    ],
)
def test_a_mistake_is_a_line(results, capsys, options, message):
    assert main(["export", str(results), *options]) == 2
    assert message in capsys.readouterr().err


def test_parquet_without_pyarrow_is_a_line(results, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    options = ["--format", "parquet", "--output", str(tmp_path / "r.pq")]
    assert main(["export", str(results), *options]) == 2
    assert "parquet needs pyarrow" in capsys.readouterr().err


def test_stats_are_the_percentiles_of_the_repeats_where_values_lie_beyond(results, capsys):
    out = run(capsys, "stats", results, "--format", "csv")
    rows = {(row["ms"], row["time of"]): row for row in csv.DictReader(io.StringIO(out))}
    many = rows["diffutran tiny full L=64", "decode"]
    assert many["n"] == "100"
    assert float(many["mean"]) == pytest.approx(50.5)
    assert float(many["p50"]) == pytest.approx(50.5)
    assert float(many["p99"]) == pytest.approx(99.01)
    assert float(many["sd"]) == pytest.approx(np.std(np.arange(1, 101), ddof=1), rel=1e-5)
    single = rows["diffumamba tiny block-cache L=128", "first block"]
    assert (single["n"], single["sd"], single["p90"], single["p50"]) == ("1", "", "", "1")


def test_wrong_percentiles_are_a_line(results, capsys):
    assert main(["stats", str(results), "--percentiles", "50,100"]) == 2
    assert "--percentiles: '50,100' is not allowed" in capsys.readouterr().err


def test_a_tidy_table_has_a_line_a_number(results, capsys):
    out = run(capsys, "table", "throughput", results, "--format", "tidy", "--where", "length=64")
    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["tokens/s"], row["column"]) == ("DiffuTran", "64")
    assert float(row["low"]) < float(row["value"]) < float(row["high"])
