"""`dlm-bench ab` on git repositories of its own: real checkouts and real workers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dlm_bench.cli import main
from dlm_bench.results.store import read_records

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]

SWEEP = """
name = "test"
size = "tiny"
dtype = "float32"
lengths = [32, 48]

[[lines]]
backbone = "diffutran"
sampler = "full"
"""

JOBS = "dlm_bench/sweep/worker/jobs.py"

# In the place of a worker's desk: no torch, and points that take a sleep.
DESK = """
import time
from dlm_bench.sweep.plan import Plan
from dlm_bench.results.record import Point, Record
from dlm_bench.sweep.load import Sweep

SECONDS = {seconds}
POINTS = [
    Point(backbone="diffutran", size="tiny", sampler="full", length=n, dtype="float32")
    for n in (32, 48)
]

def answer(job):
    if "plan" in job:
        sweep = Sweep(name="quick", points=POINTS)
        plan = Plan(sweep=sweep, work=[1.0] * 2, environment={{"hardware": "x"}})
        return {{"plan": plan.model_dump(mode="json")}}
    repeats, point = job["measuring"]["repeats"], Point(**job["measure"])
    if point.length == {failing}:
        return {{"failure": {{"status": "oom", "message": "no room", "kernels": {{}}}}}}
    time.sleep(SECONDS * repeats)
    seconds = [SECONDS * (1 + 0.001 * (n % 3)) for n in range(repeats)]  # on any machine the same
    record = Record(
        point=point, status="ok", mode="exact", warmup=1, repeats=repeats, nfe=4, seconds=seconds
    )
    return {{"record": record.model_dump(mode="json"), "seconds": sum(seconds)}}
"""


def git(repository, *arguments):
    who = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "core.hooksPath=")
    done = subprocess.run(
        ["git", "-C", str(repository), *who, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with this package in it, the current folder, with one commit."""
    root = tmp_path / "repository"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dlm_bench", root / "dlm_bench", ignore=ignored)
    (root / ".gitignore").write_text("__pycache__\n")
    (root / "s.toml").write_text(SWEEP)
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", str(root))
    commit(root)
    monkeypatch.chdir(root)
    return root


def commit(root):
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "x")
    return git(root, "rev-parse", "--short=12", "HEAD")


def fake(root, seconds=0.003, failing=0):
    """Have this revision's workers be fakes whose decodes take so long."""
    (root / JOBS).write_text(
        DESK.format(seconds=seconds, failing=failing)
        + "\n\nclass JobServer:\n    def answer(self, job):\n        return answer(job)\n"
    )


def left_over(root):
    return git(root, "worktree", "list").splitlines()[1:], git(root, "branch").split()


@pytest.mark.slow
def test_real_workers_of_both_revisions_measure_the_points(repository, tmp_path, capsys):
    first = git(repository, "rev-parse", "--short=12", "HEAD")
    (repository / "notes").write_text("x")
    second = commit(repository)
    output = tmp_path / "records"
    options = ["--base", "HEAD~1", "--head", "main", "--budget", "8s", "--output", str(output)]
    assert main(["ab", "s.toml", *options]) == 0
    out, err = capsys.readouterr()
    assert f"base: HEAD~1 ({first})" in out
    assert f"head: main ({second})" in out
    assert "round 1: 2 of 2 points undecided" in err
    assert left_over(repository) == ([], ["*", "main"])
    for name, revision in (("base", first), ("head", second)):
        records = read_records(output / f"{name}.jsonl")
        assert {record.point.length for record in records} == {32, 48}
        for record in records:
            assert record.environment["commit"] == revision, "each ran its own code"


@pytest.mark.slow
def test_a_slower_head_is_found_with_exit_code_1_and_nothing_is_left_behind(repository, capsys):
    fake(repository)
    base = commit(repository)
    fake(repository, seconds=0.006)
    assert main(["ab", "s.toml", "--base", "main", "--budget", "60s"]) == 1
    out = capsys.readouterr().out
    assert f"head: the working tree ({base}, with uncommitted changes)" in out
    assert "2 slower of 2 points (threshold 5 %): 2 regressions" in out
    assert left_over(repository) == ([], ["*", "main"])
    assert (repository / JOBS).exists(), "the working tree is still there"


def test_a_point_that_fails_on_head_alone_is_found_at_once(repository, capsys):
    fake(repository)
    commit(repository)
    fake(repository, failing=48)
    assert main(["ab", "s.toml", "--base", "HEAD", "--budget", "20s", "--format", "github"]) == 1
    out = capsys.readouterr().out
    assert "::error title=dlm-bench newly failing::diffutran tiny full L=48: head oom: no room" in (
        out
    )


def test_a_cancelled_job_leaves_no_worktree(repository):
    fake(repository, seconds=0.05)
    commit(repository)
    command = [sys.executable, "-m", "dlm_bench", "ab", "s.toml", "--base", "main"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert "round 1" in running.stderr.readline()
        assert len(left_over(repository)[0]) == 1
        running.terminate()
        assert "interrupted" in running.stderr.read()
    assert running.returncode == 143, "as of any command that SIGTERM ends"
    assert left_over(repository) == ([], ["*", "main"])


def mistake(capsys, *arguments):
    assert main(["ab", "s.toml", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_a_revision_that_is_none_is_one_line(repository, capsys):
    assert "--base: 'nobody' is no revision of" in mistake(capsys, "--base", "nobody")
    assert "--head: '--all' is no revision" in mistake(capsys, "--base", "main", "--head=--all")
    assert left_over(repository) == ([], ["*", "main"])


def test_a_base_without_workers_is_one_line(repository, capsys):
    (repository / "dlm_bench" / "worker.py").rename(repository / "kept.py")
    commit(repository)
    (repository / "kept.py").rename(repository / "dlm_bench" / "worker.py")
    err = mistake(capsys, "--base", "main")
    assert "has no dlm_bench/worker.py: it is too old for ab" in err
    assert left_over(repository) == ([], ["*", "main"])


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ImportError('no torch here')", "cannot start measuring: .*no torch here"),
        ("class JobServer:\n    def answer(self, job): return {}", "speaks another protocol"),
        ("class JobServer:\n    def answer(self, job): return {'plan': {'sweep': 1}}", "protocol"),
        (
            "class JobServer:\n    def answer(self, job): return {'mistake': 's.toml: bad'}",
            "base, main .*: s.toml: bad",
        ),
    ],
)
def test_a_base_that_cannot_answer_is_one_line(repository, capsys, code, said):
    good = (repository / JOBS).read_text()
    (repository / JOBS).write_text(code)
    commit(repository)
    (repository / JOBS).write_text(good)
    err = mistake(capsys, "--base", "main")
    assert re.search(said, err)
    assert left_over(repository) == ([], ["*", "main"])


@pytest.mark.parametrize("budget", ["0s", "m", "-5m", "1d"])
def test_a_budget_that_is_none_is_one_line(repository, capsys, budget):
    assert "--budget: " in mistake(capsys, "--base", "main", f"--budget={budget}")


def test_outside_a_repository_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "s.toml").write_text(SWEEP)
    assert "not a git repository" in mistake(capsys, "--base", "main")
