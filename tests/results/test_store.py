"""The record and the append-only store."""

import json
import math
import os
import threading
import warnings

import pytest
from pydantic import ValidationError
from support.records import make_record

from dlm_bench import ResultsError, load_results, read_records
from dlm_bench.cli import main
from dlm_bench.errors import LostPointWarning, TornLineWarning
from dlm_bench.results.series import identity_columns
from dlm_bench.results.store import append_record, check_writable, frame_of


def record(length=64, **changes):
    options = {"tokens_per_step": 8, "block_size": 32, "commit": "separate"}
    values = {"nfe": 9, "seconds": [1.0, 3.0]} | changes
    return make_record(sampler="block-cache", length=length, point={"options": options}, **values)


def test_what_is_appended_is_read_back_whole(tmp_path):
    path = tmp_path / "new" / "folder" / "r.jsonl"
    records = [record(64), record(128, status="oom", seconds=[], message="too big\nfor here")]
    for each in records:
        append_record(path, each)
    assert read_records(path) == records
    assert len(path.read_text().splitlines()) == 2


def test_a_record_derives_throughput_from_the_mean_of_its_repeats():
    each = record(64)
    assert each.mean_seconds == 2.0
    assert each.tokens_per_second == 32.0
    assert each.ms_per_pass == pytest.approx(2000 / 9)


def test_throughput_counts_every_sequence_of_a_batch():
    each = record(64)
    batched = each.model_copy(update={"point": each.point.model_copy(update={"batch": 4})})
    assert batched.tokens_per_second == 4 * each.tokens_per_second


def test_throughput_counts_no_token_that_the_prefill_gave():
    each = record(64, timed_tokens=63)
    assert each.tokens == 63
    assert each.tokens_per_second == 31.5
    assert record(64).tokens == 64  # a record of before there were prompts


def test_only_a_record_of_before_there_were_prompts_may_lack_their_length(tmp_path):
    old = record(64).model_dump()
    del old["point"]["prompt_len"]
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(old) + "\n")
    with pytest.raises(ResultsError, match=r"damaged, .*\(point\.prompt_len: Field required"):
        read_records(path, strict=True)
    del old["timed_tokens"]
    path.write_text(json.dumps(old) + "\n")
    (read,) = read_records(path, strict=True)
    assert read.point.prompt_len == 0
    (row,) = load_results(path).to_dict("records")
    assert (row["prompt_len"], row["timed_tokens"]) == (0, 64)


def test_prefill_and_first_block_are_columns():
    prompted = record(64, prefill_seconds=[1.0, 2.0], first_block_seconds=[3.0, 5.0])
    (row,) = frame_of([prompted]).to_dict("records")
    assert (row["mean_prefill_seconds"], row["mean_first_block_seconds"]) == (1.5, 4.0)
    (row,) = frame_of([record(64)]).to_dict("records")
    assert row["mean_prefill_seconds"] is None


def test_a_failed_point_has_no_throughput():
    each = record(status="error", seconds=[])
    assert each.tokens_per_second is None
    assert each.ms_per_pass is None


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_torn_last_line_is_skipped_with_a_warning_and_nothing_else_is_lost(tmp_path, keep):
    path = tmp_path / "r.jsonl"
    for length in (64, 128, 256):
        append_record(path, record(length))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:keep])
    with pytest.warns(TornLineWarning, match=r"r\.jsonl:3: skipped"):
        assert [r.point.length for r in read_records(path)] == [64, 128]
    append_record(path, record(512))
    with pytest.warns(TornLineWarning, match=r"r\.jsonl:3: skipped"):
        assert [r.point.length for r in read_records(path)] == [64, 128, 512]


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"length":64', '"length":"64"', "point.length: Input should be a valid integer"),
        ('"length":64', '"length":true', "point.length: Input should be a valid integer"),
        ('"seed":0', '"seed":"0"', "seed: Input should be a valid integer"),
        ('"dtype":"float32"', '"device":"cpu"', "point.dtype: Field required"),
        ('"measured_at"', '"message"', "measured_at: Field required"),
        ('"seconds":[1.0,3.0]', '"seconds":[]', "status: ok, but without seconds"),
        ('"schema_version":1', '"schema_version":0', "schema_version: 0 never was"),
    ],
)
def test_nothing_in_a_record_is_guessed(tmp_path, old, new, named):
    path = tmp_path / "r.jsonl"
    line = record().model_dump_json()
    assert old in line
    path.write_text(line.replace(old, new) + "\n")
    with pytest.warns(TornLineWarning, match=f"r.jsonl:1: skipped.*{named}"):
        assert read_records(path) == []


def test_a_record_waits_for_the_lock_of_another_writer(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "r.jsonl"
    append_record(path, record(64))
    writer = threading.Thread(target=append_record, args=(path, record(128)))
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        writer.start()
        writer.join(0.2)
        assert writer.is_alive()
        assert len(read_records(path)) == 1
    writer.join(10)
    assert len(read_records(path)) == 2


def test_a_disk_that_takes_only_part_of_a_record_keeps_none_of_it(tmp_path, monkeypatch):
    path, write = tmp_path / "r.jsonl", os.write
    append_record(path, record(64))
    before = path.read_bytes()
    monkeypatch.setattr("os.write", lambda fd, data: write(fd, data[:50]))
    with pytest.raises(ResultsError, match=r"r\.jsonl': No space left on device"):
        append_record(path, record(128))
    assert path.read_bytes() == before


def test_a_full_disk_is_an_error_of_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.write", full)
    with pytest.raises(ResultsError, match=r"r\.jsonl': No space left on device"):
        append_record(tmp_path / "r.jsonl", record())


@pytest.mark.parametrize("version", [1, 2, 99])
@pytest.mark.parametrize("strict", [False, True])
def test_fields_of_a_newer_version_cost_no_point(tmp_path, version, strict):
    path = tmp_path / "r.jsonl"
    append_record(path, record(64))
    line = record(128).model_dump(mode="json") | {"schema_version": version}
    line |= {"new_field": {"any": 1}, "flags": ["haunted"]}
    line["point"]["tensor_parallel"] = 4
    line["passes"] = [
        {"kind": "k", "query_len": 1, "context_len": 0, "pass_index": 0, "seconds": [1], "of": 2}
    ]
    path.write_text(path.read_text() + json.dumps(line) + "\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        old, new = read_records(path, strict=strict)
    assert new.model_dump(mode="json") | line == new.model_dump(mode="json")
    told = [str(each.message) for each in caught]
    assert len(told) == (version > 1)
    assert all("r.jsonl:2: 1 of 2 records have a newer schema_version than 1" in t for t in told)
    assert "tensor_parallel=4" in new.point.describe()
    frame = frame_of([old, new])
    assert list(frame["tokens_per_second"]) == [32.0, 64.0]
    assert "new_field" not in frame
    assert frame["tensor_parallel"][1] == 4
    assert "tensor_parallel" in identity_columns(frame), "it tells lines apart as options do"


def test_only_a_whole_line_that_is_left_out_is_a_lost_point(tmp_path):
    path = tmp_path / "r.jsonl"
    text = record().model_dump_json()
    path.write_text(text[:100] + "\n" + text.replace('"status":"ok"', '"status":"fine"') + "\n")
    with pytest.warns(TornLineWarning) as caught:
        assert read_records(path) == []
    assert [each.category for each in caught] == [TornLineWarning, LostPointWarning]


@pytest.mark.parametrize("line", ["[1, 2]", "3", "null", '"text"'])
def test_a_line_of_other_json_is_a_lost_point(tmp_path, line):
    path = tmp_path / "r.jsonl"
    append_record(path, record(64))
    path.write_text(path.read_text() + line + "\n")
    with pytest.warns(LostPointWarning, match=r"r\.jsonl:2: skipped, not a whole record"):
        assert len(read_records(path)) == 1


def test_a_newer_record_that_cannot_be_read_says_what_to_do(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"schema_version": 2, "points": []}\n')
    with pytest.warns(
        LostPointWarning, match=r"schema_version 2 is newer than 1; upgrade dlm-benc"
    ):
        assert read_records(path) == []
    with pytest.raises(ResultsError, match=r"r\.jsonl:1: .*schema_version 2 .*upgrade dlm-bench"):
        read_records(path, strict=True)


@pytest.mark.parametrize(
    "command", [["fit"], ["table", "throughput"], ["report", "--output", "r.html"], ["plot"]]
)
def test_no_command_exits_with_0_when_it_left_a_point_out(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.jsonl"
    for length in (64, 128, 256, 512, 1024):
        append_record(path, record(length))
    arguments = [*command, str(path)]
    assert main(arguments) == 0
    torn = record(2048).model_dump_json()
    path.write_text(path.read_text() + torn[:90] + "\n")
    assert main(arguments) == 0, "a torn line is of a point that was never recorded"
    path.write_text(path.read_text() + torn.replace('"mode":"exact"', '"mode":"new"') + "\n")
    assert main(arguments) == 3
    assert "r.jsonl:7: skipped, not a whole record (mode: " in capsys.readouterr().err


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_carriage_returns_are_no_damage(tmp_path, end):
    path = tmp_path / "r.jsonl"
    lines = [record(length).model_dump_json() + end for length in (64, 128)]
    path.write_bytes("".join("\ufeff" + line for line in lines).encode())
    assert [each.point.length for each in read_records(path, strict=True)] == [64, 128]


def test_a_check_that_a_file_can_be_written_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "new" / "folder" / "r.jsonl")
    assert list(tmp_path.iterdir()) == []
    append_record(tmp_path / "r.jsonl", record())
    before = (tmp_path / "r.jsonl").read_bytes()
    check_writable(tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["", "file/r.jsonl", "x" * 300, "folder"])
def test_what_cannot_be_written_is_one_line_before_anything_runs(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResultsError, match=r"^results file ") as error:
        check_writable(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seconds", [-1.0, 0.0, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_no_record(seconds):
    with pytest.raises(ValidationError):
        record(seconds=[1.0, seconds])


def test_a_missing_file_is_an_error_of_one_line(tmp_path):
    with pytest.raises(ResultsError, match="No such file") as error:
        load_results(tmp_path / "none.jsonl")
    assert "\n" not in str(error.value)


def test_the_frame_has_a_row_a_record_and_a_column_an_option(tmp_path):
    path = tmp_path / "r.jsonl"
    append_record(path, record(64))
    append_record(path, record(128, status="error", seconds=[], message="broken"))
    frame = load_results(path)
    assert list(frame["length"]) == [64, 128]
    assert list(frame["tokens_per_step"]) == [8, 8]
    assert list(frame["commit"]) == ["separate", "separate"]
    assert frame["tokens_per_second"][0] == 32.0
    assert math.isnan(frame["tokens_per_second"][1])
    assert frame["seconds"][0] == [1.0, 3.0]
