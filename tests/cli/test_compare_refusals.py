"""What `dlm-bench compare` refuses to compare, and what differences it tells."""

import json
import subprocess
import sys

import pytest
from support.comparing import BOTH, record

from dlm_bench.cli import main
from dlm_bench.results.record import SCHEMA_VERSION
from dlm_bench.results.store import append_record


def test_what_was_captured_otherwise_is_a_note(compare):
    base = record(graphs={"denoise": "captured"})
    head = record(graphs={"denoise": "eager: graphs are off"})
    assert "graph of denoise: eager: graphs are off, was: captured" in compare([base], [head])[1]


def test_flags_and_other_kernels_are_notes(compare):
    base = record(kernels={"attention": "sdpa"})
    head = record(kernels={"attention": "flash"}, flags=["throttled"])
    _, out, _ = compare([base], [head])
    assert "head throttled; attention by flash, was sdpa" in out


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"hardware": "other"}, "hardware imaginary, 2 threads / other"),
        ({"torch": "2.13.0"}, "torch 2.11.0 / 2.13.0"),
        ({"driver": "550"}, "driver none / 550"),
        ({"threads": 4}, "threads 2 / 4"),
    ],
)
def test_another_environment_is_refused_or_said_loudly(compare, environment, said):
    head = [record(environment=environment)]
    code, out, err = compare([record()], head)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.splitlines()) == 1
    code, out, err = compare([record()], head, "--allow-different-environment")
    assert code == 0
    for text in (out, err):
        assert f"WARNING: DIFFERENT ENVIRONMENTS (base / head): {said}" in text


def test_another_dtype_is_refused_too(compare):
    base, head = [record(dtype="float32")], [record(dtype="bfloat16")]
    code, _, err = compare(base, head)
    assert code == 2
    assert "dtype float32 / bfloat16" in err
    code, out, _ = compare(base, head, "--allow-different-environment")
    assert (code, "1 same of 1 point" in out) == (0, True)


def test_both_dtypes_on_both_sides_are_points_of_their_own(compare):
    both = [record(dtype="float32"), record(dtype="bfloat16", scale=0.5)]
    code, out, _ = compare(both, both[::-1])
    assert code == 0
    assert "2 same of 2 points" in out


def test_another_environment_of_a_point_that_fails_now_is_refused_too(compare):
    head = record(status="oom", environment={"hardware": "smaller"})
    assert compare([record()], [head])[0] == 2


def test_another_commit_and_version_are_what_is_compared_and_another_kernel_is_only_said(compare):
    assert compare([record()], [record(environment={"commit": "b", "dlm-bench": "9"})])[2] == ""
    code, _, err = compare([record()], [record(environment={"platform": "Linux-6.2"})])
    assert code == 0
    assert "WARNING: not the same on both sides (base / head): platform Linux-6.1" in err


def one_line(code, out, err):
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("dlm-bench: ")
    return err


def test_files_without_a_common_point_are_one_line(compare):
    err = one_line(*compare([record()], [record("diffumamba")]))
    assert "no point of" in err
    assert "one has diffutran tiny full L=64, the other diffumamba tiny full L=64; " in err
    assert err.endswith("compare files of the same sweep\n")
    err = one_line(*compare([record()], [record(warmup=0)]))
    assert "the same points were measured with warmup 3 and 0" in err


FUTURE = record().model_dump(mode="json") | {"schema_version": SCHEMA_VERSION + 1, "more": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no record"),
        (b"\n\n", "holds no record"),
        (b"what?\n", ":1: damaged, not a whole record"),
        (b"\x00\xff\x80", ":1: damaged, not a whole record"),
        (b"[]\n", ":1: damaged"),
        (record().model_dump_json().encode()[:-40], ":1: damaged"),
        (record().model_dump_json().encode() + b"\n{", ":2: damaged"),
        (json.dumps(FUTURE | {"point": 1}).encode(), "is newer than 1; upgrade dlm-bench"),
        (None, "No such file or directory"),
    ],
)
@pytest.mark.parametrize("which", ["base", "head"])
def test_a_file_that_cannot_be_trusted_is_one_line(tmp_path, capsys, content, said, which):
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    append_record(good, record())
    if content is not None:
        bad.write_bytes(content)
    files = (bad, good) if which == "base" else (good, bad)
    code = main(["compare", *map(str, files)])
    assert said in one_line(code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "html"], "--format: 'html' is not known"),
        (["--threshold", "0"], "--threshold: '0' is not allowed"),
        (["--threshold", "nan"], "--threshold: 'nan' is not allowed"),
        (["--run-spread=-1"], "--run-spread: '-1' is not allowed"),
        (["--fail-on", "slow"], "--fail-on: 'slow' is not known"),
        (["--fail-on", "slower", "--strict"], "--strict: is --fail-on with all names"),
        (["--false-alarms", "0"], "--false-alarms: '0' is not allowed"),
        (["--threshold", "5"], "--threshold: '5' is not allowed without a percent sign"),
    ],
)
def test_a_wrong_option_is_one_line(compare, options, said):
    assert said in one_line(*compare(BOTH, BOTH, *options))


@pytest.mark.process
def test_neither_comparing_nor_the_parent_of_ab_imports_torch():
    probe = (
        "import sys, dlm_bench.compare.ab.comparison, dlm_bench.compare.ab.checkouts\n"
        "import dlm_bench.compare.match, dlm_bench.compare.formats; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
