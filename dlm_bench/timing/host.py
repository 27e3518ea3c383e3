"""The sensors and counters of a Linux host, for runs on its CPU; elsewhere there are none.

Every path is below `root`, for tests with a tree of their own.
"""

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dlm_bench.timing.telemetry import Reading


def machine_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of the machine's memory, or of a container's limit if less; None where the
    system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # outside Unix
        return None
    try:
        limit = (root / "sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdecimal() else total


def usable_cpus() -> set[int]:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


class HostSource:
    """The CPUs of this process, and their packages.

    A sample reads the energy counters and one CPU's frequency: files of a few bytes each. Power is
    what the counters moved on since the sample before.
    """

    name = "host"
    energy_update = 0.001
    state: Mapping[str, Any] = MappingProxyType({})  # a CPU tells none

    def __init__(self, root: Path = Path("/"), cpus: Collection[int] | None = None) -> None:
        self._cpus = sorted(usable_cpus() if cpus is None else cpus)
        self._proc = root / "proc"
        self._cpu_dirs = [root / f"sys/devices/system/cpu/cpu{cpu}" for cpu in self._cpus]
        self._frequency: Path | None = self._cpu_dirs[0] / "cpufreq/scaling_cur_freq"
        if _number(self._frequency) is None:
            self._frequency = None
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))  # AMD's too
        self._last: tuple[float, float] | None = None  # time and joules of the last sample
        self._packages = [_Package(zone) for zone in zones if _is_package(zone)]

    def has_sensors(self) -> bool:
        return self._frequency is not None or bool(self._packages)

    def sample(self) -> Reading:
        values = {}
        kilohertz = _number(self._frequency) if self._frequency else None
        if kilohertz is not None:
            values["cpu_clock_mhz"] = kilohertz / 1e3
        now, joules = time.perf_counter(), self.joules()
        if joules is not None:
            if self._last is not None:
                values["power_watts"] = (joules - self._last[1]) / (now - self._last[0])
            self._last = now, joules
        return Reading(values)

    def joules(self) -> float | None:
        """Return the joules of all packages; None where a package is unreadable, as often to all
        but root."""
        each = [package.joules() for package in self._packages]
        known = [joules for joules in each if joules is not None]
        return sum(known) if known and len(known) == len(each) else None

    def begin(self) -> None:
        self._before = self._counters()

    def end(self, seconds: float) -> Reading:
        before, after = self._before, self._counters()
        per_second = 1 / (seconds * os.sysconf("SC_CLK_TCK")) if hasattr(os, "sysconf") else None
        values = {}
        stolen = 0.0
        if before.cpus and after.cpus and per_second:
            busy, stolen = (
                (new - old) * per_second for new, old in zip(after.cpus, before.cpus, strict=True)
            )
            if before.own is not None and after.own is not None:
                others = busy - (after.own - before.own) * per_second
                values["other_busy_cpus"] = max(others, 0.0)
        if before.waits and after.waits:
            # A thread that is new began at zero, also one that has the number of one that ended.
            old = {name: ns for name, ns in before.waits.items() if ns <= after.waits.get(name, 0)}
            waited = sum(ns - old.get(name, 0) for name, ns in after.waits.items())
            # Some hypervisors take back a bit of the time that they said they took.
            values["waiting_threads"] = waited / 1e9 / seconds + max(stolen, 0.0)
        load = _text(self._proc / "loadavg").split()
        if load:
            values["load_1min"] = float(load[0])
        hot = {name for name, n in after.throttled.items() if n > before.throttled.get(name, n)}
        return Reading(values, frozenset(hot))

    def _counters(self) -> "_Counters":
        return _Counters(self._proc, self._cpus, self._cpu_dirs)


class _Counters:
    """Counters that only ever grow.

    cpus: jiffies of this process's CPUs: busy, and of these the share of a hypervisor.
    own: jiffies of this process.
    waits: nanoseconds of each thread, ready to run and not running.
    throttled: times that each kind of throttling began on any of its CPUs.
    """

    def __init__(self, proc: Path, cpus: list[int], cpu_dirs: list[Path]) -> None:
        self.cpus: tuple[int, int] | None = None
        rows = [line.split() for line in _text(proc / "stat").splitlines()]
        mine = {f"cpu{cpu}" for cpu in cpus}
        # proc_stat(5): user nice system idle iowait irq softirq steal
        times = [[int(n) for n in row[1:9]] for row in rows if row and row[0] in mine]
        if times and all(len(each) == 8 for each in times):
            busy = sum(sum(each) - each[3] - each[4] for each in times)
            self.cpus = busy, sum(each[7] for each in times)
        # proc_pid_stat(5): utime and stime, the 14th and 15th, after a name that may hold spaces.
        fields = _text(proc / "self/stat").rpartition(")")[2].split()
        self.own = int(fields[11]) + int(fields[12]) if len(fields) > 12 else None
        self.waits: dict[str, int] = {}
        for path in (proc / "self/task").glob("*/schedstat"):
            parts = _text(path).split()
            if len(parts) == 3:
                self.waits[path.parent.name] = int(parts[1])
        self.throttled: dict[str, float] = {}
        for kind in ("core", "package"):
            counts = [_number(d / f"thermal_throttle/{kind}_throttle_count") for d in cpu_dirs]
            known = [count for count in counts if count is not None]
            if known:
                self.throttled[f"{kind}_thermal"] = sum(known)


class _Package:
    """The energy counter of a CPU package; after the largest value comes 0."""

    def __init__(self, zone: Path) -> None:
        self._path = zone / "energy_uj"
        self._range = _number(zone / "max_energy_range_uj")
        self._last = _number(self._path)
        self._total = 0.0

    def joules(self) -> float | None:
        now = _number(self._path)
        if now is None or self._last is None:
            return None
        step = now - self._last
        if step < 0:
            if self._range is None:
                return None
            step += self._range
        self._last = now
        self._total += step
        return self._total / 1e6


def _is_package(zone: Path) -> bool:
    """Tell if a power zone is a whole package: not a part of one, nor the whole board (psys)."""
    return _text(zone / "name").startswith("package")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
