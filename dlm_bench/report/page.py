"""The page: the template filled with all parts of the report. The template escapes all text."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dlm_bench.analysis import tables
from dlm_bench.errors import ResultsError
from dlm_bench.figures.against_length import facets, settings_in_titles, without_p
from dlm_bench.figures.palette import palette_of
from dlm_bench.report import charts
from dlm_bench.report import tables as report_tables
from dlm_bench.report.markers import swatch
from dlm_bench.report.quantities import QUANTITIES, Values, bars_of, values_of
from dlm_bench.results.record import Record
from dlm_bench.results.series import (
    Series,
    labelled,
    series_of,
    shared_settings,
    short_number,
)
from dlm_bench.results.store import frame_of
from dlm_bench.results.table import Table, shown
from dlm_bench.version import __version__


@dataclass(frozen=True)
class Study:
    """The records behind the figures and tables; without series if no record is ok."""

    series: Sequence[Series]
    values: dict[int, Values]
    tables: Sequence[tuple[str, str, Table]]  # anchor, heading, table


def build_report(
    records: Sequence[Record], sources: Sequence[str], skipped: Sequence[str] = ()
) -> str:
    """Return the report of these records as an HTML document, the same in every run.

    sources: names of the files. skipped: lines of the files without a record. Raises ResultsError
    if there is no record at all.
    """
    if not records:
        raise ResultsError(f"nothing to report: no record in {', '.join(sources)}")
    study, points = _study(records), report_tables.latest(records)
    drawn, legends = _figures(study)
    there = {figure["name"] for figure in drawn["figures"]}
    environment = Environment(
        loader=PackageLoader("dlm_bench.report", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.globals["shown"] = shown
    return environment.get_template("page.html").render(
        version=__version__,
        sources=sources,
        skipped=skipped,
        overview=_overview(records, points),
        bars=bars_of(study.series),
        sampled=any(record.mode == "sampled" for record in points if record.status == "ok"),
        quantities=[quantity for quantity in QUANTITIES if quantity.name in there],
        missing=[quantity for quantity in QUANTITIES if quantity.name not in there],
        facets=legends,
        caption=_caption(list(study.series)),
        tables=study.tables,
        environments=report_tables.environments(records),
        failures=report_tables.failures(points),
        statuses=report_tables.STATUSES,
        flagged=report_tables.flagged(points),
        css=_file("page.css"),
        script=_file("page.js"),
        bokeh=_bokeh() if legends else "",
        figures=_json(drawn),
    )


def _caption(drawn: list[Series]) -> str:
    """Name what all series share, and those of them that are in several panels."""
    return ". ".join(filter(None, (shared_settings(drawn), without_p(drawn))))


def _study(records: Sequence[Record]) -> Study:
    """Return series, values and tables of the ok records."""
    frame = frame_of(records)
    try:
        drawn = labelled(series_of(frame))
    except ResultsError:  # every point failed, as the page says
        return Study((), {}, ())
    try:
        ratios = tables.speedups_by_point(frame)
        speedup = [("table-speedup", "Speed-up over DiffuTran", tables.speedup_table(drawn, frame))]
    except ResultsError:  # there is nothing to compare with, as the page says
        ratios, speedup = {}, []
    found = [
        ("table-throughput", "Throughput", tables.throughput_table(drawn)),
        *speedup,
        ("table-fits", "Latency laws", tables.fit_table(drawn)),
    ]
    return Study(drawn, values_of(drawn, ratios), found)


def _figures(study: Study) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the figures for the script, and title, legend and quantities of each facet."""
    if not study.series:
        return {"figures": []}, []
    named = labelled(list(study.series), hidden=settings_in_titles(study.series))
    palette = palette_of(named)
    members_of = facets(named)
    drawn = charts.draw(list(members_of.values()), palette, study.values)
    place, legends = 0, []
    for title, members in members_of.items():
        entries = [
            {
                "place": place + i,
                "label": series.label,
                "swatch": swatch(palette.colour(series), palette.style(series)),
                "names": {name for row in series.rows for name in study.values[id(row)]},
            }
            for i, series in enumerate(members)
        ]
        place += len(members)
        names = {
            name for series in members for row in series.rows for name in study.values[id(row)]
        }
        legends.append({"title": _one_line(title), "legend": entries, "names": names})
    return drawn, legends


def _one_line(title: str) -> str:
    """Join the lines of a panel's title: those of the machine, and p."""
    return " ".join(title.replace("\np = ", ", p = ").split())


def _overview(records: Sequence[Record], points: Sequence[Record]) -> list[tuple[str, str]]:
    """Summarise the study in a few numbers."""
    counts = Counter(record.status for record in points)
    lengths = sorted({record.point.length for record in records})
    ends = dict.fromkeys(short_number(length) for length in (lengths[0], lengths[-1]))
    names = dict.fromkeys(record.point.backbone for record in records)
    failed = len(points) - counts["ok"]
    flagged = sum(bool(record.flags) for record in points if record.status == "ok")
    several = [("records", f"{len(records):,}")] if len(records) > len(points) else []
    return [
        *several,
        ("points", f"{len(points):,}"),
        ("measured", f"{counts['ok']:,}"),
        ("failed or skipped", f"{failed:,}"),
        ("flagged", f"{flagged:,}"),
        ("backbones", f"{len(names)}"),
        ("lengths (tokens)", " to ".join(ends)),
    ]


def _bokeh() -> Markup:
    """Return Bokeh's script without widgets and tables."""
    from bokeh.resources import Resources

    return Markup("\n".join(Resources(mode="inline", components=["bokeh"]).js_raw))


def _file(name: str) -> Markup:
    return Markup(files("dlm_bench.report").joinpath(name).read_text(encoding="utf-8"))


def _json(value: Any) -> Markup:
    """Write JSON fit for a script element, whatever names are in there."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))
