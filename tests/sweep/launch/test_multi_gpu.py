"""Several workers at once, each in a place of its own."""

import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import closing

import pytest
from support import quick_worker as quick
from support.processes import QUICK, gone, quick_plan, wait_until

from dlm_bench.errors import ConfigError
from dlm_bench.sweep.launch.multi_gpu import MAX_ERRORS, gpu_environments, run_on
from dlm_bench.sweep.run import Executor

pytestmark = pytest.mark.process

A, B, C = "diffutran", "diffumamba", "diffumamba-h"
GPU = "NVIDIA imaginary"


def fleet(workers):
    return [Executor(QUICK, {"CUDA_VISIBLE_DEVICES": f"GPU-{n}"}) for n in range(workers)]


def run(plan, workers=3, found=(), **settings):
    """The records of a plan by a fleet, in the order of their ends."""
    return [record for _, record, _ in run_on(fleet(workers), plan, found, **settings)]


def test_every_point_is_measured_once_by_workers_that_see_one_gpu_each():
    plan = quick_plan([(b, n) for b in (A, B, C) for n in range(1, 31)], gpus=[GPU] * 3)
    begun = []
    records = run(plan, begin=begun.append)
    assert Counter(r.identity for r in records) == Counter(plan.identities())
    assert sorted(begun) == list(range(90))
    seen = defaultdict(set)
    for record in records:
        seen[record.environment["gpu"]].add(record.environment["worker"])
    assert seen.keys() == {"GPU-0", "GPU-1", "GPU-2"}
    assert {r.point.device for r in records} == {"cuda:0"}


def test_a_model_is_loaded_by_one_worker_while_there_are_enough_models():
    plan = quick_plan([(b, n) for b in (A, B, C) for n in range(1, 31)])
    workers = defaultdict(list)
    for record in run(plan):
        workers[record.point.backbone].append(record.environment["worker"])
    for found in workers.values():
        # A worker that is done first helps out with what is left of another model at the end.
        assert Counter(found).most_common(1)[0][1] > 15


def test_points_of_several_workers_are_measured_at_the_same_time():
    """Three points that each wait for what only the others can do: their starts lie before the end
    of any."""
    plan = quick_plan([(b, quick.HANG) for b in (A, B, C)], timeout=5.0)
    begun, ended = [], []
    for _ in run_on(fleet(3), plan, begin=lambda index: begun.append(time.monotonic())):
        ended.append(time.monotonic())
    assert len(begun) == len(ended) == 3
    assert max(begun) < min(ended)


def test_what_goes_wrong_at_one_worker_is_its_points_record_alone():
    bad = [(A, quick.QUIT), (B, quick.KILLED), (C, quick.HANG)]
    plan = quick_plan([*bad, *((b, n) for b in (A, B, C) for n in range(1, 6))], timeout=3.0)
    status = {r.point.describe(): r.status for r in run(plan)}
    assert len(status) == 18
    assert list(status.values()).count("ok") == 15
    for index, (_, length) in enumerate(bad):
        what = {quick.QUIT: {"error"}, quick.KILLED: {"error", "oom"}, quick.HANG: {"timeout"}}
        assert status[plan.sweep.points[index].describe()] in what[length]


def test_longer_points_of_a_line_that_ran_out_of_memory_are_skipped_whoever_takes_them():
    lengths = [quick.OUT_OF_MEMORY, *range(20_000, 20_010)]
    plan = quick_plan([(A, n) for n in lengths] + [(B, n) for n in range(1, 61)])
    records = run(plan, workers=2)
    status = Counter(r.status for r in records if r.point.backbone == A)
    assert status == {"oom": 1, "skipped": 10}
    assert {r.status for r in records if r.point.backbone == B} == {"ok"}


def test_points_that_were_found_or_are_not_wanted_any_more_are_left_out():
    plan = quick_plan([(A, n) for n in range(1, 11)])
    found = run(plan.part([0, 1, 2]))
    records = run(plan, found=found, wanted=lambda index: index != 5)
    assert sorted(r.point.length for r in records) == [4, 5, 7, 8, 9, 10]


def test_a_place_where_every_point_is_an_error_is_left_to_the_others():
    """The worker of one place ends with every point: it takes MAX_ERRORS, and the others all
    that are left, which are slower to come to an end."""
    plan = quick_plan([(b, n) for b in (A, B) for n in range(1, 61)])
    script = (
        "import os\nfrom dlm_bench.sweep.worker.server import serve\n"
        "serve(lambda: lambda job: os._exit(5))\n"
    )
    broken = Executor((sys.executable, "-c", script))
    with pytest.warns(UserWarning, match=f"given up after {MAX_ERRORS} errors in a row"):
        records = [r for _, r, _ in run_on([broken, *fleet(1)], plan)]
    assert Counter(r.status for r in records) == {
        "error": MAX_ERRORS,
        "ok": 120 - MAX_ERRORS,
    }


def test_the_last_place_goes_on_however_many_errors_there_are():
    plan = quick_plan([(b, quick.QUIT) for b in (A, B, C, "ar-mamba", "ar-transformer")])
    assert [r.status for r in run(plan, workers=1)] == ["error"] * 5


def test_equal_errors_skip_a_series_unless_they_may_be_one_gpus():
    broken = [(A, quick.BROKEN + n) for n in range(6)]
    statuses = Counter(r.status for r in run(quick_plan(broken), workers=2))
    assert statuses["skipped"] >= 3, "each of two workers may be at one when the second error comes"
    died = quick_plan([(A, quick.QUIT), (A, 20_000), (A, 20_001)])
    script = (
        "import os\nfrom dlm_bench.sweep.worker.server import serve\n"
        "serve(lambda: lambda job: os._exit(5))\n"
    )
    fleet_of_broken = [Executor((sys.executable, "-c", script)) for _ in range(2)]
    records = [record for _, record, _ in run_on(fleet_of_broken, died)]
    assert [record.status for record in records] == ["error"] * 3


def test_closing_a_run_ends_all_workers_at_once():
    plan = quick_plan([(A, 1), (B, quick.HANG), (C, quick.HANG)])
    executors = fleet(3)
    with closing(run_on(executors, plan)) as results:
        _, record, _ = next(results)
        assert record.status == "ok"
        threads = threading.active_count()
        pids = [e._worker._process.pid for e in executors if e._worker is not None]
        begun = time.monotonic()
    assert time.monotonic() - begun < 300, "the points under way would take 600 s"
    assert threads - threading.active_count() >= 2
    assert len(pids) >= 2
    assert all(gone(pid) for pid in pids)


def test_a_record_is_kept_by_the_thread_that_measured_whoever_takes_the_results():
    plan = quick_plan([(b, n) for b in (A, B, C) for n in range(1, 6)])
    kept = {}
    with closing(run_on(fleet(3), plan, keep=lambda i, record: kept.update({i: record}))) as taken:
        next(taken)
        wait_until(lambda: len(kept) == 15)
    assert [kept[index].identity for index in range(15)] == plan.identities()


def test_a_record_that_cannot_be_kept_is_a_result_before_the_error():
    def keep(index, record):
        raise ZeroDivisionError

    results = run_on(fleet(1), quick_plan([(A, 1), (A, 2)]), keep=keep)
    index, record, _ = next(results)
    assert (index, record.status) == (0, "ok")
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_fault_of_a_thread_is_raised_where_it_is_seen_and_ends_the_others():
    plan = quick_plan([(A, 1), (B, quick.HANG)])

    def wanted(index):
        if index == 0:
            raise ZeroDivisionError
        return True

    with pytest.raises(ZeroDivisionError):
        run(plan, wanted=wanted)


def places(points, gpus, environment):
    return gpu_environments(quick_plan(points, gpus=gpus), environment)


def test_a_place_is_a_visible_gpu_by_the_name_that_the_parent_knows_it_by():
    assert places([(A, 1)], [GPU] * 2, {}) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    assert places([(A, 1)], [GPU] * 2, {"CUDA_VISIBLE_DEVICES": "3, GPU-5f"}) == [
        {"CUDA_VISIBLE_DEVICES": "3"},
        {"CUDA_VISIBLE_DEVICES": "GPU-5f"},
    ]
    # CUDA stops reading at the first that is not there, and plan.gpus says how many it saw.
    assert len(places([(A, 1)], [GPU], {"CUDA_VISIBLE_DEVICES": "3,-1,4"})) == 1


@pytest.mark.parametrize(
    ("gpus", "device", "said"),
    [
        ([], "cpu", "'cpu'; it needs GPUs"),
        ([GPU] * 2, "cuda:1", "'cuda:1'; must be 'cuda'"),
        ([GPU, "NVIDIA other"], "cuda:0", "differ (NVIDIA imaginary, NVIDIA other)"),
    ],
)
def test_a_cpu_a_gpu_by_number_and_gpus_that_differ_are_refused(gpus, device, said):
    plan = quick_plan([(A, 1)], gpus=gpus)
    point = plan.sweep.points[0].model_copy(update={"device": device})
    plan = plan.model_copy(update={"sweep": plan.sweep.model_copy(update={"points": [point]})})
    with pytest.raises(ConfigError, match="--launcher: 'local'") as error:
        gpu_environments(plan, {})
    assert said in str(error.value)
