"""The page: everything that is in the report, put into its HTML. All text is escaped there."""

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
from dlm_bench.figures import theme
from dlm_bench.figures.against_length import P, facets
from dlm_bench.figures.legend import variant_styles
from dlm_bench.report import facts
from dlm_bench.report.quantities import QUANTITIES, Values, bars_of, values_of
from dlm_bench.report.swatch import swatch
from dlm_bench.results import series
from dlm_bench.results.record import Record
from dlm_bench.results.series import Line, labelled, shared_settings, short_number
from dlm_bench.results.store import frame_of
from dlm_bench.results.table import Table, shown
from dlm_bench.version import __version__

HIDDEN = ("device", "hardware", P)  # settings that a facet's title says


@dataclass(frozen=True)
class Study:
    """The records behind the figures and tables; without lines where no record is ok."""

    lines: Sequence[Line]
    values: dict[int, Values]
    tables: Sequence[tuple[str, str, Table]]  # anchor, heading, table


def build_report(
    records: Sequence[Record], sources: Sequence[str], skipped: Sequence[str] = ()
) -> str:
    """The report of these records as one HTML document, the same one in every run.

    `sources` names their files, `skipped` says which lines of those are no records. Raises
    ResultsError if there is no record at all.
    """
    if not records:
        raise ResultsError(f"nothing to report: no record in {', '.join(sources)}")
    study, points = _study(records), facts.standing(records)
    drawn, told = _figures(study)
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
        bars=bars_of(study.lines),
        sampled=any(record.mode == "sampled" for record in points if record.status == "ok"),
        quantities=[quantity for quantity in QUANTITIES if quantity.name in there],
        missing=[quantity for quantity in QUANTITIES if quantity.name not in there],
        facets=told,
        caption=shared_settings(list(study.lines)) if study.lines else "",
        tables=study.tables,
        environments=facts.environments(records),
        failures=facts.failures(points),
        statuses=facts.STATUSES,
        flagged=facts.flagged(points),
        css=_file("page.css"),
        script=_file("page.js"),
        bokeh=_bokeh() if told else "",
        figures=_json(drawn),
    )


def _study(records: Sequence[Record]) -> Study:
    """Lines, values and tables of the ok records."""
    frame = frame_of(records)
    try:
        lines = labelled(series.lines(frame))
    except ResultsError:  # every point failed, which the page tells
        return Study((), {}, ())
    try:
        ratios = tables.speedups_by_point(frame)
        speedup = [("table-speedup", "Speed-up over DiffuTran", tables.speedup_table(lines, frame))]
    except ResultsError:  # there is nothing to compare with, which the page tells
        ratios, speedup = {}, []
    found = [
        ("table-throughput", "Throughput", tables.throughput_table(lines)),
        *speedup,
        ("table-fits", "Latency laws", tables.fit_table(lines)),
    ]
    return Study(lines, values_of(lines, ratios), found)


def _figures(study: Study) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures for the script, and each facet's title, legend and quantities."""
    if not study.lines:
        return {"figures": []}, []
    from dlm_bench.report import charts

    named = labelled(list(study.lines), hidden=HIDDEN)
    colours = theme.backbone_colours(line.backbone for line in named)
    look = charts.Look(colours, variant_styles(named))
    members_of = facets(named)
    drawn = charts.draw(list(members_of.values()), look, study.values)
    place, told = 0, []
    for title, members in members_of.items():
        entries = [
            {
                "place": place + i,
                "label": line.label,
                "swatch": swatch(colours[line.backbone], look.styles[line.variant]),
                "names": {name for row in line.rows for name in study.values[id(row)]},
            }
            for i, line in enumerate(members)
        ]
        place += len(members)
        names = {name for line in members for row in line.rows for name in study.values[id(row)]}
        told.append({"title": _one_line(title), "legend": entries, "names": names})
    return drawn, told


def _one_line(title: str) -> str:
    """A panel's title, which has lines for the machine and one for p."""
    return " ".join(title.replace("\np = ", ", p = ").split())


def _overview(records: Sequence[Record], points: Sequence[Record]) -> list[tuple[str, str]]:
    """The study in a few numbers: of its points, whatever it took to measure them."""
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
    """Bokeh's script, the part that draws; widgets and tables of its own are not needed."""
    from bokeh.resources import Resources

    return Markup("\n".join(Resources(mode="inline", components=["bokeh"]).js_raw))


def _file(name: str) -> Markup:
    return Markup(files("dlm_bench.report").joinpath(name).read_text(encoding="utf-8"))


def _json(value: Any) -> Markup:
    """JSON that may stand in a script element, whatever names it holds."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028"))
