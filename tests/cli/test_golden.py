"""Texts of the command line as a whole, in golden/: read the differences as a user would, then
write the files anew with `pytest tests/cli --update-golden`."""

import argparse
import re
from pathlib import Path

import pytest

from dlm_bench.cli import main
from dlm_bench.cli.parser import build_parser

GOLDEN = Path(__file__).with_name("golden")

(_commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
HELP = {"help": ["--help"]} | {f"help-{name}": [name, "--help"] for name in _commands.choices}

MISTAKEN = """\
name = "mistaken"
size = "tini"
lengths = [64, -1]
warmup = "3"

[[lines]]
backbone = "diffutran"
sampler = "ar"

[[lines]]
backbone = "diffumamba"
sampler = "block-cache"
tokens_per_stop = 8
"""

ERRORS = [
    ["swep", "quick"],
    ["run", "diffutran", "full"],
    ["run", "diffutron", "full", "--length", "64"],
    ["run", "ar-mamba", "full", "--length", "64"],
    ["run", "diffutran", "block-cache", "--length", "64", "--token-per-step", "8"],
    ["run", "diffutran", "block-cache", "--length", "64", "--tokens-per-step", "64"],
    ["run", "diffutran", "full", "--length", "64", "--tolerance", "5"],
    ["sweep", "quik"],
    ["sweep", "mistaken.toml", "--dry-run"],
    ["sweep", "quick", "--budget", "10 minutes"],
    ["sweep", "quick", "--launcher", "slurm", "--budget", "10m"],
    ["fit", "none.jsonl"],
    ["table", "throughput", "mistaken.toml"],
    ["plot", "none.jsonl", "--figure", "troughput"],
    ["compare", "none.jsonl", "none.jsonl", "--threshold", "5"],
    ["cost", "--hardware", "h10"],
]


@pytest.fixture
def golden(request, monkeypatch):
    """Compares a text with its golden file, or writes that with --update-golden."""
    monkeypatch.setenv("COLUMNS", "80")

    def check(name, text):
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.mark.parametrize("name", HELP)
def test_help_reads_as_agreed(name, golden, capsys):
    assert main(HELP[name]) == 0
    out, err = capsys.readouterr()
    assert not err
    golden(name, out)


def test_typical_errors_read_as_agreed(golden, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistaken.toml").write_text(MISTAKEN)
    told = []
    for arguments in ERRORS:
        code = main(arguments)
        out, err = capsys.readouterr()
        assert not out, "an error is on standard error alone"
        told.append(f"$ dlm-bench {' '.join(arguments)}\n{err}exit code {code}\n")
    golden("errors", "\n".join(told))


def test_the_list_reads_as_agreed(golden, capsys, monkeypatch):
    # Packages of this machine may announce more.
    monkeypatch.setattr("dlm_bench.plugins.entry_points.announced", lambda kind: [])
    assert main(["list"]) == 0
    golden("list", capsys.readouterr().out)


def test_the_environment_reads_as_agreed(golden, capsys):
    assert main(["env", "--device", "cpu"]) == 0
    device, *rows = capsys.readouterr().out.splitlines()
    rows = [re.fullmatch(r"(kernel \w+|\S+) +(.*)", row).groups() for row in rows]
    everywhere = ("hardware", "threads", "platform", "python", "dlm-bench", "torch")
    shown = [f"{name} (of the machine)" for name, _ in rows if name in everywhere]
    shown += [f"{name} {value}" for name, value in rows if name.startswith("kernel ")]
    golden("env", "\n".join([device, *shown, ""]))


def test_every_golden_file_has_its_test():
    assert {path.stem for path in GOLDEN.iterdir()} == {*HELP, "errors", "list", "env"}
