"""Sweeps in worker processes: what goes wrong with one point is that point's record alone."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import misbehaving_worker as bad
from support import quick_worker as quick
from support.processes import QUICK, gone, quick_plan, quick_sweep, wait_until, workers_of

from dlm_bench.results.record import Point
from dlm_bench.sweep.run import Executor, WorkerError
from dlm_bench.sweep.worker.process import WorkerFailure, WorkerProcess

pytestmark = pytest.mark.process

SWEEP = """
name = "test"
size = "tiny"
dtype = "float32"
warmup = 0
repeats = 1
timeout = 10
memory_limit = "2GiB"
lengths = {lengths}

[[lines]]
backbone = "diffutran"
sampler = "full"
"""


def run(tmp_path, lengths, **changes):
    """The records of a sweep over these lengths in workers that misbehave at some of them."""
    path = tmp_path / "s.toml"
    path.write_text(SWEEP.format(lengths=[*lengths]))
    with Executor((sys.executable, bad.__file__)) as executor:
        plan = executor.plan(path, **changes)
        return [record for _, record, _ in executor.run(plan)]


@pytest.mark.slow
def test_a_worker_out_of_memory_one_that_hangs_and_one_that_segfaults_leave_a_record_each(tmp_path):
    # From the longest down, so that no failure is a reason to skip the next.
    hungry, hang, segfault, good = run(tmp_path, [bad.HUNGRY, bad.HANG, bad.SEGFAULT, 32])
    assert hungry.status == "oom"
    assert "can't allocate memory" in hungry.message
    assert (hang.status, hang.message) == (
        "timeout",
        "no result within 10 s; its process was killed",
    )
    assert (segfault.status, segfault.message) == (
        "error",
        "the worker died of SIGSEGV; its last words: about to read address 0",
    )
    assert good.status == "ok"
    assert len({record.identity for record in (hungry, hang, segfault, good)}) == 4
    assert {r.environment["hardware"] for r in (hungry, hang, segfault, good)} == {
        good.environment["hardware"]
    }


def test_under_a_higher_limit_the_same_point_is_measured_and_a_warning_of_its_worker_is_one_here(
    tmp_path,
):
    with pytest.warns(UserWarning, match="the weather is bad"):
        records = run(tmp_path, [bad.HUNGRY, bad.WARNED], memory_limit="8GiB", timeout=60)
    assert [record.status for record in records] == ["ok", "ok"]


def run_quick(lengths, timeout=None):
    """The records of points of these lengths, all of one line, in quick workers."""
    plan = quick_plan([("diffutran", length) for length in lengths], timeout=timeout)
    with Executor(QUICK) as executor:
        return [record for _, record, _ in executor.run(plan)]


@pytest.mark.parametrize(
    ("length", "status", "message"),
    [
        (quick.QUIT, "error", "ended by itself with exit code 7; its last words: no device today"),
        (quick.BAD_ALLOC, "oom", "died of SIGABRT; its last words: .*bad_alloc"),
        (quick.OUT_OF_MEMORY, "oom", "no room"),
        (quick.GARBLED, "error", r"record is of another version \(point: "),
        (quick.CLOSED, "error", "the worker closed its pipe"),
        # Nobody ran out of memory here; where the kernel does not say so, it is the likely reason.
        (quick.KILLED, "error|oom", r"killed \(signal 9\)"),
    ],
)
def test_a_failure_is_the_record_of_its_point_and_the_next_one_is_measured(length, status, message):
    failed, good = run_quick([length, 32])
    assert failed.status in status.split("|")
    assert re.search(message, failed.message)
    assert good.status == "ok"


def test_a_kill_is_blamed_on_the_memory_only_if_the_kernel_says_so(monkeypatch):
    counts = {"before": iter([5, 5, 5, 6, None, None])}
    monkeypatch.setattr("dlm_bench.sweep.worker.process._oom_kills", lambda: next(counts["before"]))
    statuses = []
    for _ in range(3):
        worker = WorkerProcess(QUICK)
        killed = Point(backbone="diffutran", size="tiny", sampler="full", length=quick.KILLED)
        job = {"measure": killed.model_dump(), "measuring": {}}
        with pytest.raises(WorkerFailure) as failure:
            worker.ask(job)
        statuses.append((failure.value.status, str(failure.value).partition("9)")[2]))
    assert statuses == [
        ("error", ", and not by the out-of-memory killer"),
        ("oom", " by the out-of-memory killer"),
        ("oom", ", perhaps by the out-of-memory killer"),
    ]


@pytest.mark.parametrize(
    ("length", "status", "why"),
    [(quick.OUT_OF_MEMORY, "oom", "out of memory"), (quick.HANG, "timeout", "out of time")],
)
def test_longer_points_of_a_line_that_ran_out_are_skipped_and_say_why(length, status, why):
    failed, *longer, shorter = run_quick([length, length + 100, length + 200, 32], timeout=2)
    assert failed.status == status
    assert [record.status for record in longer] == ["skipped"] * 2
    for record in longer:
        assert record.message.startswith(f"not tried: {failed.point.describe()} was {why} (")
    assert shorter.status == "ok"


def test_other_lines_and_lengths_after_an_error_are_not_skipped():
    points = [
        ("diffutran", quick.QUIT),
        ("diffutran", 20_000),
        ("diffutran", quick.OUT_OF_MEMORY),
        ("diffumamba", 20_000),
    ]
    with Executor(QUICK) as executor:
        records = [record for _, record, _ in executor.run(quick_plan(points))]
    assert [record.status for record in records] == ["error", "ok", "oom", "ok"]


def test_a_failure_found_by_a_resumed_sweep_skips_longer_points_too():
    plan = quick_plan([("diffutran", quick.OUT_OF_MEMORY), ("diffutran", 20_000)])
    with Executor(QUICK) as executor:
        _, failed, _ = next(executor.run(plan))
    with Executor(QUICK) as executor:
        ((index, record, _),) = executor.run(plan, [failed])
    assert (index, record.status) == (1, "skipped")


def test_after_two_equal_errors_the_rest_of_a_series_is_skipped_and_says_why():
    broken = [quick.BROKEN + n for n in (300, 200, 100)]
    first, second, third, shorter = run_quick([*broken, 32])
    assert [first.status, second.status] == ["error", "error"]
    assert first.message != second.message, "but for the length, they are the same"
    assert (
        third.message
        == shorter.message
        == (
            "not tried: 2 points of this series ended with the same error, the last of them "
            f"{second.point.describe()} ({second.message})"
        )
    )
    assert third.status == shorter.status == "skipped"


def test_errors_that_differ_and_errors_before_a_measured_point_skip_nothing():
    lengths = [quick.BROKEN, quick.QUIT, 32, quick.BROKEN + 1, 64]
    statuses = [record.status for record in run_quick(lengths)]
    assert statuses == ["error", "error", "ok", "error", "ok"]


def test_errors_of_one_series_skip_nothing_of_another():
    points = [("diffutran", quick.BROKEN), ("diffutran", quick.BROKEN + 1), ("diffumamba", 32)]
    with Executor(QUICK) as executor:
        records = [record for _, record, _ in executor.run(quick_plan(points))]
    assert [record.status for record in records] == ["error", "error", "ok"]


def test_errors_found_by_a_resumed_sweep_count():
    plan = quick_plan([("diffutran", n) for n in (quick.BROKEN, quick.BROKEN + 1, 32)])
    with Executor(QUICK) as executor:
        found = [executor.measure(plan, index)[0] for index in (0, 1)]
        ((index, record, _),) = executor.run(plan, found)
    assert (index, record.status) == (2, "skipped")


def test_one_worker_serves_the_consecutive_points_of_a_model(monkeypatch):
    started = []

    class Counted(WorkerProcess):
        def __init__(self, command, **settings):
            started.append(command)
            super().__init__(command, **settings)

    monkeypatch.setattr("dlm_bench.sweep.run.WorkerProcess", Counted)
    with Executor(QUICK) as executor:
        assert (
            len(
                [
                    *executor.run(
                        quick_plan(
                            [(b, n) for b in ("diffutran", "diffumamba") for n in range(1, 11)]
                        )
                    )
                ]
            )
            == 20
        )
    assert len(started) == 2


def test_an_idle_worker_that_is_killed_costs_no_point():
    with Executor(QUICK) as executor:
        outcomes = executor.run(quick_plan([("diffutran", n) for n in range(1, 5)]))
        next(outcomes)
        pid = executor._worker._process.pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert [record.status for _, record, _ in outcomes] == ["ok"] * 3


def test_what_a_worker_started_is_killed_with_it(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "from dlm_bench.sweep.worker.server import serve\n"
        "def answer(job):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"    open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        "    time.sleep(60)\n"
        "serve(lambda: answer)\n"
    )
    worker = WorkerProcess((sys.executable, "-c", script))
    with pytest.raises(WorkerFailure, match=r"within 3 s"):
        worker.ask({}, timeout=3)
    assert gone(int((tmp_path / "child").read_text()))


def test_an_answer_that_is_there_counts_after_the_deadline(monkeypatch):
    """As of a process that was stopped (Ctrl-Z) while the worker went on."""
    worker = WorkerProcess(QUICK)
    point = Point(backbone="diffutran", size="tiny", sampler="full", length=8)
    settings = {"mode": "exact", "warmup": 0, "repeats": 5, "seed": 0}

    def clock():
        yield 0.0
        while True:
            select.select([worker._answers], [], [], 120)
            yield 100.0

    seconds = clock()
    stopped = SimpleNamespace(monotonic=lambda: next(seconds), sleep=time.sleep)
    monkeypatch.setattr("dlm_bench.sweep.worker.process.time", stopped)
    try:
        answer = worker.ask({"measure": point.model_dump(), "measuring": settings}, timeout=5)
    finally:
        worker.stop()
    assert answer["record"]["status"] == "ok"


def test_a_worker_that_cannot_start_is_an_error_of_one_line(tmp_path):
    command = (sys.executable, "-c", "raise ImportError('no torch here')")
    with Executor(command) as executor, pytest.raises(WorkerError) as error:
        executor.plan(tmp_path / "s.toml")
    assert "no torch here" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_interrupt_ends_the_worker_and_keeps_what_is_written(tmp_path):
    plan, output = tmp_path / "plan.json", tmp_path / "r.jsonl"
    plan.write_text(quick_plan([("diffutran", n) for n in range(1, 2000)]).model_dump_json())
    process = quick_sweep(plan, output)
    wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") >= 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    kept = output.read_bytes().count(b"\n")
    assert err.strip().splitlines()[-1] == (
        f"dlm-bench: interrupted; {kept} records were appended to {output}"
    )
    assert all(gone(pid) for pid in workers_of(plan))


def test_a_point_that_hangs_ends_with_the_timeout_of_the_command_line_and_the_next_is_measured(
    tmp_path,
):
    plan, output = tmp_path / "plan.json", tmp_path / "r.jsonl"
    points = [("diffutran", quick.HANG), ("diffutran", 32)]
    plan.write_text(quick_plan(points).model_dump_json())
    process = quick_sweep(plan, output, "--timeout", "2s")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    hung, good = map(json.loads, output.read_text().splitlines())
    assert (hung["status"], good["status"]) == ("timeout", "ok")
    assert hung["message"] == "no result within 2 s; its process was killed"


def test_the_parent_never_imports_torch(tmp_path):
    plan = tmp_path / "plan.json"
    plan.write_text(quick_plan([("diffutran", 1), ("diffumamba", 1)]).model_dump_json())
    script = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('torch' in sys.modules))\n"
        f"sys.argv = ['x', 'sweep', {str(plan)!r}, '--output', {str(tmp_path / 'r')!r}]\n"
        f"runpy.run_path({str(Path(QUICK[1]).with_name('quick_sweep.py'))!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "False"
