"""Latency of a pass against length, with the terms of the fitted law.

Follows Figure 3 of arXiv 2511.15927.
"""

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from dlm_bench.analysis.latency_fit import LatencyFit, fit_latency
from dlm_bench.errors import ResultsError
from dlm_bench.figures import flags, legend, theme
from dlm_bench.figures.against_length import INTERVAL, measurement
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.palette import backbone_colours
from dlm_bench.results.series import (
    Series,
    labelled,
    mixed,
    series_of,
    shared_settings,
    time_bounds,
)

MIN_LENGTHS = 3  # the law has three coefficients
_TERMS: dict[str, tuple[str, tuple[float, tuple[float, ...]]]] = {  # term: colour, dashes
    "quadratic": ("#AA3377", (0, (4, 1.5))),
    "linear": ("#228833", (0, (6, 1.2, 1.2, 1.2))),
    "constant": ("#888888", (0, (1.2, 1.2))),
}


@theme.applied()
def draw_latency(frame: pd.DataFrame, sampler: str | None = None) -> CaptionedFigure:
    """Draw measured milliseconds per pass, the fitted law and the three terms, a panel a series.

    frame: the frame of `load_results`; time per pass is time per decode over NFE. sampler: the
    series to draw, by default those of "full" if there are any, else all. Hollow markers are
    sampled timing, rings records with flags. A fit needs ok records at 3 or more lengths. Raises
    ResultsError if no series has so many.
    """
    drawn = _chosen(frame, sampler)
    figure, panels = theme.panels(
        len(drawn),
        height=1.8 if len(drawn) > 1 else 2.1,
        extra=0.25 if len(drawn) > 1 else 0.5,
        xlabel="sequence length L (tokens)",
        ylabel="mean latency (ms per pass)",
    )
    colours = backbone_colours(series.backbone for series in drawn)
    times = [row["ms_per_pass"] for series in drawn for row in series.rows]
    lengths = [row["length"] for series in drawn for row in series.rows]
    for axes, series in zip(panels, drawn, strict=True):
        _draw_panel(axes, series, colours[series.backbone])
    theme.length_axis(panels[0], lengths, most=6 if len(drawn) == 1 else 4)
    panels[0].set_yscale("log")
    # A good decade below the data shows when a term starts to matter; the top holds the equation.
    low, high = min(times) / 15, max(times)
    panels[0].set_ylim(low, high * (high / low) ** 0.4)
    theme.value_axis(panels[0].yaxis, low, high)
    sentences = [f"{shared_settings(drawn)}.", measurement(drawn, INTERVAL)]
    sentences += ["Equations: L in thousands.", flags.explain(drawn), mixed(drawn)]
    figure.caption = " ".join(filter(None, sentences))
    handles = _legend([row for series in drawn for row in series.rows])
    columns = 2 if len(drawn) == 1 else len(handles) if len(handles) <= 6 else 4
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


def _chosen(frame: pd.DataFrame, sampler: str | None) -> list[Series]:
    """Return the series to draw, labelled by the settings that differ."""
    there = series_of(frame)
    fitted = [series for series in there if len(series.rows) >= MIN_LENGTHS]
    if sampler is None and any(series.sampler == "full" for series in fitted):
        sampler = "full"
    keep = [series for series in fitted if sampler in (None, series.sampler)]
    if not keep:
        names = ", ".join(
            dict.fromkeys(f"{series.sampler} ({len(series.rows)})" for series in there)
        )
        asked = f"sampler {sampler!r}" if sampler else "any series"
        raise ResultsError(
            f"nothing to draw: no {MIN_LENGTHS} ok lengths for {asked}; lengths there are: {names}"
        )
    return labelled(keep)


def _draw_panel(axes: Axes, series: Series, colour: str) -> None:
    """Draw measured points with their bounds, the fitted law and the terms."""
    points = [
        (row["length"], seconds / row["nfe"]) for row in series.rows for seconds in row["seconds"]
    ]
    fit = fit_latency(*zip(*points, strict=True))
    lengths = np.array([row["length"] for row in series.rows])
    means = np.array([row["ms_per_pass"] for row in series.rows])
    bounds = [1e3 * np.array(time_bounds(row)) / row["nfe"] for row in series.rows]
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
    theme.hollow(axes, series, "ms_per_pass", colour, "o")
    flags.ring(axes, series, "ms_per_pass", colour)
    curve = np.geomspace(lengths[0], lengths[-1], 100)
    axes.plot(curve, 1e3 * fit.predict(curve), color=colour, label="fitted law")
    for name, term in fit.terms(curve)._asdict().items():
        if term[-1] > 0:  # a zero term has no place on a logarithmic axis
            term_colour, dashes = _TERMS[name]
            axes.plot(curve, 1e3 * term, color=term_colour, linestyle=dashes, lw=0.9, label=name)
    axes.set_title(textwrap.fill(series.label, 32))
    text = f"{equation(fit)}\n{_quality(fit, lengths, means)}"
    axes.text(0.03, 0.97, text, transform=axes.transAxes, fontsize=theme.SMALL, va="top")


def equation(fit: LatencyFit) -> str:
    """Write the law in ms for L in thousands of tokens, e.g. `0.2 L² + 0.49 L + 0.05 ms`."""
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
    """Write R², with the largest error or the lack of freedom that R² hides."""
    if math.isinf(fit.intervals["constant"][1]):
        return f"R² = {fit.r2:.4f} (3 terms, {len(lengths)} points)"
    error = np.max(np.abs(1e3 * fit.predict(lengths) / means - 1))
    return f"R² = {fit.r2:.4f}, largest error {100 * error:.1f} %"


def _number(value: float) -> str:
    """Write three digits, without an exponent if short enough."""
    if 1000 <= value < 1e6:
        return f"{value:.0f}"
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    if not exponent:
        return mantissa
    digits = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa}·10{digits}"


def _legend(rows: list[dict[str, Any]]) -> list[Line2D]:
    """Return the legend entries; measured and fit are grey here, coloured in the panels."""
    modes = {row["mode"] for row in rows}
    measured = Line2D([], [], color=theme.GREY, marker="o", linestyle="none", label="measured")
    points = [measured] if "exact" in modes else []
    points += [legend.sampled_handle()] if "sampled" in modes else []
    points += [flags.handle()] if any(row["flags"] for row in rows) else []
    law = Line2D([], [], color=theme.GREY, label="fitted law, L in thousands")
    terms = [
        Line2D([], [], color=colour, linestyle=dashes, lw=0.9, label=name)
        for name, (colour, dashes) in _TERMS.items()
    ]
    return [*points, law, *terms]
