"""Results of vLLM and SGLang as records."""

import json

import pytest

from dlm_bench.cli import main
from dlm_bench.errors import ResultsError
from dlm_bench.results.imported import Asked, imported
from dlm_bench.results.store import read_records

SERVE = {
    "date": "20260102-030405",
    "model_id": "Qwen/Qwen3-8B",
    "num_prompts": 4,
    "max_concurrency": 2,
    "duration": 8.0,
    "completed": 4,
    "total_input_tokens": 400,
    "total_output_tokens": 1600,
    "output_throughput": 200.0,
    "mean_ttft_ms": 50.0,
}
LATENCY = {"avg_latency": 2.0, "latencies": [1.9, 2.0, 2.1], "percentiles": {"50": 2.0}}
THROUGHPUT = {
    "elapsed_time": 10.0,
    "num_requests": 100,
    "total_num_tokens": 30_000,
    "requests_per_second": 10.0,
    "tokens_per_second": 3000.0,
}
ONE_BATCH = {
    "run_name": "default",
    "batch_size": 8,
    "input_len": 256,
    "output_len": 65,
    "prefill_latency": 0.5,
    "median_decode_latency": 0.01,
    "total_latency": 1.14,
    "overall_throughput": 2252.6,
}
ONE_SERVER = {
    "run_name": "default",
    "batch_size": 4,
    "input_len": 128,
    "output_len": 32,
    "latency": 2.0,
    "output_throughput": 64.0,
    "overall_throughput": 320.0,
}


def read(tmp_path, content, **asked):
    path = tmp_path / "r.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return imported(path, Asked(**asked))


def test_serving_is_the_generated_tokens_over_the_duration_with_the_time_to_first_token(tmp_path):
    (record,) = read(tmp_path, SERVE, hardware="H100")
    assert record.tokens_per_second == SERVE["output_throughput"]
    assert record.first_block_seconds == [0.05]
    point = record.point
    assert (point.backbone, point.sampler, point.options) == (
        *("Qwen3-8B", "ar"),
        {"engine": "vllm serve"},
    )
    assert (point.length, point.prompt_len, point.batch) == (400, 100, 2)
    assert record.environment["hardware"] == "H100"
    assert record.measured_at.startswith("2026-01-0")


def test_the_times_of_single_requests_are_taken_where_they_are_there(tmp_path):
    (record,) = read(tmp_path, SERVE | {"ttfts": [0.04, 0.05, 0.0]})
    assert record.first_block_seconds == [0.04, 0.05]


def test_sglang_serving_is_told_apart(tmp_path):
    (record,) = read(tmp_path, SERVE | {"total_output_tokens_retokenized": 1599}, backbone="x")
    assert record.point.options == {"engine": "sglang serving"}
    assert record.point.backbone == "x"


def test_latencies_are_repeats_of_the_length_and_batch_that_are_given(tmp_path):
    (record,) = read(tmp_path, LATENCY, backbone="x", length=128, batch=8)
    assert record.seconds == LATENCY["latencies"]
    assert record.tokens_per_second == pytest.approx(8 * 128 / 2)
    assert record.interval_95 is not None
    assert record.settings["prefill"] == "in seconds"


def test_throughput_counts_generated_tokens_alone(tmp_path):
    (record,) = read(tmp_path, THROUGHPUT, backbone="x", length=200)
    assert record.tokens_per_second == 100 * 200 / 10
    assert (record.point.batch, record.point.prompt_len) == (100, 100)


def test_lines_of_one_batch_are_records_whose_decode_has_no_prefill(tmp_path):
    lines = "\n".join(json.dumps(ONE_BATCH | {"batch_size": n}) for n in (1, 8))
    records = read(tmp_path, lines, backbone="x")
    assert [record.point.batch for record in records] == [1, 8]
    assert records[1].seconds == pytest.approx([0.64])
    assert records[1].tokens_per_second == pytest.approx(8 * 64 / 0.64)
    assert records[1].nfe == 64
    assert records[1].prefill_seconds == [0.5]


def test_a_batch_of_a_server_is_a_latency_with_the_prefill(tmp_path):
    (record,) = read(tmp_path, [ONE_SERVER], backbone="x")
    assert record.tokens_per_second == ONE_SERVER["output_throughput"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no json", "is neither JSON nor JSON lines"),
        ("[1]", "is neither JSON nor JSON lines"),
        ({"a": 1}, "no known benchmark; known: sglang one-batch, "),
        (LATENCY, "vllm latency does not say it; give --backbone"),
        (ONE_BATCH | {"output_len": 1, "model": "x"}, "nothing was decoded after the prefill"),
        (ONE_SERVER | {"latency": None, "model": "x"}, "must be real number"),
        ({k: v for k, v in ONE_BATCH.items() if k != "input_len"}, "'input_len' is missing"),
    ],
)
def test_what_is_no_result_is_a_line(tmp_path, content, message):
    with pytest.raises(ResultsError, match=message) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_requests_that_all_failed_are_a_failed_point(tmp_path):
    none = SERVE | {"completed": 0, "total_output_tokens": 0, "total_input_tokens": 0}
    (record,) = read(tmp_path, none, length=64)
    assert (record.status, record.message) == ("error", "no request was completed")


def test_the_command_appends_records_that_tables_and_comparisons_read(tmp_path, capsys):
    outputs = []
    for name, factor in (("base", 1.0), ("head", 2.0)):
        paths = []
        for run in range(3):
            paths.append(tmp_path / f"{name}{run}.json")
            times = [factor * (each + 0.001 * run) for each in LATENCY["latencies"]]
            paths[-1].write_text(json.dumps(LATENCY | {"latencies": times}))
        outputs.append(str(tmp_path / f"{name}.jsonl"))
        options = ["--backbone", "x", "--length", "128", "--batch", "8", "--output", outputs[-1]]
        assert main(["import", *map(str, paths), *options]) == 0
    assert "3 records appended" in capsys.readouterr().out
    assert len(read_records(outputs[0], strict=True)) == 3
    assert main(["table", "throughput", *outputs, "--label", "base,head"]) == 0
    assert "head" in capsys.readouterr().out
    assert main(["compare", *outputs]) == 1
    assert "slower" in capsys.readouterr().out
