"""The conditions that a measurement waits for or insists on: rest, an idle machine, full clocks.

A sweep hands them to its workers by an environment variable.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from dlm_bench.errors import PointError
from dlm_bench.results.record import Record
from dlm_bench.timing.host import HostSource
from dlm_bench.timing.nvml import NvmlSource, nvml_source

if TYPE_CHECKING:
    import torch

VARIABLE = "DLM_BENCH_CONDITIONS"
SAMPLES = 5  # of a GPU's use before a point
BETWEEN = 0.1  # seconds
IDLE_PERCENT = 5.0  # of a GPU's use before a point
IDLE_CPUS = 0.5  # CPUs that other work may take before a point


@dataclass(frozen=True)
class Conditions:
    """Conditions of each point.

    idle: fail where other work uses the machine. unthrottled: fail where clocks were held down.
    retries: further tries of a point with clocks held down. cooldown: seconds of rest before a try.
    """

    idle: bool = False
    unthrottled: bool = False
    retries: int = 0
    cooldown: float = 0.0

    def measured(
        self,
        measure: Callable[[], Record],
        device: "torch.device",
        rest: Callable[[float], object] = time.sleep,
    ) -> Record:
        """Measure a point under these conditions. Raises PointError where they are not met."""
        for left in range(self.retries, -1, -1):
            if self.cooldown:
                rest(self.cooldown)
            if self.idle:
                check_idle(source_of(device))
            record = measure()
            if "throttled" not in record.flags:
                break
            if not left and self.unthrottled:
                raise PointError(
                    "throttled: the clocks were held down in each of "
                    f"{self.retries + 1} tries (--require unthrottled); rest with --cooldown, try "
                    "more often with --retry-throttled, or lock lower clocks with --lock-clocks"
                )
        return record

    @contextmanager
    def for_workers(self) -> Iterator[None]:
        """Hand the conditions to the workers that start inside."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = json.dumps(asdict(self))
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            if before is not None:
                os.environ[VARIABLE] = before


def conditions_here(environment: Mapping[str, str] = os.environ) -> Conditions:
    """Return the conditions that a worker was handed."""
    return Conditions(**json.loads(environment.get(VARIABLE, "{}")))


def source_of(device: "torch.device") -> NvmlSource | HostSource | str:
    """Return the sensors of a device, or the reason for none."""
    if device.type == "cuda":
        import torch  # a command that only hands conditions on has none

        return nvml_source(torch.cuda.get_device_properties(device))
    return HostSource() if device.type == "cpu" else f"nothing is known of a {device.type}"


def check_idle(
    source: NvmlSource | HostSource | str, rest: Callable[[float], object] = time.sleep
) -> None:
    """Raise PointError if other work uses the machine, or if nothing tells."""
    if isinstance(source, str):
        raise PointError(f"idle: nothing tells if this machine is idle: {source} (--require idle)")
    if isinstance(source, HostSource):
        source.begin()
        rest(SAMPLES * BETWEEN)
        busy = source.end(SAMPLES * BETWEEN).values.get("other_busy_cpus", 0.0)
        if busy > IDLE_CPUS:
            raise PointError(
                f"not idle: other work takes {busy:.1f} CPUs (--require idle); stop it or wait"
            )
        return
    used = []
    for _ in range(SAMPLES):
        rest(BETWEEN)
        used.append(source.sample().values.get("utilisation_percent", 0.0))
    if median(used) > IDLE_PERCENT:
        raise PointError(
            f"not idle: other work uses the GPU for {median(used):.0f} % of the time (--require "
            "idle); stop it or wait"
        )
