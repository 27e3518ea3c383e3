"""Kernels compiled ahead: the functions that launch them, too, where Triton makes one for each."""

from types import SimpleNamespace

import pytest

pytest.importorskip("triton", reason="triton is not installed")
from precompile import compile_launcher
from triton.backends.nvidia import driver

BUILT = SimpleNamespace(src="source", metadata="metadata")


@pytest.fixture
def made(monkeypatch):
    """Triton before 3.7: what the functions were made of."""
    made = []
    monkeypatch.setattr(driver, "make_launcher", object(), raising=False)
    monkeypatch.setattr(driver, "CudaLauncher", lambda *of: made.append(of))
    return made


def test_the_function_that_launches_a_kernel_is_compiled_with_it(made):
    compile_launcher(BUILT)
    assert made == [("source", "metadata")]


def test_a_triton_with_one_function_for_all_makes_none(made, monkeypatch):
    monkeypatch.delattr(driver, "make_launcher")
    compile_launcher(BUILT)
    assert made == []


def test_without_libcuda_the_kernels_are_compiled_all_the_same(made, monkeypatch):
    def fail(*of):
        raise AssertionError("libcuda.so cannot found!")

    monkeypatch.setattr(driver, "CudaLauncher", fail)
    compile_launcher(BUILT)
