"""Commands import what they need and nothing heavy beside it: torch, pandas, scipy, matplotlib and
transformers take from a third of a second to several, and their memory counts in a worker."""

import os
import subprocess
import sys

import pytest
from support.command_lines import TINY_RUN
from support.processes import cpu_seconds

pytestmark = pytest.mark.process

HEAVY = {"torch", "pandas", "scipy", "matplotlib", "transformers", "bokeh"}
PROBE = """
import sys
from dlm_bench.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
print(code, *sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
MEASURE = """
import sys
import dlm_bench.sweep.worker.jobs, dlm_bench.sweep.worker.server
print(0, *sorted({heavy} & set(sys.modules)), file=sys.stderr)
"""
QUICK = "quick"
RECORDS = "results/cpu/quick.jsonl"


def imported(script, *arguments):
    """The heavy packages that a script has imported at its end."""
    command = [sys.executable, "-c", script.replace("{heavy}", repr(HEAVY)), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=os.environ
    )
    code, *names = done.stderr.splitlines()[-1].split()
    assert code == "0", done.stderr
    return set(names)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["run", "--help"], set()),
        (["list"], set()),
        (["sweep", QUICK, "--dry-run"], set()),
        (["cost", "--length", "1024"], set()),
        (["cost", "--sweep", "paper"], set()),
        (TINY_RUN, {"torch"}),
        (["fit", RECORDS], {"pandas", "scipy"}),
        (["table", "throughput", RECORDS], {"pandas", "scipy"}),
        (["compare", RECORDS, RECORDS], {"scipy"}),
        (["report", RECORDS, "--output", "/dev/null"], HEAVY - {"torch", "transformers"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_imports_no_more_than_it_needs(arguments, allowed):
    assert imported(PROBE, *arguments) <= allowed


def test_a_worker_imports_torch_and_nothing_that_draws():
    assert imported(MEASURE) == {"torch"}


def test_drawing_needs_no_torch(tmp_path):
    arguments = ["plot", RECORDS, "--figure", "memory", "--output", str(tmp_path)]
    assert imported(PROBE, *arguments) == {"pandas", "matplotlib", "scipy"}


def test_help_does_not_wait_for_torch():
    probe = (
        "import sys; from dlm_bench.cli.parser import build_parser; build_parser(); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_help_takes_little_more_than_a_start_of_pydantic():
    # The design allows 0.3 s where pydantic starts in 0.12 s; the least of five of either, by
    # turns. Busy neighbours slow both alike; an empty program they hardly slow.
    pydantic = "import pydantic; pydantic.create_model('Any', number=(int, 1))"
    seconds = [
        (cpu_seconds("-c", pydantic), cpu_seconds("-m", "dlm_bench", "--help")) for _ in range(5)
    ]
    bare, helped = map(min, zip(*seconds, strict=True))
    assert helped < 2.5 * bare
