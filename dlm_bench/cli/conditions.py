"""The conditions of measuring that `run` and `sweep` are asked for."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from dlm_bench.errors import MAX_RUNS, ConfigError, check_int, unknown
from dlm_bench.timing.clock_lock import clocks_of, locked_clocks, nvml_here
from dlm_bench.timing.conditions import Conditions
from dlm_bench.timing.nvml import NvmlSource, nvml_source

REQUIREMENTS = ("idle", "unthrottled")


def conditions_of(args: argparse.Namespace) -> Conditions:
    """Return the conditions of each point. Raises ConfigError for a wrong one."""
    names = [name.strip() for name in args.require.split(",")] if args.require else []
    for name in names:
        if name not in REQUIREMENTS:
            raise unknown("--require", name, REQUIREMENTS)
    check_int("--retry-throttled", args.retry_throttled, minimum=0, maximum=MAX_RUNS)
    return Conditions(
        idle="idle" in names,
        unthrottled="unthrottled" in names,
        retries=args.retry_throttled,
        cooldown=args.cooldown or 0.0,
    )


@contextmanager
def clocks_locked(args: argparse.Namespace, device: str) -> Iterator[None]:
    """Lock the clocks of --lock-clocks while the command runs: of a device, or of all GPUs of this
    process for "cuda". Raises ConfigError."""
    if args.lock_clocks is None:
        yield
        return
    clocks_of(args.lock_clocks)
    if not device.startswith("cuda"):
        raise ConfigError("--lock-clocks: is not allowed on a CPU")
    import torch  # the numbers of GPUs are torch's; a sweep is without it otherwise

    nvml = nvml_here()
    _, _, number = device.partition(":")
    indices = [int(number)] if number else range(torch.cuda.device_count())
    handles = []
    for index in indices:
        source = nvml_source(torch.cuda.get_device_properties(index), nvml)
        if not isinstance(source, NvmlSource):
            raise ConfigError(f"--lock-clocks: {source}")
        handles.append(source.handle)
    with locked_clocks(args.lock_clocks, handles, nvml):
        yield
