"""The curves of a figure of any columns: name and look of each, and points at the same place."""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from dlm_bench.figures.palette import BACKBONE_COLOURS, MORE_COLOURS, MORE_DASHES, palette_of
from dlm_bench.results.series import (
    BACKBONE_NAMES,
    SAMPLER_NAMES,
    SETTINGS,
    Series,
    setting_text,
    short_traces,
)

Row = dict[str, Any]

COLOURS = (*BACKBONE_COLOURS.values(), *MORE_COLOURS)
MARKERS = "os^DvPX<>*"
_OF_ALL = ("backbone", "sampler", "file", "length", *SETTINGS)  # no options of a sampler
_TITLES = {"backbone": BACKBONE_NAMES, "sampler": SAMPLER_NAMES}
# Where these are the usual ones, no record has them.
_UNWRITTEN = ("accept", "batching", "first_token")


def curve_names(rows: Sequence[Row], curves: Sequence[str]) -> dict[int, str]:
    """Return the label of each row's curve, by the row's id: the values that differ, of an option
    those that differ where samplers know it, if samplers have curves of their own."""
    shown = _varying(rows, curves) or list(curves[:1])
    if "sampler" in shown:
        shown = [name for name in shown if name in _OF_ALL or not _same_where_known(rows, name)]
    traces = short_traces(row.get("trace") for row in rows)
    names = {}
    for row in rows:
        values = {name: row.get(name) for name in shown}
        if "trace" in values:
            values["trace"] = traces.get(row["trace"], row["trace"])
        texts = list(filter(None, (_text(*value) for value in values.items())))
        names[id(row)] = ", ".join(texts or (_unwritten(name, row) for name in shown))
    return names


def _same_where_known(rows: Sequence[Row], option: str) -> bool:
    by_sampler: dict[str, set[str]] = {}
    for row in rows:
        by_sampler.setdefault(row["sampler"], set()).add(_text(option, row.get(option)))
    known = [values for values in by_sampler.values() if values != {""}]
    return all(len(values) == 1 for values in known) and len(set().union(*known)) == 1


def curve_series(rows: Sequence[Row], names: dict[int, str]) -> list[Series]:
    """Return a series for each curve; one of several backbones or samplers has none."""
    curves: dict[str, list[Row]] = {}
    for row in rows:
        curves.setdefault(names[id(row)], []).append(row)
    series = []
    for name, members in curves.items():
        backbone, sampler = (_only(row[key] for row in members) for key in ("backbone", "sampler"))
        series.append(Series(backbone, sampler, {}, members, variant=sampler, label=name))
    return series


def _only(values: Iterable[str]) -> str:
    found = {*values}
    return found.pop() if len(found) == 1 else ""


def curve_styles(series: Sequence[Series]) -> dict[str, dict[str, Any]]:
    """Return colour, marker and dashes of each curve: those of backbone and sampler in all figures,
    if these tell the curves apart."""
    pairs = {(each.backbone, each.sampler) for each in series}
    if len(pairs) == len(series) and all(all(pair) for pair in pairs):
        palette = palette_of(series)
        looks = [(palette.colour(each), *palette.style(each)) for each in series]
    else:
        dashes = itertools.cycle(((0.0, ()), *MORE_DASHES))
        spare = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), dashes, strict=False)
        looks = [look for look, _ in zip(spare, series, strict=False)]
    return {
        each.label: {"color": colour, "marker": marker, "linestyle": dash}
        for each, (colour, marker, dash) in zip(series, looks, strict=True)
    }


def lumped(rows: Sequence[Row], x: str, among: Sequence[str]) -> list[str]:
    """Return the columns of `among` in which rows with the same x differ."""
    at: dict[Any, list[Row]] = {}
    for row in rows:
        at.setdefault(row[x], []).append(row)
    found: dict[str, None] = {}
    for same in at.values():
        found |= dict.fromkeys(_varying(same, among))
    return list(found)


def _varying(rows: Sequence[Row], names: Iterable[str]) -> list[str]:
    return [name for name in names if len({_text(name, row.get(name)) for row in rows}) > 1]


def _text(name: str, value: Any) -> str:
    """Write a value for a label; an empty text where there is none."""
    if value is None or value != value:
        return ""
    if name in _TITLES:
        return _TITLES[name].get(value, str(value))
    return setting_text(name, value) if isinstance(value, int | float | str) else str(value)


def _unwritten(name: str, row: Row) -> str:
    """Write what a row without a value has: the usual one, or none."""
    from dlm_bench.samplers import SAMPLERS  # torch takes seconds, and few labels need it

    if name in _UNWRITTEN and row["sampler"] in SAMPLERS:
        for field in dataclasses.fields(SAMPLERS[row["sampler"]]):
            if field.name == name:
                return f"{name}={field.default}"
    return f"no {name}"
