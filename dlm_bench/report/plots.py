"""Bokeh's models of one figure: its axes, glyphs and tools."""

from dataclasses import dataclass
from typing import Any

from bokeh.models import (
    BoxZoomTool,
    CDSView,
    ColumnDataSource,
    CustomJSTickFormatter,
    FixedTicker,
    Grid,
    HoverTool,
    LinearAxis,
    LogScale,
    MultiLine,
    PanTool,
    Plot,
    Range1d,
    ResetTool,
    SaveTool,
    Scatter,
    Segment,
    Span,
    Toolbar,
    WheelZoomTool,
)

from dlm_bench.figures import theme
from dlm_bench.report.quantities import Quantity

POINT, RING = 8, 15  # pixels
WIDTH = 2  # of a curve, in pixels; matplotlib's dashes are in multiples of it
FONT = "system-ui, sans-serif"
# The ticks that short_number writes in the PDFs.
_TICK = """
const [unit, suffix] = tick >= 1e6 ? [1e6, "M"] : tick >= 1e3 ? [1e3, "k"] : [1, ""]
const scaled = tick / unit, whole = Math.round(scaled)
if (unit == 1) return String(Number(tick.toPrecision(6)))
return (Math.abs(scaled - whole) <= 0.05 * scaled ? whole : scaled.toFixed(1)) + suffix
"""
_TOOLTIP = """
<div style="font: 13px/1.45 system-ui, sans-serif; padding: 2px 4px; max-width: 22rem">
  <div style="font-weight: 600; color: @colour">@label</div>
  <div style="white-space: pre-line">@details</div>
</div>
"""


@dataclass(frozen=True)
class Columns:
    """The data shared by the figures: a row a point, a row a series, and the visible rows."""

    points: ColumnDataSource
    series: ColumnDataSource
    points_shown: CDSView
    series_shown: CDSView


def empty_plot(quantity: Quantity, axes: dict[str, Any]) -> Plot:
    """Make an empty figure with the axes of a facet, on logarithmic scales."""
    (left, right), (bottom, top) = axes["log"]
    plot = Plot(
        x_range=Range1d(left, right),
        y_range=Range1d(bottom, top),
        x_scale=LogScale(),
        y_scale=LogScale(),
        height=380,
        sizing_mode="stretch_width",
        toolbar=Toolbar(logo=None),
        toolbar_location="above",
        outline_line_color=None,
        background_fill_color=None,
        border_fill_color=None,
        min_border_right=16,
        name=quantity.name,
    )
    titles = "sequence length (tokens)", quantity.axis
    for dimension, place in enumerate(("below", "left")):
        ticker = FixedTicker(ticks=axes["ticks"][dimension])
        axis = LinearAxis(
            axis_label=titles[dimension],
            ticker=ticker,
            formatter=CustomJSTickFormatter(code=_TICK),
            axis_label_text_font=FONT,
            axis_label_text_font_size="13px",
            axis_label_text_font_style="normal",
            axis_label_text_color="#334155",
            major_label_text_font=FONT,
            major_label_text_font_size="12px",
            major_label_text_color="#475569",
            axis_line_color="#94a3b8",
            major_tick_line_color="#94a3b8",
            minor_tick_line_color=None,
        )
        plot.add_layout(axis, place)
        plot.add_layout(Grid(dimension=dimension, axis=axis, grid_line_color="#e8ecf1"))
    return plot


def add_glyphs(plot: Plot, quantity: Quantity, columns: Columns) -> None:
    """Add curves, bars, points and rings; tools for fingers and wheels start switched off, so the
    page scrolls."""
    name = quantity.name
    if quantity.level is not None:
        level = Span(
            location=quantity.level, dimension="width", line_color=theme.GREY, line_width=1
        )
        plot.add_layout(level)
    plot.add_glyph(
        columns.series,
        MultiLine(
            xs=f"{name} x",
            ys=f"{name} y",
            line_color="colour",
            line_dash="dash",
            line_width=WIDTH,
        ),
        view=columns.series_shown,
    )
    plot.add_glyph(
        columns.points,
        Segment(
            x0="length",
            x1="length",
            y0=f"{name} low",
            y1=f"{name} high",
            line_color="colour",
            line_width=1.5,
        ),
        view=columns.points_shown,
    )
    place = {"x": "length", "y": f"{name} value"}
    plot.add_glyph(
        columns.points,
        Scatter(
            **place,
            marker="circle",
            size=RING,
            fill_color=None,
            line_color="colour",
            line_alpha="ring",
            line_width=1.5,
        ),
        view=columns.points_shown,
    )
    marks = plot.add_glyph(
        columns.points,
        Scatter(
            **place,
            marker="marker",
            size=POINT,
            fill_color="fill",
            line_color="colour",
            line_width=1.5,
        ),
        view=columns.points_shown,
    )
    hover = HoverTool(renderers=[marks], tooltips=_TOOLTIP, point_policy="snap_to_data")
    plot.add_tools(hover, BoxZoomTool(), PanTool(), WheelZoomTool(), ResetTool(), SaveTool())
    plot.toolbar.active_drag = None
    plot.toolbar.active_scroll = None
