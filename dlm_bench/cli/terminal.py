"""Printers of the commands: tables, and one record."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlm_bench.errors import ConfigError, ResultsError, counted
from dlm_bench.results.record import ORDINARY, Record, mean_of
from dlm_bench.results.store import frame_of
from dlm_bench.results.text_table import text_grid
from dlm_bench.streams import folded, screen_width, shown
from dlm_bench.sweep.load import Sweep
from dlm_bench.sweep.plan import Plan

if TYPE_CHECKING:
    import pandas

    from dlm_bench.samplers.sampler import Sampler


def _print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> None:
    """Print a table whose first `words` columns are words, as wide as the screen is at most."""
    cells = [[shown(cell) for cell in row] for row in (titles, *rows)]
    print(text_grid(cells[0], cells[1:], screen_width(), range(words)))


def print_record(record: Record) -> None:
    """Print a measured point, a line for each quantity."""
    from dlm_bench.results.series import short_number

    point, mean = record.point, record.mean_seconds
    assert mean is not None  # run raises where nothing was timed
    spread = (max(record.seconds) - min(record.seconds)) / mean
    how = f"{record.mode}, {record.warmup} warm-up, {counted(record.repeats, 'repeat')}"
    if record.error_estimate is not None:
        how += f", estimated error {record.error_estimate:.1%}"
    rows = {
        "point": point.describe(),
        "measured": f"{how}; {point.dtype} on {record.environment['hardware']}",
        "parameters": short_number(record.parameters or 0),
        "throughput": f"{record.tokens_per_second:,.1f} tokens/s",
        "decode": f"{mean:.4g} s (spread of the repeats {spread:.1%})",
        "passes": f"{record.nfe} of {record.ms_per_pass:.4g} ms on average",
    }
    prefill, first_block = map(mean_of, (record.prefill_seconds, record.first_block_seconds))
    if prefill is not None:
        rows["prefill"] = f"{prefill:.4g} s, before the decode and not in it"
    if first_block is not None:
        rows["first block"] = f"after {first_block:.4g} s"
    if record.tokens_per_pass:
        each = f"{record.tokens_per_pass:.4g} tokens per pass"
        rows["acceptance"] = f"{each}, {record.nfe_per_token:.4g} NFE per token"
    if record.peak_memory_bytes:
        rows["peak memory"] = f"{record.peak_memory_bytes / 2**30:.2f} GiB"
    telemetry = record.telemetry
    if telemetry.get("energy_joules") and telemetry.get("tokens_per_joule"):
        energy = f"{telemetry['energy_joules']:.4g} J for all repeats"
        rows["energy"] = f"{energy}, {telemetry['tokens_per_joule']:.4g} tokens/J"
    if not point.device.startswith("cpu"):  # which has no choice of either
        rows["kernels"] = ", ".join(f"{op} {name}" for op, name in record.kernels.items())
        rows["graphs"] = "; ".join(f"{role} {what}" for role, what in record.graphs.items())
    if record.flags:
        rows["flags"] = ", ".join(record.flags)
    for name, text in rows.items():
        print(folded(f"{name:12} {text}", indent=13))


def print_plan(sweep: Sweep) -> None:
    """Print the points of a sweep with their NFE; none of them runs."""
    from dlm_bench.samplers import build_sampler
    from dlm_bench.samplers.schedule import run_lengths

    titles = ["backbone", "size", "sampler", "options", "length", "prompt", "batch"]
    titles += ["NFE", "token passes"]
    words, rows = 4, []
    for point in sweep.points:
        sampler = build_sampler(point.sampler, **sweep.options_of(point))
        passes = run_lengths(point.length, sampler.plan(point.length, point.prompt_len))
        most = "" if sampler.known else "up to "
        short = {"tokens_per_step": "p", "block_size": "B"}
        options = (item for item in point.options.items() if item not in ORDINARY)
        numbers = (point.length, point.prompt_len, point.batch)
        rows.append(
            [
                point.backbone,
                point.size,
                point.sampler,
                " ".join(f"{short.get(name, name)}={value}" for name, value in options),
                *(f"{number:,}" for number in numbers),
                f"{most}{passes.forward_passes:,}",
                f"{most}{passes.query_tokens:,}",
            ]
        )
    common = {
        title: rows[0][column]
        for column, title in enumerate(titles[:-2])
        if title != "length" and len({row[column] for row in rows}) == 1
    }
    kept = [column for column, title in enumerate(titles) if title not in common]
    usual = {"prompt": "0", "batch": "1", "options": ""}
    shared = [f"{title} {text}" for title, text in common.items() if usual.get(title) != text]
    print(f"{sweep.name}: {', '.join([*shared, sweep.points[0].dtype, sweep.points[0].device])}")
    cells = [[row[column] for column in kept] for row in (titles, *rows)]
    _print_table(cells[0], cells[1:], sum(column < words for column in kept))
    print(f"{counted(len(sweep.points), 'point')}, {sweep.measuring.mode}; nothing is recorded")


def print_found(plan: Plan, found: dict[str, Record], output: Path, retry: bool) -> None:
    """Print how much of a sweep its results file holds already."""
    text = f"{len(found)} of {len(plan.sweep.points)} points found in {output}"
    failed = sum(record.status != "ok" for record in found.values())
    if failed:
        what = "run again" if retry else "not run again without --retry-failed"
        text += f"; {failed} of them failed or were skipped, and are {what}"
    print(text)


def print_throughput(records: Iterable[Record]) -> None:
    """Print tokens per second: a row for each series of the sweep, a column for each length."""
    from dlm_bench.analysis.tables import throughput_table
    from dlm_bench.results.series import labelled, lines

    records = list(records)
    if not any(record.status == "ok" for record in records):
        print("no point could be measured")
        return
    table = throughput_table(labelled(lines(frame_of(records))))
    print(table.render("text", screen_width()))


def print_fits(frame: "pandas.DataFrame", sampler: str | None = None) -> None:
    """Print the latency law of each series, with 95 % intervals, and name those too short; raises
    ResultsError if all are, or if there is none of this sampler."""
    from dlm_bench.analysis.tables import fit_table
    from dlm_bench.results.series import check_sampler, labelled, lines

    check_sampler(frame, sampler)
    drawn = [line for line in lines(frame) if sampler in (None, line.sampler)]
    table = fit_table(labelled(drawn))
    if not table.rows:
        first = table.notes[0].replace(": not fitted", "", 1)
        raise ResultsError(f"none of {len(drawn)} lines can be fitted; {first}")
    print(table.render("text", screen_width()))
    for note in table.notes:
        print(note)


def print_names() -> None:
    """Print backbones with their parameter counts, samplers with their options and defaults."""
    from dlm_bench.cost.flops import parameter_count
    from dlm_bench.figures import NAMES
    from dlm_bench.models.backbones import FOLDER
    from dlm_bench.models.config import BACKBONES, SIZES, model_config
    from dlm_bench.models.own import OWN, is_denoiser, own_passes
    from dlm_bench.samplers import SAMPLERS
    from dlm_bench.sweep.file import shipped

    rows = []
    for backbone in BACKBONES:
        counts = (parameter_count(model_config(backbone, size)) for size in SIZES)
        rows.append([backbone, *(f"{count / 1e6:,.1f}" for count in counts)])
    print("Parameters (million)")
    _print_table(["backbone", *SIZES], rows)
    rows = []
    for name, kind in SAMPLERS.items():
        fitting = [b for b in OWN if kind.needs in own_passes(is_denoiser(b))]
        rows.append([name, " ".join(fitting), _options(kind)])
    print()
    _print_table(["sampler", "decodes with", "options and their defaults"], rows, words=3)
    print()
    _print_plugins()
    for line in (
        f"{FOLDER}FOLDER is a backbone, too: a local model of Hugging Face's (docs/plugins.md)",
        f"figures: {' '.join(NAMES)}",
        f"sweeps: {' '.join(shipped())}",
    ):
        print(folded(line))


def _options(kind: type["Sampler"]) -> str:
    return " ".join(f"{field.name}={field.default}" for field in dataclasses.fields(kind))


def _print_plugins() -> None:
    """Print the plug-ins of other packages, with the reason for those that cannot be used."""
    from dlm_bench import samplers
    from dlm_bench.models.backbones import backbone_info
    from dlm_bench.plugins.entry_points import announced

    rows = []
    for plugin in (*announced("backbone"), *announced("sampler")):
        try:
            if plugin.kind == "backbone":
                found = backbone_info(plugin.name)
                details = [" ".join(found.sizes), " ".join(found.supports)]
            else:
                kind = samplers.sampler_class(plugin.name)
                details = [_options(kind), kind.needs]
        except ConfigError as error:
            details = [f"not usable: {error}", ""]
        rows.append([plugin.kind, plugin.name, plugin.package, *details])
    if rows:
        _print_table(["plug-in", "name", "package", "sizes or options", "passes"], rows, words=5)
        print()
