"""Points whose records have flags: a ring around each, and what the rings mean."""

from collections import Counter

from matplotlib.axes import Axes

from dlm_bench.results.record import Flag
from dlm_bench.results.series import Line

FLAGS: dict[Flag | str, str] = {
    "throttled": "clocks held down",
    "drifting": "repeats get slower or faster",
    "outliers": "some repeats far off",
    "contended": "other work on the CPU",
}


def ring(axes: Axes, line: Line, value: str, colour: str, along: str = "length") -> None:
    """Put a ring around the points of a line, drawn at `value`, whose records have flags."""
    flagged = [row for row in line.rows if row["flags"]]
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


def told(drawn: list[Line]) -> str:
    """Explain the rings for the caption: the flags of the points drawn, each with a count."""
    counts = Counter(flag for line in drawn for row in line.rows for flag in row["flags"])
    known = [flag for flag in FLAGS if counts[flag]]
    parts = [f"{counts[flag]} {flag} ({FLAGS[flag]})" for flag in known]
    parts += [f"{count} {flag}" for flag, count in counts.items() if flag not in FLAGS]
    return f" Ringed: {', '.join(parts)}." if parts else ""
