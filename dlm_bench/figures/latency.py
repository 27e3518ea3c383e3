"""Latency of a pass against length, taken apart into the terms of its fitted law.

Follows Figure 3 of arXiv 2511.15927.
"""

import math
import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlm_bench.analysis.latency_fit import LatencyFit, fit_latency
from dlm_bench.errors import ResultsError
from dlm_bench.figures import flags, legend, theme
from dlm_bench.figures.against_length import measurement
from dlm_bench.results.series import (
    SAMPLER_NAMES,
    Line,
    labelled,
    lines,
    shared_settings,
    time_bounds,
)

MIN_LENGTHS = 3  # the law has three coefficients
_TERMS: dict[str, tuple[str, tuple[float, tuple[float, ...]]]] = {  # term: colour, dashes
    "quadratic": ("#AA3377", (0, (4, 1.5))),
    "linear": ("#228833", (0, (6, 1.2, 1.2, 1.2))),
    "constant": ("#888888", (0, (1.2, 1.2))),
}


@theme.look()
def draw_latency(frame: pd.DataFrame, sampler: str | None = None) -> Figure:
    """Draw measured milliseconds per pass, the fitted law and its three terms, a panel a line.

    `frame` comes from `load_results`; a pass is what a decode's time divided by its NFE gives.
    Hollow markers are sampled timing, rings are around records with flags.
    Only lines with ok records at 3 or more lengths can be fitted and are drawn: those of
    `sampler`, or if it is None those of "full" where there are any, else all. Raises ResultsError
    if no line is left.
    """
    drawn = _chosen(frame, sampler)
    figure, panels = theme.panels(
        len(drawn),
        height=1.75 if len(drawn) > 1 else 2.2,
        extra=0.5,
        xlabel="sequence length L (tokens)",
        ylabel="mean latency (ms per pass)",
    )
    colours = theme.backbone_colours(line.backbone for line in drawn)
    times = [row["ms_per_pass"] for line in drawn for row in line.rows]
    lengths = [row["length"] for line in drawn for row in line.rows]
    for axes, line in zip(panels, drawn, strict=True):
        _draw_panel(axes, line, colours[line.backbone])
    theme.length_axis(panels[0], lengths, most=6 if len(drawn) == 1 else 4)
    panels[0].set_yscale("log")
    # A good decade below the data shows when a term starts to matter; the top holds the equation.
    low, high = min(times) / 15, max(times)
    panels[0].set_ylim(low, high * (high / low) ** 0.4)
    theme.value_axis(panels[0].yaxis, low, high)
    samplers = {SAMPLER_NAMES.get(line.sampler, line.sampler) for line in drawn}
    shared = samplers.pop() + ", " if len(samplers) == 1 else ""
    how = measurement(drawn, "slowest to fastest")
    told = f"{shared}{shared_settings(drawn)}. {how} Equations: L in thousands."
    theme.caption(figure, told + flags.told(drawn))
    handles = _legend({row["mode"] for line in drawn for row in line.rows})
    columns = len(handles) if len(drawn) > 1 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def _chosen(frame: pd.DataFrame, sampler: str | None) -> list[Line]:
    """The lines to draw, with labels that tell them, and no others, apart."""
    there = lines(frame)
    fitted = [line for line in there if len(line.rows) >= MIN_LENGTHS]
    if sampler is None and any(line.sampler == "full" for line in fitted):
        sampler = "full"
    keep = [line for line in fitted if sampler in (None, line.sampler)]
    if not keep:
        names = ", ".join(dict.fromkeys(f"{line.sampler} ({len(line.rows)})" for line in there))
        asked = f"sampler {sampler!r}" if sampler else "any line"
        raise ResultsError(
            f"nothing to draw: no {MIN_LENGTHS} ok lengths for {asked}; lengths there are: {names}"
        )
    return labelled(keep)


def _draw_panel(axes: Axes, line: Line, colour: str) -> None:
    """Measured points with their bounds, the fitted law and its terms."""
    points = [
        (row["length"], seconds / row["nfe"]) for row in line.rows for seconds in row["seconds"]
    ]
    fit = fit_latency(*zip(*points, strict=True))
    lengths = np.array([row["length"] for row in line.rows])
    means = np.array([row["ms_per_pass"] for row in line.rows])
    bounds = [1e3 * np.array(time_bounds(row)) / row["nfe"] for row in line.rows]
    spread = [means - [low for low, _ in bounds], [high for _, high in bounds] - means]
    axes.errorbar(
        lengths,
        means,
        yerr=np.clip(spread, 0, None),
        color=colour,
        marker="o",
        linestyle="none",
        capsize=1.5,
        label="measured",
    )
    theme.hollow(axes, line, "ms_per_pass", colour, "o")
    flags.ring(axes, line, "ms_per_pass", colour)
    curve = np.geomspace(lengths[0], lengths[-1], 100)
    axes.plot(curve, 1e3 * fit.predict(curve), color=colour, label="fitted law")
    for name, term in fit.terms(curve)._asdict().items():
        if term[-1] > 0:  # a zero term has no place on a logarithmic axis
            term_colour, dashes = _TERMS[name]
            axes.plot(curve, 1e3 * term, color=term_colour, linestyle=dashes, lw=0.9, label=name)
    axes.set_title(textwrap.fill(line.label, 32))
    text = f"{equation(fit)}\n{_quality(fit, lengths, means)}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, fontsize=theme.SMALL, va="top")


def equation(fit: LatencyFit) -> str:
    """The law in ms for L in thousands of tokens, e.g. `0.2 L² + 0.49 L + 0.05 ms`."""
    terms = [
        f"{_number(1e3 * coefficient * 1000**power)}{unit}"
        for coefficient, power, unit in (
            (fit.quadratic, 2, " L²"),
            (fit.linear, 1, " L"),
            (fit.constant, 0, ""),
        )
        if coefficient > 0
    ]
    return f"{' + '.join(terms)} ms"


def _quality(fit: LatencyFit, lengths: np.ndarray, means: np.ndarray) -> str:
    """R² and what it hides: a law with no freedom left, or a flat one without variance."""
    if math.isinf(fit.intervals["constant"][1]):
        return f"R² = {fit.r2:.4f} (3 terms, {len(lengths)} points)"
    error = np.max(np.abs(1e3 * fit.predict(lengths) / means - 1))
    return f"R² = {fit.r2:.4f}, largest error {100 * error:.1f} %"


def _number(value: float) -> str:
    """Three digits, without an exponent where that stays short."""
    if 1000 <= value < 1e6:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    if not exponent:
        return mantissa
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{digits}"


def _legend(modes: set[str]) -> list[Line2D]:
    """Draw the key of the marks; measured and fit are grey here, of the backbone's colour above."""
    measured = Line2D([], [], color=theme.GREY, marker="o", linestyle="none", label="measured")
    points = [measured] if "exact" in modes else []
    points += [legend.sampled_handle()] if "sampled" in modes else []
    law = Line2D([], [], color=theme.GREY, label="fitted law")
    terms = [
        Line2D([], [], color=colour, linestyle=dashes, lw=0.9, label=name)
        for name, (colour, dashes) in _TERMS.items()
    ]
    return [*points, law, *terms]
