"""The look of every figure: colours, markers, axes, captions, and saving.

Colours tell the backbones apart and markers with line styles the samplers, so a line can be read
in greyscale and by a colour-blind reader. Sizes are those of the final print, in inches and points.
"""

import io
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from dlm_bench.results.files import write_file
from dlm_bench.results.series import Line, short_number

COLUMN_WIDTH = 3.3  # inches: one column of a two-column paper
TEXT_WIDTH = 6.9  # inches: both columns
SMALL = 6  # points: captions, equations
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

# Paul Tol's high-contrast triple, whose lightness differs most among the three that share samplers,
# with black and a light blue. Okabe-Ito's blue, vermilion and green are one grey on paper.
BACKBONE_COLOURS = {
    "diffutran": "#004488",
    "diffumamba": "#BB5566",
    "diffumamba-h": "#DDAA33",
    "ar-transformer": "#000000",
    "ar-mamba": "#66AABB",
}
_MORE_COLOURS = ["#228833", "#AA3377", "#999999", "#663333", "#88AA00"]


class LineStyle(NamedTuple):
    """Marker and dashes of a line, in matplotlib's notation."""

    marker: str
    dashes: tuple[float, tuple[float, ...]]


SAMPLER_STYLES = {
    "full": LineStyle("o", (0, ())),
    "fast-dllm": LineStyle("s", (0, (4, 1.5))),
    "block-cache": LineStyle("^", (0, (6, 1.2, 1.2, 1.2))),
    "ar": LineStyle("D", (0, (1.2, 1.2))),
}
# Each with a period that a legend's handle holds, and another rhythm than those above.
MORE_DASHES = [
    (0.0, (9.0, 2.0)),
    (0.0, (2.2, 1.6)),
    (0.0, (6.0, 1.2, 1.2, 1.2, 1.2, 1.2)),
    (0.0, (8.0, 1.2, 3.0, 1.2)),
    (0.0, (3.0, 1.2, 1.2, 1.2)),
]
MORE_MARKERS = "vPX<>*ph8d"


@contextmanager
def look() -> Iterator[None]:
    """Draw in the project's look, whatever the user's own matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def backbone_colours(backbones: Iterable[str]) -> dict[str, str]:
    """Return the colour of each backbone; a user's own backbones get the spare ones, by name."""
    unknown = sorted(set(backbones) - set(BACKBONE_COLOURS))
    spare = {name: _MORE_COLOURS[i % len(_MORE_COLOURS)] for i, name in enumerate(unknown)}
    return BACKBONE_COLOURS | spare


def hollow(
    axes: Axes, line: Line, value: str, colour: str, marker: str, along: str = "length"
) -> None:
    """Draw the points of a line, at their `value`, hollow where their timing is sampled."""
    sampled = [row for row in line.rows if row["mode"] == "sampled"]
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
    count: int, height: float, extra: float, xlabel: str, ylabel: str
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `count` panels that share both axes: one column wide for one, else the page.

    `height` (inches) is that of a row of panels, `extra` what stands above and below them all.
    """
    columns = min(count, 2 if count in (2, 4) else 3)
    rows = math.ceil(count / columns)
    width = COLUMN_WIDTH if count == 1 else TEXT_WIDTH
    figure = Figure(figsize=(width, rows * height + extra), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[count:]:
        axes.remove()
    for axes in grid.flat[max(count - columns, 0) : count]:
        axes.xaxis.set_tick_params(labelbottom=True)  # also above a gap in the last row
    for axes in grid.flat[(rows - 1) * columns : count]:
        axes.set_xlabel(xlabel)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    return figure, list(grid.flat[:count])


def caption(figure: Figure, text: str) -> None:
    """Put `text` in small type above the panels, wrapped to the figure's width."""
    characters = int(figure.get_figwidth() * 72 / (SMALL * 0.58))
    wrapped = "\n".join(textwrap.wrap(text, characters))
    figure.suptitle(wrapped, fontsize=SMALL, color=GREY, x=0.01, ha="left")


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write `path`.pdf and `path`.png (300 dpi), the same bytes in every run; returns both paths.

    Folders are created. Raises ResultsError if a file cannot be written.
    """
    base, engine = Path(path), figure.get_layout_engine()
    options: dict[str, dict[str, Any]] = {
        "pdf": {"metadata": {"CreationDate": None}},
        "png": {"dpi": 300},
    }
    files = []
    try:
        for kind, more in options.items():
            drawn = io.BytesIO()  # a full disk is then met by the writing, not within matplotlib
            with look():
                figure.savefig(drawn, format=kind, **more)
            figure.set_layout_engine("none")  # the layout of the first file is that of both
            files.append(base.with_name(f"{base.name}.{kind}"))
            write_file(files[-1], drawn.getvalue(), "figure")
    finally:  # the caller may go on with the figure
        if engine is not None:
            figure.set_layout_engine(engine)
    return files
