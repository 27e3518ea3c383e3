"""What is timed to choose an attention and a scan: the same work by each implementation."""

import importlib.util

import pytest
import torch
from support.close import assert_close

from dlm_bench.models import measured

CPU = torch.device("cpu")


@pytest.fixture
def outputs(monkeypatch):
    """The outputs of what is timed, over a short sequence."""
    found = []

    def run_once(run, device):
        found.append(run())
        return 1.0

    monkeypatch.setattr(measured, "LENGTH", 256)
    monkeypatch.setattr(measured, "_least_seconds", run_once)
    return found


def _seconds(function, *what, **options):
    torch.manual_seed(0)
    assert function(*what, CPU, torch.float32, **options) == 1.0


@pytest.mark.parametrize("causal", [False, True])
def test_both_attentions_have_the_same_heads(causal, outputs):
    for name in ("triton", "torch"):
        _seconds(measured._attention_seconds, name, (2, 1, 1), 24, causal=causal)
    assert outputs[0].shape == (1, 2, 256, 24)
    assert_close(outputs[0], outputs[1], 5e-6, "l2")  # the exponents, as in test_whole_attention


@pytest.mark.skipif(
    importlib.util.find_spec("mamba_ssm") is None, reason="mamba-ssm is not installed"
)
def test_both_scans_have_the_same_steps(outputs):
    for name in ("triton", "torch"):
        _seconds(measured._scan_seconds, name, 2, 1, 16, 16)
    walked, (chunked, _) = outputs
    assert walked.shape == (1, 256, 2, 16)
    assert_close(walked, chunked, 1e-5, "l2")  # sums in tiles and in chunks
