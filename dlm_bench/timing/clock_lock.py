"""Locked clocks of GPUs, for as long as a command runs."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dlm_bench.errors import ConfigError, check_int, first_line

BASE = "base"
MAX_MHZ = 10_000
VARIABLE = "DLM_BENCH_LOCKED_CLOCKS"  # MHz or "base", for the records of workers


def clocks_of(asked: str) -> int | None:
    """Return the MHz of `--lock-clocks`, None for the base clock. Raises ConfigError."""
    if asked == BASE:
        return None
    if not asked.isdigit():
        raise ConfigError(f"--lock-clocks: {asked!r} is not allowed; must be MHz, as 1500, or base")
    return check_int("--lock-clocks", int(asked), maximum=MAX_MHZ)


@contextmanager
def locked_clocks(asked: str, handles: Sequence[Any], nvml: Any) -> Iterator[None]:
    """Lock the SM clocks of these GPUs, and give them back at the end, after an error or a signal,
    too. Raises ConfigError where NVML refuses."""
    mhz = clocks_of(asked)
    limit = nvml.NVML_CLOCK_LIMIT_ID_TDP if mhz is None else mhz
    touched: list[Any] = []
    try:
        for handle in handles:
            touched.append(handle)  # before: an interrupt may come right after the lock
            try:
                nvml.nvmlDeviceSetGpuLockedClocks(handle, limit, limit)
            except nvml.NVMLError as error:
                touched.pop()
                raise ConfigError(
                    f"--lock-clocks: the driver refuses ({first_line(error)}); it takes root: "
                    f"sudo nvidia-smi -lgc {asked if mhz else 'tdp,tdp'}, and -rgc afterwards"
                ) from None
        os.environ[VARIABLE] = asked
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        for handle in touched:
            try:
                nvml.nvmlDeviceResetGpuLockedClocks(handle)
            except nvml.NVMLError as error:
                print(
                    f"dlm-bench: warning: clocks stay locked ({first_line(error)}); "
                    "sudo nvidia-smi -rgc",
                    file=sys.stderr,
                )


def nvml_here() -> Any:
    """Return nvidia-ml-py, ready for use. Raises ConfigError without it."""
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise ConfigError("--lock-clocks: nvidia-ml-py is not installed") from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise ConfigError(f"--lock-clocks: there is no GPU with NVML here ({error})") from None
    return nvml
