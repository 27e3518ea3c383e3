"""The throughput of a point over commits, with the changes found."""

import math
from itertools import pairwise

import numpy as np
from matplotlib.ticker import FixedFormatter, FixedLocator

from dlm_bench.analysis.history import History
from dlm_bench.figures import theme
from dlm_bench.figures.caption import CaptionedFigure

SLOWER, FASTER = "#BB5566", "#228833"
MOST_NAMED = 15  # commits on the axis


@theme.applied()
def draw_history(history: History) -> CaptionedFigure:
    """Draw tokens/s of each commit with the 95 % interval, the levels between changes, a coloured
    line at each change and a grey dashed one where the environment changed."""
    figure = CaptionedFigure(figsize=(theme.TEXT_WIDTH, 1.9), layout="constrained")
    axes = figure.subplots()
    entries = history.entries
    places = np.arange(len(entries))
    values = [entry.value for entry in entries]
    spans = [entry.interval or (entry.value, entry.value) for entry in entries]
    below = [max(0.0, value - low) for value, (low, _) in zip(values, spans, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(values, spans, strict=True)]
    axes.errorbar(
        places,
        values,
        yerr=[below, above],
        color=theme.GREY,
        linestyle="none",
        marker="o",
        capsize=1.5,
    )
    ends = [0, *(step.index for step in history.steps), len(entries)]
    logs = np.log(values)
    for begin, end in pairwise(ends):
        level = math.exp(float(logs[begin:end].mean()))
        axes.plot([begin - 0.5, end - 0.5], [level, level], color="#004488")
    for step in history.steps:
        colour = FASTER if step.change > 0 else SLOWER
        axes.axvline(step.index - 0.5, color=colour, linewidth=1.2)
        axes.annotate(
            f"{100 * step.change:+.1f} %",
            (step.index - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, -7),
            textcoords="offset points",
            fontsize=theme.SMALL,
            color=colour,
        )
    for place, entry in enumerate(entries):
        if entry.changed:
            axes.axvline(place - 0.5, color=theme.GREY, linewidth=0.8, linestyle="--")
    shown = places[:: max(1, math.ceil(len(entries) / MOST_NAMED))]
    axes.xaxis.set_major_locator(FixedLocator(list(shown)))
    axes.xaxis.set_major_formatter(FixedFormatter([entries[each].commit[:10] for each in shown]))
    axes.tick_params("x", rotation=30)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.set(title=history.name, ylabel="throughput (tokens/s)", xlim=(-0.7, len(entries) - 0.3))
    figure.caption = f"Tokens/s of {history.name} over {len(entries)} commits."
    return figure
