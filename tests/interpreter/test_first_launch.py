"""The kernel that the GPU check launches first."""

import first_launch
import pytest


def test_the_first_kernel_runs_and_is_timed():
    assert first_launch.first_launch("cpu") > 0


def test_wrong_numbers_are_an_error(monkeypatch):
    class Nothing:
        def __getitem__(self, grid):
            return lambda *_: None

    monkeypatch.setattr(first_launch, "_double", Nothing())
    with pytest.raises(ArithmeticError, match="not doubled"):
        first_launch.first_launch("cpu")
