"""Every command that the documentation prints: run at reduced size, or known as one that needs a
GPU, a cluster, a network or minutes, and then only parsed."""

import re
import shlex
import shutil
import tomllib

import pytest
from support.pages import NAMES, ROOT, commands, outputs

import dlm_bench
from dlm_bench.cli import main
from dlm_bench.cli.parser import parse

RECORDS = ROOT / "results" / "cpu" / "quick.jsonl"
SWEEP = """\
name = "mine"
size = "tiny"
dtype = "float32"
mode = "auto"
max_seconds = 0.2
warmup = 0
repeats = 2
lengths = [8]

[[lines]]
backbone = "diffutran"
sampler = "full"
"""
# Not run here, for a reason; each is at least a command that parses.
ELSEWHERE = {
    r"--device cuda": "needs a GPU",
    r"--launcher": "needs several GPUs or Slurm: tests/sweep/launch",
    r"^dlm-bench ab ": "measures two revisions: tests/cli/test_ab_command.py",
    r"^dlm-bench import ": "needs another engine's result: tests/results/test_imported.py",
    r"hf:FOLDER": "needs a folder: tests/models/test_hugging_face_folders.py",
    r"\b(aft|taper)\b": "needs the example's package: tests/plugins/test_example_package.py",
}
PRINTED = sorted({command for name in NAMES for command in commands((ROOT / name).read_text())})
OURS = [command for command in PRINTED if command.startswith("dlm-bench ")]
OTHERS = [command for command in PRINTED if command not in OURS]


def reason_for(command):
    """The reason not to run a command here."""
    return next((why for sign, why in ELSEWHERE.items() if re.search(sign, command)), None)


def measures(command):
    """Say whether a command starts workers."""
    return command.startswith("dlm-bench sweep") and not (
        "--dry-run" in command and "--budget" not in command
    )


def cases():
    """The commands to run; those that start workers, or count the paper's passes, are slow."""
    slow = [pytest.mark.slow, pytest.mark.process]
    return [
        pytest.param(
            command, marks=slow if measures(command) or " paper " in command else (), id=command
        )
        for command in OURS
        if not reason_for(command)
    ]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that the commands name."""
    import torch

    folder = tmp_path_factory.mktemp("docs")
    (folder / "results").mkdir()
    for name in ("results/mine", "results/quick", "results/base", "results/head", "baseline"):
        shutil.copy(RECORDS, folder / f"{name}.jsonl")
    shutil.copytree(RECORDS.parent, folder / "results" / "cpu")
    (folder / "mine.toml").write_text(SWEEP)
    model = dlm_bench.build_model("diffumamba", "tiny", dtype=torch.float32)
    for name in ("w.safetensors", "model.safetensors"):
        dlm_bench.save_checkpoint(model, folder / name)
    sampler = dlm_bench.build_sampler("block-cache", accept="threshold", threshold=0.9)
    dlm_bench.save_trace(dlm_bench.record_trace(model, sampler, 32), folder / "t.json")
    return folder


def reduced(command):
    """The arguments of a command, for less work."""
    arguments = shlex.split(command)[1:]
    name = arguments[0]
    values = {"--length": "32", "-L": "32", "--batch": "2", "--prompt-len": "8"}
    # No command depends on what else the machine does.
    values |= {"--require": "unthrottled", "--cooldown": "0.1s", "--only": "length>=1"}
    values |= {"--soak": "1s", "--min-warmup": "0.1s", "--min-time": "0.1s"}
    values |= {
        "--at": "2048,8192",
        "--budget": "2s",
        "--max-seconds": "0.1",
        "--repeats": "2",
        "--steps": "8",
    }
    if name in ("run", "trace") and "--checkpoint" not in arguments:
        arguments += ["--size", "tiny"]
    until_sure = "sampled" in arguments or (name == "run" and "--tolerance" in arguments)
    if until_sure and "--max-seconds" not in arguments:
        arguments += ["--max-seconds", "0.1"]
    if measures(command):
        arguments[1] = "mine.toml"
        arguments += ["--output", "results/measured.jsonl"]
    for option, value in values.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
    return arguments


@pytest.mark.parametrize("command", cases())
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_printed_command_works(command, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(reduced(command)) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", [each for each in OURS if reason_for(each)])
def test_a_printed_command_that_is_not_run_parses(command):
    assert parse(shlex.split(command)[1:]).command is not None


@pytest.mark.parametrize("name", [name for name in NAMES if outputs((ROOT / name).read_text())])
def test_a_printed_output_is_what_the_command_prints(name, place, monkeypatch, capsys):
    """Of a measurement the labels alone; "..." stands for any lines."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")
    for command, shown in outputs((ROOT / name).read_text()):
        measured = command.startswith("dlm-bench run")
        capsys.readouterr()
        assert main(reduced(command) if measured else shlex.split(command)[1:]) == 0
        printed = capsys.readouterr()
        lines = [line.rstrip() for line in [*printed.out.splitlines(), "..."]]
        if measured:
            lines += printed.err.splitlines()
            lines = [line.split()[0] for line in lines] + ["flags", "device:"]  # if there are any
            shown = [line.split()[0] for line in shown]
        assert [line for line in shown if line not in lines] == [], command


@pytest.mark.parametrize("command", OTHERS)
def test_another_printed_command_names_what_is_there(command):
    """Scripts with their options, make's targets, extras and tests: none of them is run."""
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = (ROOT / "Makefile").read_text()
        named = [each for each in arguments if "=" not in each]
        assert [each for each in named if not re.search(rf"(?m)^{each}\b.*:", targets)] == []
    elif program == "pip":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        asked = re.findall(r"\.\[([\w-]+)\]", command)
        assert [each for each in asked if each not in extras["optional-dependencies"]] == []
    elif arguments[:1] == ["-c"]:
        compile(arguments[1], command, "exec")
    else:
        named = [program, *arguments] if "/" in program else arguments
        paths = [each for each in named if re.match(r"(?:bench|tests|\.ci|examples)/", each)]
        assert [path for path in paths if not (ROOT / path).exists()] == []
        scripts = [ROOT / path for path in paths if path.endswith(".py")]
        source = "".join(path.read_text() for path in scripts)
        source += (ROOT / "dlm_bench" / "pytest_plugin" / "__init__.py").read_text()
        options = [each.partition("=")[0] for each in arguments if each.startswith("--")]
        own = [each for each in options if not each.startswith("--benchmark")]
        assert [each for each in own if f'"{each}"' not in source] == []


def test_every_page_with_commands_is_looked_at():
    assert len(OURS) > 30
    assert len(OTHERS) > 10
