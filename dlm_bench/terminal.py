"""What the commands print: tables, one record, and the progress of a sweep."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.results.record import Record
from dlm_bench.results.store import frame_of
from dlm_bench.sweep import Sweep

if TYPE_CHECKING:
    import pandas

WIDE = 160  # columns of a table that goes to a file or a pipe


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
    if record.peak_memory_bytes:
        facts["peak memory"] = f"{record.peak_memory_bytes / 2**30:.2f} GiB"
    for name, text in facts.items():
        print(f"{name:12} {text}")


def print_plan(sweep: Sweep) -> None:
    """The points of a sweep with their NFE, none of them run."""
    from dlm_bench.execute import sampler_of

    table = _table(
        "backbone", "size", "sampler", "options", "length", "NFE", "token passes", left=4
    )
    for point in sweep.points:
        schedule = sampler_of(point).schedule(point.length)
        table.add_row(
            point.backbone,
            point.size,
            point.sampler,
            " ".join(f"{name}={value}" for name, value in point.options.items()),
            f"{point.length:,}",
            f"{schedule.forward_passes:,}",
            f"{schedule.query_tokens:,}",
        )
    _console().print(table)
    print(f"{len(sweep.points)} points, {sweep.mode}, nothing was run")


@contextmanager
def sweep_progress(sweep: Sweep) -> Iterator[Callable[[Record], None]]:
    """Show how far a sweep is: a bar with the time left on a terminal, else a line a point."""
    from dlm_bench.execute import expected_work

    work = [expected_work(point, sweep.mode) for point in sweep.points]
    console = Console(stderr=True, highlight=False)
    done = 0
    with Progress(
        TextColumn("{task.fields[done]}/{task.fields[points]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=sum(work), done=0, points=len(sweep.points))

        def announce() -> None:
            if done < len(sweep.points):
                progress.update(task, description=sweep.points[done].describe())

        def advance(record: Record) -> None:
            nonlocal done
            line = f"[{done + 1}/{len(sweep.points)}] {record.point.describe()}: {outcome(record)}"
            if record.status != "ok":
                progress.console.print(line, style="red", markup=False)
            elif not console.is_terminal:
                console.print(line, markup=False, soft_wrap=True)
            progress.update(task, advance=work[done], done=done + 1)
            done += 1
            announce()

        announce()
        yield advance


def outcome(record: Record) -> str:
    """A record in a few words: its throughput, or what went wrong."""
    if record.status != "ok":
        return f"{record.status}: {record.message}"
    error = f" ±{record.error_estimate:.1%}" if record.error_estimate is not None else ""
    return f"{record.tokens_per_second:,.1f} tokens/s{error}"


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
    """The latency law of each line, with 95 % intervals. Lines too short to fit are named."""
    from dlm_bench.analysis.latency_fit import fit_latency
    from dlm_bench.figures import style

    if frame.empty:
        raise ResultsError("the results hold no record")
    drawn = [li for li in style.lines(frame) if sampler in (None, li.sampler)]
    if not drawn:
        raise ResultsError(f"sampler: no ok record of {sampler!r} in these results")
    table = _table(
        "ms per pass", "L² (ns/token²)", "L (µs/token)", "constant (ms)", "R²", "L² > L from"
    )
    skipped = []
    for line in style.labelled(drawn):
        lengths = [row["length"] for row in line.rows]
        try:
            fit = fit_latency(lengths, [row["ms_per_pass"] / 1e3 for row in line.rows])
        except ConfigError as error:
            skipped.append(f"{line.label}: not fitted: {error}")
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
    if table.row_count:
        _console().print(table)
    for text in skipped:
        print(text)


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
    for name, kind in SAMPLERS.items():
        fitting = [b for b, what in BACKBONES.items() if what.denoiser == kind.for_denoisers]
        options = (f"{field.name}={field.default}" for field in dataclasses.fields(kind))
        table.add_row(name, " ".join(fitting), " ".join(options))
    _console().print(table)
    print(f"figures: {' '.join(FIGURES)}")
