"""Any number of the records against any other, and the Pareto figure of first block and
throughput."""

import itertools
import math
import textwrap
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlm_bench.errors import ResultsError, did_you_mean
from dlm_bench.figures import flags, legend, theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.curves import curve_names, curve_series, curve_styles, lumped
from dlm_bench.figures.missing import NotDrawnWarning
from dlm_bench.results.flat import flattened
from dlm_bench.results.series import (
    BACKBONE_NAMES,
    Series,
    grouped,
    identity_columns,
    ok_points,
    setting_text,
    shared_settings,
    time_bounds,
)

Row = dict[str, Any]

AXES = {
    "length": "sequence length (tokens)",
    "batch": "batch (sequences)",
    "tokens_per_second": "throughput (tokens/s)",
    "ms_per_pass": "latency (ms per pass)",
    "first_block_ms": "time to first block (ms)",
    "tokens_per_pass": "tokens per pass (commits apart)",
    "blocks.tokens_per_forward": "tokens per pass of the batch",
    "joules_per_token": "energy (J per token)",
    "peak_memory_gib": "peak memory (GiB)",
    "tokens_per_step": "tokens per step p",
    "block_size": "block size B (tokens)",
}
MAX_PANELS = 12
TIMED = ("tokens_per_second", "mean_seconds", "ms_per_pass")  # have bars, hollow markers and rings


@theme.applied()
def draw_free(
    frame: pd.DataFrame,
    x: str,
    y: str,
    curves: Sequence[str] | None = None,
    panels: str | None = None,
) -> CaptionedFigure:
    """Draw a column of `load_results` against another: nested fields by names with dots, and
    first_block_ms, joules_per_token and peak_memory_gib.

    curves: the columns with a curve for each combination of values, by default all that tell points
    apart, but x; where x is a measured number a curve runs along the length. panels: the column
    with a panel for each value. A curve with several points at an x has no line, and a warning
    names the columns in which they differ. Bars of throughput and latency are those of
    `draw_throughput`. Raises ResultsError for a column that is not there or holds no number.
    """
    return _draw(frame, x, y, curves, panels, frontier=False)


@theme.applied()
def draw_pareto(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw tokens/s against the time to the first block, a panel a length, a curve a backbone and
    sampler over options and batches, and the frontier of all points that no other beats in both.

    Raises ResultsError if no record has a time to the first block.
    """
    curves = [name for name in ("backbone", "sampler", "size", "file") if name in frame.columns]
    return _draw(frame, "first_block_ms", "tokens_per_second", curves, "length", frontier=True)


def _draw(
    frame: pd.DataFrame,
    x: str,
    y: str,
    curves: Sequence[str] | None,
    panels: str | None,
    frontier: bool,
) -> CaptionedFigure:
    points = ok_points(frame)
    rows = [_with_numbers(row) for row in points.to_dict("records")]
    identity = [*identity_columns(frame), "length"]
    _check_columns(rows, [x, y, *(curves or ()), *([panels] if panels else ())])
    there = [_is_number(row.get(x)) and _is_number(row.get(y)) for row in rows]
    left = list(itertools.compress(rows, there))
    if not left:
        raise ResultsError(f"no ok point has both {x} and {y}")
    if curves is None:
        along = {x, y, panels} if x in identity else {x, y, panels, "length"}
        curves = [name for name in identity if name not in along]
    groups = _panels(left, panels)
    names = curve_names(left, curves)
    series = curve_series(left, names)
    styles = curve_styles(series)
    if not frontier:
        _break_lumped(groups.values(), names, styles, x, identity)
    handles = [
        Line2D([], [], label=textwrap.fill(name, 48, break_on_hyphens=False), **look)
        for name, look in styles.items()
    ]
    if frontier:
        handles.append(Line2D([], [], color=theme.GREY, lw=3, alpha=0.3, label="frontier"))
    if y in TIMED and any(row["mode"] == "sampled" for row in left):
        handles.append(legend.sampled_handle())
    if y in TIMED and any(row["flags"] for row in left):
        handles.append(flags.handle())
    wide = len(groups) > 1 or legend.text_lines([handles], len(handles)) > legend.MOST_LINES
    columns = 2 if wide else 1
    figure, axes = theme.panels(
        len(groups),
        height=2.2,
        extra=0.12 + 0.14 * legend.text_lines([handles], math.ceil(len(handles) / columns)),
        xlabel=AXES.get(x, x),
        ylabel=AXES.get(y, y),
        wide=wide,
    )
    for panel, (title, members) in zip(axes, groups.items(), strict=True):
        panel.set_title(title)
        _draw_panel(panel, curve_series(members, names), styles, x, y)
        if frontier:
            _draw_frontier(panel, members, x, y)
    _scale(axes, left, x, y)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    title = f"{AXES.get(y, y)} against {AXES.get(x, x)}."
    sentences = [title[0].upper() + title[1:]]
    shared = shared_settings(grouped(points[there], x if x in identity else "length"))
    backbones = {BACKBONE_NAMES.get(row["backbone"], row["backbone"]) for row in left}
    same = filter(None, [*(backbones if len(backbones) == 1 else ()), shared])
    sentences.append(f"{', '.join(same)}.")
    if y in TIMED:
        sentences.append("Bars: as in the figure of throughput.")
        sentences.append(flags.explain(series))
    if frontier:
        sentences.append("Grey: what no other point beats in both.")
    if len(left) < len(rows):
        sentences.append(f"Not drawn: {len(rows) - len(left)} points without {x} or {y}.")
    figure.caption = " ".join(filter(None, sentences))
    return figure


def _with_numbers(row: Row) -> Row:
    """Return a row with nested fields by names with dots, and all numbers of AXES."""
    flat: Row = dict(row)
    for name, value in row.items():
        if isinstance(value, dict):
            flat |= flattened(name, value)
    first, joules = row["mean_first_block_seconds"], row["telemetry"].get("energy_joules")
    flat["first_block_ms"] = 1e3 * first if _is_number(first) else None
    tokens = len(row["seconds"]) * row["timed_tokens"]
    flat["joules_per_token"] = joules / tokens if _is_number(joules) else None
    peak = row["peak_memory_bytes"]
    flat["peak_memory_gib"] = peak / 2**30 if _is_number(peak) else None
    return flat


def _check_columns(rows: Sequence[Row], asked: Iterable[str]) -> None:
    there = {name for row in rows for name in row}
    for name in asked:
        if name not in there:
            numbers = sorted({key for row in rows for key in row if _is_number(row[key])})
            hint = did_you_mean(name, there)
            raise ResultsError(
                f"{name!r} is no column of these results{hint}; numbers: {', '.join(numbers)}"
            )


def _panels(rows: Sequence[Row], column: str | None) -> dict[str, list[Row]]:
    """Return the rows of each panel, by its title."""
    if column is None:
        return {"": list(rows)}
    values = {row.get(column) for row in rows}
    if len(values) > MAX_PANELS:
        raise ResultsError(
            f"{column} has {len(values)} values; --where chooses {MAX_PANELS} or less"
        )
    ordered = sorted(values, key=_order)
    return {
        setting_text(column, value) if value is not None else f"no {column}": [
            row for row in rows if row.get(column) == value
        ]
        for value in ordered
    }


def _order(value: Any) -> tuple[float, str]:
    return (float(value), "") if _is_number(value) else (math.inf, str(value))


def _break_lumped(
    panels: Iterable[Sequence[Row]],
    names: dict[int, str],
    styles: dict[str, Row],
    x: str,
    identity: Sequence[str],
) -> None:
    """Take the line from curves with several points at the same x, and warn of them."""
    differ: dict[str, None] = {}
    broken: dict[str, None] = {}
    for rows in panels:
        for name in styles:
            mixed = lumped([row for row in rows if names[id(row)] == name], x, identity)
            if mixed:
                styles[name]["linestyle"] = "none"
                broken[name] = None
                differ |= dict.fromkeys(mixed)
    if broken:
        these = "; ".join(broken) if len(broken) <= 4 else f"{len(broken)} curves"
        warnings.warn(
            f"figure of {x}: several points at the same {x}, drawn without a line: {these}; they "
            f"differ in {', '.join(differ)}: add these to --curves, or choose with --where",
            NotDrawnWarning,
            stacklevel=5,
        )


def _draw_panel(
    axes: Axes, curves: Sequence[Series], styles: dict[str, dict[str, Any]], x: str, y: str
) -> None:
    for series in curves:
        series.rows.sort(key=lambda row: (row[x], row[y]))
        below, above = zip(*(_bars(row, y) for row in series.rows), strict=True)
        look = styles[series.label]
        axes.errorbar(
            [row[x] for row in series.rows],
            [row[y] for row in series.rows],
            yerr=[below, above],
            elinewidth=0.8,
            capsize=1.5,
            label=series.label,
            **look,
        )
        if y in TIMED:
            theme.hollow(axes, series, y, look["color"], look["marker"], x)
            flags.ring(axes, series, y, look["color"], x)


def _bars(row: Row, y: str) -> tuple[float, float]:
    """Return the lengths of the bar below and above; 0 for numbers without an interval."""
    low, high = time_bounds(row)
    ends = {
        "tokens_per_second": (row["timed_tokens"] / high, row["timed_tokens"] / low),
        "mean_seconds": (low, high),
        "ms_per_pass": (1e3 * low / row["nfe"], 1e3 * high / row["nfe"]),
    }
    if y not in ends:
        return 0.0, 0.0
    return max(0.0, row[y] - ends[y][0]), max(0.0, ends[y][1] - row[y])


def frontier_of(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats with less x and more y, by x."""
    found: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not found or y > found[-1][1]:
            found.append((x, y))
    return found


def _draw_frontier(axes: Axes, rows: Sequence[Row], x: str, y: str) -> None:
    best = frontier_of((row[x], row[y]) for row in rows)
    axes.step(*zip(*best, strict=True), where="post", color=theme.GREY, lw=3, alpha=0.3, zorder=1)


def _scale(panels: Sequence[Axes], rows: Sequence[Row], x: str, y: str) -> None:
    """Make an axis logarithmic if all values are positive and the largest is three times the
    least."""
    for name, of in ((x, "x"), (y, "y")):
        values = [row[name] for row in rows]
        if of == "y":
            ends = [(row[y], *_bars(row, y)) for row in rows]
            values = [end for at, low, high in ends for end in (at - low, at + high)]
        low, high = min(values), max(values)
        if low <= 0 or high < 3 * low:
            continue
        if name in ("length", "batch"):
            theme.length_axis(panels[0], values, most=5)
            continue
        margin = (high / low) ** 0.06
        getattr(panels[0], f"set_{of}scale")("log")
        getattr(panels[0], f"set_{of}lim")(low / margin, high * margin)
        axis = panels[0].xaxis if of == "x" else panels[0].yaxis
        theme.value_axis(axis, low / margin, high * margin)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
