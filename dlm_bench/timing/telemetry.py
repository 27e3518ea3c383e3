"""Telemetry of the hardware beside a timed run: clocks, power, heat, throttling, energy, waiting.

A thread samples a few sensors every 100 ms and gives up if samples take long; counters are read
only before and after the timed region.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean, median
from types import TracebackType
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from dlm_bench.timing.gpu_state import OTHERS_PERCENT

INTERVAL = 0.1  # seconds between samples
FIRST = 0.01  # seconds to the first one: before that a GPU still shows the pause before the run
SLOWEST = 0.05  # seconds of a sample; SLOW_SAMPLES in a row that take longer are the last
SLOW_SAMPLES = 3  # one may be slow because the run had all CPUs
BUSY = 0.9  # share of the region in which a GPU worked, for the mean power to be a decode's
UPDATES = 10  # times that an energy counter must have moved on in a region to be worth a ratio
THROTTLED = 0.05  # share of samples; of fewer than twenty, any one
WAITING = 0.05  # threads; that much of the run may have gone to waiting for a CPU

# What holds clocks down, of NVML's reasons and the kernel's; the others are settings, or idleness.
# A power cap alone says nothing: a GPU's clocks are judged by themselves (Reading.slow).
SLOWDOWNS = {
    "hw_slowdown",
    "sw_thermal_slowdown",
    "hw_thermal_slowdown",
    "hw_power_brake_slowdown",
    "core_thermal",
    "package_thermal",
}


class Range(BaseModel):
    """A sampled quantity over the timed region."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: float
    median: float
    max: float


class Telemetry(BaseModel):
    """Readings of the hardware over the timed region; null where there is none.

    source: "nvml" of a GPU, "host" of a CPU.
    note: the reason for missing readings.
    region_seconds: the wall time of the timed region, the gaps between the repeats included.
    throttle_reasons: all reasons that held the clocks down, or set them, at any time in the region,
        by NVML's names in snake case; on a CPU "core_thermal" and "package_thermal".
    throttled_share: share of the samples in which the clock of a GPU under load was below 95 % of
        its highest, other than by a setting; on a CPU, whose counters tell no more, 0 or 1.
    energy_joules: energy of all repeats' decodes, the mean power over the region times their
        seconds: of the whole GPU, or of the CPU packages with all that ran on them.
    load_1min, other_busy_cpus: the host's load average, and the mean number of this process's CPUs
        that were busy with anything else.
    waiting_threads: the mean number of this process's threads that were ready to run without a CPU,
        plus the mean number of CPUs taken by a hypervisor.
    other_gpu_percent: the mean share of the SMs' time that other processes took on a GPU.
    gpu_state: power limits, highest and set clocks, persistence, ECC, MIG and compute processes of
        a GPU, as far as told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    note: str | None = None
    samples: int = 0
    region_seconds: float | None = None
    sm_clock_mhz: Range | None = None
    memory_clock_mhz: Range | None = None
    cpu_clock_mhz: Range | None = None
    power_watts: Range | None = None
    temperature_celsius: Range | None = None
    utilisation_percent: Range | None = None
    throttle_reasons: list[str] = []
    throttled_share: float | None = None
    energy_joules: float | None = None
    tokens_per_joule: float | None = None
    load_1min: float | None = None
    other_busy_cpus: float | None = None
    waiting_threads: float | None = None
    other_gpu_percent: float | None = None
    gpu_state: dict[str, Any] = {}

    @property
    def throttled(self) -> bool:
        """True if the clocks were held down for a relevant part of the region."""
        return (self.throttled_share or 0.0) >= THROTTLED

    @property
    def contended(self) -> bool:
        """True if the threads of a CPU run waited for a CPU for a part that counts, or if other
        processes took a part of a GPU that counts.

        The kernel tells how long each thread was ready and not running. This wait slows a run down,
        whoever takes the CPU. Other signs mislead: a load average counts this process too, busy
        CPUs may be spare, and threads have little CPU time also when they wait for each other.
        """
        if self.source == "nvml":
            return (self.other_gpu_percent or 0.0) > OTHERS_PERCENT
        return self.source == "host" and (self.waiting_threads or 0.0) > WAITING


@dataclass(frozen=True)
class Reading:
    """Values by the names of Telemetry's fields, and the reasons of throttled clocks.

    slow: the clock of a sample is held down; None where the reasons alone can say.
    """

    values: dict[str, float] = field(default_factory=dict)
    reasons: frozenset[str] = frozenset()
    slow: bool | None = None


class Source(Protocol):
    """The sensors and counters of a device. An unreadable value is left out; nothing raises."""

    name: str
    energy_update: float  # seconds between updates of the energy counter
    state: Mapping[str, Any]  # settings of the device

    def has_sensors(self) -> bool:
        """Tell if there is anything to sample."""

    def sample(self) -> Reading:
        """Read the sensors; called from a thread beside the run."""

    def joules(self) -> float | None:
        """The energy counter, None where there is none."""

    def begin(self) -> None:
        """Read the other counters, before the region."""

    def end(self, seconds: float) -> Reading:
        """Read the other counters, after the region of so many seconds."""


class Watch:
    """A sampler of a source: `with watch: the timed region`."""

    def __init__(
        self, source: Source | None, note: str | None = None, interval: float = INTERVAL
    ) -> None:
        self.source, self._note, self._interval = source, note, interval
        self._samples: list[Reading] = []
        self._counters = Reading()
        self._begin = self._seconds = 0.0
        self._joules: float | None = None
        self._gave_up = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def state(self) -> tuple[Mapping[str, Any], str]:
        """Return the settings of the device, and the reason where there are no sensors."""
        return ({} if self.source is None else self.source.state), self._note or ""

    def __enter__(self) -> "Watch":
        source = self.source
        if source is not None:
            source.begin()
            self._joules = source.joules()
        self._begin = time.perf_counter()
        if source is not None and source.has_sensors():
            self._thread = threading.Thread(target=self._sample, args=[source], daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        self._seconds = time.perf_counter() - self._begin
        if self.source is not None:
            joules = self.source.joules()
            if self._joules is not None and joules is not None and joules >= self._joules:
                self._joules = joules - self._joules
            else:  # one that went back was reset, with its driver or GPU
                self._joules = None
            self._counters = self.source.end(self._seconds)

    def _sample(self, source: Source) -> None:
        delay, slow = min(FIRST, self._interval), 0
        while not self._stop.wait(delay):
            begin = time.perf_counter()
            try:
                self._samples.append(source.sample())
            except Exception as error:  # the boundary: a sensor must not fail a measurement
                self._give_up(f"{type(error).__name__}: {error}")
                return
            took = time.perf_counter() - begin
            slow = slow + 1 if took > SLOWEST else 0
            if slow == SLOW_SAMPLES:
                self._give_up(f"{slow} samples in a row took long, the last {1e3 * took:.0f} ms")
                return
            delay = self._interval

    def _give_up(self, reason: str) -> None:
        self._note, self._gave_up = f"sampling stopped: {reason}", True

    def telemetry(self, seconds: list[float], tokens: int, busy: float | None = None) -> Telemetry:
        """Sum the samples up, for repeats of these seconds with so many tokens each. No energy is
        told where the device worked, in `busy` seconds, for less than BUSY of the region."""
        if self.source is None or not self._seconds:
            return Telemetry(note=self._note, region_seconds=self._seconds or None)
        names = {name for sample in self._samples for name in sample.values}
        ranges = {name: self._range(name) for name in names}
        every = [*self._samples, self._counters]
        slow = [
            bool(sample.reasons & SLOWDOWNS) if sample.slow is None else sample.slow
            for sample in self._samples
        ]
        slowed = fmean(slow) if slow else None
        if self._counters.reasons & SLOWDOWNS:
            slowed = 1.0
        energy, note = self._energy(sum(seconds)), self._note
        if busy is not None and busy < BUSY * self._seconds:
            energy = None
            share = f"{busy / self._seconds:.0%} of the timed region, less than {BUSY:.0%}"
            note = "; ".join(filter(None, [note, f"no energy: the GPU worked for {share}"]))
        return Telemetry(
            source=self.source.name,
            note=note,
            samples=len(self._samples),
            region_seconds=self._seconds,
            throttle_reasons=sorted({reason for one in every for reason in one.reasons}),
            throttled_share=slowed,
            energy_joules=energy,
            tokens_per_joule=len(seconds) * tokens / energy if energy else None,
            gpu_state=dict(self.source.state),
            **ranges,  # type: ignore[arg-type]
            **self._counters.values,  # type: ignore[arg-type]
        )

    def _range(self, name: str) -> Range:
        values = [sample.values[name] for sample in self._samples if name in sample.values]
        return Range(min=min(values), median=median(values), max=max(values))

    def _energy(self, seconds: float) -> float | None:
        """Joules of the repeats: by the counter where it moved on often enough to tell, else by
        the sampled power. None if the sampling stopped: a counter may have gone round unseen."""
        if self.source is None or self._gave_up:
            return None
        if self._joules is not None:
            enough = self._seconds >= UPDATES * self.source.energy_update
            return self._joules * seconds / self._seconds if enough else None
        watts = [s.values["power_watts"] for s in self._samples if "power_watts" in s.values]
        return fmean(watts) * seconds if len(watts) >= UPDATES else None
