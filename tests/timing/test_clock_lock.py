"""Clocks are locked where that is asked for and allowed, and given back in every case."""

import os
from types import SimpleNamespace

import pytest

from dlm_bench.errors import ConfigError
from dlm_bench.timing.clock_lock import VARIABLE, clocks_of, locked_clocks


class NVMLError(Exception):
    """As nvidia-ml-py raises."""


class Nvml(SimpleNamespace):
    """A fake of nvidia-ml-py that notes the calls; `refuses` are GPUs without permission."""

    NVMLError = NVMLError
    NVML_CLOCK_LIMIT_ID_TDP = 0xFFFFFF01

    def nvmlDeviceSetGpuLockedClocks(self, handle, low, high):
        if handle in self.refuses:
            raise NVMLError("Insufficient Permissions")
        self.calls.append(("lock", handle, low, high))

    def nvmlDeviceResetGpuLockedClocks(self, handle):
        self.calls.append(("reset", handle))
        if self.stuck:
            raise NVMLError("GPU is lost")


@pytest.fixture
def nvml():
    return Nvml(calls=[], refuses=(), stuck=False)


def test_clocks_are_locked_while_the_command_runs_and_records_tell(nvml):
    with locked_clocks("1500", ["a", "b"], nvml):
        assert nvml.calls == [("lock", "a", 1500, 1500), ("lock", "b", 1500, 1500)]
        assert os.environ[VARIABLE] == "1500"
    assert nvml.calls[2:] == [("reset", "a"), ("reset", "b")]
    assert VARIABLE not in os.environ


def test_the_base_clock_is_asked_for_by_the_drivers_own_name(nvml):
    with locked_clocks("base", ["a"], nvml):
        assert nvml.calls == [("lock", "a", 0xFFFFFF01, 0xFFFFFF01)]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_or_a_signal_gives_the_clocks_back(error, nvml):
    with pytest.raises(error), locked_clocks("1500", ["a"], nvml):
        raise error
    assert nvml.calls[-1] == ("reset", "a")


def test_a_refusal_names_the_remedy_and_gives_back_what_was_locked(nvml):
    nvml.refuses = ("b",)
    refused = pytest.raises(ConfigError, match=r"Insufficient Permissions.*sudo nvidia-smi -lgc 15")
    with refused, locked_clocks("1500", ["a", "b"], nvml):
        raise AssertionError("it runs at other clocks")
    assert nvml.calls == [("lock", "a", 1500, 1500), ("reset", "a")]


def test_clocks_that_stay_locked_are_said(nvml, capsys):
    nvml.stuck = True
    with locked_clocks("1500", ["a"], nvml):
        pass
    assert "clocks stay locked (GPU is lost); sudo nvidia-smi -rgc" in capsys.readouterr().err


@pytest.mark.parametrize("asked", ["fast", "-1", "0", "1e3", "99999"])
def test_other_clocks_are_refused(asked):
    with pytest.raises(ConfigError, match="--lock-clocks"):
        clocks_of(asked)


def test_the_names_are_those_of_nvidia_ml_py():
    nvml = pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    for name in dir(Nvml):
        assert hasattr(nvml, name) or not name.lower().startswith("nvml")
    assert nvml.NVML_CLOCK_LIMIT_ID_TDP == Nvml.NVML_CLOCK_LIMIT_ID_TDP
