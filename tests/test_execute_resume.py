"""Sweeps that are killed, resumed, and run side by side on one file."""

import random
import time
import warnings
from collections import Counter
from functools import partial

import pytest
from support import quick_worker as quick
from support.processes import QUICK, gone, quick_plan, quick_sweep, wait_until, workers_of

from dlm_bench.cli import main
from dlm_bench.execute import Executor
from dlm_bench.results.store import TornLineWarning, append_record, read_records

pytestmark = pytest.mark.process


@pytest.fixture
def files(tmp_path):
    return tmp_path / "plan.json", tmp_path / "r.jsonl"


def write(path, points):
    plan = quick_plan(points)
    path.write_text(plan.model_dump_json())
    return plan


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def sweep(monkeypatch, capsys):
    """Runs the command line here, with quick workers: its exit code, stdout and stderr."""
    monkeypatch.setattr("dlm_bench.execute.Executor", partial(Executor, QUICK))

    def run(path, output, *options):
        code = main(["sweep", str(path), "--output", str(output), *options])
        return code, *capsys.readouterr()

    return run


def whole_lines(path):
    """The bytes of a file's whole lines."""
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


@pytest.mark.parametrize(
    ("kills", "points"), [(2, 200), pytest.param(20, 600, marks=pytest.mark.slow)]
)
def test_a_sweep_killed_again_and_again_holds_every_point_exactly_once_after_a_resume(
    kills, points, files
):
    path, output = files
    lengths = range(1, points // 2 + 1)
    plan = write(path, [(b, n) for b in ("diffutran", "diffumamba") for n in lengths])
    moments = random.Random(0)
    kept = b""
    for _ in range(kills):
        process = quick_sweep(path, output, "--resume")
        wait_until(lambda kept=kept: len(whole_lines(output)) > len(kept))
        time.sleep(moments.uniform(0, 0.25))  # about as long as 15 points take
        process.kill()
        process.communicate()
        assert whole_lines(output).startswith(kept), "a completed record was lost or changed"
        kept = whole_lines(output)
    found = kept.count(b"\n")
    assert kills <= found < len(plan.sweep.points), "it was killed midway every time"
    code, out, _ = finish(quick_sweep(path, output, "--resume"))
    assert code == 0
    assert f"{found} of {points} points found in {output}" in out
    assert output.read_bytes().startswith(kept)
    assert Counter(r.identity for r in read_records(output)) == Counter(plan.identities())
    assert all(gone(pid) for pid in workers_of(path)), "no worker outlives its parent"


def test_two_sweeps_at_once_share_a_file_without_a_torn_line(files):
    path, output = files
    other = path.with_name("other.json")
    plans = [
        write(path, [("diffutran", n) for n in range(1, 101)]),
        write(other, [("diffumamba", n) for n in range(1, 101)]),
    ]
    both = [quick_sweep(each, output) for each in (path, other)]
    assert [finish(process)[0] for process in both] == [0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error", TornLineWarning)
        records = read_records(output)
    assert Counter(r.identity for r in records) == Counter(
        identity for plan in plans for identity in plan.identities()
    )
    order = [record.point.backbone for record in records]
    assert order != sorted(order), "they did run at once"


def test_a_torn_line_of_a_killed_sweep_is_run_again_and_hides_nothing(files, sweep):
    path, output = files
    plan = write(path, [("diffutran", n) for n in range(1, 6)])
    assert sweep(path, output)[0] == 0
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(b"".join(lines[:3]) + lines[3][:200])
    code, out, err = sweep(path, output, "--resume")
    assert code == 0
    assert "3 of 5 points found" in out
    assert "r.jsonl:4: skipped, not a whole record" in err
    with pytest.warns(TornLineWarning):
        records = read_records(output)
    assert Counter(r.identity for r in records) == Counter(plan.identities())


def test_without_resume_every_point_is_run_again(files, sweep):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 4)])
    for _ in range(2):
        assert sweep(path, output)[0] == 0
    assert len(read_records(output)) == 6


def test_a_resume_counts_failures_as_done_unless_they_are_to_be_tried_again(files, sweep):
    path, output = files
    points = [("diffutran", 32), ("diffutran", quick.OUT_OF_MEMORY), ("diffutran", 20_000)]
    write(path, points)
    assert sweep(path, output)[0] == 3
    code, out, err = sweep(path, output, "--resume")
    assert code == 3, "the sweep is not whole, though nothing failed just now"
    assert "3 of 3 points found" in out
    assert "2 of them failed or were skipped, and are not run again without --retry" in out
    assert "2 of 3 points failed or were skipped" in err
    code, out, _ = sweep(path, output, "--resume", "--retry-failed")
    assert code == 3
    assert "2 of them failed or were skipped, and are run again" in out
    statuses = [record.status for record in read_records(output)]
    assert statuses == ["ok", "oom", "skipped", "oom", "skipped"]


def test_an_ok_record_counts_even_if_a_later_one_of_the_point_failed(files, sweep):
    path, output = files
    plan = write(path, [("diffutran", 32)])
    assert sweep(path, output)[0] == 0
    (good,) = read_records(output)
    for status in ("error", "oom"):
        append_record(output, good.model_copy(update={"status": status, "seconds": []}))
    (found,) = plan.found_in(output).values()
    assert found.status == "ok"


def test_a_record_of_another_setting_or_without_an_identity_is_not_taken_for_the_point(
    files, sweep
):
    path, output = files
    plan = write(path, [("diffutran", 32)])
    assert sweep(path, output)[0] == 0
    (good,) = read_records(output)
    assert plan.found_in(output)
    measuring = plan.sweep.measuring.model_copy(update={"repeats": 6})
    other = plan.model_copy(
        update={"sweep": plan.sweep.model_copy(update={"measuring": measuring})}
    )
    assert not other.found_in(output)
    output.write_text(good.model_copy(update={"identity": ""}).model_dump_json() + "\n")
    assert not plan.found_in(output)


def test_progress_off_a_terminal_is_a_line_at_the_start_and_the_end_of_each_point(files, sweep):
    path, output = files
    write(path, [("diffutran", n) for n in (1, 2)])
    _, _, err = sweep(path, output)
    assert err.splitlines() == [
        "[1/2] diffutran tiny full L=1: started",
        "[1/2] diffutran tiny full L=1: 100.0 tokens/s; about 0 s left",
        "[2/2] diffutran tiny full L=2: started",
        "[2/2] diffutran tiny full L=2: 200.0 tokens/s",
    ]
