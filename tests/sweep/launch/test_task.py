"""What a job of a cluster does with its task, without the cluster."""

import subprocess
import sys
from collections import Counter

import pytest
from support.processes import QUICK, quick_plan

from dlm_bench.results.store import append_record, read_records
from dlm_bench.sweep.launch.task import Task, do_task, parts_of
from dlm_bench.sweep.planning import make_plan
from dlm_bench.sweep.run import Executor

pytestmark = pytest.mark.process

A, B = "diffutran", "diffumamba"
POINTS = [(b, n) for b in (A, B) for n in (32, 64, 96)]


@pytest.fixture
def plan(tmp_path):
    plan = quick_plan(POINTS)
    (tmp_path / "s.json").write_text(plan.model_dump_json())
    return plan


def task_of(tmp_path, plan, **changes):
    task = Task(
        sweep=tmp_path / "s.json",
        overrides={},
        points=plan.anywhere().identities(),
        output=tmp_path / "r.jsonl",
        start=0,
        limits=[],
        worker=[*QUICK],
    )
    return task.model_copy(update=changes)


def do(tmp_path, task):
    (tmp_path / "t.json").write_text(task.model_dump_json())
    script = (
        "import pathlib, sys; from dlm_bench.sweep.launch.task import do_task; "
        "do_task(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "t.json")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_task_that_starts_over_measures_what_has_no_record_since_it_was_submitted(tmp_path, plan):
    output = tmp_path / "r.jsonl"
    with Executor(QUICK) as executor:
        every = [record for _, record, _ in executor.run(plan)]
    for record in every[:2]:
        append_record(output, record)
    start = output.stat().st_size
    for record in every[2:4]:
        append_record(output, record)
    # The first two are to be measured again: a sweep without --resume was submitted.
    task = task_of(tmp_path, plan, start=start)
    for _ in range(2):
        assert do(tmp_path, task).returncode == 0
    counts = Counter(r.identity for r in read_records(output))
    assert [counts[identity] for identity in plan.identities()] == [2, 2, 1, 1, 1, 1]


def test_a_task_measures_its_own_points_alone(tmp_path, plan):
    names = plan.anywhere().identities()
    assert do(tmp_path, task_of(tmp_path, plan, points=[names[4], names[1]])).returncode == 0
    records = read_records(tmp_path / "r.jsonl")
    assert {r.identity for r in records} == {plan.identities()[n] for n in (1, 4)}


def test_a_task_holds_no_claim_of_a_point_that_has_a_record(tmp_path, plan, monkeypatch):
    held = set()

    class Claims:
        def __init__(self, output):
            pass

        __enter__ = __exit__ = lambda self, *_: self if not _ else None

        def take(self, name):
            held.add(name)
            return True

        drop = staticmethod(held.discard)

    monkeypatch.setattr("dlm_bench.sweep.launch.task.Claims", Claims)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with Executor(QUICK) as executor:
        _, first, _ = next(executor.run(plan))
    append_record(tmp_path / "r.jsonl", first)
    (tmp_path / "t.json").write_text(task_of(tmp_path, plan).model_dump_json())
    do_task(tmp_path / "t.json")
    assert not held


def test_points_longer_than_one_that_was_found_to_be_too_much_are_skipped(tmp_path, plan):
    with Executor(QUICK) as executor:
        _, record, _ = next(executor.run(plan))
    limit = record.model_copy(update={"status": "oom", "message": "no room", "seconds": []})
    task = task_of(tmp_path, plan, points=plan.anywhere().identities()[1:], limits=[limit])
    assert do(tmp_path, task).returncode == 0
    status = Counter((r.point.backbone, r.status) for r in read_records(tmp_path / "r.jsonl"))
    assert status == {(A, "skipped"): 2, (B, "ok"): 3}


def test_points_that_the_sweep_no_longer_has_are_one_line_and_exit_code_2(tmp_path, plan):
    done = do(tmp_path, task_of(tmp_path, plan, points=["0123456789abcdef"]))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "dlm-bench: 1 of 1 points are not in the sweep as it is read now; dlm-bench was changed "
        "after this job was submitted"
    ]


def test_a_plan_for_any_hardware_finds_records_of_all_and_no_others(tmp_path, plan):
    with Executor(QUICK) as executor:
        records = [record for _, record, _ in executor.run(plan)]
    output, unknown = tmp_path / "r.jsonl", plan.anywhere()
    append_record(output, records[0])
    other = plan.model_copy(update={"environment": {"hardware": "another"}})
    elsewhere = records[1].model_copy(
        update={
            "environment": {"hardware": "another"},
            "identity": other.identity_of(records[1].point),
        }
    )
    append_record(output, elsewhere)
    measuring = plan.sweep.measuring.model_copy(update={"repeats": 6})
    longer = plan.model_copy(
        update={"sweep": plan.sweep.model_copy(update={"measuring": measuring})}
    )
    append_record(
        output, records[2].model_copy(update={"identity": longer.identities()[2]})
    )  # asked differently
    assert [*unknown.found_in(output)] == unknown.identities()[:2]
    assert [*plan.found_in(output)] == plan.identities()[:1]


def test_a_job_has_the_points_of_one_model_and_no_more_than_asked_for(plan):
    assert parts_of(plan, range(6)) == [[0, 1, 2], [3, 4, 5]]
    assert parts_of(plan, [0, 2, 3, 4, 5], most=2) == [[0, 2], [3, 4], [5]]


def test_the_machine_that_submits_and_the_job_mean_the_same_points(tmp_path):
    """The one plans for hardware that it does not have, the other for its own."""
    file = tmp_path / "s.toml"
    file.write_text(
        'name = "s"\nsize = "tiny"\nlengths = [32, 64]\ndtype = "float32"\n'
        'kernels = {ssd = "torch"}\n[[lines]]\nbackbone = "diffumamba"\nsampler = "full"\n'
    )
    there = make_plan(file, on_this_machine=False, mode="sampled", graphs="off")
    job = make_plan(file, mode="sampled", graphs="off")
    assert there.identities() == job.anywhere().identities()
    assert there.identities() != job.identities(), "the hardware is left open"
