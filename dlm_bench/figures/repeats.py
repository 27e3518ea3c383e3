"""The repeats of single points: in the order of time, and their empirical distribution."""

import itertools
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from dlm_bench.errors import ResultsError
from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.curves import COLOURS
from dlm_bench.figures.palette import MORE_DASHES
from dlm_bench.results.series import labelled, series_of, shared_settings

MAX_POINTS = 12
FEWEST = 3  # repeats of a point, to be drawn


@theme.applied()
def draw_repeats(frame: pd.DataFrame) -> CaptionedFigure:
    """Draw the times of the repeats of each point, relative to the median: as a sequence, all runs
    one after the other, and as the share of repeats up to a time.

    A slope is a drift, two plateaus are two states, a step in the share two modes. Raises
    ResultsError for more than MAX_POINTS points, and if none has FEWEST repeats.
    """
    drawn = labelled(series_of(frame))
    several = len({row["length"] for series in drawn for row in series.rows}) > 1
    points = {
        f"{series.label}, L = {row['length']:,}" if several else series.label: row
        for series in drawn
        for row in series.rows
        if len(row["seconds"]) >= FEWEST
    }
    if not points:
        raise ResultsError(f"no point has {FEWEST} repeats")
    if len(points) > MAX_POINTS:
        raise ResultsError(f"{len(points)} points; --where chooses {MAX_POINTS} or less")
    figure = CaptionedFigure(
        figsize=(theme.TEXT_WIDTH, 2.2 + 0.16 * ((len(points) + 1) // 2)), layout="constrained"
    )
    sequence, share = figure.subplots(1, 2)
    dashes = itertools.cycle([(0.0, ()), *MORE_DASHES])
    handles = []
    for (label, row), colour, dash in zip(
        points.items(), itertools.cycle(COLOURS), dashes, strict=False
    ):
        times = np.asarray(row["seconds"])
        relative = 100 * (times / np.median(times) - 1)
        look: dict[str, Any] = {"color": colour, "linestyle": dash}
        sequence.plot(np.arange(1, len(times) + 1), relative, marker="o", markersize=2, **look)
        order = np.sort(relative)
        steps = np.arange(len(order) + 1) / len(order)
        share.step([order[0], *order], steps, where="post", **look)
        handles.append(Line2D([], [], label=textwrap.fill(label, 60), **look))
    sequence.set(xlabel="repeat", ylabel="time over the median (%)")
    share.set(xlabel="time over the median (%)", ylabel="share of repeats up to this", ylim=(0, 1))
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    figure.caption = (
        f"{shared_settings(drawn)}. Times of repeats in the order measured (left), and the share "
        "of repeats up to a time (right), each relative to the median of the point."
    )
    return figure
