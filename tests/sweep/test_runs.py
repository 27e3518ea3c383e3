"""Sweeps of several runs: fresh workers, an order by a seed, and a resume of each run."""

from collections import Counter
from functools import partial

import pytest
from support import quick_worker as quick
from support.processes import QUICK, quick_plan

from dlm_bench.cli import main
from dlm_bench.results.store import read_records
from dlm_bench.sweep.run import Executor

POINTS = [(b, n) for b in ("diffutran", "diffumamba") for n in (64, 128, 256, 512)]


def lengths_of(plan):
    return [(point.backbone, point.length) for point in plan.sweep.points]


@pytest.mark.parametrize("run", [1, 2, 3])
def test_a_shuffled_plan_has_every_point_once_models_together_in_an_order_of_the_seed(run):
    plan = quick_plan(POINTS)
    shuffled = lengths_of(plan.of_run(run, shuffle=7))
    assert sorted(shuffled) == sorted(POINTS)
    assert shuffled != POINTS
    assert len({backbone for backbone, _ in shuffled[:4]}) == 1
    assert lengths_of(plan.of_run(run, shuffle=7)) == shuffled
    assert lengths_of(plan.of_run(run, shuffle=8)) != shuffled
    assert lengths_of(plan.of_run(run + 1, shuffle=7)) != shuffled


def test_the_first_run_has_the_identities_of_a_sweep_without_runs_and_others_their_own():
    plan = quick_plan(POINTS)
    assert plan.of_run(1).identities() == plan.identities()
    assert not set(plan.of_run(2).identities()) & set(plan.identities())


@pytest.fixture
def sweep(monkeypatch, capsys, tmp_path):
    """Runs a sweep of these points with quick workers: exit code, stdout, stderr and records."""
    monkeypatch.setattr("dlm_bench.cli.sweep.Executor", partial(Executor, QUICK))

    def run(points, *options):
        path, output = tmp_path / "plan.json", tmp_path / "r.jsonl"
        path.write_text(quick_plan(points).model_dump_json())
        code = main(["sweep", str(path), "--output", str(output), *options])
        return code, *capsys.readouterr(), read_records(output)

    return run


@pytest.mark.process
def test_each_run_is_the_whole_sweep_in_fresh_workers(sweep):
    code, out, err, records = sweep([("diffutran", 64), ("diffutran", 128)], "--runs", "3")
    assert code == 0
    assert [(r.run, r.point.length) for r in records] == [
        (n, L) for n in (1, 2, 3) for L in (64, 128)
    ]
    assert len({(r.run, r.environment["worker"]) for r in records}) == 3
    assert len({r.environment["worker"] for r in records}) == 3
    assert "6 records appended" in out
    assert "[run 3/3, 2/2]" in err


@pytest.mark.process
def test_a_resume_finds_the_runs_that_are_there(sweep):
    points = [("diffutran", 64), ("diffutran", 128)]
    sweep(points[:1], "--runs", "2")
    code, out, _, records = sweep(points, "--runs", "3", "--resume", "--shuffle", "1")
    assert code == 0
    assert "2 of 6 points of 3 runs found" in out
    assert "4 records appended" in out
    assert Counter((r.run, r.point.length) for r in records) == {
        (n, length): 1 for n in (1, 2, 3) for length in (64, 128)
    }
    assert [r.settings.get("shuffle") for r in records] == [None, None, 1, 1, 1, 1]


@pytest.mark.process
def test_a_point_that_was_out_of_memory_in_a_run_keeps_longer_ones_from_the_next(sweep):
    points = [("diffutran", quick.OUT_OF_MEMORY), ("diffutran", quick.OUT_OF_MEMORY + 5_000)]
    code, _, _, records = sweep(points, "--runs", "2")
    assert code == 3
    assert [r.status for r in records] == ["oom", "skipped", "oom", "skipped"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--runs", "0"), "--runs: 0 is not allowed"),
        (("--shuffle", "1", "--launcher", "local"), "--shuffle: is not allowed with --launcher"),
        (("--shuffle", "-1"), "--shuffle: -1 is not allowed"),
    ],
)
def test_a_wrong_use_of_runs_is_a_line(options, message, capsys):
    assert main(["sweep", "quick", *options]) == 2
    assert message in capsys.readouterr().err
