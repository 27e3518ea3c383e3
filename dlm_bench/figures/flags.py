"""Points with flags: a ring around each, and an explanation of the rings."""

from collections import Counter

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlm_bench.figures import theme
from dlm_bench.results.record import Flag
from dlm_bench.results.series import Series

FLAGS: dict[Flag | str, str] = {
    "throttled": "clocks held down",
    "drifting": "repeats get slower or faster",
    "outliers": "some repeats far off",
    "contended": "other work on the machine",
}


def ring(axes: Axes, series: Series, value: str, colour: str, along: str = "length") -> None:
    """Draw a ring around each flagged point of a series, at the column `value`."""
    flagged = [row for row in series.rows if row["flags"]]
    if flagged:
        axes.plot(
            [row[along] for row in flagged],
            [row[value] for row in flagged],
            color=colour,
            linestyle="none",
            marker="o",
            markersize=7.5,
            markerfacecolor="none",
            markeredgewidth=0.7,
            label="_flagged",
            zorder=4,
        )


def handle() -> Line2D:
    """Return the legend entry of a ring."""
    entry = Line2D([], [], color=theme.GREY, linestyle="none", marker="o", label="flagged")
    entry.set(markersize=7.5, markerfacecolor="none", markeredgewidth=0.7)
    return entry


def explain(drawn: list[Series]) -> str:
    """Explain the rings for the caption: the flags of the points drawn, each with a count."""
    counts = Counter(flag for series in drawn for row in series.rows for flag in row["flags"])
    known = [flag for flag in FLAGS if counts[flag]]
    parts = [f"{counts[flag]} {flag} ({FLAGS[flag]})" for flag in known]
    parts += [f"{count} {flag}" for flag, count in counts.items() if flag not in FLAGS]
    return f"Ringed: {', '.join(parts)}." if parts else ""
