"""The progress of a sweep on stderr, with the time left."""

import math
import sys
import time
from collections.abc import Collection
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dlm_bench.results.record import Record
from dlm_bench.streams import is_screen
from dlm_bench.sweep.eta import TimeLeft
from dlm_bench.sweep.plan import Plan

PREDICT_REST = 20  # times as long as a prediction took, until the next


class SweepProgress:
    """The progress of a sweep, on stderr.

    On a terminal: a bar with the time left, the points under way and the last result. Elsewhere: a
    line at the start and at the end of each point.

    workers: measuring at once. budget: seconds for the whole sweep. runs: of the sweep.
    """

    def __init__(
        self,
        plan: Plan,
        found: Collection[str] = (),
        workers: int = 1,
        budget: float | None = None,
        runs: int = 1,
    ) -> None:
        self._run = f"run {plan.run}/{runs}, " if runs > 1 else ""
        later = [plan.of_run(run).identities() for run in range(plan.run + 1, runs + 1)]
        # By run: the points that are left.
        self._later = [[i for i, name in enumerate(each) if name not in found] for each in later]
        self._points = list(
            zip(plan.sweep.points, plan.work, plan.passes or plan.work, strict=True)
        )
        self._timeout, self._budget = plan.sweep.timeout, budget
        self._improving = ""
        identities = enumerate(plan.identities())
        self._open = {index for index, identity in identities if identity not in found}
        self._count = len(plan.work)
        measuring = plan.sweep.measuring
        self._time_left = TimeLeft(measuring.max_seconds, self._timeout, measuring)
        self._workers = workers
        self._begun = time.monotonic()
        self._running: dict[int, float] = {}  # when each point under way was begun
        self._now, self._last = "", ""
        self._prediction, self._predict_from = "", -math.inf
        self._console = Console(stderr=True, highlight=False, force_terminal=is_screen(sys.stderr))
        # Drawn once a second: drawing takes time from what is measured.
        self._live = Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=1, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, index: int) -> None:
        """Show that a point starts, maybe again."""
        self._running[index] = time.monotonic()
        self._open.add(index)
        self._now = self._names_of_running()
        if not self._console.is_terminal:
            self._say(f"[{self._position()}] {self._points[index][0].describe()}: started")

    def improve(self, index: int, number: int, count: int) -> None:
        """Show that a measured point starts again, the `number`th of `count`, for a smaller
        error."""
        self._running[index] = time.monotonic()
        self._improving = f"improving {number} of {count}"
        self._now = f"{self._improving}: {self._points[index][0].describe()}"
        if not self._console.is_terminal:
            self._say(f"[{self._improving}] {self._points[index][0].describe()}: started")

    def tell(self, text: str) -> None:
        """Show any other activity than points."""
        if text != self._now and not self._console.is_terminal:
            self._say(text)
        self._now = text

    def end(self, index: int, record: Record, seconds: float) -> None:
        """Show the result of a point, measured in `seconds`."""
        self._open.discard(index)
        begun = self._running.pop(index, None)
        done = f"{self._run}{self._count - len(self._open)}/{self._count}"
        position = self._improving or done
        point, work, passes = self._points[index]
        if begun is not None:
            self._now = self._names_of_running() or self._now
        if record.status == "ok" and begun is not None:
            overhead = max(0.0, time.monotonic() - begun - seconds)
            self._time_left.learn(point, work, seconds, overhead, passes, record)
        self._last = f"{point.describe()}: {outcome(record)}"
        if record.status != "ok" and self._console.is_terminal:
            self._console.print(Text(f"[{position}] {self._last}", style="red"))
        elif not self._console.is_terminal:
            goes_on = (self._open or self._improving or any(self._later)) and begun is not None
            left = f"; {self._left()}" if goes_on else ""
            self._say(f"[{position}] {self._last}{left}")

    def _position(self) -> str:
        return f"{self._run}{self._count - len(self._open) + len(self._running)}/{self._count}"

    def _names_of_running(self) -> str:
        return "; ".join(self._points[index][0].describe() for index in self._running)

    def _left(self) -> str:
        """Return the time left. A prediction for thousands of points takes long; it is made anew
        only so often that it takes a small share of the time."""
        begin = time.monotonic()
        if begin >= self._predict_from:
            self._prediction = self._predict()
            end = time.monotonic()
            self._predict_from = end + PREDICT_REST * (end - begin)
        return self._prediction

    def _predict(self) -> str:
        """Return the time left of all runs, within a factor of 2, or a bound, if either is
        known."""
        most = math.inf
        if self._timeout is not None:
            counts = (len(self._open), *map(len, self._later))
            most = self._timeout * sum(math.ceil(count / self._workers) for count in counts)
        if self._budget is not None:
            # That of a run is an equal share of what was left.
            left = self._budget * (1 + len(self._later)) - (time.monotonic() - self._begun)
            most = max(0.0, left if self._improving else min(most, left))
        if not self._improving:
            points = [self._points[index] for index in self._open]
            now = time.monotonic()
            elapsed = [now - self._running.get(index, now) for index in self._open]
            parts = [self._time_left.reliable_seconds(points, self._workers, elapsed)]
            for run in self._later:
                points = [self._points[index] for index in run]
                parts.append(self._time_left.reliable_seconds(points, self._workers, fresh=True))
            if None not in parts:
                return f"about {duration(min(sum(filter(None, parts)), most))} left"
        return f"at most {duration(most)} left" if most < math.inf else "time left not known yet"

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        done = self._count - len(self._open)
        elapsed = duration(time.monotonic() - self._begun)
        row = Table.grid(padding=(0, 1))
        row.add_row(
            f"{self._run}{done}/{self._count}",
            ProgressBar(total=self._count, completed=done, width=40),
            f"{elapsed} gone, {self._left()}",
        )
        lines = [("now ", self._now), ("last", self._last)]
        texts = (Text(f"{name} {text}", overflow="ellipsis", no_wrap=True) for name, text in lines)
        return Group(row, *texts)


def duration(seconds: float) -> str:
    """Return seconds in a readable unit: `42 s`, `3.5 min`, `2.1 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


def outcome(record: Record) -> str:
    """Return a record in a few words: throughput, or the failure."""
    if record.status != "ok":
        return f"{record.status}: {record.message}"
    error = f" ±{record.relative_error:.1%}" if record.relative_error is not None else ""
    flags: list[str] = [*record.flags]
    if "eager" in " ".join(record.graphs.values()) and record.point.device.startswith("cuda"):
        flags.append("not all captured")
    marks = f" ({', '.join(flags)})" if flags else ""
    return f"{record.tokens_per_second:,.1f} tokens/s{error}{marks}"
