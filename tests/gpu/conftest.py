"""Tests that need a GPU: `pytest -m gpu tests/gpu`. Elsewhere they are skipped."""

import gc
from pathlib import Path

import pytest
import torch


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def _memory_of_its_own():
    """Nothing of an earlier test, nor of one that failed, is left on the GPU."""
    yield
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
