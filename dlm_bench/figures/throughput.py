"""Generated tokens per second against sequence length, one line per backbone and sampler."""

import itertools
import math
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from dlm_bench.figures import flags, style

P = "tokens_per_step"


@style.look()
def draw_throughput(frame: pd.DataFrame) -> Figure:
    """Draw tokens/s against length on logarithmic axes from the ok records of `load_results`.

    Points are the mean over the repeats, bars their slowest and fastest repeat, hollow markers
    sampled timing, rings records with flags. Each machine and each tokens per step (p) has a panel
    of its own; lines without p, which are the autoregressive ones, are in all panels of their
    machine. Raises ResultsError if there is nothing to draw.
    """
    drawn = style.labelled(style.lines(frame), hidden={P, "hardware", "device"})
    facets = _facets(drawn)
    colours = style.backbone_colours(line.backbone for line in drawn)
    styles = _variant_styles(drawn)
    modes = {row["mode"] for line in drawn for row in line.rows}

    groups = _backbone_handles(drawn, colours), _variant_handles(styles, modes)
    longest = max(map(len, groups))
    legend_rows = longest if len(facets) == 1 else max(3, math.ceil(longest / 2))
    figure, panels = style.panels(
        len(facets),
        height=2.1,
        extra=0.3 + 0.14 * legend_rows * max(_text_lines(group) for group in groups),
        xlabel="sequence length (tokens)",
        ylabel="throughput (tokens/s)",
    )
    for axes, (title, members) in zip(panels, facets.items(), strict=True):
        axes.set_title(title)
        for line in members:
            _draw_line(axes, line, colours[line.backbone], styles[line.variant])
    lengths = [row["length"] for line in drawn for row in line.rows]
    speeds = [speed for line in drawn for row in line.rows for speed in _speeds(row)]
    style.length_axis(panels[0], lengths, most=6 if len(facets) == 1 else 5)
    panels[0].set_yscale("log")
    panels[0].set_ylim(min(speeds) / 1.5, max(speeds) * 1.5)
    style.value_axis(panels[0].yaxis, *panels[0].get_ylim())
    measurement = _measurement(drawn, modes) + flags.told(drawn) + _failures(frame)
    style.caption(figure, f"{style.shared_settings(drawn)}. {measurement}")
    _legend(figure, groups, legend_rows)
    return figure


def _facets(drawn: list[style.Line]) -> dict[str, list[style.Line]]:
    """The lines of each panel by its title, which says what sets it apart from other panels."""
    machines: dict[str, list[style.Line]] = {}
    for line in drawn:
        named = [line.settings[name] for name in ("hardware", "device") if name in line.settings]
        machines.setdefault(", ".join(named), []).append(line)
    several_steps = len({line.settings[P] for line in drawn if P in line.settings}) > 1
    facets = {}
    for machine, members in machines.items():
        for step in sorted({line.settings[P] for line in members if P in line.settings}) or [None]:
            title = [textwrap.fill(machine, 36)] if len(machines) > 1 else []
            title += [f"p = {step:g} tokens per step"] if several_steps and step else []
            facets["\n".join(title)] = [x for x in members if x.settings.get(P, step) == step]
    return facets


def _variant_styles(drawn: list[style.Line]) -> dict[str, style.LineStyle]:
    """The line style of each variant among the lines.

    A sampler's first variant has the sampler's own style; the others (say, its other commits)
    keep the dashes and take a spare marker. A user's own samplers get spare ones of both.
    """
    known = dict(style.SAMPLER_STYLES)
    variants: dict[str, style.LineStyle] = {}
    markers, dashes = itertools.cycle(style.MORE_MARKERS), itertools.cycle(style.MORE_DASHES)
    taken: set[str] = set()
    for line in drawn:
        if line.variant in variants:
            continue
        if line.sampler not in known:
            known[line.sampler] = style.LineStyle(next(markers), next(dashes))
        own = known[line.sampler]
        variants[line.variant] = (
            own._replace(marker=next(markers)) if line.sampler in taken else own
        )
        taken.add(line.sampler)
    return variants


def _speeds(row: dict[str, Any]) -> list[float]:
    """Tokens per second of each repeat."""
    return [row["batch"] * row["length"] / seconds for seconds in row["seconds"]]


def _draw_line(axes: Axes, line: style.Line, colour: str, look: style.LineStyle) -> None:
    """One line with the spread of its repeats; sampled points are hollow."""
    lengths = np.array([row["length"] for row in line.rows])
    means = np.array([row["tokens_per_second"] for row in line.rows])
    speeds = [_speeds(row) for row in line.rows]
    below = means - [min(each) for each in speeds]
    above = [max(each) for each in speeds] - means
    # The mean of the seconds can lie an ulp outside a single repeat's speed.
    spread = np.clip([below, above], 0, None)
    axes.errorbar(
        lengths,
        means,
        yerr=spread,
        color=colour,
        marker=look.marker,
        linestyle=look.dashes,
        elinewidth=0.8,
        capsize=1.5,
        label=line.label,
    )
    sampled = np.array([row["mode"] == "sampled" for row in line.rows])
    if sampled.any():
        axes.plot(
            lengths[sampled],
            means[sampled],
            linestyle="none",
            marker=look.marker,
            color=colour,
            markerfacecolor="white",
            label="_sampled",
            zorder=3,
        )
    flags.ring(axes, line, "tokens_per_second", colour)


def _backbone_handles(drawn: list[style.Line], colours: dict[str, str]) -> list[Line2D]:
    backbones = dict.fromkeys(line.backbone for line in drawn)
    return [
        Line2D(
            [], [], color=colours[name], linewidth=2.5, label=style.BACKBONE_NAMES.get(name, name)
        )
        for name in backbones
    ]


def _variant_handles(styles: dict[str, style.LineStyle], modes: set[str]) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            color=style.GREY,
            marker=look.marker,
            linestyle=look.dashes,
            label=textwrap.fill(variant, 28),
        )
        for variant, look in styles.items()
    ]
    if len(modes) > 1:
        sampled = Line2D([], [], color=style.GREY, marker="o", linestyle="none")
        sampled.set(markerfacecolor="white", label="sampled timing")
        handles.append(sampled)
    return handles


def _text_lines(handles: list[Line2D]) -> int:
    """Lines of text that the longest label among the legend's handles takes."""
    return max(str(handle.get_label()).count("\n") + 1 for handle in handles)


def _legend(figure: Figure, groups: Iterable[list[Line2D]], rows: int) -> None:
    """One legend below the panels; each group starts a column and fills columns of `rows`."""
    handles: list[Line2D] = []
    for group in groups:
        blanks = [Line2D([], [], linestyle="none", label=" ") for _ in range(-len(group) % rows)]
        handles += [*group, *blanks]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) // rows)


def _measurement(drawn: Iterable[style.Line], modes: set[str]) -> str:
    """How the points were measured, for the caption."""
    repeats = sorted({len(row["seconds"]) for line in drawn for row in line.rows})
    count = str(repeats[0]) if len(repeats) == 1 else f"{repeats[0]}-{repeats[-1]}"
    mode = f", {modes.pop()} timing" if len(modes) == 1 else ""
    return f"Mean of {count} decodes{mode}; bars: slowest to fastest."


def _failures(frame: pd.DataFrame) -> str:
    """The points that were tried and never measured, for the caption: none is left out silently."""
    point = [*style.identity_columns(frame), "length"]
    measured = frame["status"].eq("ok").groupby([frame[name] for name in point], dropna=False)
    failed = frame[~measured.transform("any")].drop_duplicates(point, keep="last")
    counts = failed["status"].value_counts()
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f" Not drawn: {told}." if told else ""
