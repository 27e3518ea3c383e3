"""Completion scripts of the shells."""

import shutil
import subprocess

import pytest

from dlm_bench.cli import main

BASH = shutil.which("bash")

# What bash does at the Tab key.
TAB = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
COMP_LINE="$*"
COMP_POINT=${#COMP_LINE}
_shtab_dlm_bench dlm-bench "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2> /dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path, capsys):
    assert main(["--print-completion", "bash"]) == 0
    path = tmp_path / "dlm-bench.bash"
    path.write_text(capsys.readouterr().out)
    return path


@pytest.fixture
def complete(script, tmp_path):
    """Completes the last word of a command line, in a folder with a file and a folder."""
    if BASH is None:
        pytest.skip("no bash")
    place = tmp_path / "place"
    (place / "plots").mkdir(parents=True)
    (place / "r.jsonl").touch()

    def completed(*words):
        command = [BASH, "--norc", "-c", TAB, "tab", str(script), "dlm-bench", *words]
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, timeout=60, check=True
        )
        return set(done.stdout.split())

    return completed


@pytest.mark.process
def test_the_script_is_right_bash(script):
    if BASH is None:
        pytest.skip("no bash")
    subprocess.run([BASH, "-n", str(script)], check=True)


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["co"], ["compare", "cost"]),
        (["run", "diffum"], ["diffumamba", "diffumamba-h"]),
        (["run", "diffumamba", "bl"], ["block-cache"]),
        (["run", "diffumamba", "full", "--size", "1.3"], ["1.3b"]),
        (["run", "diffumamba", "full", "--commi"], ["--commit"]),
        (["cost", "--hardware", "h1"], ["h100-pcie", "h100-sxm"]),
        (["sweep", "qui"], ["quick", "quick_gpu"]),
        (["sweep", "r."], ["r.jsonl"]),
        (["fit", ""], ["plots", "r.jsonl"]),
        (["fit", "r.jsonl", "r"], ["r.jsonl"]),
        (["plot", "r.jsonl", "--output", ""], ["plots"]),
        (["table", "sp"], ["speedup"]),
        (["table", "fit", "r"], ["r.jsonl"]),
        (["compare", "r.jsonl", "r.jsonl", "--format", "j"], ["json"]),
    ],
    ids=" ".join,
)
def test_bash_completes(words, found, complete):
    assert sorted(complete(*words)) == found


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_have_a_script_with_commands_and_backbones(shell, capsys):
    assert main(["--print-completion", shell]) == 0
    out = capsys.readouterr().out
    assert "dlm-bench" in out
    assert "sweep" in out
    assert "diffumamba-h" in out
