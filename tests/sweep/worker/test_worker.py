"""What a worker does with its jobs, without the process around it."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
from support.processes import QUICK, gone

from dlm_bench.results.record import Point, Record
from dlm_bench.samplers.prompt_file import load_prompts
from dlm_bench.sweep.load import Measuring
from dlm_bench.sweep.worker import jobs
from dlm_bench.timing.conditions import Conditions


def job(length=32, backbone="diffutran", seed=0):
    point = Point(
        backbone=backbone,
        size="tiny",
        sampler="full",
        options={"tokens_per_step": 8},
        length=length,
        dtype="float32",
    )
    measuring = Measuring(warmup=0, repeats=1, seed=seed)
    return {
        "measure": point.model_dump(),
        "measuring": measuring.model_dump(),
        "memory_limit": None,
    }


def test_a_point_is_answered_by_its_record():
    answer = jobs.JobServer().answer(job())
    record = Record.model_validate(answer["record"])
    assert (record.status, record.nfe, len(record.seconds)) == ("ok", 4, 1)
    assert answer["seconds"] >= record.seconds[0]


def test_a_point_is_decoded_after_its_prompts_unless_their_file_has_changed(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"text": "abc"}')
    label = load_prompts(path).label
    asked = job() | {"prompts": {label: str(path)}}
    asked["measure"] |= {"prompts": label, "prompt_len": 3}
    record = Record.model_validate(jobs.JobServer().answer(asked)["record"])
    assert (record.point.prompts, record.prompt_file["drawn"]) == (label, ["1"])
    path.write_text('{"text": "abd"}')
    failure = jobs.JobServer().answer(asked)["failure"]
    assert f"prompts: {label!r} was asked for, and its file is 'mine@" in failure["message"]


def test_a_model_is_kept_until_a_job_asks_for_another_one(monkeypatch):
    built = []
    build = jobs.build_model

    def counted(*place, **options):
        built.append((place[0], options["seed"]))
        return build(*place, **options)

    monkeypatch.setattr(jobs, "build_model", counted)
    desk = jobs.JobServer()
    for each in (job(32), job(40), job(32, seed=1), job(32, "diffumamba")):
        assert "record" in desk.answer(each)
    assert built == [("diffutran", 0), ("diffutran", 1), ("diffumamba", 0)]


def test_a_decode_faster_than_its_floor_is_an_error_with_the_reason(monkeypatch):
    measured = jobs.measure_point

    def on_a_gpu(*asked):
        record = measured(*asked)
        record.environment["hardware"] = "NVIDIA H200"
        record.seconds = [1e-12]
        return record

    monkeypatch.setattr(jobs, "measure_point", on_a_gpu)
    bfloat16 = job()
    bfloat16["measure"]["dtype"] = "bfloat16"
    failure = jobs.JobServer().answer(bfloat16)["failure"]
    assert failure["status"] == "error"
    assert "is faster than h200 can be" in failure["message"]


def test_a_point_whose_clocks_were_held_down_is_measured_again_if_the_sweep_asks(monkeypatch):
    measured, tries = jobs.measure_point, []

    def throttled_once(*asked):
        record = measured(*asked)
        record.flags = [] if tries else ["throttled"]
        tries.append(record)
        return record

    monkeypatch.setattr(jobs, "measure_point", throttled_once)
    with Conditions(retries=3).for_workers():
        answer = jobs.JobServer().answer(job())
    assert answer["record"]["flags"] == []
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (MemoryError("no room"), "oom", "MemoryError: no room"),
        (RuntimeError("broken\nsecond line"), "error", "RuntimeError: broken"),
        (RuntimeError(), "error", "RuntimeError: "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "oom", "RuntimeError: Def"),
    ],
)
def test_what_a_point_raises_is_its_answer(monkeypatch, error, status, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(jobs, "measure_point", fail)
    failure = jobs.JobServer().answer(job())["failure"]
    assert failure["status"] == status
    assert failure["message"].startswith(message)


def test_a_mistake_in_a_sweep_is_an_answer_and_not_a_failure(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('name = "x"')
    answer = jobs.JobServer().answer({"plan": {"path": str(path)}})
    assert answer == {"mistake": f"{path}: size, lengths, lines: missing; every sweep needs them"}


@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_busy_worker_dies_with_its_parent():
    script = (
        "import os\n"
        "from support import quick_worker as quick\n"
        "from dlm_bench.sweep.worker.process import WorkerProcess, WorkerFailure\n"
        f"worker = WorkerProcess({QUICK!r})\n"
        "print(worker._process.pid, flush=True)\n"
        "point = {'backbone': 'x', 'size': 'x', 'sampler': 'x', 'length': quick.HANG}\n"
        "worker.ask({'measure': point})\n"
    )
    folder = Path(QUICK[1]).parents[1]
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=folder
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    assert gone(pid)


@pytest.mark.parametrize(
    "error",
    [
        ImportError("x.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        MemoryError(),
    ],
)
def test_what_runs_into_a_memory_limit_is_out_of_memory_and_nothing_else(error):
    failure = jobs.failure_of(error, limited=True)
    assert failure.status == "oom"
    assert "ImportError" not in failure.message
    assert jobs.failure_of(ImportError("no such module")).status == "error"


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'mine'"),
        ValueError("my sampler: two threads"),
        ValueError("odd"),
    ],
)
def test_a_memory_limit_is_not_to_blame_for_other_errors(error):
    assert jobs.failure_of(error, limited=True).status == "error"


def test_a_limit_below_what_a_worker_needs_is_a_mistake_of_the_sweep(monkeypatch, tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(
        'name = "x"\nsize = "tiny"\nlengths = 8\nmemory_limit = "300MiB"\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    )
    desk = jobs.JobServer()
    monkeypatch.setattr(jobs, "base_memory", lambda: 300 * 2**20 + 1)
    assert desk.answer({"plan": {"path": str(path)}}) == {
        "mistake": "memory_limit: 300 MiB is less than a worker needs by itself, 301 MiB; allow "
        "that and what a point needs"
    }
    assert "plan" in desk.answer({"plan": {"path": str(path), "on_this_machine": False}})
    monkeypatch.setattr(jobs, "base_memory", lambda: 300 * 2**20)
    assert "plan" in desk.answer({"plan": {"path": str(path)}})


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and limits it")
def test_what_a_worker_needs_is_measured():
    assert jobs.base_memory() > 64 * 2**20
