"""What the commands print: tables, one record, and the progress of a sweep."""

import dataclasses
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.plan import Plan, TimeLeft
from dlm_bench.results.record import ORDINARY, Record, mean_of
from dlm_bench.results.store import frame_of
from dlm_bench.sweep import Sweep

if TYPE_CHECKING:
    import pandas

WIDE = 180  # columns of a table that goes to a file or a pipe


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _table(*columns: str, left: int = 1, title: str | None = None) -> Table:
    """A plain table whose first `left` columns are words and the others numbers."""
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", no_wrap=True)
    return table


def print_record(record: Record) -> None:
    """One measured point, a line a fact."""
    from dlm_bench.figures.style import short_number

    point, mean = record.point, record.mean_seconds
    assert mean is not None  # run raises where nothing was timed
    spread = (max(record.seconds) - min(record.seconds)) / mean
    how = f"{record.mode}, {record.warmup} warm-up, {record.repeats} repeats"
    if record.error_estimate is not None:
        how += f", estimated error {record.error_estimate:.1%}"
    facts = {
        "point": point.describe(),
        "measured": f"{how}; {point.dtype} on {record.environment['hardware']}",
        "parameters": short_number(record.parameters or 0),
        "throughput": f"{record.tokens_per_second:,.1f} tokens/s",
        "decode": f"{mean:.4g} s (spread of the repeats {spread:.1%})",
        "passes": f"{record.nfe} of {record.ms_per_pass:.4g} ms on average",
    }
    prefill, first_block = map(mean_of, (record.prefill_seconds, record.first_block_seconds))
    if prefill is not None:
        facts["prefill"] = f"{prefill:.4g} s, before the decode and not in it"
    if first_block is not None:
        facts["first block"] = f"after {first_block:.4g} s"
    if record.tokens_per_pass:
        each = f"{record.tokens_per_pass:.4g} tokens per pass"
        facts["acceptance"] = f"{each}, {record.nfe_per_token:.4g} NFE per token"
    if record.peak_memory_bytes:
        facts["peak memory"] = f"{record.peak_memory_bytes / 2**30:.2f} GiB"
    told = record.telemetry
    if told.get("energy_joules") and told.get("tokens_per_joule"):
        energy = f"{told['energy_joules']:.4g} J for all repeats"
        facts["energy"] = f"{energy}, {told['tokens_per_joule']:.4g} tokens/J"
    if not point.device.startswith("cpu"):  # which has no choice of either
        facts["kernels"] = ", ".join(f"{op} {name}" for op, name in record.kernels.items())
        facts["graphs"] = "; ".join(f"{role} {what}" for role, what in record.graphs.items())
    if record.flags:
        facts["flags"] = ", ".join(record.flags)
    for name, text in facts.items():
        print(f"{name:12} {text}")


def print_plan(sweep: Sweep) -> None:
    """The points of a sweep with their NFE, none of them run."""
    from dlm_bench.samplers import build_sampler
    from dlm_bench.samplers.schedule import run_lengths

    usual = {"prompt": 0, "batch": 1}
    told = [{"prompt": point.prompt_len, "batch": point.batch} for point in sweep.points]
    more = [name for name in usual if any(each[name] != usual[name] for each in told)]
    columns = ("length", *more, "NFE", "token passes")
    table = _table("backbone", "size", "sampler", "options", *columns, left=4)
    for point, own in zip(sweep.points, told, strict=True):
        sampler = build_sampler(point.sampler, **sweep.options_of(point))
        passes = run_lengths(point.length, sampler.plan(point.length, point.prompt_len))
        most = "" if sampler.known else "up to "
        table.add_row(
            point.backbone,
            point.size,
            point.sampler,
            " ".join(f"{k}={v}" for k, v in point.options.items() if (k, v) not in ORDINARY),
            f"{point.length:,}",
            *(f"{own[name]:,}" for name in more),
            f"{most}{passes.forward_passes:,}",
            f"{most}{passes.query_tokens:,}",
        )
    _console().print(table)
    print(f"{len(sweep.points)} points, {sweep.measuring.mode}; nothing is recorded")


def print_found(plan: Plan, found: dict[str, Record], output: Path, retry: bool) -> None:
    """How much of a sweep its results file holds already."""
    text = f"{len(found)} of {len(plan.sweep.points)} points found in {output}"
    failed = sum(record.status != "ok" for record in found.values())
    if failed:
        what = "run again" if retry else "not run again without --retry-failed"
        text += f"; {failed} of them failed or were skipped, and are {what}"
    print(text)


class SweepProgress:
    """How far a sweep is, on stderr: on a terminal a bar with the time left, the point under way
    and the last result; else a line when a point starts and one when it ends."""

    def __init__(self, plan: Plan, found: Collection[str] = ()) -> None:
        self._points = list(zip(plan.sweep.points, plan.work, strict=True))
        identities = enumerate(plan.identities())
        self._open = {index for index, identity in identities if identity not in found}
        self._count, self._time_left = len(plan.work), TimeLeft()
        self._begun = self._point_begun = time.monotonic()
        self._now, self._last = "", ""
        self._console = Console(stderr=True, highlight=False)
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
        """A point starts, maybe again."""
        self._point_begun = time.monotonic()
        self._open.add(index)
        self._now = self._points[index][0].describe()
        if not self._console.is_terminal:
            self._say(f"[{self._place()}] {self._now}: started")

    def end(self, index: int, record: Record, seconds: float) -> None:
        """A point ended; its measuring took `seconds`."""
        place = self._place()
        self._open.remove(index)
        point, work = self._points[index]
        if record.status == "ok":
            besides = max(0.0, time.monotonic() - self._point_begun - seconds)
            self._time_left.learn(point, work, seconds, besides)
        self._last = f"{point.describe()}: {outcome(record)}"
        if record.status != "ok" and self._console.is_terminal:
            self._console.print(Text(f"[{place}] {self._last}", style="red"))
        elif not self._console.is_terminal:
            left = f"; {self._left()} left" if self._open else ""
            self._say(f"[{place}] {self._last}{left}")

    def _place(self) -> str:
        return f"{self._count - len(self._open) + 1}/{self._count}"

    def _left(self) -> str:
        seconds = self._time_left.seconds(self._points[index] for index in self._open)
        return "?" if seconds is None else f"about {duration(seconds)}"

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _draw(self) -> RenderableType:
        done = self._count - len(self._open)
        elapsed = duration(time.monotonic() - self._begun)
        row = Table.grid(padding=(0, 1))
        row.add_row(
            f"{done}/{self._count}",
            ProgressBar(total=self._count, completed=done, width=40),
            f"{elapsed} gone, {self._left()} left",
        )
        lines = [("now ", self._now), ("last", self._last)]
        said = (Text(f"{name} {text}", overflow="ellipsis", no_wrap=True) for name, text in lines)
        return Group(row, *said)


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader thinks in: `42 s`, `3.5 min`, `2.1 h`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5940 else f"{seconds / 3600:.1f} h"


def outcome(record: Record) -> str:
    """A record in a few words: its throughput, or what went wrong."""
    if record.status != "ok":
        return f"{record.status}: {record.message}"
    error = f" ±{record.error_estimate:.1%}" if record.error_estimate is not None else ""
    flags: list[str] = [*record.flags]
    if "eager" in " ".join(record.graphs.values()) and record.point.device.startswith("cuda"):
        flags.append("not all captured")
    marks = f" ({', '.join(flags)})" if flags else ""
    return f"{record.tokens_per_second:,.1f} tokens/s{error}{marks}"


def print_throughput(records: Iterable[Record]) -> None:
    """Tokens per second: a row for each line of the sweep, a column for each length."""
    from dlm_bench.figures import style

    records = list(records)
    if not any(record.status == "ok" for record in records):
        print("no point could be measured")
        return
    drawn = style.labelled(style.lines(frame_of(records)))
    lengths = sorted({record.point.length for record in records})
    table = _table("tokens/s", *(f"{length:,}" for length in lengths))
    for line in drawn:
        speeds = {row["length"]: row["tokens_per_second"] for row in line.rows}
        cells = (f"{speeds[n]:,.1f}" if n in speeds else "-" for n in lengths)
        table.add_row(line.label, *cells)
    _console().print(table)


def print_fits(frame: "pandas.DataFrame", sampler: str | None = None) -> None:
    """The latency law of each line, with 95 % intervals. Lines too short to fit are named; raises
    ResultsError if all are, or if there is none of this sampler."""
    from dlm_bench.analysis.latency_fit import fit_latency
    from dlm_bench.figures import style
    from dlm_bench.results.lines import check_sampler

    check_sampler(frame, sampler)
    drawn = [li for li in style.lines(frame) if sampler in (None, li.sampler)]
    table = _table(
        "ms per pass", "L² (ns/token²)", "L (µs/token)", "constant (ms)", "R²", "L² > L from"
    )
    skipped = []
    for line in style.labelled(drawn):
        lengths = [row["length"] for row in line.rows]
        try:
            fit = fit_latency(lengths, [row["ms_per_pass"] / 1e3 for row in line.rows])
        except ConfigError as error:
            skipped.append((line.label, error))
            continue
        scaled = ((name, scale) for name, scale in zip(fit.intervals, (1e9, 1e6, 1e3), strict=True))
        cells = [
            f"{getattr(fit, name) * scale:.3g} [{low * scale:.3g}, {high * scale:.3g}]"
            for name, scale in scaled
            for low, high in [fit.intervals[name]]
        ]
        crossover = f"{fit.crossover:,.0f}" if fit.quadratic else "never"
        if fit.quadratic and not fit.linear:
            crossover = "always"
        table.add_row(line.label, *cells, f"{fit.r2:.4f}", crossover)
    if not table.row_count:
        label, reason = skipped[0]
        raise ResultsError(f"none of {len(skipped)} lines can be fitted; {label}: {reason}")
    _console().print(table)
    for label, reason in skipped:
        print(f"{label}: not fitted: {reason}")


def print_names() -> None:
    """Backbones with their parameter counts, samplers with their options and defaults."""
    from dlm_bench.figures import FIGURES
    from dlm_bench.models.config import BACKBONES, SIZES
    from dlm_bench.models.factory import build_model, count_parameters
    from dlm_bench.samplers import SAMPLERS

    table = _table("backbone", *SIZES, title="Parameters (million)")
    for backbone in BACKBONES:
        models = (build_model(backbone, size, device="meta") for size in SIZES)
        table.add_row(backbone, *(f"{count_parameters(model) / 1e6:,.1f}" for model in models))
    _console().print(table)
    table = _table("sampler", "decodes with", "options and their defaults", left=3)
    table.columns[-1].no_wrap = False
    for name, kind in SAMPLERS.items():
        fitting = [b for b, what in BACKBONES.items() if what.denoiser == kind.for_denoisers]
        options = (f"{field.name}={field.default}" for field in dataclasses.fields(kind))
        table.add_row(name, " ".join(fitting), " ".join(options))
    _console().print(table)
    print(f"figures: {' '.join(FIGURES)}")
