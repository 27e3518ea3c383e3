"""What `dlm-bench compare` prints for people, for GitHub and for programs."""

import json
from statistics import fmean

import pytest
from support.comparing import BOTH, STEADY, compare_records, record


@pytest.fixture
def compare(tmp_path, capsys):
    """Compares two lists of records through the command line: exit code, stdout, stderr."""

    def run(base, head, *options, **runs):
        return compare_records(tmp_path, base, head, *options, **runs), *capsys.readouterr()

    return run


MIXED = (
    [record(), record("diffumamba"), record("diffumamba-h"), record(length=128)],
    [record(), record("diffumamba", 1.1), record("diffumamba-h", status="oom")],
)


def test_markdown_shows_what_needs_a_look_and_folds_the_rest(compare):
    code, out, _ = compare(*MIXED, "--format", "markdown")
    assert code == 1
    assert out.startswith("### 🔴 dlm-bench: 2 regressions\n")
    table, _, folded = out.partition("<details>")
    assert "| 🔴 slower | diffumamba tiny full L=64 | 64.0 | 58.2 | +10.0 % (0.91x) |" in table
    assert "| 🔴 newly failing |" in table
    assert "| 🟡 missing |" in table
    assert "| same |" in folded
    rows = [line for line in out.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


def test_markdown_stays_a_table_whatever_a_message_says(compare):
    head = record(status="error").model_copy(update={"message": "a | b <i>\n`c`"})
    _, out, _ = compare([record()], [head], "--format", "markdown")
    (row,) = (line for line in out.splitlines() if "newly failing" in line and "|" in line)
    assert "a \\| b &lt;i> 'c'" in row


def test_json_holds_everything(compare):
    code, out, _ = compare(*MIXED, "--format", "json")
    found = json.loads(out)
    assert code == 1
    assert found["regression"] is True
    assert found["counts"] == {"slower": 1, "newly failing": 1, "same": 1, "missing": 1}
    same, slower, failing, missing = found["points"]
    assert slower["verdict"] == "slower"
    assert slower["ratio"] == pytest.approx(1.1)
    assert slower["interval_95"] == pytest.approx([1.086, 1.114], abs=0.002)
    assert slower["head_tokens_per_second"] == pytest.approx(64 / (1.1 * fmean(STEADY)))
    assert slower["point"]["backbone"] == "diffumamba"
    assert same["verdict"] == "same"
    assert failing["ratio"] is None
    assert missing["head_seconds"] is None


def test_json_stays_json_where_an_interval_has_no_end(compare):
    alone = record().model_copy(update={"seconds": [1.0]})
    _, out, _ = compare([alone], [alone], "--format", "json", runs=1)
    (point,) = json.loads(out)["points"]
    assert point["interval_95"] == [0.0, None]


def test_github_gets_annotations_and_a_step_summary(compare, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, _ = compare(*MIXED, "--format", "github")
    assert code == 1
    commands = [line for line in out.splitlines() if line.startswith("::")]
    assert commands == [
        "::error title=dlm-bench slower::diffumamba tiny full L=64: "
        "time +10.0 %25 (0.91x tokens/s) [+8.5 %25, +11.5 %25]",
        "::error title=dlm-bench newly failing::diffumamba-h tiny full L=64: oom: no room",
        "::warning title=dlm-bench missing::diffutran tiny full L=128: head has no record of it",
    ]
    assert summary.read_text().startswith("before\n### 🔴 dlm-bench: 2 regressions\n")


def test_github_gets_a_notice_of_what_is_undecided_and_a_warning_of_what_to_mistrust(compare):
    alone = [record().model_copy(update={"seconds": [1.0]})]
    other = [record(environment={"torch": "9"}).model_copy(update={"seconds": [1.0]})]
    allowed = ("--allow-different-environment", "--format", "github")
    code, out, _ = compare(alone, other, *allowed, runs=1)
    assert code == 0
    warning, nothing, notice = (line for line in out.splitlines() if line.startswith("::"))
    assert warning.startswith("::warning title=dlm-bench warning::DIFFERENT ENVIRONMENTS")
    assert nothing.startswith("::warning title=dlm-bench nothing decided::the noise is not known")
    assert notice.startswith("::notice title=dlm-bench undecided::diffutran tiny full L=64: ")


def test_a_step_summary_that_cannot_be_written_is_an_error(compare, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    code, _, err = compare(BOTH, BOTH, "--format", "github")
    assert code == 2
    assert "GITHUB_STEP_SUMMARY" in err


def test_a_step_summary_that_cannot_be_written_hides_no_regression(compare, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    code, _, err = compare(*MIXED, "--format", "github")
    assert code == 1
    assert err.startswith("dlm-bench: WARNING: GITHUB_STEP_SUMMARY: ")


def test_other_formats_leave_the_step_summary_alone(compare, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    compare(BOTH, BOTH, "--format", "markdown")
    assert not (tmp_path / "summary.md").exists()


def test_github_action_benchmark_gets_heads_speeds_by_names_of_their_own(compare):
    both_dtypes = [*MIXED[1], record(dtype="bfloat16")]
    code, out, _ = compare(MIXED[0], both_dtypes, "--format", "github-action-benchmark")
    entries = json.loads(out)
    assert code == 1
    assert [entry["name"] for entry in entries] == [
        "diffutran tiny full L=64 float32 cpu",
        "diffumamba tiny full L=64 float32 cpu",
        "diffutran tiny full L=64 bfloat16 cpu",
    ]
    assert {entry["unit"] for entry in entries} == {"tokens/s"}
    assert entries[1]["value"] == pytest.approx(64 / (1.1 * fmean(STEADY)))
    assert set(entries[1]) == {"name", "unit", "value", "range", "extra"}
    assert all(isinstance(entry[key], str) for entry in entries for key in ("range", "extra"))


def test_nothing_decided_is_not_a_green_light(compare):
    code, out, _ = compare(BOTH, BOTH, runs=1)
    assert code == 0
    conclusion, advice = out.splitlines()[-2:]
    assert conclusion == "2 undecided of 2 points (threshold 5 %): nothing decided"
    assert advice.startswith("advice: the median noise is ±6.4 %, and the threshold 5 %: append")
    _, out, _ = compare(BOTH, BOTH, "--format", "markdown", runs=1)
    assert out.startswith("### 🟡 dlm-bench: nothing decided\n")
    assert "> **Nothing decided:** the median noise" in out
    found = json.loads(compare(BOTH, BOTH, "--format", "json", runs=1)[1])
    assert (found["decided"], found["conclusion"]) == (False, "nothing decided")
    assert found["advice"]


def test_what_is_decided_needs_no_advice(compare):
    _, out, _ = compare(BOTH, BOTH)
    assert out.splitlines()[-1] == "2 same of 2 points (threshold 5 %): no regression proven"
    assert json.loads(compare(BOTH, BOTH, "--format", "json")[1])["advice"] == ""


FAILING = [record(status="oom"), record("diffumamba", status="oom")]


def test_points_that_fail_on_both_sides_are_no_green_light(compare):
    code, out, _ = compare(FAILING, FAILING)
    assert code == 0
    conclusion, advice = out.splitlines()[-2:]
    assert conclusion == "2 still failing of 2 points (threshold 5 %): nothing decided"
    assert advice == "advice: every point fails on both sides; run one by itself to see why"
    _, out, _ = compare([*FAILING, record(length=128)], [*FAILING, record(length=128)])
    assert "no regression proven" in out


@pytest.mark.parametrize(
    ("base", "head", "runs", "code"),
    [
        (BOTH, BOTH, 1, 3),
        (BOTH, BOTH, 10, 0),
        (BOTH, BOTH[:1], 10, 3),
        (BOTH, [record(), record("diffumamba", 1.5)], 10, 1),
        (BOTH[:1], BOTH, 10, 0),
        (FAILING, FAILING, 10, 3),
    ],
    ids=["undecided", "same", "missing", "slower", "new", "failing on both sides"],
)
def test_strict_is_exit_code_3_where_a_point_is_left_open(base, head, runs, code, compare):
    assert compare(base, head, "--strict", runs=runs)[0] == code


def test_a_wild_interval_is_said_in_words(compare):
    wild = record().model_copy(update={"seconds": [1.0, 1.0, 90.0, 0.01, 300.0]})
    _, out, _ = compare([record()], [wild], runs=1)
    assert "the noise leaves everything open" in out
    row = next(line for line in out.splitlines() if line.startswith("undecided"))
    assert max(map(len, row.split("  "))) < 40


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_a_pipe_gets_no_colour_unless_it_is_forced(environment, coloured, compare, monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert ("\x1b[" in compare(BOTH, BOTH)[1]) == coloured
    assert "\x1b[" not in compare(BOTH, BOTH, "--format", "markdown")[1]
