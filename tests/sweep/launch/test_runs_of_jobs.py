"""`sweep --launcher slurm --runs`: the jobs of each run, where a job is done as it is submitted."""

import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest
from support.processes import QUICK, quick_plan

from dlm_bench.cli import main, sweep_slurm
from dlm_bench.results.store import read_records
from dlm_bench.sweep.launch.slurm import Job
from dlm_bench.sweep.run import Executor

pytestmark = pytest.mark.process

POINTS = [("diffutran", 32), ("diffutran", 64), ("diffumamba", 32)]
DO = (
    "import pathlib, sys; from dlm_bench.sweep.launch.task import do_task; "
    "do_task(pathlib.Path(sys.argv[1]))"
)


class DoneAtOnce:
    """Jobs that are over when they are submitted; of the run `lost` none does anything."""

    lost = 0

    def __init__(self, output):
        self.folder, self.count = output.parent, 0

    def alone(self):
        return nullcontext()

    def live(self):
        return []

    def keep(self, sweep):
        return sweep

    def submit(self, task, sweep, options):
        self.count += 1
        if task.run != self.lost:
            file = self.folder / "task.json"
            file.write_text(task.model_dump_json())
            subprocess.run([sys.executable, "-c", DO, str(file)], check=True, timeout=60)
        return Job(str(self.count), "PENDING", f"job {self.count}", task)

    def end_of(self, job):
        return "CANCELLED"


@pytest.fixture
def sweep(monkeypatch, tmp_path, capfd):
    """Runs a sweep in such jobs: exit code, stdout, stderr and records."""
    monkeypatch.setattr(sweep_slurm, "Executor", partial(Executor, QUICK))
    monkeypatch.setattr(sweep_slurm, "Jobs", DoneAtOnce)
    monkeypatch.setattr(sweep_slurm, "check_slurm", lambda: None)
    monkeypatch.setattr(sweep_slurm, "FILE_SECONDS", 0.01)
    plan, output = tmp_path / "plan.json", tmp_path / "r.jsonl"
    plan.write_text(quick_plan(POINTS).model_dump_json())

    def run(*options):
        words = ["sweep", str(plan), "--output", str(output), "--launcher", "slurm", *options]
        return main(words), *capfd.readouterr(), read_records(output)

    return run


def test_each_run_is_jobs_of_its_own_and_a_resume_submits_what_one_left(sweep, monkeypatch):
    monkeypatch.setattr(DoneAtOnce, "lost", 2)
    code, out, err, records = sweep("--runs", "2")
    assert code == 3
    assert out.count("submitted: ") == 4, "a job a model and run"
    assert err.count("without a record, which --resume submits again; CANCELLED") == 2
    assert [record.run for record in records] == [1] * 3
    monkeypatch.setattr(DoneAtOnce, "lost", 0)
    code, out, err, records = sweep("--runs", "2", "--resume")
    assert code == 0
    assert "3 of 6 points of 2 runs found" in out
    assert out.count("submitted: ") == 2
    assert "[run 2/2, 3/3]" in err
    assert Counter((r.run, r.point.backbone, r.point.length) for r in records) == {
        (run, *point): 1 for run in (1, 2) for point in POINTS
    }
    assert len({record.identity for record in records}) == 6
