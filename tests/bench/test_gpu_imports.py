"""The check of a GPU's python: what is missing, and why no kernel of Triton can be launched."""

import sys
from types import SimpleNamespace

import gpu_imports
import pytest


@pytest.fixture
def launched(monkeypatch):
    """The reason, where the launch does this."""
    monkeypatch.delenv("CC", raising=False)

    def reason(launch, compiler="/usr/bin/gcc"):
        monkeypatch.setattr(gpu_imports.shutil, "which", lambda name: compiler)
        monkeypatch.setitem(sys.modules, "first_launch", SimpleNamespace(first_launch=launch))
        return gpu_imports.launch_fault("cuda")

    return reason


def test_a_kernel_that_runs_is_no_fault(launched, capsys):
    assert launched(lambda device: 2.5) is None
    assert capsys.readouterr().out == "the first kernel of Triton ran after 2.5 s\n"


def test_a_kernel_that_does_not_run_has_its_reason_with_what_to_do(launched):
    def fail(device):
        raise RuntimeError("Failed to find C compiler.")

    missing = launched(fail, compiler=None)
    assert missing.startswith(
        "Triton launches no kernel; there is no C compiler: install gcc, or name one in CC; "
        "RuntimeError: Failed"
    )
    headers = launched(fail)
    assert "it was compiled with /usr/bin/gcc, which needs Python.h" in headers
    assert "\n" not in headers


def test_a_launch_is_tried_on_a_gpu_alone(monkeypatch):
    monkeypatch.setattr(gpu_imports, "MODULES", ("torch",))
    monkeypatch.setattr("dlm_bench.kernels.mamba_ssm.find", lambda: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(gpu_imports, "launch_fault", lambda device: f"no launch on {device}")
    assert gpu_imports.main("cpu") is None
    assert gpu_imports.main("cuda") == "no launch on cuda"
