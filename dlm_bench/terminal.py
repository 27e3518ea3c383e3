"""What the commands print: tables, and one record."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from dlm_bench.errors import ConfigError, ResultsError
from dlm_bench.plan import Plan
from dlm_bench.results.record import ORDINARY, Record, mean_of
from dlm_bench.results.store import frame_of
from dlm_bench.sweep import Sweep

if TYPE_CHECKING:
    import pandas

    from dlm_bench.samplers.sampler import Sampler

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
    from dlm_bench.results.lines import short_number

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


def print_throughput(records: Iterable[Record]) -> None:
    """Tokens per second: a row for each line of the sweep, a column for each length."""
    from dlm_bench.results import lines as series

    records = list(records)
    if not any(record.status == "ok" for record in records):
        print("no point could be measured")
        return
    drawn = series.labelled(series.lines(frame_of(records)))
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
    from dlm_bench.results import lines as series
    from dlm_bench.results.lines import check_sampler

    check_sampler(frame, sampler)
    drawn = [li for li in series.lines(frame) if sampler in (None, li.sampler)]
    table = _table(
        "ms per pass", "L² (ns/token²)", "L (µs/token)", "constant (ms)", "R²", "L² > L from"
    )
    skipped = []
    for line in series.labelled(drawn):
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
    from dlm_bench.analysis.cost import parameter_count
    from dlm_bench.figures import NAMES
    from dlm_bench.models.backbones import FOLDER, own_passes
    from dlm_bench.models.config import BACKBONES, SIZES, model_config
    from dlm_bench.samplers import SAMPLERS
    from dlm_bench.sweep_file import shipped

    table = _table("backbone", *SIZES, title="Parameters (million)")
    for backbone in BACKBONES:
        counts = (parameter_count(model_config(backbone, size)) for size in SIZES)
        table.add_row(backbone, *(f"{count / 1e6:,.1f}" for count in counts))
    _console().print(table)
    table = _table("sampler", "decodes with", "options and their defaults", left=3)
    table.columns[-1].no_wrap = False
    for name, kind in SAMPLERS.items():
        fitting = [b for b in BACKBONES if kind.needs in own_passes(b)]
        table.add_row(name, " ".join(fitting), _options(kind))
    _console().print(table)
    _print_plugins()
    print(f"{FOLDER}FOLDER is a backbone, too: a local model of Hugging Face's (docs/plugins.md)")
    print(f"figures: {' '.join(NAMES)}")
    print(f"sweeps: {' '.join(shipped())}")


def _options(kind: type["Sampler"]) -> str:
    return " ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))


def _print_plugins() -> None:
    """What other packages announce, with the reason for what cannot be used of it."""
    from dlm_bench import samplers
    from dlm_bench.models.backbones import known
    from dlm_bench.plugins import announced

    table = _table("plug-in", "name", "package", "sizes or options", "passes", left=5)
    for plugin in (*announced("backbone"), *announced("sampler")):
        try:
            if plugin.kind == "backbone":
                found = known(plugin.name)
                facts = [" ".join(found.sizes), " ".join(found.supports)]
            else:
                kind = samplers.sampler_class(plugin.name)
                facts = [_options(kind), kind.needs]
        except ConfigError as error:
            facts = [f"not usable: {error}", ""]
        table.add_row(plugin.kind, plugin.name, plugin.package, *facts)
    if table.row_count:
        _console().print(table)
