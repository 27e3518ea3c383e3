"""The tests as a whole: where they lie, and that `make` runs each of them once."""

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"


def test_no_two_test_files_have_one_name():
    names = Counter(path.name for path in TESTS.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_what_is_no_test_lies_in_support():
    others = [
        path.relative_to(TESTS)
        for path in TESTS.rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    ]
    assert [path for path in others if path.parts[0] != "support"] == []


def test_tests_lie_where_what_they_test_lies():
    """At the top: tests of files at the top of the package, and of the repository as a whole."""
    package = {path.stem for path in (ROOT / "dlm_bench").iterdir()}
    whole = {"docs", "docs_commands", "imports", "public", "suite", "workflow"}
    top = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    assert top - package - whole == set()
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")}
    assert folders - package - {"bench", "cuda_path", "gpu", "interpreter"} == set()


def test_scripts_that_tests_import_leave_the_environment_alone():
    scripts = sorted((ROOT / "bench").glob("*.py"))
    assert scripts
    for script in scripts:
        for statement in ast.parse(script.read_text()).body:
            assert not ast.unparse(statement).startswith("os.environ"), script.name


def test_make_runs_a_test_of_any_markers_once():
    """As far as they run without a GPU; of Triton's interpreter, where that is asked for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    markers = [
        line.partition(":")[0] for line in project["tool"]["pytest"]["ini_options"]["markers"]
    ]
    tiers = re.findall(r"^(?:FAST|REST) := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(tiers) == 2
    for values in itertools.product([True, False], repeat=len(markers)):
        marked = dict(zip(markers, values, strict=True))
        chosen = [eval(tier, {}, marked) for tier in tiers]
        elsewhere = marked["interpreter"] or marked["gpu"]
        assert sum(chosen) == (not elsewhere), marked


@pytest.mark.process
def test_what_the_tests_interrupt_can_be_interrupted_though_sigint_was_ignored():
    probe = "import runpy; runpy.run_path('tests/conftest.py')\n"
    probe += "import signal; print(signal.getsignal(signal.SIGINT).__name__)"
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", probe]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "default_int_handler\n"
