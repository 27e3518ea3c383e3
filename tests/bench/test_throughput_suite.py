"""The pytest-benchmark suite in bench/, run as a user runs it."""

import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "bench" / "test_throughput.py"
ONE = "small-diffutran-block-cache-separate-commit"


def suite(*options):
    """Run the suite in a process of its own, on one thread: other work on this machine's cores
    leaves some rounds alone, and two threads would wait for each other."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "pytest", "-p", "dlm_bench.pytest_plugin"]
    command += [str(SUITE), "-p", "no:cacheprovider", "-p", "no:randomly", *options]
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTEST_XDIST_WORKER", None)  # beside whose neighbours nothing is timed
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_role_of_every_backbone_and_sampler_is_in_it_once():
    # By another name: a module of the same one is among the figures' tests.
    spec = importlib.util.spec_from_file_location("throughput_suite", SUITE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    every = list(module.cases())
    assert len({case.name for case in every}) == len(every)
    roles = {(case.sampler.name, case.role) for case in every}
    assert roles == {
        ("full", "denoise"),
        ("fast-dllm", "refresh"),
        ("fast-dllm", "denoise"),
        ("block-cache", "denoise"),
        ("block-cache", "commit"),
        ("block-cache", "fused"),
        ("block-cache", "keep"),
        ("ar", "decode"),
    }
    pairs = {(case.size, case.backbone, case.sampler.name) for case in every}
    assert len(pairs) == 2 * (3 * 3 + 2), "two sizes, three denoisers by three samplers, two AR"


@pytest.mark.slow
@pytest.mark.process
def test_each_kind_of_pass_runs():
    """Once each, with --benchmark-disable."""
    done = suite("--benchmark-disable", "-k", "tiny-diffumamba-h or tiny-ar")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 passed" in done.stdout


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that holds a saved run of one pass, named base."""
    folder = tmp_path_factory.mktemp("benchmarks")
    done = suite("-k", ONE, f"--benchmark-storage={folder}", "--benchmark-save=base")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.process
def test_a_saved_run_says_what_was_timed(saved):
    (path,) = saved.glob("*/0001_base.json")
    (found,) = json.loads(path.read_text())["benchmarks"]
    assert found["name"] == f"test_pass[{ONE}]"
    assert found["group"] == "small diffutran"
    told = found["extra_info"]
    assert told["point"]["options"]["commit"] == "separate"
    assert told["pass"]["kind"] == "commit"
    assert told["kernels"]["attention"]
    assert told["environment"]["hardware"]
    assert found["stats"]["rounds"] == 40
    assert found["stats"]["min"] > 1e-5, "no pass of this size takes 10 microseconds"


# By a clock that is the same on every machine, with any neighbours.
COUNTED = ("-k", ONE, "-p", "support.counted_passes")


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """A folder that holds a saved run by a clock of passes."""
    folder = tmp_path_factory.mktemp("counted")
    done = suite(*COUNTED, f"--benchmark-storage={folder}", "--benchmark-save=base")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def compared(folder, *options):
    fail = "--benchmark-compare-fail=min:1%"
    where = f"--benchmark-storage={folder}"
    return suite(*COUNTED, where, "--benchmark-compare=*_base", fail, *options)


@pytest.mark.slow
@pytest.mark.process
def test_comparing_passes_without_a_change(counted):
    done = compared(counted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0001_base" in done.stdout


@pytest.mark.slow
@pytest.mark.process
def test_comparing_fails_with_work_planted_in_the_pass(counted):
    done = compared(counted, "-p", "support.slow_passes")
    assert done.returncode != 0
    assert "Performance has regressed" in done.stdout + done.stderr
    assert ONE in done.stdout


def test_a_bare_pytest_does_not_run_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]
