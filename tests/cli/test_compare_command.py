"""`dlm-bench compare`, run as a CI job runs it."""

import json

import pytest
from support.comparing import BOTH, SLOWER, record

from dlm_bench.cli import main
from dlm_bench.compare.match import compare_all
from dlm_bench.results.store import append_record


def test_the_same_times_are_no_regression(compare):
    code, out, err = compare(BOTH, BOTH)
    assert (code, err) == (0, "")
    assert "2 same of 2 points (threshold 5 %): no regression proven" in out


def test_a_proven_slowdown_is_exit_code_1(compare):
    code, out, _ = compare(BOTH, SLOWER)
    assert code == 1
    row = next(line for line in out.splitlines() if line.startswith("slower"))
    assert "diffumamba tiny full L=64" in row
    assert "+10.0 %" in row
    assert "1 slower, 1 same of 2 points" in out


def test_faster_is_exit_code_0(compare):
    code, out, _ = compare(SLOWER, BOTH)
    assert code == 0
    assert "1 faster, 1 same" in out


def test_the_threshold_is_what_counts_as_slower(compare):
    assert compare(BOTH, SLOWER, "--threshold", "30%")[0] == 0


def test_single_runs_say_what_is_assumed_of_them_and_prove_less(compare):
    slower = [record(), record("diffumamba", 1.08)]
    code, out, _ = compare(BOTH, slower, runs=1)
    assert code == 0
    assert "2 undecided" in out
    assert "1 run a side; that runs of the same code differ by 2 % is assumed" in out
    assert compare(BOTH, slower, "--run-spread", "0.5%", runs=1)[0] == 1


def test_a_point_that_fails_now_is_a_regression_and_one_that_failed_before_is_none(compare):
    failing = [record(), record("diffumamba", status="oom")]
    code, out, _ = compare(BOTH, failing)
    assert code == 1
    assert "newly failing" in out
    assert "oom: no room" in out
    assert compare(failing, failing)[0] == 0
    code, out, _ = compare(failing, BOTH)
    assert code == 0
    assert "1 fixed" in out


def test_a_point_that_is_gone_or_new_is_said_and_is_no_regression(compare):
    code, out, _ = compare(BOTH, [record(), record("diffumamba-h")])
    assert code == 0
    assert "1 same, 1 missing, 1 new of 3 points" in out


def test_a_run_that_failed_beside_ones_that_did_not_is_a_note(compare):
    code, out, _ = compare([record()] * 3, [record(), record(), record(status="timeout")], runs=1)
    assert code == 0
    assert "1 of 3 runs of head failed" in out


def test_a_point_that_fails_twice_and_never_did_on_base_is_newly_failing(compare):
    failing = [record(), record(status="timeout"), record(status="oom")]
    code, out, _ = compare([record()] * 3, failing, runs=1)
    assert code == 1
    assert "1 newly failing of 1 point" in out
    assert "oom: no room" in out
    assert compare([*failing[1:], record()], failing, runs=1)[0] == 0, "base failed as well"


def test_auto_may_have_come_to_another_mode(compare):
    base, head = record(mode="exact"), record(scale=1.1, mode="sampled", error_estimate=0.01)
    code, out, _ = compare([base], [head])
    assert code == 1
    assert "mode sampled, was exact" in out
    failed = record(mode="auto", status="oom")
    assert "1 newly failing of 1 point" in compare([base], [failed], runs=1)[1]


def test_what_sampling_may_be_off_by_counts_as_what_runs_differ_by(compare):
    base = record(mode="sampled", error_estimate=0.2)
    head = record(scale=1.15, mode="sampled", error_estimate=0.2)
    code, out, _ = compare([base], [head], runs=1)
    assert code == 0
    assert "1 undecided" in out
    assert "sampling may be off by up to 20 %" in out


def test_a_run_of_doubtful_sampling_counts_little_beside_good_ones(compare):
    """A contended run once made its point undecided for ever."""
    good = [record(mode="sampled", error_estimate=0.01)] * 9
    bad = record(mode="sampled", scale=1.4, error_estimate=1.29)
    assert "1 same of 1 point" in compare([*good, bad], good, runs=1)[1]
    slower = [record(mode="sampled", scale=1.1, error_estimate=0.01)] * 9
    assert compare([*good, bad], slower, runs=1)[0] == 1


THROTTLED = record(scale=1.3, flags=["throttled"])


def test_a_head_that_alone_was_throttled_proves_no_slowdown(compare):
    code, out, _ = compare([record()], [THROTTLED])
    assert (code, "1 undecided of 1 point" in out) == (0, True)
    assert "head alone was held back, which proves no slowdown" in out
    assert compare([record(flags=["contended"])], [THROTTLED])[0] == 1, "both were held back"
    assert compare([record()], [record(scale=1.3, flags=["outliers"])])[0] == 1


def test_a_base_that_alone_was_throttled_hides_no_slowdown(compare):
    assert "1 undecided" in compare([THROTTLED], [record(scale=1.3)])[1]
    assert "1 undecided" in compare([THROTTLED], [record()])[1]
    code, out, _ = compare([THROTTLED], [record(scale=2.0)])
    assert (code, "1 slower" in out) == (1, True)


def test_throttled_runs_are_set_aside_where_there_are_others(compare):
    code, out, _ = compare([record()], [record(), THROTTLED])
    assert (code, "1 same of 1 point" in out) == (0, True)
    assert "10 of 20 runs of head set aside" in out


def test_the_suite_is_shown_and_judged_if_asked(compare):
    base = [record(length=length) for length in (64, 96, 128, 160)]
    head = [record(length=length, scale=1.024) for length in (64, 96, 128, 160)]
    exact = ("--run-spread", "0.5%")
    code, out, _ = compare(base, head, *exact)
    assert code == 0
    assert "overall: time +2.4 % (0.98x tokens/s) [+" in out
    assert "] over 4 points\n" in out
    code, out, _ = compare(base, head, *exact, "--suite-threshold", "1.5%")
    assert code == 1
    assert "over 4 points -> slower (suite threshold 1.5 %)" in out
    assert out.splitlines()[-1].endswith(": the suite is slower")
    found = json.loads(compare(base, head, *exact, "--format", "json")[1])["overall"]
    assert (found["verdict"], found["points"]) == (None, 4)
    assert found["ratio"] == pytest.approx(1.024)
    assert compare(base, head, *exact, "--suite-threshold", "10%")[0] == 0


def test_more_heads_are_a_column_each(tmp_path, capsys):
    paths = []
    for name, records in (("base", BOTH), ("one", BOTH), ("two", SLOWER)):
        paths.append(str(tmp_path / f"{name}.jsonl"))
        for each in records * 10:
            append_record(paths[-1], each)
    assert main(["compare", *paths]) == 1
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("diffumamba tiny"))
    assert row.split("  ")[0] == "diffumamba tiny full L=64"
    assert row.endswith("slower +10.0 % (0.91x)")
    assert "same +0.0 % (1.00x)" in row
    assert "head 2: 1 slower, 1 same of 2 points (threshold 5 %): 1 regression" in out
    assert main(["compare", *paths, "--format", "json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["regression"] for each in found["comparisons"]] == [False, True]
    assert main(["compare", *paths, "--format", "markdown"]) == 1
    assert "| 🔴 slower +10.0 % (0.91x) |" in capsys.readouterr().out
    assert main(["compare", *paths, "--format", "github"]) == 1
    assert capsys.readouterr().out.startswith("::error title=dlm-bench slower::diffumamba")
    assert main(["compare", *paths, "--format", "github-action-benchmark"]) == 2


def test_all_heads_share_the_chance_of_a_false_alarm(tmp_path):
    paths = [tmp_path / name for name in ("base", "one", "two")]
    for path in paths:
        append_record(path, record())
    (alone,), both = compare_all(paths[0], paths[1:2]), compare_all(paths[0], paths[1:])
    assert both[0].points[0].change.interval == alone.points[0].change.interval
    assert both[0].points[0].change.alarm.high > alone.points[0].change.alarm.high
    (twice,) = compare_all(paths[0], paths[1:2], false_alarms=0.004)
    (half,) = compare_all(paths[0], paths[1:2], false_alarms=0.004, suite_threshold=0.01)
    assert twice.points[0].change.alarm.high < alone.points[0].change.alarm.high
    assert half.points[0].change.alarm == alone.points[0].change.alarm


OPEN = [record(), record("diffumamba", 1.08)]


@pytest.mark.parametrize(
    ("head", "names", "runs", "code"),
    [
        (SLOWER, "slower", 10, 1),
        (SLOWER, "newly-failing", 10, 0),
        (SLOWER, "none", 10, 0),
        ([record(), record("diffumamba", status="oom")], "slower", 10, 0),
        ([record(), record("diffumamba", status="oom")], "slower,newly-failing", 10, 1),
        (BOTH[:1], "missing", 10, 3),
        (BOTH[:1], "slower,undecided", 10, 0),
        (OPEN, "undecided", 1, 3),
        (OPEN, "slower, missing", 1, 0),
        ([SLOWER[1]], "missing,slower", 10, 1),
    ],
)
def test_only_what_is_asked_for_fails_and_only_a_regression_is_exit_code_1(
    compare, head, names, runs, code
):
    assert compare(BOTH, head, "--fail-on", names, runs=runs)[0] == code


def test_more_false_alarms_find_more(compare):
    """A slowdown of 5 % between single runs with a spread of 1 %."""
    slower = [record(), record("diffumamba", 1.05)]
    assert compare(BOTH, slower, "--run-spread", "1%", runs=1)[0] == 0
    assert compare(BOTH, slower, "--run-spread", "1%", "--false-alarms", "5%", runs=1)[0] == 1
