"""`sweep --launcher local`: as a sweep in one worker, but on all GPUs at once."""

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
from support import quick_worker as quick
from support.processes import QUICK, gone, quick_plan, quick_sweep, wait_until, workers_of

from dlm_bench.cli import main
from dlm_bench.results.store import read_records
from dlm_bench.sweep.worker.process import WorkerProcess

pytestmark = pytest.mark.process

KILLS = 4
LOCAL = ("--launcher", "local")


@pytest.fixture
def files(tmp_path):
    return tmp_path / "plan.json", tmp_path / "r.jsonl"


def write(path, points, gpus=3):
    plan = quick_plan(points, gpus=["NVIDIA imaginary"] * gpus)
    path.write_text(plan.model_dump_json())
    return plan


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def whole_lines(path):
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def children_of(pid):
    """Of all its threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_sweep_on_two_gpus_takes_over_the_point_of_one_that_was_killed(files, monkeypatch):
    path, output = files
    monkeypatch.setenv("QUICK_GO", str(go := path.with_suffix(".go")))
    plan = write(path, [("diffutran", quick.WAITING), ("diffutran", 8)], gpus=2)
    first = quick_sweep(path, output, *LOCAL)
    wait_until(lambda: whole_lines(output).count(b"\n") == 1)  # of the point that does not wait
    second = quick_sweep(path, output, "--resume", *LOCAL)
    assert "waiting for 1 points that another sweep" in second.stderr.readline()
    first.kill()
    first.communicate()
    go.touch()
    code, out, _ = finish(second)
    assert code == 0
    assert "1 record appended" in out
    records = read_records(output)
    assert {r.identity: r.status for r in records} == dict.fromkeys(plan.identities(), "ok")


@pytest.mark.slow
def test_a_sweep_on_three_gpus_killed_again_and_again_holds_every_point_exactly_once(files):
    path, output = files
    plan = write(path, [(b, n) for b in ("diffutran", "diffumamba") for n in range(1, 201)])
    moments = random.Random(0)
    kept, workers = b"", []
    for _ in range(KILLS):
        process = quick_sweep(path, output, "--resume", *LOCAL)
        wait_until(lambda kept=kept: len(whole_lines(output)) > len(kept))
        workers += children_of(process.pid)
        time.sleep(moments.uniform(0, 0.2))  # some 40 points of three workers
        process.kill()
        process.communicate()
        assert whole_lines(output).startswith(kept), "a completed record was lost or changed"
        kept = whole_lines(output)
    workers += [record.environment["worker"] for record in read_records(output)]
    assert all(gone(pid) for pid in set(workers)), "no worker outlives its parent"
    found = kept.count(b"\n")
    assert KILLS <= found < len(plan.sweep.points)
    code, out, _ = finish(quick_sweep(path, output, "--resume", *LOCAL))
    assert code == 0
    assert f"{found} of 400 points found" in out
    records = read_records(output)
    assert Counter(r.identity for r in records) == Counter(plan.identities())
    assert {r.environment["gpu"] for r in records} == {"0", "1", "2"}
    # Without a launcher the same points are found: a record does not depend on where it was made.
    code, out, _ = finish(quick_sweep(path, output, "--resume"))
    assert (code, "400 of 400 points found" in out) == (0, True)


def test_an_interrupt_ends_all_workers_and_keeps_what_is_written(files):
    path, output = files
    lengths = [*range(1, 7), quick.HANG]
    write(path, [("diffumamba", quick.HANG), *(("diffutran", n) for n in lengths)])
    process = quick_sweep(path, output, *LOCAL)
    wait_until(lambda: whole_lines(output).count(b"\n") == 6)
    wait_until(lambda: len(children_of(process.pid)) == 2)
    workers = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    assert whole_lines(output).count(b"\n") == 6
    assert err.strip().splitlines()[-1] == (
        f"dlm-bench: interrupted; 6 records were appended to {output}"
    )
    assert all(gone(pid) for pid in [*workers, *workers_of(path)])


def test_a_stopped_screen_holds_up_no_record(files):
    """Nobody reads what the sweep says of 900 points, more than a pipe holds: the workers go on,
    and a kill loses none of their records."""
    path, output = files
    plan = write(path, [(b, n) for b in ("diffutran", "diffumamba") for n in range(1, 451)])
    process = quick_sweep(path, output, *LOCAL)
    try:
        wait_until(lambda: whole_lines(output).count(b"\n") == 900)
        assert process.poll() is None, "it waits for its screen"
    finally:
        process.kill()
        _, said = process.communicate()
    assert said.count(": started") < 900
    assert Counter(r.identity for r in read_records(output)) == Counter(plan.identities())


def test_a_failed_point_is_exit_code_3_and_progress_is_a_line_a_start_and_an_end(files):
    path, output = files
    write(path, [("diffutran", 32), ("diffumamba", quick.QUIT)], gpus=2)
    code, _, err = finish(quick_sweep(path, output, *LOCAL))
    assert code == 3
    assert Counter(r.status for r in read_records(output)) == {"ok": 1, "error": 1}
    lines = err.splitlines()[:4]
    # The second worker may start when the first is done.
    begun = [line.partition(": started")[0] for line in lines if line.endswith(": started")]
    assert sorted(begun) == ["[1/2] diffutran tiny full L=32", "[2/2] diffumamba tiny full L=10001"]
    ended = [line for line in lines if not line.endswith(": started")]
    assert [line[:10] for line in ended] == ["[1/2] diff", "[2/2] diff"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--launcher", "cloud"], "--launcher: 'cloud' is not known; allowed: local, slurm"),
        ([*LOCAL, "--budget", "10m"], "--budget: is not allowed with --launcher"),
        (["--launcher", "slurm", "--budget", "10m"], "--budget: is not allowed with --launcher"),
        ([*LOCAL, "--slurm", "partition=gpu"], "--slurm: is not allowed without --launcher slurm"),
        (["--no-wait"], "--no-wait: is not allowed without --launcher slurm"),
        ([*LOCAL, "--points-per-job", "0"], "--points-per-job: 0 is not allowed; must be"),
        (["--launcher", "slurm", "--slurm", "=gpu"], "--slurm: '=gpu' is not allowed; must be KEY"),
        (["--launcher", "slurm", "--slurm", "nodes=2"], "'nodes=2' is not allowed; a job is one"),
        (["--launcher", "slurm", "--slurm", "job_name=x"], "dlm-bench sets job-name itself"),
        (
            ["--launcher", "slurm", "--slurm", "time=9", "--slurm", "timeout_min=8"],
            "'timeout_min=8' is not allowed; time is '9' already",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(tmp_path, capsys, options, said):
    assert main(["sweep", str(tmp_path / "s.toml"), *options]) == 2
    _, err = capsys.readouterr()
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_sweep_on_a_cpu_is_refused(files):
    path, output = files
    write(path, [("diffutran", 32)], gpus=0)
    code, _, err = finish(quick_sweep(path, output, *LOCAL))
    assert code == 2
    assert err.startswith("dlm-bench: --launcher: 'local' is not allowed on device 'cpu'; ")
    assert not output.exists()


def test_a_worker_lives_through_the_notice_that_a_scheduler_sends_to_all_processes():
    worker = WorkerProcess(QUICK, wait=False)
    job = {
        "measure": quick_plan([("diffutran", 32)]).sweep.points[0].model_dump(),
        "measuring": {"mode": "exact", "warmup": 0, "repeats": 5, "seed": 0},
    }
    try:
        os.kill(worker._process.pid, signal.SIGTERM)  # before its handler is there
        worker.wait_until_ready()
        os.kill(worker._process.pid, signal.SIGTERM)
        assert worker.ask(job)["record"]["status"] == "ok"
        status = Path(f"/proc/{worker._process.pid}/status").read_text()
        blocked = next(line for line in status.splitlines() if line.startswith("SigBlk"))
        assert int(blocked.split()[1], 16) == 0, "what it starts can be ended"
    finally:
        worker.stop()


@pytest.mark.parametrize("options", [(), LOCAL])
def test_a_point_is_not_blamed_for_the_kill_of_its_worker_and_then_of_its_parent(
    options, files, monkeypatch
):
    monkeypatch.setenv("QUICK_SURVIVE", "300")  # however long this process waits for a CPU
    path, output = files
    write(path, [("diffutran", 32), ("diffutran", quick.HANG)], gpus=1)
    process = quick_sweep(path, output, *options)
    wait_until(lambda: whole_lines(output))
    started = json.dumps(quick.HANG)
    wait_until(lambda: started in process.stderr.readline())
    time.sleep(0.1)  # it is under way
    for pid in children_of(process.pid):
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)  # more than there is between the kills of a job's processes
    process.kill()
    process.communicate()
    assert [r.point.length for r in read_records(output)] == [32]


@pytest.mark.parametrize("missing", ["sbatch", "squeue", "scontrol"])
def test_without_slurm_nothing_is_left_behind(tmp_path, monkeypatch, capsys, missing):
    pytest.importorskip("submitit")
    commands, study = tmp_path / "bin", tmp_path / "study"
    for folder in (commands, study):
        folder.mkdir()
    for name in {"sbatch", "squeue", "scontrol"} - {missing}:
        (commands / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.chdir(study)
    assert main(["sweep", "ci", "--launcher", "slurm"]) == 2
    _, err = capsys.readouterr()
    assert err == (
        f"dlm-bench: Slurm is not here: there is no {missing}; submit from a machine of the "
        "cluster\n"
    )
    assert not list(study.iterdir())
