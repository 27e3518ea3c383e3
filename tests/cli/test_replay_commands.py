"""Traces of `dlm-bench trace` in runs and sweeps."""

import json
import re

import pytest
from support.traces_recorded import SWEEP, refused

from dlm_bench.cli import main
from dlm_bench.results.store import read_records
from dlm_bench.samplers.acceptance.trace import load_trace
from dlm_bench.sweep.load import load_sweep
from dlm_bench.sweep.planning import make_plan
from dlm_bench.sweep.worker import jobs

pytestmark = pytest.mark.process


def test_a_run_follows_a_trace_at_any_length(folder, capsys):
    where = [
        "run",
        "diffutran",
        "block-cache",
        "-L",
        "72",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "--repeats",
        "1",
    ]
    path = folder / "traces" / "b.json"
    options = ["-o", f"trace={path}", "-o", "block_size=8", "--json"]
    capsys.readouterr()
    assert main([*where, *options]) == 0
    found = json.loads(capsys.readouterr().out)
    trace = load_trace(path)
    blocks = [trace.accepted[n % 4] for n in range(9)]
    assert found["decoding_passes"] == sum(map(len, blocks))
    assert found["nfe"] == found["decoding_passes"] + 8
    assert found["point"]["options"]["trace"] == trace.label


@pytest.mark.parametrize("accept", ["accept=factor", "trace"])
def test_a_run_of_a_batch_after_a_prompt_tells_acceptance_prefill_and_first_block(
    folder, capsys, accept
):
    path = folder / "traces" / "b.json"
    options = [accept if accept != "trace" else f"trace={path}", "block_size=8"]
    where = [
        "run",
        "diffutran",
        "block-cache",
        "-L",
        "24",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "--repeats",
        "1",
    ]
    place = ["--warmup", "0", "--batch", "2", "--prompt-len", "9"]
    capsys.readouterr()
    assert main([*where, *place, *(word for each in options for word in ("-o", each))]) == 0
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"prefill", "first", "acceptance"} <= set(said)


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1}', '{"schema_version": 9}'])
def test_a_torn_trace_is_one_line(folder, capsys, text):
    torn = folder / "traces" / "torn.json"
    torn.write_text(text)
    where = [
        "run",
        "diffutran",
        "full",
        "-L",
        "8",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "-o",
        f"trace={torn}",
    ]
    assert f"trace {str(torn)!r}" in refused(capsys, *where)
    sweep = folder / "torn.toml"
    sweep.write_text(SWEEP.replace("traces/b.json", "traces/torn.json"))
    said = refused(capsys, "sweep", sweep, "--dry-run")
    assert re.search(r"torn\.toml:\d+: lines\[0\]: trace", said)


def test_points_of_a_sweep_name_traces_by_content_and_find_them_beside_the_file(folder):
    sweep = load_sweep(folder / "s.toml")
    a, b = (load_trace(folder / "traces" / name).label for name in ("a.json", "b.json"))
    assert [point.options.get("trace") for point in sweep.points] == [a, a, b, b, *[None] * 4]
    assert sweep.traces[a] == str(folder / "traces" / "a.json")
    plan = make_plan(folder / "s.toml")
    assert len(set(plan.identities())) == 8


def test_a_moved_study_keeps_its_identities(folder, tmp_path):
    before = make_plan(folder / "s.toml").identities()
    (tmp_path / "s.toml").write_text(SWEEP.replace("traces/", ""))
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text((folder / "traces" / name).read_text())
    assert make_plan(tmp_path / "s.toml").identities() == before


@pytest.mark.slow
def test_a_sweep_measures_them_in_workers(folder, tmp_path):
    output = tmp_path / "r.jsonl"
    assert main(["sweep", str(folder / "s.toml"), "--output", str(output)]) == 0
    records = read_records(output)
    assert [record.status for record in records] == ["ok"] * 8
    trace = load_trace(folder / "traces" / "a.json")
    assert records[0].decoding_passes == sum(map(len, trace.accepted[:2]))
    # The same weights and the same rule: the replay is of the very decode.
    assert records[0].nfe == records[4].nfe
    assert main(["plot", str(output), "--figure", "throughput", "--output", str(tmp_path)]) == 0
    assert main(["table", "throughput", str(output)]) == 0
    assert main(["report", str(output), "--output", str(tmp_path / "r.html")]) == 0


def test_a_dry_run_says_the_most_passes_where_the_model_decides(folder, capsys):
    assert main(["sweep", str(folder / "s.toml"), "--dry-run"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "commit=separate" in line]
    assert "up to 17" in rows[4]  # 16 tokens and a commit
    assert "up to" not in rows[0]


def test_batches_and_prompts_multiply_thresholds_and_traces(folder, capsys):
    text = SWEEP.replace(
        "lengths = [16, 48]", "lengths = [16]\nbatch = [1, 2]\nprompt_len = [0, 9]"
    )
    text += '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\naccept = "factor"\n'
    (folder / "together.toml").write_text(text)
    plan = make_plan(folder / "together.toml")
    assert len(set(plan.identities())) == (4 + 1) * 2 * 2
    assert main(["sweep", str(folder / "together.toml"), "--dry-run"]) == 0
    out = capsys.readouterr().out.splitlines()
    rows = [line for line in out if "block-cache" in line]
    assert sum("up to 17" in row for row in rows) == 2 * 2 * 2  # no prefill among them
    whole = load_trace(folder / "traces" / "a.json").accepted[:2]
    passes = f" {sum(map(len, whole)) + 1} "
    assert all(passes in row for row in rows[:4])
    most = [line.split("up to ")[-1].split()[0] for line in out if line.startswith("full ")]
    assert most == [f"{16 * (16 + prompt_len):,}" for _ in (1, 2) for prompt_len in (0, 9)]


def test_a_floor_is_only_said_of_passes_that_are_known(folder, capsys):
    (folder / "half.toml").write_text(SWEEP.replace("float32", "bfloat16"))
    assert main(["cost", "--sweep", str(folder / "half.toml"), "--hardware", "h200"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "block-cache" in line]
    assert "by the model" not in rows[0]
    assert rows[4].split()[-2:] == ["-", "-"]


def test_a_trace_that_changed_since_the_sweep_was_read_is_not_measured(folder, tmp_path):
    (tmp_path / "s.toml").write_text(SWEEP.replace("traces/", ""))
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text((folder / "traces" / name).read_text())
    sweep = load_sweep(tmp_path / "s.toml")
    (tmp_path / "a.json").write_text((tmp_path / "b.json").read_text())
    job = {
        "measure": sweep.points[0].model_dump(),
        "measuring": sweep.measuring.model_dump(),
        "memory_limit": None,
        "traces": sweep.traces,
    }
    failure = jobs.JobServer().answer(job)["failure"]
    assert failure["status"] == "error"
    assert "trace: " in failure["message"]
