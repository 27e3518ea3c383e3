"""Tests of the Triton kernels without a GPU: run with TRITON_INTERPRET=1, in a process of its own.

The interpreter is right in float32 and float16 and silently wrong in bfloat16 (Triton 3.6 to 3.9).
"""

import contextlib
import os
from pathlib import Path

import pytest

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.interpreter)


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch):
    import torch

    torch.manual_seed(0)
    # What mamba-ssm's kernels ask of a machine that has a GPU.
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    monkeypatch.setenv("MAMBA_DETERMINISTIC", "1")


@pytest.fixture
def poisoned(monkeypatch):
    """torch.empty is full of NaN: what a kernel leaves unwritten, or reads before, shows."""
    import torch

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
