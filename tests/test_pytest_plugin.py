"""The pytest plugin, in sessions of its own."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.pass_clock import PassClock

import dlm_bench
from dlm_bench.compare.baseline import Baseline, judge
from dlm_bench.errors import PointError
from dlm_bench.models.language_model import LanguageModel
from dlm_bench.pytest_plugin import fixture
from dlm_bench.results.record import SCHEMA_VERSION, Point, Record
from dlm_bench.results.store import append_record, read_records

pytestmark = pytest.mark.process

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PYTEST += ["-p", "no:randomly"]  # where it is installed, it imports numpy
POINT = Point(
    backbone="diffutran",
    size="tiny",
    sampler="full",
    options={"p": 8},
    length=64,
    dtype="float32",
)
STEADY = (1.0, 1.01, 0.99, 1.005, 0.995)

MEASURE = """
def test_speed(throughput):
    record = throughput(
        "diffutran", "full", size="tiny", length=64, repeats=15, tokens_per_step=16
    )
    throughput.check(record)
"""
CHECK = """
from pathlib import Path
from support.pass_clock import PassClock

from dlm_bench.results.store import read_records

def test_speed(throughput):
    throughput.check(read_records("head.jsonl")[-1])
"""


def a_record(times=1.0, point=POINT, status="ok", **environment):
    return Record(
        point=point,
        status=status,
        mode="exact",
        warmup=3,
        repeats=5,
        seed=0,
        nfe=4,
        seconds=[times * each for each in STEADY] if status == "ok" else [],
        environment={"hardware": "imaginary", "torch": "2.13"} | environment,
        measured_at="2026-01-01T00:00:00+00:00",
    )


@pytest.fixture(autouse=True, scope="module")
def _libraries():
    """Loads what a model needs: an inner session forgets what it imported, and torch and Triton
    cannot be imported twice."""
    dlm_bench.build_model("diffumamba", size="tiny")


@pytest.fixture
def session(pytester, monkeypatch):
    """Runs the tests of `source` in a session of their own."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def run(source, *options):
        pytester.makepyfile(source)
        plugins = ["-p", "dlm_bench.pytest_plugin"]
        plugins += ["-p", "no:randomly"]  # points of a model stand together
        plugins += ["-p", "no:unraisableexception"]  # which collects garbage for a second
        return pytester.runpytest_inprocess(*plugins, *options)

    return run


@pytest.fixture
def check(session, pytester):
    """Runs a session that checks the head against the base, both records."""

    def run(base, head, *options):
        append_record(pytester.path / "base.jsonl", base)
        append_record(pytester.path / "head.jsonl", head)
        return session(CHECK, "--dlm-baseline", "base.jsonl", *options)

    return run


def test_a_point_is_timed_and_saved(session, pytester):
    session(MEASURE, "--dlm-save", "new/base.jsonl").assert_outcomes(passed=1)
    session(MEASURE, "--dlm-save", "new/base.jsonl").assert_outcomes(passed=1)
    records = read_records(pytester.path / "new" / "base.jsonl", strict=True)
    assert len(records) == 2, "a second run is a second record"
    point = records[0].point
    assert (point.backbone, point.size, point.sampler) == ("diffutran", "tiny", "full")
    assert point.length == 64
    assert (point.device, point.dtype) == ("cpu", "float32")
    assert point.options["tokens_per_step"] == 16
    assert len(records[0].seconds) == 15


def test_a_point_may_have_prompts_of_a_file_and_end_with_its_texts(session, pytester):
    place = "size='tiny', length=16, warmup=0, repeats=1, prompts='shipped', stop_at_eos=True"
    found = session(
        f"def test_speed(throughput): throughput('diffutran', 'full', {place})",
        *("--dlm-save", "r.jsonl"),
    )
    found.assert_outcomes(passed=1)
    (record,) = read_records(pytester.path / "r.jsonl", strict=True)
    assert record.prompt_file["drawn"] == ["code: a queue"]
    assert record.generated == 16


def test_planted_work_fails_the_test(session, pytester, monkeypatch):
    PassClock(monkeypatch)
    session(MEASURE, "--dlm-save", "base.jsonl").assert_outcomes(passed=1)
    forward = LanguageModel.forward

    def slow(self, *args, **kwargs):
        forward(self, *args, **kwargs)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LanguageModel, "forward", slow)
    found = session(MEASURE, "--dlm-baseline", "base.jsonl")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["dlm-bench: diffutran tiny full p=16 L=64: slower, *"])


def test_no_change_passes_and_is_told(check):
    found = check(a_record(), a_record(1.004))
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines(["*= dlm-bench =*", "diffutran tiny full p=8 L=64: *+0.4 % *"])


def test_a_slowdown_fails_with_all_that_it_is_about(check):
    found = check(a_record(), a_record(1.5))
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(
        [
            "dlm-bench: diffutran tiny full p=8 L=64: slower, 1000 ms -> 1500 ms a decode, +50.0 % "
            "(95 %: *); threshold 5 %, baseline *base.jsonl"
        ]
    )
    assert "Traceback" not in found.stdout.str()
    assert "dlm_bench/pytest_plugin" not in found.stdout.str()


def test_a_speedup_passes(check):
    check(a_record(), a_record(0.5)).assert_outcomes(passed=1)


def test_the_threshold_decides(check):
    check(a_record(), a_record(1.5), "--dlm-threshold", "100%").assert_outcomes(passed=1)


def test_a_wider_spread_of_runs_leaves_it_undecided(check):
    found = check(a_record(), a_record(1.5), "--dlm-run-spread", "20%")
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines(["*: undecided, *"])


@pytest.mark.parametrize(
    ("base", "why"),
    [
        (a_record(torch="2.11"), "*another environment (baseline / here): torch 2.11 / 2.13"),
        (
            a_record(point=POINT.model_copy(update={"dtype": "bfloat16"})),
            "*dtype bfloat16 / float*",
        ),
        (a_record(point=POINT.model_copy(update={"length": 99})), "*no time of it in *base.jsonl"),
        (a_record(status="oom"), "*no time of it in *base.jsonl: oom"),
    ],
)
def test_what_cannot_be_compared_is_skipped_and_said_or_fails_if_strict(check, base, why):
    found = check(base, a_record(), "-rs")
    found.assert_outcomes(skipped=1)
    found.stdout.fnmatch_lines([f"SKIPPED*{why}"])
    found = check(base, a_record(), "--dlm-strict")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines([f"dlm-bench: diffutran tiny full p=8 L=64: {why}"])


def test_another_commit_and_system_are_compared(check):
    base = a_record(commit="one", platform="Linux-1", **{"dlm-bench": "0.0"})
    check(base, a_record(commit="two", platform="Linux-2")).assert_outcomes(passed=1)


def test_without_a_baseline_check_says_nothing(session, pytester):
    append_record(pytester.path / "head.jsonl", a_record())
    source = CHECK.replace("    throughput.check", "    assert None is throughput.check")
    session(source).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "*No such file or directory"),
        ("", "*holds no record"),
        ('{"half": ', "*base.jsonl:1: damaged, not a whole record (*"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}}}', "*upgrade dlm-bench"),
    ],
)
def test_a_bad_baseline_ends_the_session_in_a_line(session, pytester, text, why):
    if text is not None:
        (pytester.path / "base.jsonl").write_text(text)
    found = session(CHECK, "--dlm-baseline", "base.jsonl")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines([f"ERROR: dlm-bench: {why}"])


def test_the_baseline_is_not_written_to(check):
    found = check(a_record(), a_record(), "--dlm-save", "base.jsonl")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["ERROR: --dlm-save: must not be the file of --dlm-baseline*"])


@pytest.mark.parametrize("text", ["0", "-5%", "fast", "nan", "101%"])
def test_a_threshold_is_a_percentage(session, text):
    found = session(CHECK, f"--dlm-threshold={text}")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines([f"*--dlm-threshold: '{text}' is not allowed; must be a share*"])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        ('"full", length=64, tokens_per_stp=8', "*tokens_per_stp*"),
        ('"full", length=64, tokens_per_step=0', "tokens_per_step: 0 is not allowed; *"),
        ('"ful", length=64', "sampler: 'ful' is not known (did you mean 'full'?); *"),
        ('"full", length=0', "length: 0 is not allowed; *"),
        ('"full", length=64, size="huge"', "size: 'huge' is not known*"),
        ('"full", length=64, dtype="float8"', "dtype: 'float8' is not known*"),
        ('"full", length=64, device="tpu"', "device: *"),
        ('"full", length=64, mode="quick"', "mode: 'quick' is not known*"),
        ('"full", length=64, repeats=0', "repeats: 0 is not allowed; *"),
        ('"full", length=64, seed="x"', "seed: 'x' is not allowed; *"),
        ('"ar", length=64', "*diffutran*"),
    ],
)
def test_a_mistake_in_a_call_is_one_line(session, call, line):
    found = session(f"def test_speed(throughput): throughput('diffutran', {call})")
    found.assert_outcomes(failed=1)
    text = found.stdout.str()
    body = text[text.index("FAILURES") : text.index("short test summary")].splitlines()[2:-1]
    assert len(body) == 1, body
    found.stdout.fnmatch_lines([f"dlm-bench: {line}"])


def test_a_check_of_no_record_is_one_line(session):
    found = session("def test_speed(throughput): throughput.check(None)")
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["dlm-bench: check: None is not allowed; must be a record, *"])
    assert "dlm_bench/pytest_plugin" not in found.stdout.str()


def test_nothing_is_timed_beside_other_workers(session, monkeypatch):
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    session(MEASURE, "-p", "no:benchmark").assert_outcomes(skipped=1)


def test_points_of_a_model_share_it(session, pytester, monkeypatch):
    built = []
    build = dlm_bench.build_model

    def counted(*asked):
        built.append(asked[0])
        return build(*asked)

    monkeypatch.setattr("dlm_bench.pytest_plugin.fixture.build_model", counted)
    found = session(
        """
        import pytest

        @pytest.mark.parametrize("length", [16, 32])
        @pytest.mark.parametrize("backbone", ["diffutran", "diffumamba"])
        def test_speed(throughput, backbone, length):
            throughput(backbone, "full", size="tiny", length=length, warmup=0, repeats=1)
        """
    )
    found.assert_outcomes(passed=4)
    assert sorted(built) == ["diffumamba", "diffutran"]


@pytest.mark.parametrize(("alarms", "failed"), [("20%", 1), ("0.001%", 0)])
def test_the_chance_of_a_false_alarm_decides_what_is_proven(check, alarms, failed):
    found = check(a_record(), a_record(1.12), "--dlm-false-alarms", alarms)
    found.assert_outcomes(failed=failed, passed=1 - failed)


def test_a_decode_faster_than_its_floor_fails_the_test_with_the_reason(session, monkeypatch):
    monkeypatch.setattr(fixture, "check_not_too_fast", _too_fast)
    found = session(MEASURE)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["dlm-bench: decode: faster than possible"])


def _too_fast(record, sampler):
    assert record.point.sampler == sampler.name
    raise PointError("decode: faster than possible")


def test_all_points_of_the_baseline_count_as_compared():
    """Bonferroni: the more points a session may check, the surer each alarm has to be."""
    records = (a_record(),)
    one, many = (judge(a_record(1.2), Baseline("b", records, n)).change for n in (1, 1000))
    assert one.interval == many.interval
    assert many.alarm.low < one.alarm.low


def test_a_session_that_uses_nothing_of_it_imports_nothing_heavy(tmp_path):
    """Loaded by its entry point as pyproject.toml has it, whatever is installed here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site"
    info = site / "dlm_bench_entry-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: dlm-bench-entry\nVersion: 0\n")
    entries = project["entry-points"]["pytest11"].items()
    lines = ["[pytest11]", *(f"{name} = {module}" for name, module in entries)]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "test_it.py").write_text(
        "import sys\n"
        "def test_it(pytestconfig):\n"
        "    assert pytestconfig.pluginmanager.has_plugin('dlm_bench.pytest_plugin')\n"
        "    ours = {name for name in sys.modules if name.startswith('dlm_bench')}\n"
        "    light = {'errors', 'pytest_plugin', 'pytest_plugin.session', 'version'}\n"
        "    assert ours <= {'dlm_bench', *(f'dlm_bench.{name}' for name in light)}\n"
        "    assert not {'torch', 'numpy', 'pydantic', 'scipy', 'pandas'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [*PYTEST, "test_it.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{site}:{ROOT}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
