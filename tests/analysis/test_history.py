"""Throughput over commits: levels, changes and what is left alone."""

import re
import sys

import numpy as np
import pytest
from support.records import make_record

from dlm_bench.analysis.history import find_steps, histories
from dlm_bench.cli import main
from dlm_bench.errors import ConfigError
from dlm_bench.figures.history import draw_history
from dlm_bench.report.history_page import history_page
from dlm_bench.results.store import append_record


def record(commit, seconds, *, run=1, torch="2.12", **environment):
    facts = {"hardware": "cpu", "commit": f"c{commit:02d}", "torch": torch} | environment
    when = f"2026-01-{1 + commit:02d}T00:00:{run:02d}+00:00"
    return make_record(
        length=64, seconds=[float(seconds)], run=run, measured_at=when, environment=facts
    )


def stepped(count=20, at=12, step=0.05):
    """Records of commits, in any order, slower from one on."""
    random = np.random.default_rng(0)
    noise = 1 + 0.005 * random.standard_normal(count)
    made = [record(n, noise[n] * (1 + step * (n >= at))) for n in range(count)]
    return [made[n] for n in random.permutation(count)]


def test_a_step_is_found_at_its_commit_with_the_levels_on_both_sides():
    ((history,), absent) = histories(stepped())
    assert absent == 0
    assert [entry.commit for entry in history.entries] == [f"c{n:02d}" for n in range(20)]
    (step,) = history.steps
    assert history.entries[step.index].commit == "c12"
    assert step.before == pytest.approx(64, rel=0.01)
    assert step.change == pytest.approx(1 / 1.05 - 1, abs=0.01)


def test_runs_of_a_commit_are_one_entry_with_an_interval():
    records = [record(0, 1.0), record(0, 1.1, run=2), record(0, 1.2, run=3)]
    ((history,), _) = histories(records)
    (entry,) = history.entries
    assert entry.value == pytest.approx(64 / 1.1)
    assert entry.interval[0] < entry.value < entry.interval[1]


def test_changes_of_the_environment_are_named_at_their_commit():
    ((history,), _) = histories([record(0, 1.0), record(1, 1.0), record(2, 1.0, torch="2.13")])
    assert [entry.changed for entry in history.entries] == ["", "", "torch 2.12 to 2.13"]


def test_machines_have_histories_of_their_own_and_records_without_a_commit_are_counted():
    nameless = record(1, 1.0)
    nameless.environment["commit"] = None
    records = [record(0, 1.0), record(0, 1.0, hardware="H100"), nameless]
    found, absent = histories(records)
    assert [each.name.rpartition(", ")[2] for each in found] == ["cpu", "H100"]
    assert absent == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_short_and_constant_series_have_no_steps(count):
    assert find_steps(np.zeros(count)) == []
    assert find_steps(np.ones(60)) == []


def test_a_single_slow_commit_is_no_step():
    values = 0.01 * np.random.default_rng(0).standard_normal(40)
    values[20] += 0.5
    assert find_steps(values) == []


def test_the_figure_has_a_line_at_each_change_and_the_page_names_them():
    ((history,), _) = histories(stepped())
    figure = draw_history(history)
    assert [text.get_text() for text in figure.axes[0].texts] == ["-4.5 %"]
    page = history_page([history])
    assert page.count("<svg") == 1
    assert "<code>c12</code>" in page
    assert "-4.5 %" in page
    assert not re.search(r"(src|href)=.http|<script|<link", page), "it needs no network"


def test_the_command_prints_the_changes_and_writes_the_page(tmp_path, capsys):
    results = tmp_path / "r.jsonl"
    for each in stepped():
        append_record(results, each)
    page = tmp_path / "history.html"
    assert main(["history", str(results), "--point", "length=64", "--output", str(page)]) == 0
    out = capsys.readouterr().out
    assert "c12" in out
    assert "-4.5 %" in out
    assert page.stat().st_size > 10_000
    assert main(["history", str(results), "--point", "length=1"]) == 2
    assert "--point: 'length=1' matches none" in capsys.readouterr().err


def test_without_ruptures_it_is_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(ConfigError, match="needs the package ruptures; pip install"):
        histories([])
