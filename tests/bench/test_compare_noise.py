"""bench/compare_noise.py and bench/compare_suite.py, reduced: what docs/ci.md says of them."""

from pathlib import Path

import pytest
from compare_noise import NOISES, alarms_and_power, found_stalls, main
from compare_suite import found, read_rounds

ROUNDS = Path(__file__).parents[2] / "results" / "ci" / "rounds.jsonl"


@pytest.mark.parametrize("name", ["independent", "heavy-tailed", "correlation 0.95"])
def test_noise_of_any_kind_raises_few_alarms(name):
    alarms, _, tenth = alarms_and_power(NOISES[name], 200, 40)
    assert alarms <= 0.015  # 0.2 % allow 0.4 of 200; 4 or more come once in 1,300 such tests
    assert tenth >= 0.9


def test_a_head_that_stalls_in_most_decodes_is_found():
    assert found_stalls(0.6, 0.3, 60, tails=False) >= 0.95
    assert found_stalls(0.0, 0.0, 60, tails=True) == 0


def test_a_uniform_slowdown_of_2_percent_is_found_by_the_suite_and_by_no_single_point():
    rounds = read_rounds(ROUNDS)
    assert len(rounds) == 21
    suite, point = found(rounds, 0.02, 100)
    assert suite >= 0.95
    assert point <= 0.3
    assert found(rounds, 0.0, 100)[0] <= 0.01


def test_the_tables_are_printed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare_noise.py", "--simulations", "2", "--power", "2"])
    main()
    out = capsys.readouterr().out
    assert out.count("\n| ") == 2 + len(NOISES) + 4
