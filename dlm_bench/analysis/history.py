"""The throughput of points over commits, and the commits where it changed."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

import numpy as np

from dlm_bench.errors import ConfigError
from dlm_bench.results.identity import point_key
from dlm_bench.results.record import Record
from dlm_bench.results.store import frame_of

PENALTY = 18.0  # of a step, in variances of a commit: bench/history_power.py shows its errors
MIN_SCATTER = 1e-3  # of a commit, relative: less is a clock's resolution
MIN_COMMITS = 8  # of a series: the scatter of fewer is a guess
# Of the squared differences of neighbours, and their mean for noise of variance 1.
KEPT, KEPT_VARIANCE = 0.8, 0.8754
FEWEST = 2  # commits on each side of a step: a single slow one is no step
ENVIRONMENT = ("torch", "driver", "cuda", "triton", "platform", "python")


@dataclass(frozen=True)
class Entry:
    """A point at a commit: tokens/s with the 95 % interval, None without one.

    changed: what differs in the environment from the entry before.
    """

    commit: str
    measured_at: str
    value: float
    interval: tuple[float, float] | None
    flags: tuple[str, ...] = ()
    changed: str = ""


@dataclass(frozen=True)
class Step:
    """A change of throughput at an entry: the mean before and after, to the neighbouring steps."""

    index: int
    before: float
    after: float

    @property
    def change(self) -> float:
        """Return the relative change of throughput."""
        return self.after / self.before - 1


@dataclass(frozen=True)
class History:
    """A point over commits, in the order of their first measurement."""

    name: str
    entries: list[Entry]
    steps: list[Step]


def histories(records: Iterable[Record]) -> tuple[list[History], int]:
    """Return the history of each point on each hardware, and the number of ok records without a
    commit, which are left out. Raises ConfigError without ruptures."""
    find = _detector()
    groups: dict[tuple[str, str], list[Record]] = {}
    absent = 0
    for record in records:
        if record.status != "ok":
            continue
        if not record.environment.get("commit"):
            absent += 1
            continue
        hardware = str(record.environment.get("hardware", ""))
        groups.setdefault((point_key(record.point), hardware), []).append(record)
    several = len({hardware for _, hardware in groups}) > 1
    found = []
    for (_, hardware), members in groups.items():
        entries = _entries(members)
        name = members[0].point.describe() + (f", {hardware}" if several else "")
        found.append(History(name, entries, _steps(entries, find)))
    return found, absent


def _entries(records: Sequence[Record]) -> list[Entry]:
    """Return the entry of each commit, pooled over its runs, in the order of time."""
    from dlm_bench.results.pooling import pooled

    commits: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: record.measured_at):
        commits.setdefault(str(record.environment["commit"]), []).append(record)
    entries: list[Entry] = []
    before: dict[str, Any] = {}
    for commit, members in commits.items():
        row = pooled(frame_of(members).to_dict("records"))
        now = members[-1].environment
        names = [each for each in ENVIRONMENT if before and now.get(each) != before.get(each)]
        changed = "; ".join(f"{each} {before.get(each)} to {now.get(each)}" for each in names)
        interval = row["interval_95"]
        ends = (float(interval[0]), float(interval[1])) if isinstance(interval, Sequence) else None
        speed, flags = float(row["tokens_per_second"]), tuple(row["flags"])
        entries.append(Entry(commit, members[0].measured_at, speed, ends, flags, changed))
        before = now
    return entries


def _steps(entries: Sequence[Entry], find: Callable[[np.ndarray], list[int]]) -> list[Step]:
    values = np.log([entry.value for entry in entries])
    places = find(values)
    ends = [0, *places, len(values)]
    means = [math.exp(fmean(values[i:j])) for i, j in pairwise(ends)]
    return [Step(place, *means[n : n + 2]) for n, place in enumerate(places)]


def find_steps(values: np.ndarray) -> list[int]:
    """Return the indices at which a series of logarithms changes its level.

    The series is cut where that lowers the squared distance from the levels by more than PENALTY
    variances of a commit. The variance is that of neighbours, by the smallest KEPT of the squared
    differences, where a step is not; single outliers are drawn to three deviations around their
    neighbours. Raises ConfigError without ruptures.
    """
    return _detector()(values)


def _detector() -> Callable[[np.ndarray], list[int]]:
    try:
        from ruptures import KernelCPD
    except ImportError:
        raise ConfigError(
            "history: needs the package ruptures; pip install 'dlm-bench[history]'"
        ) from None

    def find(values: np.ndarray) -> list[int]:
        if len(values) < MIN_COMMITS:
            return []
        squares = np.sort(np.diff(values) ** 2)
        squares = squares[: math.ceil(KEPT * len(squares))]
        scatter = max(math.sqrt(float(squares.mean()) / KEPT_VARIANCE), MIN_SCATTER)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, 2, mode="edge"), 5)
        near = np.median(windows, axis=1)
        clipped = near + np.clip(values - near, -3 * scatter, 3 * scatter)
        cut = KernelCPD(kernel="linear", min_size=FEWEST)
        ends = cut.fit_predict((clipped / scatter)[:, None], pen=PENALTY)
        return [int(each) for each in ends[:-1]]

    return find
