"""The environment of a record where there is no git, and no program of NVIDIA's."""

from types import SimpleNamespace

import pytest
import torch

from dlm_bench.timing import environment as module
from dlm_bench.timing.environment import commit, environment


@pytest.fixture
def asked(monkeypatch):
    """The programs that were started, none of which is there."""
    commands = []
    monkeypatch.setattr(module, "_output", lambda *command: commands.append(command[0]))
    return commands


def test_a_copy_without_git_has_the_commit_that_a_variable_names(asked, monkeypatch):
    monkeypatch.delenv("DLM_BENCH_COMMIT", raising=False)
    assert commit() is None
    monkeypatch.setenv("DLM_BENCH_COMMIT", "0123456789ab")
    assert commit() == "0123456789ab"


def test_git_knows_better_than_the_variable(monkeypatch):
    monkeypatch.setattr(module, "_output", lambda *command: "fedcba987654")
    monkeypatch.setenv("DLM_BENCH_COMMIT", "0123456789ab")
    assert commit() == "fedcba987654"


def test_no_program_is_started_for_the_driver(asked, monkeypatch):
    properties = SimpleNamespace(name="NVIDIA imaginary", total_memory=1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(module, "driver_version", lambda: "580.95.05")
    facts = environment.__wrapped__("cuda", 0)
    assert facts["driver"] == "580.95.05"
    assert set(asked) <= {"git"}
