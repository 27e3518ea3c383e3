"""A record of each version of the schema, in a file of its time.

1-first: the first records. 1-identity: with identity, flags, graphs and the warm-up. 1-prompts:
with prompts, prefill and checkpoint. 1-settings: with the settings asked for. 1-runs: with the
number of the run. 1-computed: with throughput and interval. 1-soak: with
the soak. 1-prompt-file: with a file of prompts. 1-ends: with ends of texts. 1-order: with the
option `order`, `unmask` before. 1-blocks: with the passes of its blocks, as now.
A new field of a record needs a new file and a new NOW.
"""

import json
from pathlib import Path

import pytest

from dlm_bench import load_results, read_records
from dlm_bench.results.record import SCHEMA_VERSION, Point
from dlm_bench.results.store import append_record

GOLDEN = Path(__file__).parent / "golden"
NOW = "1-blocks"
MEAN_SECONDS = {
    "1-first": 1.67258217725,
    "1-identity": 0.88043030325,
    "1-prompts": 0.7010906818,
    "1-settings": 1.414626651,
    "1-runs": 1.414626651,
    "1-computed": 1.414626651,
    "1-soak": 1.414626651,
    "1-prompt-file": 1.414626651,
    "1-ends": 1.414626651,
    "1-order": 1.414626651,
    "1-blocks": 1.414626651,
}
OLDER = ("1-first", "1-identity", "1-prompts")  # of size small
OPTIONS = {
    "temperature": 0.0,
    "tokens_per_step": 8,
    "order": "confidence",
    "block_size": 32,
    "commit": "separate",
}


def path_of(name):
    return GOLDEN / f"{name}.jsonl"


def read(name):
    (record,) = read_records(path_of(name), strict=True)
    return record


@pytest.mark.parametrize("name", MEAN_SECONDS)
def test_an_old_record_is_of_the_same_point(name):
    assert read(name).point == Point(
        backbone="diffumamba-h",
        size="small" if name in OLDER else "tiny",
        sampler="block-cache",
        options=OPTIONS,
        length=1024,
        batch=1,
        prompt_len=0,
        dtype="float32",
        device="cpu",
    )


@pytest.mark.parametrize(("name", "seconds"), MEAN_SECONDS.items())
def test_an_old_record_has_the_same_settings_and_numbers(name, seconds):
    record = read(name)
    assert record.status == "ok"
    assert (record.mode, record.warmup, record.repeats, record.seed) == ("sampled", 1, 2, 0)
    assert (record.nfe, record.query_tokens, record.tokens) == (159, 5088, 1024)
    assert record.mean_seconds == pytest.approx(seconds, rel=1e-12)  # a mean, rounded once
    assert record.tokens_per_second == pytest.approx(1024 / seconds, rel=1e-12)
    assert record.ms_per_pass == pytest.approx(1e3 * seconds / 159, rel=1e-12)
    assert record.environment["hardware"] == "AMD EPYC, 2 threads"


@pytest.mark.parametrize("name", MEAN_SECONDS)
def test_no_field_of_an_old_record_is_lost_or_changed(name):
    stored = json.loads(path_of(name).read_text())
    kept = read(name).model_dump(mode="json")
    assert {field: kept[field] for field in stored.keys() - {"point"}} == {
        field: value for field, value in stored.items() if field != "point"
    }
    options = stored["point"].pop("options")
    assert stored["point"].items() <= kept["point"].items()
    former = {"unmask": "order"}
    assert {former.get(option, option): value for option, value in options.items()} == OPTIONS
    assert kept["point"]["options"] == OPTIONS


def test_records_of_all_versions_are_rows_of_a_frame():
    frame = load_results(*map(path_of, MEAN_SECONDS))
    assert frame["mean_seconds"].tolist() == pytest.approx([*MEAN_SECONDS.values()], rel=1e-12)
    assert set(frame["prompt_len"]) == {0}
    assert set(frame["timed_tokens"]) == {1024}


def test_a_record_is_written_as_the_golden_file_of_now(tmp_path):
    assert json.loads(path_of(NOW).read_text())["schema_version"] == SCHEMA_VERSION
    append_record(tmp_path / "r.jsonl", read(NOW))
    assert (tmp_path / "r.jsonl").read_text() == path_of(NOW).read_text()
