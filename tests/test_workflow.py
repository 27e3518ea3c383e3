"""The GitHub workflow in examples/: valid YAML, whose commands there are."""

import re
import shlex
from pathlib import Path

import pytest
import yaml  # which transformers brings

from dlm_bench.cli.parser import build_parser

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / "examples" / "github-workflow.yml").read_text())


def commands(program):
    """The arguments of each call of a program, over all steps."""
    runs = [
        step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
    ]
    lines = "\n".join(runs).replace("\\\n", " ").splitlines()
    calls = [shlex.split(line.removesuffix("||"), comments=True) for line in lines]
    return [words[1:] for words in calls if words and words[0] == program]


def test_every_dlm_bench_command_is_one():
    found = commands("dlm-bench")
    for arguments in found:
        build_parser().parse_args(arguments)
    assert {arguments[0] for arguments in found} == {"env", "ab", "sweep", "compare"}


def test_a_misspelt_command_would_be_noticed():
    with pytest.raises(SystemExit):
        build_parser().parse_args(["ab", "--bace", "HEAD^1", "bench/sweeps/ci.toml"])


def test_every_file_that_it_names_is_there():
    named = {
        word for program in ("dlm-bench", "pytest") for each in commands(program) for word in each
    }
    files = {word for word in named if re.fullmatch(r"(bench|examples)/.*", word)}
    assert files == {
        "bench/sweeps/ci.toml",
        "bench/test_throughput.py",
        "examples/test_decoding_speed.py",
    }
    assert all((ROOT / name).is_file() for name in files)


def test_every_option_of_pytest_is_one(pytester):
    known = pytester.runpytest_inprocess("-p", "dlm_bench.pytest_plugin", "--help").stdout.str()
    options = {word.partition("=")[0] for each in commands("pytest") for word in each[1:]}
    assert {"--dlm-baseline", "--dlm-save", "--benchmark-compare-fail"} <= options
    assert not [option for option in options if not re.search(rf"{option}\b", known)]


def test_what_it_measures_is_kept():
    for job in WORKFLOW["jobs"].values():
        last = job["steps"][-1]
        assert last["uses"].startswith("actions/upload-artifact@")
        assert last["if"] == "always()"
        assert "results/ci" in last["with"]["path"]
