"""Environment variables of odd values, which break nothing."""

import os
import subprocess
import sys

import pytest
from support.processes import quick_plan, quick_sweep

from dlm_bench.waiting import wait_passively

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({}, "passive"),
        ({"OMP_WAIT_POLICY": ""}, "passive"),
        ({"OMP_WAIT_POLICY": "active"}, "active"),
    ],
)
def test_threads_wait_passively_unless_the_environment_says_otherwise(given, policy):
    environment = dict(given)
    wait_passively(environment)
    assert environment == {"OMP_WAIT_POLICY": policy}


ODD = [
    {"OMP_NUM_THREADS": "abc"},
    {"OMP_NUM_THREADS": ""},
    {"CUDA_VISIBLE_DEVICES": ""},
    {"PYTHONWARNINGS": "error"},
    {"PYTHONWARNINGS": "nonsense"},
    {"PYTHONUTF8": "0", "LC_ALL": "C"},
    {"PYTHONIOENCODING": "ascii"},
    {"TMPDIR": "/nowhere/at/all"},
    {"COLUMNS": "0"},
    {"OMP_WAIT_POLICY": ""},
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: " ".join(f"{k}={v}" for k, v in odd.items()))
def test_a_sweep_ends_as_ever(tmp_path, monkeypatch, odd):
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    path, output = tmp_path / "plan.json", tmp_path / "r.jsonl"
    path.write_text(quick_plan([("diffutran", 1), ("diffutran", 2)]).model_dump_json())
    process = quick_sweep(path, output)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert output.read_bytes().count(b"\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1], ids=["some of them", "the others"])
def test_a_worker_with_torch_starts_and_measures(tmp_path, first):
    """Half of them at once, for a worker takes seconds to start."""
    odd = {name: value for each in ODD[first::2] for name, value in each.items()}
    command = [sys.executable, "-m", "dlm_bench", "sweep", str(tmp_path / "s.toml")]
    (tmp_path / "s.toml").write_text(
        'name = "odd"\nsize = "tiny"\nlengths = 8\nwarmup = 0\nrepeats = 1\n'
        '[[lines]]\nbackbone = "diffutran"\nsampler = "full"\n'
    )
    environment = os.environ | odd
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "odd.jsonl").read_bytes().count(b"\n") == 1
