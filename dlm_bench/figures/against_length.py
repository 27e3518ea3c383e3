"""A quantity against sequence length (or batch): a line for each backbone and sampler, a panel for
each machine and each p."""

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlm_bench.errors import ResultsError
from dlm_bench.figures import bound, flags, legend, theme
from dlm_bench.figures.missing import name_missing
from dlm_bench.results.series import (
    Line,
    identity_columns,
    labelled,
    shared_settings,
    short_number,
    time_bounds,
)
from dlm_bench.results.series import Spread as Spread

P = "tokens_per_step"
Row = dict[str, Any]


@dataclass(frozen=True)
class Quantity:
    """A drawn quantity: the label of the axis, and for the caption its name and the span of bars
    (no bars where that is empty). `level` is where a grey line marks the value of a reference;
    `tick` writes a value at its axis. It is drawn against the column `along`."""

    label: str
    told: str = ""
    bars: str = "slowest to fastest"
    level: float | None = None
    tick: Callable[[float], str] = short_number
    along: str = "length"


def valued(line: Line, of: Callable[[Row], Spread | None]) -> Line:
    """The line with `value`, `low` and `high` in its rows, without those that have None."""
    found = [(row, of(row)) for row in line.rows]
    return replace(line, rows=[row | spread._asdict() for row, spread in found if spread])


def over_repeats(row: Row, of: Callable[[float], float]) -> Spread:
    """The spread of what a time of one decode means: of the mean time, and of its bounds."""
    low, high = sorted(of(seconds) for seconds in time_bounds(row))
    return Spread(of(row["mean_seconds"]), low, high)


def draw_known(
    name: str,
    frame: pd.DataFrame,
    lines: list[Line],
    quantity: Quantity,
    of: Callable[[Row], Spread | None],
    lack: str,
) -> Figure:
    """Draw the points of lines that a quantity is known of, and warn of the others, `lack` saying
    why. Raises ResultsError if it is known of none."""
    before = labelled(lines)
    after = [valued(line, of) for line in before]
    drawn = [line for line in after if line.rows]
    if not drawn:
        points = sum(len(line.rows) for line in lines)
        raise ResultsError(f"{lack}, for any of the {points} ok points")
    absent = _absent(before, after)
    name_missing(name, [f"{absent} ({lack})"] if absent else [])
    return draw_lines(frame, drawn, quantity)


def _absent(before: list[Line], after: list[Line]) -> str:
    """The points of lines that were left out, empty if none was."""
    gone: dict[tuple[int, ...], list[str]] = {}
    for was, line in zip(before, after, strict=True):
        there = {row["length"] for row in line.rows}
        lengths = tuple(row["length"] for row in was.rows if row["length"] not in there)
        if lengths:
            gone.setdefault(lengths if line.rows else (), []).append(was.label)
    texts = []
    for lengths, labels in gone.items():
        named = "; ".join(labels) if len(labels) <= 4 else f"{len(labels)} lines"
        texts.append(f"{named} at L = {', '.join(map(str, lengths))}" if lengths else named)
    return "; ".join(texts)


def draw_lines(
    frame: pd.DataFrame,
    measured: Sequence[Line],
    quantity: Quantity,
    bounds: bound.Bounds | None = None,
) -> Figure:
    """Draw lines whose rows have `value`, `low` and `high`, on logarithmic axes.

    Hollow markers are sampled timing, rings records with flags. Each machine and each tokens per
    step (p) has a panel of its own, and of lines against batch each length; lines without p, as the
    autoregressive ones and those of a threshold or a trace, are in all panels of their machine.
    `bounds` are drawn under them, also those of lines that are not measured. `frame` is that of
    `load_results`, whose failures the caption counts.
    """
    under = [] if bounds is None else bounds.lines
    named = labelled([*measured, *under], hidden={P, "hardware", "device", "length"})
    drawn, under = named[: len(measured)], named[len(measured) :]
    members_of = facets(named)
    colours = theme.backbone_colours(line.backbone for line in named)
    styles = legend.variant_styles(named)
    modes = {row["mode"] for line in drawn for row in line.rows}

    variants = legend.variant_handles(styles)
    variants += [legend.sampled_handle()] if "sampled" in modes else []
    variants += [bound.handle(bounds)] if bounds is not None and under else []
    groups = legend.backbone_handles((line.backbone for line in named), colours), variants
    longest = max(map(len, groups))
    rows = longest if len(members_of) == 1 else max(3, math.ceil(longest / 2))
    figure, panels = theme.panels(
        len(members_of),
        height=2.1,
        extra=0.3 + 0.14 * legend.text_lines(groups, rows),
        xlabel={"length": "sequence length (tokens)", "batch": "batch (sequences)"}[quantity.along],
        ylabel=quantity.label,
    )
    for axes, (title, members) in zip(panels, members_of.items(), strict=True):
        axes.set_title(title)
        if quantity.level is not None:
            axes.axhline(quantity.level, color=theme.GREY, linewidth=0.8, zorder=1.6)
        for line in members:
            colour, look = colours[line.backbone], styles[line.variant]
            if line in under:
                bound.draw(axes, line, colour, look.marker)
            else:
                _draw_line(axes, line, colour, look, quantity)
    _scale(panels, named, quantity)
    told = [quantity.told, measurement(drawn, quantity.bars)]
    caption = " ".join([f"{shared_settings(named)}.", *filter(None, told)])
    theme.caption(figure, caption + flags.told(drawn) + _failures(frame))
    legend.draw_legend(figure, groups, rows)
    return figure


def facets(drawn: list[Line]) -> dict[str, list[Line]]:
    """The lines of each panel by its title, which says what sets it apart from other panels."""
    machines: dict[str, list[Line]] = {}
    for line in drawn:
        named = [line.settings[name] for name in ("hardware", "device") if name in line.settings]
        machines.setdefault(", ".join(named), []).append(line)
    several_steps, several_lengths = (len(_values(drawn, name)) > 1 for name in (P, "length"))
    facets = {}
    for machine, members in machines.items():
        steps, lengths = (_values(members, name) or [None] for name in (P, "length"))
        for step, length in itertools.product(steps, lengths):
            title = [textwrap.fill(machine, 36)] if len(machines) > 1 else []
            title += [f"p = {step:g} tokens per step"] if several_steps and step else []
            title += [f"L = {length:,} tokens"] if several_lengths and length else []
            facets["\n".join(title)] = [
                line
                for line in members
                if line.settings.get(P, step) == step
                and line.settings.get("length", length) == length
            ]
    return {title: members for title, members in facets.items() if members}


def _values(drawn: Iterable[Line], name: str) -> list[Any]:
    """Return the values of a setting among the lines that have one."""
    return sorted({line.settings[name] for line in drawn if name in line.settings})


def _draw_line(
    axes: Axes, line: Line, colour: str, look: theme.LineStyle, quantity: Quantity
) -> None:
    """One line with its bars; sampled points are hollow."""
    places = np.array([row[quantity.along] for row in line.rows])
    values, low, high = (
        np.array([row[name] for row in line.rows]) for name in ("value", "low", "high")
    )
    # The mean of the seconds can lie an ulp outside a single repeat's value.
    spread = np.clip([values - low, high - values], 0, None)
    axes.errorbar(
        places,
        values,
        yerr=spread if quantity.bars else None,
        color=colour,
        marker=look.marker,
        linestyle=look.dashes,
        elinewidth=0.8,
        capsize=1.5,
        label=line.label,
    )
    theme.hollow(axes, line, "value", colour, look.marker, quantity.along)
    flags.ring(axes, line, "value", colour, quantity.along)


def _scale(panels: list[Axes], named: list[Line], quantity: Quantity) -> None:
    """Logarithmic axes that hold every point of every panel, and the level of reference."""
    places = [row[quantity.along] for line in named for row in line.rows]
    values = [row[end] for line in named for row in line.rows for end in ("low", "high")]
    values += [] if quantity.level is None else [quantity.level]
    theme.length_axis(panels[0], places, most=8 if len(panels) in (1, 2, 4) else 5)  # or narrow
    panels[0].set_yscale("log")
    low, high = min(values), max(values)
    margin = max(1.1, min(1.5, (high / low) ** 0.15))
    panels[0].set_ylim(low / margin, high * margin)
    theme.value_axis(panels[0].yaxis, *panels[0].get_ylim(), quantity.tick)


def measurement(drawn: Sequence[Line], bars: str) -> str:
    """Describe the timing of the points of lines, for the caption; `bars` is the span of those of
    whole decodes, empty where there are none."""
    modes = {row["mode"] for line in drawn for row in line.rows}
    repeats = sorted({len(row["seconds"]) for line in drawn for row in line.rows})
    if not repeats:
        return ""
    count = str(repeats[0]) if len(repeats) == 1 else f"{repeats[0]}-{repeats[-1]}"
    what = {"exact": "decodes", "sampled": "rounds of sampled timing"}
    told = " or ".join(what[mode] for mode in sorted(modes))
    # What has no bars is no mean: one number of all decodes.
    if not bars:
        return f"Over {count} {told}."
    if "sampled" in modes:
        bars = "stated error" if modes == {"sampled"} else f"{bars}; sampled: stated error"
    return f"Mean of {count} {told}; bars: {bars}."


def _failures(frame: pd.DataFrame) -> str:
    """The points that were tried and never measured, for the caption: none is left out silently."""
    point = [*identity_columns(frame), "length"]
    measured = frame["status"].eq("ok").groupby([frame[name] for name in point], dropna=False)
    failed = frame[~measured.transform("any")].drop_duplicates(point, keep="last")
    counts = failed["status"].value_counts()
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f" Not drawn: {told}." if told else ""
