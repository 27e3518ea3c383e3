"""The interactive figures: Bokeh's models of them, as the JSON that its script draws from.

All figures share two tables of columns, one row a point and one a line, and one filter on each, so
that a line is hidden in all of them at once. The facets (see `figures.against_length`) are shown by
the same filters, one at a time, with bounds and ticks of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import BooleanFilter, CDSView, ColumnDataSource

from dlm_bench.figures import theme
from dlm_bench.report.plots import WIDTH, Columns, add_glyphs, empty_plot
from dlm_bench.report.quantities import QUANTITIES, Quantity, Values, facts_of
from dlm_bench.results.series import Line

# Matplotlib's markers that Bokeh has under another name; of the spare ones, those it has at all.
MARKERS = {"o": "circle", "s": "square", "^": "triangle", "D": "diamond"} | {
    "v": "inverted_triangle",
    "P": "plus",
    "X": "square_x",
    "<": "triangle_pin",
    ">": "square_pin",
    "*": "star",
    "p": "circle_cross",
    "h": "hex",
    "8": "square_cross",
    "d": "diamond_cross",
}
Facets = Sequence[Sequence[Line]]


@dataclass(frozen=True)
class Look:
    """The colour of each backbone and the line style of each variant."""

    colours: dict[str, str]
    styles: dict[str, theme.LineStyle]


def draw(facets: Facets, look: Look, values: dict[int, Values]) -> dict[str, Any]:
    """The input of the page's script: Bokeh's document in JSON, the facet of each of its lines, and
    the figures: each has its quantity's name, the id of its root, and for each facet the bounds
    and ticks of its axes (None where the facet has no value). Quantities without any have none."""
    drawn = [line for members in facets for line in members]
    columns = Columns(
        points=ColumnDataSource(_points(drawn, look, values), name="points"),
        lines=ColumnDataSource(_lines(drawn, look, values)),
        points_shown=CDSView(filter=BooleanFilter(name="points shown")),
        lines_shown=CDSView(filter=BooleanFilter(name="lines shown")),
    )
    plots, figures = [], []
    for quantity in QUANTITIES:
        axes = [_axes(members, quantity, values) for members in facets]
        if any(axes):
            plot = empty_plot(quantity, next(filter(None, axes)))
            add_glyphs(plot, quantity, columns)
            plots.append(plot)
            figures.append({"name": quantity.name, "root": plot.id, "facets": axes})
    document = Document()
    for plot in plots:
        document.add_root(plot)
    return {
        "document": document.to_json(deferred=False),
        "figures": figures,
        "facet": [place for place, members in enumerate(facets) for _ in members],
    }


def _axes(
    members: Sequence[Line], quantity: Quantity, values: dict[int, Values]
) -> dict[str, Any] | None:
    """Bounds of both axes on logarithmic and on linear scales, and the ticks of the former."""
    found = [
        (row["length"], values[id(row)][quantity.name])
        for line in members
        for row in line.rows
        if quantity.name in values[id(row)]
    ]
    if not found:
        return None
    lengths = [length for length, _ in found]
    ends = [end for _, each in found for end in (each.low, each.high)]
    ends += [] if quantity.level is None else [quantity.level]
    low, high = min(ends), max(ends)
    x, y = _log(min(lengths), max(lengths)), _log(low, high)
    return {
        "log": [x, y],
        "linear": [[0, 1.05 * max(lengths)], [0, 1.08 * high]],
        "ticks": [_powers_of_two(*x), _ticks(*y)],
    }


def _points(drawn: Sequence[Line], look: Look, values: dict[int, Values]) -> dict[str, Any]:
    """The columns of all points."""
    rows = [(place, line, row) for place, line in enumerate(drawn) for row in line.rows]
    columns: dict[str, Any] = {
        "line": [place for place, _, _ in rows],
        "length": np.array([float(row["length"]) for _, _, row in rows]),
        "label": [line.label for _, line, _ in rows],
        "facts": [facts_of(row, values[id(row)]) for _, _, row in rows],
        "colour": [look.colours[line.backbone] for _, line, _ in rows],
        "fill": [
            "#ffffff" if row["mode"] == "sampled" else look.colours[line.backbone]
            for _, line, row in rows
        ],
        "marker": [MARKERS.get(look.styles[line.variant].marker, "hex") for _, line, _ in rows],
        "ring": [float(bool(row["flags"])) for _, _, row in rows],
    }
    for quantity in QUANTITIES:
        spreads = [values[id(row)].get(quantity.name) for _, _, row in rows]
        if any(spreads):
            for end in ("value", "low", "high"):
                numbers = [getattr(spread, end, math.nan) for spread in spreads]
                columns[f"{quantity.name} {end}"] = np.array(numbers, dtype=float)
    return columns


def _lines(drawn: Sequence[Line], look: Look, values: dict[int, Values]) -> dict[str, Any]:
    """The columns of all lines, with the points of each quantity in lists."""
    columns: dict[str, list[Any]] = {
        "colour": [look.colours[line.backbone] for line in drawn],
        "dash": [[WIDTH * dash for dash in look.styles[line.variant].dashes[1]] for line in drawn],
    }
    for quantity in QUANTITIES:
        name = quantity.name
        known = [[row for row in line.rows if name in values[id(row)]] for line in drawn]
        columns[f"{name} x"] = [[row["length"] for row in rows] for rows in known]
        columns[f"{name} y"] = [[values[id(row)][name].value for row in rows] for rows in known]
    return columns


def _log(low: float, high: float) -> list[float]:
    """Bounds with a margin, on a logarithmic axis."""
    margin = max(1.12, (high / low) ** 0.06)
    return [low / margin, high * margin]


def _powers_of_two(low: float, high: float) -> list[float]:
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    ticks = [2.0**power for power in powers]
    return ticks[:: math.ceil(len(ticks) / 9)] if ticks else [low * 1.12]


def _ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis, the denser the fewer decades it spans."""
    decades = math.log10(high / low)
    steps: tuple[int, ...]
    steps = tuple(range(1, 10)) if decades < 0.8 else (1, 2, 5) if decades < 1.8 else (1, 3)
    if decades > 3:
        steps = (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = (step * 10.0**power for power in range(first, last + 1) for step in steps)
    return [tick for tick in ticks if low <= tick <= high]
