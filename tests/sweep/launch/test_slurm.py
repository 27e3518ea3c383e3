"""Sweeps in the jobs of a real Slurm of one node, which `.ci/slurm` starts. Where it does not,
these tests are skipped and say why."""

import os
import subprocess
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from support import quick_worker as quick
from support.processes import QUICK, quick_plan, wait_until

from dlm_bench.cli import main, sweep_slurm
from dlm_bench.results.store import read_records, size_of
from dlm_bench.sweep.launch.slurm import Jobs
from dlm_bench.sweep.run import Executor

pytestmark = pytest.mark.slurm

SCRIPT = str(Path(__file__).parents[3] / ".ci" / "slurm")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A running Slurm."""
    folder = tmp_path_factory.mktemp("slurm")
    try:
        done = subprocess.run(
            [SCRIPT, "start", folder], capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            give_up = pytest.fail if "DLM_BENCH_NEEDS_SLURM" in os.environ else pytest.skip
            give_up(f"no Slurm here: {done.stderr.strip()}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
            yield
    finally:
        subprocess.run([SCRIPT, "stop", folder], timeout=60, check=True)


@pytest.fixture
def sweep(slurm, tmp_path, monkeypatch, capfd):
    """Runs a sweep of these points, in quick workers, on Slurm: its exit code, stdout, stderr."""
    monkeypatch.setattr(sweep_slurm, "Executor", partial(Executor, QUICK))
    monkeypatch.setattr(sweep_slurm, "FILE_SECONDS", 0.1)
    monkeypatch.setattr(sweep_slurm, "JOBS_SECONDS", 0.3)
    plan, output = tmp_path / "plan.json", tmp_path / "r.jsonl"

    def run(points, *options, launcher="slurm"):
        plan.write_text(quick_plan(points).model_dump_json())
        words = ["sweep", str(plan), "--output", str(output), "--launcher", launcher, *options]
        return main(words), *capfd.readouterr()

    run.output = output
    return run


def identities(points):
    return Counter(quick_plan(points).identities())


def test_the_points_of_each_model_are_a_job_and_leave_the_records_of_a_sweep_here(sweep, capfd):
    points = [(b, n) for b in ("diffutran", "diffumamba") for n in (32, 64)]
    code, out, err = sweep([*points, ("diffutran", quick.QUIT)])
    assert code == 3, "as of a sweep here: a point failed"
    assert out.count("submitted: ") == 2
    assert "1 of 5 points failed or were skipped" in err
    records = read_records(sweep.output)
    with Executor(QUICK) as executor:
        here = [r for _, r, _ in executor.run(quick_plan([*points, ("diffutran", quick.QUIT)]))]
    varying = {"measured_at", "environment"}
    assert sorted(r.model_dump_json(exclude=varying) for r in records) == sorted(
        r.model_dump_json(exclude=varying) for r in here
    )


def cancel_midway(output, signal=None):
    """Cancel the jobs of a results file as soon as it has some more records, from a thread."""
    before = output.read_bytes().count(b"\n") if output.exists() else 0

    def cancel():
        wait_until(lambda: output.exists() and output.read_bytes().count(b"\n") >= before + 3)
        numbers = [job.number for job in Jobs(output).live()]
        full = [] if signal is None else ["--full", f"--signal={signal}"]
        subprocess.run(["scancel", *full, *numbers], check=True)

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread


# A job is told to end and then killed, or killed at once as by a fault of its node.
@pytest.mark.parametrize("signal", [None, "KILL"])
def test_the_points_of_a_cancelled_job_are_submitted_again_none_lost_or_doubled(sweep, signal):
    points = [("diffutran", n) for n in range(1, 251)]
    kept = b""
    for turn in range(2):
        thread = cancel_midway(sweep.output, signal)
        code, out, err = sweep(points, *["--resume"] * (turn > 0))
        thread.join()
        found = sweep.output.read_bytes()
        assert found.startswith(kept), "a record was lost or changed"
        kept = found
        lost = 250 - found.count(b"\n")
        assert 0 < lost < 250, "it was cancelled midway"
        assert code == 3
        assert f"{lost} of" in err
        assert "points without a record, which --resume submits again; CANCELLED: " in err
        assert "250 points failed" not in err
    code, out, _ = sweep(points, "--resume")
    assert code == 0
    assert f"submitted: {lost} points" in out
    assert sweep.output.read_bytes().startswith(kept)
    assert Counter(r.identity for r in read_records(sweep.output)) == identities(points)


def test_a_resume_waits_for_the_jobs_of_a_submission_that_was_left_alone(sweep):
    points = [("diffutran", n) for n in range(1, 201)]
    code, out, _ = sweep(points[:150], "--no-wait")
    assert (code, out.count("submitted: ")) == (0, 1)
    wait_until(lambda: size_of(sweep.output) and sweep.output.read_bytes().count(b"\n") >= 3)
    code, out, _ = sweep(points, "--resume")
    assert code == 0
    assert "of an earlier submission goes on" in out
    assert "submitted: 50 points" in out
    assert Counter(r.identity for r in read_records(sweep.output)) == identities(points)


def test_what_slurm_refuses_is_one_line_and_leaves_no_task(sweep):
    for option, said in [("nosuch=1", "unrecognized option"), ("partition=moon", "partition")]:
        code, _, err = sweep([("diffutran", 32)], "--slurm", option)
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1
    assert not Jobs(sweep.output).folder.exists()
    assert not sweep.output.exists()


def test_a_job_that_ends_before_it_measures_is_told_with_the_last_of_its_log(sweep):
    code, out, err = sweep(
        [("diffutran", n) for n in (32, 64)], "--slurm", "setup=echo no room on the node; exit 9"
    )
    assert code == 3
    assert "no point could be measured" in out
    told = err.splitlines()[-1]
    assert "left 2 of 2 points without a record" in told
    assert "FAILED: no room on the node (log: " in told


def test_a_submission_says_what_the_results_file_holds_as_a_sweep_here_does(sweep):
    points = [("diffutran", n) for n in (32, 64)]
    assert sweep(points)[0] == 0
    code, out, _ = sweep(points, "--no-wait")
    assert code == 0
    assert "2 of 2 points are in" in out
    assert "measured again" in out


def test_a_damaged_line_of_the_results_file_costs_a_submission_no_exit_code(sweep):
    sweep.output.write_text('{"schema_version": 1, "status": "ok"}\n')
    code, out, err = sweep([("diffutran", 32)], "--resume")
    assert code == 0
    assert "submitted: 1 point" in out
    assert "not taken for done" in err


def test_each_run_of_a_sweep_is_jobs_of_its_own(sweep):
    points = [("diffutran", 32), ("diffumamba", 32)]
    code, out, _ = sweep(points, "--runs", "2")
    assert code == 0
    assert out.count("submitted: ") == 4
    assert Counter((r.run, r.point.backbone) for r in read_records(sweep.output)) == {
        (run, backbone): 1 for run in (1, 2) for backbone, _ in points
    }
