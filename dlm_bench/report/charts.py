"""The interactive figures: Bokeh's models as JSON, the input of Bokeh's script.

All figures share a table of points and a table of series, each with a filter, so a click hides a
series everywhere. The same filters show a single facet (see `figures.against_length`), with bounds
and ticks of the facet.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import BooleanFilter, CDSView, ColumnDataSource

from dlm_bench.figures.palette import Palette
from dlm_bench.report.markers import marker_of
from dlm_bench.report.plots import WIDTH, Columns, add_glyphs, empty_plot
from dlm_bench.report.quantities import QUANTITIES, Quantity, Values, details_of
from dlm_bench.results.series import Series

Facets = Sequence[Sequence[Series]]


def draw(facets: Facets, palette: Palette, values: dict[int, Values]) -> dict[str, Any]:
    """Return the input of the page's script.

    document: Bokeh's document. facet: the facet of each series. figures: for each quantity with
    values the name, the id of the root, and for each facet the bounds and ticks of the axes (None
    for a facet without a value).
    """
    drawn = [series for members in facets for series in members]
    columns = Columns(
        points=ColumnDataSource(_points(drawn, palette, values), name="points"),
        series=ColumnDataSource(_series(drawn, palette, values)),
        points_shown=CDSView(filter=BooleanFilter(name="points shown")),
        series_shown=CDSView(filter=BooleanFilter(name="series shown")),
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
    members: Sequence[Series], quantity: Quantity, values: dict[int, Values]
) -> dict[str, Any] | None:
    """Return the bounds of both axes on logarithmic and on linear scales, and logarithmic ticks."""
    found = [
        (row["length"], values[id(row)][quantity.name])
        for series in members
        for row in series.rows
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


def _points(drawn: Sequence[Series], palette: Palette, values: dict[int, Values]) -> dict[str, Any]:
    """Return the columns of all points."""
    rows = [(place, series, row) for place, series in enumerate(drawn) for row in series.rows]
    columns: dict[str, Any] = {
        "series": [place for place, _, _ in rows],
        "length": np.array([float(row["length"]) for _, _, row in rows]),
        "label": [series.label for _, series, _ in rows],
        "details": [details_of(row, values[id(row)]) for _, _, row in rows],
        "colour": [palette.colour(series) for _, series, _ in rows],
        "fill": [
            "#ffffff" if row["mode"] == "sampled" else palette.colour(series)
            for _, series, row in rows
        ],
        "marker": [marker_of(palette.style(series)).bokeh for _, series, _ in rows],
        "ring": [float(bool(row["flags"])) for _, _, row in rows],
    }
    for quantity in QUANTITIES:
        spreads = [values[id(row)].get(quantity.name) for _, _, row in rows]
        if any(spreads):
            for end in ("value", "low", "high"):
                numbers = [getattr(spread, end, math.nan) for spread in spreads]
                columns[f"{quantity.name} {end}"] = np.array(numbers, dtype=float)
    return columns


def _series(drawn: Sequence[Series], palette: Palette, values: dict[int, Values]) -> dict[str, Any]:
    """Return the columns of all series, with the points of each quantity in lists."""
    columns: dict[str, list[Any]] = {
        "colour": [palette.colour(series) for series in drawn],
        "dash": [[WIDTH * dash for dash in palette.style(series).dashes[1]] for series in drawn],
    }
    for quantity in QUANTITIES:
        name = quantity.name
        known = [[row for row in series.rows if name in values[id(row)]] for series in drawn]
        columns[f"{name} x"] = [[row["length"] for row in rows] for rows in known]
        columns[f"{name} y"] = [[values[id(row)][name].value for row in rows] for rows in known]
    return columns


def _log(low: float, high: float) -> list[float]:
    """Add a margin to the bounds of a logarithmic axis."""
    margin = max(1.12, (high / low) ** 0.06)
    return [low / margin, high * margin]


def _powers_of_two(low: float, high: float) -> list[float]:
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    ticks = [2.0**power for power in powers]
    return ticks[:: math.ceil(len(ticks) / 9)] if ticks else [low * 1.12]


def _ticks(low: float, high: float) -> list[float]:
    """Return the ticks of a logarithmic axis, denser over fewer decades."""
    decades = math.log10(high / low)
    steps: tuple[int, ...]
    steps = tuple(range(1, 10)) if decades < 0.8 else (1, 2, 5) if decades < 1.8 else (1, 3)
    if decades > 3:
        steps = (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = (step * 10.0**power for power in range(first, last + 1) for step in steps)
    return [tick for tick in ticks if low <= tick <= high]
