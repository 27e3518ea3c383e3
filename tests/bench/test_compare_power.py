"""bench/compare_power.py: the revisions that it slows down, and what it simulates."""

import json
import random
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
from compare_power import Round, main, simulated, slower_commit

ROOT = Path(__file__).parents[2]
POINTS = 4


def noise(spread, rounds=12, seed=0):
    draw = random.Random(seed)
    return [
        Round("noise", 9.0, 5.0, [1.0] * POINTS, [draw.gauss(0, spread) for _ in range(POINTS)])
        for _ in range(rounds)
    ]


def test_a_simulated_slowdown_is_found_and_only_at_its_point():
    draw = random.Random(0)
    for _ in range(20):
        test, slow, seconds = simulated(noise(0.01), 0.1, 300.0, draw)
        assert [i for i, each in enumerate(test.verdicts) if each == "slower"] == [slow]
        assert 5 * 9 <= seconds <= 300


def test_simulated_noise_alone_ends_in_the_budget_without_an_alarm():
    draw = random.Random(0)
    for _ in range(20):
        test, _, seconds = simulated(noise(0.2), 0.0, 120.0, draw)
        assert seconds <= 120
        assert "slower" not in test.verdicts


def test_the_tables_are_printed_from_recorded_rounds(tmp_path, capsys, monkeypatch):
    path = tmp_path / "rounds.jsonl"
    other = Round("5% slower", 9.0, 5.0, [1.0] * POINTS, [None] * POINTS)
    path.write_text("".join(json.dumps(asdict(made)) + "\n" for made in [*noise(0.01), other]))
    monkeypatch.setattr(
        "sys.argv", ["compare_power", "--simulate", str(path), "--simulations", "2"]
    )
    main()
    out = capsys.readouterr().out
    assert "Simulated from 12 recorded rounds" in out
    assert "| 10% | 5 min | 100.0% | 0 of 2 |" in out


def git(root, *arguments):
    command = ["git", "-C", str(root), "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "dlm_bench" / "models").mkdir(parents=True)
    block = (ROOT / "dlm_bench" / "models" / "block.py").read_text()
    (tmp_path / "dlm_bench" / "models" / "block.py").write_text(block)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "x")
    return tmp_path


def test_a_slower_revision_repeats_its_share_of_the_calls_and_is_on_no_branch(repository):
    before = git(repository, "branch", "--all")
    commit = slower_commit(0.25, repository)
    assert git(repository, "branch", "--all") == before
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "diff", "--name-only", "HEAD", commit) == "dlm_bench/models/block.py"
    patch = git(repository, "show", f"{commit}:dlm_bench/models/block.py").partition(
        "_repeated_share"
    )[1:]
    calls = []
    block = type("Block", (), {"forward": lambda self, x: calls.append(x) or x})
    scope = {"Block": block}
    exec("".join(patch), scope)
    assert [block().forward(i) for i in range(8)] == list(range(8))
    assert len(calls) == 10
