"""A quantity against sequence length or batch: a series for each backbone and sampler, and a panel
for each machine and each p."""

import itertools
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dlm_bench.errors import ResultsError
from dlm_bench.figures import flags, legend, predicted, theme
from dlm_bench.figures.caption import CaptionedFigure
from dlm_bench.figures.missing import name_missing
from dlm_bench.figures.palette import SeriesStyle, palette_of
from dlm_bench.results.series import (
    Series,
    error_of,
    identity_columns,
    labelled,
    mixed,
    shared_settings,
    short_number,
    time_bounds,
)
from dlm_bench.results.series import Spread as Spread

P = "tokens_per_step"
INTERVAL = "95 % interval of the mean"
Row = dict[str, Any]


@dataclass(frozen=True)
class Quantity:
    """A quantity to draw.

    label: title of the axis. explanation: sentence for the caption. bars: meaning of the bars,
    empty without bars. level: a reference value, marked by a grey line. tick: text of a value on
    the axis. along: column of the x axis.
    """

    label: str
    explanation: str = ""
    bars: str = INTERVAL
    level: float | None = None
    tick: Callable[[float], str] = short_number
    along: str = "length"


def valued(series: Series, of: Callable[[Row], Spread | None]) -> Series:
    """Return the series with `value`, `low` and `high` in each row, without rows of None."""
    found = [(row, of(row)) for row in series.rows]
    return replace(series, rows=[row | spread._asdict() for row, spread in found if spread])


def over_repeats(row: Row, of: Callable[[float], float]) -> Spread:
    """Return a function of the seconds of a decode, at their mean and at the ends of its 95 %
    interval."""
    low, high = sorted(of(seconds) for seconds in time_bounds(row))
    return Spread(of(row["mean_seconds"]), low, high)


def draw_available(
    name: str,
    frame: pd.DataFrame,
    asked: list[Series],
    quantity: Quantity,
    of: Callable[[Row], Spread | None],
    reason: str,
) -> CaptionedFigure:
    """Draw the points with a value; warn of all others, and name them in the caption.

    reason: an explanation of missing values. Raises ResultsError if no point has a value.
    """
    before = labelled(asked)
    after = [valued(series, of) for series in before]
    drawn = [series for series in after if series.rows]
    if not drawn:
        points = sum(len(series.rows) for series in asked)
        raise ResultsError(f"{reason}, for any of the {points} ok points")
    absent = _absent(before, after)
    missing = [f"{absent} ({reason})"] if absent else []
    name_missing(name, missing)
    return draw_series(frame, drawn, quantity, missing=missing)


def _absent(before: list[Series], after: list[Series]) -> str:
    """Name the points without a value; an empty text if there are none."""
    gone: dict[tuple[int, ...], list[str]] = {}
    for was, series in zip(before, after, strict=True):
        there = {row["length"] for row in series.rows}
        lengths = tuple(row["length"] for row in was.rows if row["length"] not in there)
        if lengths:
            gone.setdefault(lengths if series.rows else (), []).append(was.label)
    texts = []
    for lengths, labels in gone.items():
        named = "; ".join(labels) if len(labels) <= 4 else f"{len(labels)} series"
        texts.append(f"{named} at L = {', '.join(map(str, lengths))}" if lengths else named)
    return "; ".join(texts)


def draw_series(
    frame: pd.DataFrame,
    measured: Sequence[Series],
    quantity: Quantity,
    bounds: predicted.Bounds | None = None,
    missing: Sequence[str] = (),
) -> CaptionedFigure:
    """Draw series whose rows have `value`, `low` and `high`, on logarithmic axes.

    Hollow markers are sampled timing, rings records with flags. Each machine and each p has a
    panel, and against batch each length. Series without p (autoregressive, threshold, trace) are in
    all panels of their machine. frame: the frame of `load_results`, for the failures in the
    caption. bounds: drawn under the series. missing: named in the caption.
    """
    under = [] if bounds is None else bounds.series
    every = [*measured, *under]
    named = labelled(every, hidden=settings_in_titles(every))
    drawn, under = named[: len(measured)], named[len(measured) :]
    members_of = facets(named)
    palette = palette_of(named)
    rows_drawn = [row for series in drawn for row in series.rows]

    handles = []
    if any(row["mode"] == "sampled" for row in rows_drawn):
        handles.append(legend.sampled_handle())
    if any(row["flags"] for row in rows_drawn):
        handles.append(flags.handle())
    if bounds is not None and under:
        handles.append(predicted.handle(bounds))
    backbones = legend.backbone_handles((each.backbone for each in named), palette.colours)
    layout = legend.layout(backbones, palette.styles, handles, one_panel=len(members_of) == 1)
    figure, panels = theme.panels(
        len(members_of),
        height=2.0,
        extra=0.1 + 0.14 * layout.lines,
        xlabel={"length": "sequence length (tokens)", "batch": "batch (sequences)"}[quantity.along],
        ylabel=quantity.label,
        wide=layout.wide,
    )
    for axes, (title, members) in zip(panels, members_of.items(), strict=True):
        axes.set_title(title)
        if quantity.level is not None:
            axes.axhline(quantity.level, color=theme.GREY, linewidth=0.8, zorder=1.6)
        for series in members:
            colour, style = palette.colour(series), palette.style(series)
            if series in under:
                predicted.draw(axes, series, colour, style.marker)
            else:
                _draw_curve(axes, series, colour, style, quantity)
    _scale(panels, named, quantity)
    sentences = [f"{shared_settings(named)}.", without_p(named), quantity.explanation]
    sentences += [measurement(drawn, quantity.bars), flags.explain(drawn)]
    sentences += [mixed(drawn), _not_drawn(frame, missing)]
    figure.caption = " ".join(filter(None, sentences))
    legend.draw_legend(figure, layout.groups, layout.rows)
    return figure


def settings_in_titles(drawn: Sequence[Series]) -> set[str]:
    """Return the settings that titles of panels tell, or the caption; a p that some series lack is
    neither."""
    several = {P} if len(_values(drawn, P)) > 1 else set()
    return {"hardware", "device", "length", *several}


def facets(drawn: list[Series]) -> dict[str, list[Series]]:
    """Return the series of each panel by its title, the settings of this panel alone."""
    machines: dict[str, list[Series]] = {}
    for series in drawn:
        named = [
            series.settings[name] for name in ("hardware", "device") if name in series.settings
        ]
        machines.setdefault(", ".join(named), []).append(series)
    several_steps, several_lengths = (len(_values(drawn, name)) > 1 for name in (P, "length"))
    facets = {}
    for machine, members in machines.items():
        steps, lengths = (_values(members, name) or [None] for name in (P, "length"))
        for step, length in itertools.product(steps, lengths):
            title = [textwrap.fill(machine, 36)] if len(machines) > 1 else []
            title += [f"p = {step:g} tokens per step"] if several_steps and step else []
            title += [f"L = {length:,} tokens"] if several_lengths and length else []
            facets["\n".join(title)] = [
                series
                for series in members
                if series.settings.get(P, step) == step
                and series.settings.get("length", length) == length
            ]
    return {title: members for title, members in facets.items() if members}


def without_p(drawn: Sequence[Series]) -> str:
    """Name the series in the panel of every p that have none themselves, for the caption; an empty
    text without several panels."""
    lacking = dict.fromkeys(series.variant for series in drawn if P not in series.settings)
    if not lacking or len(_values(drawn, P)) < 2:
        return ""
    return f"Without p, and so in the panel of every p: {'; '.join(lacking)}."


def _values(drawn: Iterable[Series], name: str) -> list[Any]:
    """Return the values of a setting."""
    return sorted({series.settings[name] for series in drawn if name in series.settings})


def _draw_curve(
    axes: Axes, series: Series, colour: str, style: SeriesStyle, quantity: Quantity
) -> None:
    """Draw a series with its bars; sampled points are hollow."""
    places = np.array([row[quantity.along] for row in series.rows])
    values, low, high = (
        np.array([row[name] for row in series.rows]) for name in ("value", "low", "high")
    )
    # The mean of the seconds can lie an ulp outside a single repeat's value.
    spread = np.clip([values - low, high - values], 0, None)
    axes.errorbar(
        places,
        values,
        yerr=spread if quantity.bars else None,
        color=colour,
        marker=style.marker,
        linestyle=style.dashes,
        elinewidth=0.8,
        capsize=1.5,
        label=series.label,
    )
    theme.hollow(axes, series, "value", colour, style.marker, quantity.along)
    flags.ring(axes, series, "value", colour, quantity.along)


def _scale(panels: list[Axes], named: list[Series], quantity: Quantity) -> None:
    """Scale the logarithmic axes for every point of every panel and the level."""
    places = [row[quantity.along] for series in named for row in series.rows]
    values = [row[end] for series in named for row in series.rows for end in ("low", "high")]
    values += [] if quantity.level is None else [quantity.level]
    theme.length_axis(panels[0], places, most=8 if len(panels) in (1, 2, 4) else 5)  # or narrow
    panels[0].set_yscale("log")
    low, high = min(values), max(values)
    margin = max(1.1, min(1.5, (high / low) ** 0.15))
    panels[0].set_ylim(low / margin, high * margin)
    theme.value_axis(panels[0].yaxis, *panels[0].get_ylim(), quantity.tick)


def measurement(drawn: Sequence[Series], bars: str) -> str:
    """Describe the timing of the points for the caption; `bars` is their meaning, empty without
    bars."""
    modes = {row["mode"] for series in drawn for row in series.rows}
    repeats = sorted({len(row["seconds"]) for series in drawn for row in series.rows})
    if not repeats:
        return ""
    count = str(repeats[0]) if len(repeats) == 1 else f"{repeats[0]}-{repeats[-1]}"
    names = {"exact": "decodes", "sampled": "rounds of sampled timing"}
    timed = " or ".join(names[mode] for mode in sorted(modes))
    # A value without bars is no mean: one number of all decodes.
    if not bars:
        return f"Over {count} {timed}."
    rows = [row for series in drawn for row in series.rows]
    runs = {row["runs"] for row in rows}
    more = "; of several runs over runs" if len(runs) > 1 else ""
    if any(error_of(row) is None for row in rows):
        more += "; without a bar: not known"
    if max(runs) == 1:
        return f"Mean of {count} {timed}; bars: {bars}{more}."
    many = str(max(runs)) if len(runs) == 1 else f"{min(runs)}-{max(runs)}"
    over = f"{bars} over runs" if len(runs) == 1 else bars
    return f"Mean of {many} runs, of {count} {timed} in all; bars: {over}{more}."


def _not_drawn(frame: pd.DataFrame, missing: Sequence[str]) -> str:
    """Name points without a value and points never measured: no point is left out in silence."""
    point = [*identity_columns(frame), "length"]
    measured = frame["status"].eq("ok").groupby([frame[name] for name in point], dropna=False)
    failed = frame[~measured.transform("any")].drop_duplicates(point, keep="last")
    counts = failed["status"].value_counts()
    failures = ", ".join(f"{count} {status}" for status, count in counts.items())
    texts = "; ".join(filter(None, [*missing, failures]))
    return f"Not drawn: {texts}." if texts else ""
