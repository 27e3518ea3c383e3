"""The theme of all figures: fonts, axes and panels. Sizes are in inches and points of the print."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.results.series import Series, short_number

COLUMN_WIDTH = 3.3  # inches: one column of a two-column paper
TEXT_WIDTH = 6.9  # inches: both columns
SMALL = 6  # points: equations, captions
GREY = "#555555"

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same everywhere
    "font.size": 7,  # ticks and legends
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "legend.frameon": False,
    "legend.borderaxespad": 0.2,
    "legend.labelspacing": 0.3,
    "legend.handlelength": 2.9,  # a whole period of the longest dashes
    "legend.handletextpad": 0.6,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e2e2e2",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "pdf.fonttype": 42,  # TrueType: publishers refuse matplotlib's default Type 3
    "svg.hashsalt": "dlm-bench",  # the same identifiers in every run
}


@contextmanager
def applied() -> Iterator[None]:
    """Apply the theme, whatever the user's own matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def hollow(
    axes: Axes, series: Series, value: str, colour: str, marker: str, along: str = "length"
) -> None:
    """Draw the points of a series, at their `value`, hollow where their timing is sampled."""
    sampled = [row for row in series.rows if row["mode"] == "sampled"]
    if sampled:
        axes.plot(
            [row[along] for row in sampled],
            [row[value] for row in sampled],
            linestyle="none",
            marker=marker,
            color=colour,
            markerfacecolor="white",
            label="_sampled",
            zorder=3,
        )


def length_axis(axes: Axes, lengths: list[int], most: int) -> None:
    """Make the x axis logarithmic over `lengths` (or batches) with at most `most` ticks: powers of
    two, from the longest down."""
    low, high = min(lengths), max(lengths)
    margin = max(0.05 * math.log2(high / low), 0.3)
    axes.set_xscale("log", base=2)
    axes.set_xlim(low * 2**-margin, high * 2**margin)
    powers = [2.0**n for n in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    # One power of two is no scale; measured lengths then say more.
    ticks = powers if len(powers) > 1 else sorted({float(low), float(high)})
    axes.xaxis.set_major_locator(FixedLocator(ticks[:: -math.ceil(len(ticks) / most)][::-1]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))


def value_axis(
    axis: Axis, low: float, high: float, tick: Callable[[float], str] = short_number
) -> None:
    """Set the ticks of a logarithmic axis from low to high, denser over fewer decades."""
    decades = math.log10(high / low)
    most = [(1.0, (1, 2, 3, 5, 7)), (1.7, (1, 2, 5)), (2.8, (1, 3)), (math.inf, (1,))]
    subs = next(subs for limit, subs in most if decades < limit)
    # In half a decade there may be one of these, which is no scale.
    few = MaxNLocator(5, steps=[1, 2, 5, 10])
    axis.set_major_locator(few if decades < 0.5 else LogLocator(subs=subs, numticks=10))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))


def panels(
    count: int, height: float, extra: float, xlabel: str, ylabel: str, wide: bool = False
) -> tuple[CaptionedFigure, list[Axes]]:
    """Make a figure of `count` panels with shared axes, a column wide for a single panel unless
    `wide`, else a page.

    height: inches of a row of panels. extra: inches for the legend.
    """
    columns = min(count, 2 if count in (2, 4) else 3)
    rows = math.ceil(count / columns)
    width = TEXT_WIDTH if wide or count > 1 else COLUMN_WIDTH
    figure = CaptionedFigure(figsize=(width, rows * height + extra), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[max(count - columns, 0) : count]:  # also above a gap in the last row
        axes.xaxis.set_tick_params(labelbottom=True)
        axes.set_xlabel(xlabel)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    return figure, list(grid.flat[:count])
