"""The command line, run as a user runs it."""

import contextlib
import io
import subprocess
import sys

import pytest

from dlm_bench.cli import main
from dlm_bench.results.store import read_records

pytestmark = pytest.mark.process

SWEEP = """
name = "test"
size = "tiny"
dtype = "float32"
mode = "{mode}"
warmup = 0
repeats = 2
tolerance = 1
max_seconds = 0.2
lengths = [32, 48, 64, 96]

[[lines]]
backbone = ["diffutran", "diffumamba-h"]
sampler = ["full", "block-cache"]

[[lines]]
backbone = "ar-mamba"
sampler = "ar"
"""
BLOCK_RUN = ["run", "diffumamba", "block-cache", "--size", "tiny", "--device", "cpu", "-L", "40"]
BLOCK_RUN += ["--warmup", "0"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The file of a sweep that ran through the command line, and what that printed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "s.toml").write_text(SWEEP.format(mode="sampled"))
    path, out = folder / "r.jsonl", io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["sweep", str(folder / "s.toml"), "--output", str(path)]) == 0
    return path, out.getvalue()


@pytest.fixture(scope="module")
def results(swept):
    return swept[0]


def shell(*arguments):
    command = [sys.executable, "-m", "dlm_bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_sweep_leaves_a_record_of_every_point(results):
    records = read_records(results)
    assert len(records) == 20
    assert {r.status for r in records} == {"ok"}
    assert all(len(r.seconds) == 2 and r.tokens_per_second > 0 for r in records)


def test_a_sweep_ends_with_its_table(swept):
    _, out = swept
    assert "AR Mamba-2" in out
    assert "DiffuMamba-H, block cache, commit=separate" in out
    assert "20 records appended" in out


def test_a_dry_run_prints_nfe_and_runs_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text(SWEEP.format(mode="exact"))
    assert main(["sweep", "s.toml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    row = next(
        line.split() for line in out.splitlines() if "block-cache" in line and " 96 " in line
    )
    assert row[-3] == str(96 // 8 + 96 // 32 - 1)
    assert not (tmp_path / "results").exists()


def test_a_dry_run_prints_batches_and_prompts_where_there_are_any(tmp_path, capsys):
    path = tmp_path / "s.toml"
    path.write_text("batch = [1, 16]\nprompt_len = [128, 512]\n" + SWEEP.format(mode="exact"))
    assert main(["sweep", str(path), "--dry-run"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    _, titles, *rows = lines
    assert titles[-7:] == ["length", "prompt", "batch", "NFE", "token", "passes", "GB"]
    assert any(row[-6:-2] == ["96", "512", "16", "14"] for row in rows)  # of a block cache


def test_a_dry_run_of_a_resume_says_how_much_is_there(results, capsys):
    arguments = ["sweep", str(results.with_name("s.toml")), "--output", str(results), "--dry-run"]
    assert main([*arguments, "--resume"]) == 0
    assert f"20 of 20 points found in {results}" in capsys.readouterr().out


def test_a_sweep_finds_what_run_has_measured(tmp_path, capsys):
    path, sweep = tmp_path / "r.jsonl", tmp_path / "s.toml"
    run = [
        "run",
        "ar-mamba",
        "ar",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "-L",
        "32",
        "--warmup",
        "0",
        "--repeats",
        "2",
        "--tolerance",
        "100%",
        "--max-seconds",
        "0.2",
    ]
    assert main([*run, "--output", str(path)]) == 0
    sweep.write_text(SWEEP.format(mode="exact"))
    assert main(["sweep", str(sweep), "--output", str(path), "--resume", "--dry-run"]) == 0
    assert "1 of 20 points found" in capsys.readouterr().out


def test_fit_prints_a_law_for_each_line(results, capsys):
    assert main(["fit", str(results), "--sampler", "full"]) == 0
    out = capsys.readouterr().out
    assert "DiffuTran" in out
    assert "DiffuMamba-H" in out
    assert "AR" not in out


def test_run_prints_and_keeps_one_record(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    options = ["--repeats", "2", "-o", "commit=fused", "-o", "tokens_per_step=4"]
    assert main([*BLOCK_RUN, *options, "--output", str(path)]) == 0
    (record,) = read_records(path)
    assert record.point.options["commit"] == "fused"
    assert record.nfe == 10
    assert "tokens/s" in capsys.readouterr().out


def test_a_run_after_a_prompt_tells_the_prefill_apart(tmp_path, capsys):
    path = tmp_path / "r.jsonl"
    more = ["--repeats", "2", "--batch", "3", "--prompt-len", "50", "--output", str(path)]
    assert main([*BLOCK_RUN, *more]) == 0
    (record,) = read_records(path)
    assert (record.point.batch, record.point.prompt_len) == (3, 50)
    assert len(record.prefill_seconds) == len(record.first_block_seconds) == 2
    told = capsys.readouterr().out
    assert "L=40 prompt=50 batch=3" in told
    assert f"prefill      {sum(record.prefill_seconds) / 2:.4g} s" in told
    assert f"first block  after {sum(record.first_block_seconds) / 2:.4g} s" in told


@pytest.mark.parametrize(
    ("known", "begin"), [(True, "ar-transformer needs at least 6,597 GB"), (False, "out of memory")]
)
def test_a_run_that_does_not_fit_is_one_line_and_exit_code_3(monkeypatch, capsys, known, begin):
    if not known:
        monkeypatch.setattr("dlm_bench.cli.model.total_memory", lambda _: None)
    # The keys of one layer, 65536 × 65536 × 64 in float32, are 1 TiB.
    too_much = [
        "run",
        "ar-transformer",
        "ar",
        "--size",
        "tiny",
        "--device",
        "cpu",
        "--batch",
        "65536",
        "-L",
        "65536",
    ]
    assert main(too_much) == 3
    err = capsys.readouterr().err
    assert err.startswith(f"dlm-bench: {begin}")
    assert len(err.splitlines()) == 1


def test_env_and_list_name_what_there_is(capsys):
    assert main(["env"]) == 0
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for word in (
        "torch",
        "hardware",
        "kernel attention",
        "diffumamba-h",
        "1.3b",
        "commit=separate",
    ):
        assert word in out


QUICK = "bench/sweeps/quick.toml"
RUN = ["run", "diffutran", "full", "--size", "tiny", "--device", "cpu", "--length"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "diffutron", "full", "-L", "64"], "did you mean 'diffutran'"),
        (["run", "diffutran", "fool", "-L", "64"], "sampler: 'fool'"),
        (["run", "ar-mamba", "full", "-L", "64"], "allowed: diffutran, diffumamba, diffumamba-h"),
        (["run", "diffutran", "ar", "-L", "64"], "allowed: ar-transformer, ar-mamba"),
        ([*RUN, "-5"], "length: -5 is not allowed"),
        ([*RUN, "0"], "length: 0 is not allowed"),
        ([*RUN, "many"], "invalid int value"),
        ([*RUN, "99999999999999"], "length: 99999999999999 is not allowed"),
        ([*RUN, "64", "--prompt-len", "-1"], "prompt_len: -1 is not allowed"),
        ([*RUN, "64", "--seed", "99999999999999999999"], "seed: 99999999999999999999 is not"),
        ([*RUN, "64", "--output", "."], "results file '.': Is a directory"),
        (["sweep", "bench/sweeps/quick.toml", "--output", "."], "results file '.': Is a directory"),
        (["plot", "/dev/null"], "no records"),
        ([*RUN, "64", "-o", "cache=dual"], "cache: sampler 'full' has no such option"),
        ([*RUN, "64", "-o", "tokens_per_step"], "must be NAME=VALUE"),
        ([*RUN, "64", "--size", "big"], "size: 'big'"),
        ([*RUN, "64", "--repeats", "0"], "repeats: 0"),
        ([*RUN, "64", "--mode", "fast"], "mode: 'fast'"),
        ([*RUN, "64", "--dtype", "fp4"], "dtype: 'fp4'"),
        ([*RUN, "64", "--device", "cuda:99"], "device: 'cuda:99' is not here"),
        ([*RUN, "64", "--device", "meta"], "meta"),
        (["run", "diffutran", "block-cache", "-L", "64", "-o", "tokens_per_step=64"], "block_size"),
        (["sweep", "none.toml"], "none.toml"),
        (["sweep", QUICK, "--retry-failed"], "--retry-failed: is not allowed without --resume"),
        (["sweep", QUICK, "--timeout", "0"], "--timeout: '0' is not allowed"),
        (["sweep", QUICK, "--timeout", "nan", "--dry-run"], "--timeout: 'nan' is not allowed"),
        (["sweep", QUICK, "--memory-limit", "8GB"], "must be a size above 0 such as 512MiB or"),
        (["sweep", QUICK, "--kernel-check", "/none.jsonl"], "kernel check '/none.jsonl': No such"),
        (
            ["sweep", QUICK, "--kernel-check", "k.jsonl", "--launcher", "slurm"],
            "--kernel-check: is not allowed with --launcher slurm",
        ),
        (["fit", "none.jsonl"], "none.jsonl"),
        (["plot", "none.jsonl"], "none.jsonl"),
        (
            ["plot", "none.jsonl", "--figure", "pie"],
            "allowed: throughput, batch, waiting, paper-full, paper-block, latency",
        ),
        (["swep"], "swep"),
    ],
)
def test_a_mistake_is_one_clear_line_and_exit_code_2(arguments, message, capsys):
    try:
        code = main(arguments)
    except SystemExit as stop:
        code = stop.code
    err = capsys.readouterr().err
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_torn_last_line_costs_a_warning_and_nothing_else(results, tmp_path, capsys):
    path = tmp_path / "torn.jsonl"
    whole = results.read_text()
    path.write_text(whole + whole.splitlines()[0][:100])
    assert main(["fit", str(path)]) == 0
    captured = capsys.readouterr()
    assert "torn.jsonl:21: skipped" in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert main(["fit", str(results)]) == 0
    assert capsys.readouterr().out == captured.out


def test_a_mistake_on_a_real_command_line_shows_no_traceback():
    done = shell("run", "diffutran", "full", "--length", "-1", "--size", "tiny", "--device", "cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("dlm-bench: length: -1")
    assert "Traceback" not in done.stderr
