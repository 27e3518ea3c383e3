"""Sweeps that are killed, resumed, and run side by side on one file."""

import os
import random
import re
import signal
import time
import warnings
from collections import Counter
from functools import partial

import pytest
from kill_resume import kill_and_resume
from support import quick_worker as quick
from support.processes import QUICK, gone, quick_plan, quick_sweep, wait_until, workers_of

from dlm_bench.cli import main
from dlm_bench.results.store import TornLineWarning, append_record, read_records
from dlm_bench.sweep.run import Executor

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
    monkeypatch.setattr("dlm_bench.cli.sweep.Executor", partial(Executor, QUICK))

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
        write(path, [("diffutran", n) for n in range(1, 251)]),
        write(other, [("diffumamba", n) for n in range(1, 251)]),
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
        "[1/2] diffutran tiny full L=1: 100.0 tokens/s ±0.0%; about 0 s left",
        "[2/2] diffutran tiny full L=2: started",
        "[2/2] diffutran tiny full L=2: 200.0 tokens/s ±0.0%",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("sweeps", [1, 2])
def test_ended_by_any_signal_at_any_moment_no_point_is_lost_torn_or_doubled(sweeps):
    """The command says what 200 ends came to; this is a smaller form of it."""
    said = kill_and_resume(6, points=40, sweeps=sweeps, seconds=0.2, seed=sweeps)
    assert said.startswith("6 ends (")


@pytest.mark.parametrize("options", [[(), ("--resume",)], [("--resume",), ("--resume",)]])
def test_sweeps_of_one_file_at_once_measure_each_point_once(files, options):
    path, output = files
    plan = write(path, [(b, n) for b in ("diffutran", "diffumamba") for n in range(1, 41)])
    both = [quick_sweep(path, output, *each) for each in options]
    ends = [finish(process) for process in both]
    assert [code for code, _, _ in ends] == [0, 0]
    assert Counter(r.identity for r in read_records(output)) == Counter(plan.identities())
    own = [int(re.search(r"(\d+) records? appended", out)[1]) for _, out, _ in ends]
    assert sum(own) == 80
    assert sorted(path.parent.iterdir()) == sorted([path, output, path.with_suffix(".workers")])


def test_a_sweep_takes_over_the_point_of_one_that_was_killed(files, monkeypatch):
    path, output = files
    monkeypatch.setenv("QUICK_GO", str(go := path.with_suffix(".go")))
    plan = write(path, [("diffutran", quick.WAITING)])
    first = quick_sweep(path, output)
    assert "started" in first.stderr.readline()
    assert output.with_name("r.jsonl.claims").exists()
    second = quick_sweep(path, output, "--resume")
    assert "waiting for 1 points that another sweep" in second.stderr.readline()
    assert not output.exists()
    first.kill()
    first.communicate()
    go.touch()
    code, out, _ = finish(second)
    assert code == 0
    assert "1 record appended" in out
    assert [r.identity for r in read_records(output)] == plan.identities()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_sweep_in_one_line_and_keeps_its_records(files, signum, code):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 301)])
    process = quick_sweep(path, output)
    wait_until(lambda: whole_lines(output).count(b"\n") >= 3)
    process.send_signal(signum)
    ended, _, err = finish(process)
    kept = output.read_bytes()
    assert ended == code
    assert err.splitlines()[-1] == (
        f"dlm-bench: interrupted; {kept.count(bytes([10]))} records were appended to {output}"
    )
    assert kept == whole_lines(output)
    assert all(gone(pid) for pid in workers_of(path))
    assert not output.with_name("r.jsonl.claims").exists()


@pytest.mark.parametrize("kind", [ImportError, ValueError, OSError])
def test_a_signal_that_a_library_turns_into_another_error_is_told_with_the_records(
    files, sweep, monkeypatch, kind
):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 9)])

    def end(progress, index, record, seconds):
        if index == 2:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                signal.sigtimedwait([], 5)
            except KeyboardInterrupt as interrupt:
                raise kind("half imported") from interrupt

    monkeypatch.setattr("dlm_bench.sweep.progress.SweepProgress.end", end)
    code, _, err = sweep(path, output)
    assert code == 130
    assert err.splitlines()[-1] == (f"dlm-bench: interrupted; 3 records were appended to {output}")
    assert whole_lines(output).count(b"\n") == 3


def test_a_sweep_that_is_run_again_says_what_is_there_and_what_resume_does(files, sweep):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 4)])
    assert "already" not in sweep(path, output)[1]
    _, out, _ = sweep(path, output)
    assert f"3 of 3 points are in {output} already and are measured again; --resume" in out


def test_a_resume_names_the_settings_that_points_were_measured_with_instead(files, sweep):
    path, output = files
    points = [("diffutran", n) for n in range(1, 4)]
    plan = write(path, points)
    assert sweep(path, output)[0] == 0
    changed = plan.sweep.measuring.model_copy(update={"warmup": 7, "tolerance": 0.5})
    changed = plan.sweep.model_copy(update={"measuring": changed})
    path.write_text(plan.model_copy(update={"sweep": changed}).model_dump_json())
    _, out, _ = sweep(path, output, "--resume")
    assert "0 of 3 points found" in out
    assert "3 points are there with other settings (warmup 3, here 7)" in out, "exact: no tolerance"
    _, out, _ = sweep(path, output, "--resume")
    assert "3 of 3 points found" in out
    assert "other settings" not in out


def test_a_line_that_cannot_be_read_is_measured_again_and_then_all_is_well(files, sweep):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 4)])
    assert sweep(path, output)[0] == 0
    output.write_text(output.read_text().replace('"status":"ok"', '"status":"fine"', 1))
    code, out, err = sweep(path, output, "--resume")
    assert code == 0
    assert "2 of 3 points found" in out
    assert "r.jsonl:1: skipped, not a whole record" in err
    assert "not taken for done" in err


def test_a_record_of_a_newer_version_counts_as_done(files, sweep):
    path, output = files
    write(path, [("diffutran", n) for n in range(1, 4)])
    assert sweep(path, output)[0] == 0
    output.write_text(
        output.read_text().replace('{"schema_version":1', '{"new":[1],"schema_version":2')
    )
    code, out, _ = sweep(path, output, "--resume")
    assert code == 0
    assert "3 of 3 points found" in out


def test_a_full_disk_ends_a_sweep_in_one_line_after_what_was_measured(files, sweep):
    path, _ = files
    write(path, [("diffutran", 1), ("diffutran", 2)])
    code, out, err = sweep(path, "/dev/full")
    assert code == 2
    assert "20.0" in out or "100.0" in out, "the one that was measured"
    assert err.splitlines()[-1] == "dlm-bench: results file '/dev/full': No space left on device"
